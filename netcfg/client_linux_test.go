// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const poolArg = "--dhcp-range=10.77.0.50,10.77.0.50,255.255.255.0,1h"

// TestPeers runs the real client over the real kernel against dnsmasq, and against servers that are late, hostile or
// silent.
func TestPeers(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	t.Run("dnsmasq", testDnsmasq)
	t.Run("classless routes and mtu", testClassless)
	t.Run("address in use", testInUse)
	t.Run("what is probed", testProbes)
	t.Run("late server", testLateServer)
	t.Run("two links", testTwoLinks)
	t.Run("hostile first", testHostileFirst)
	t.Run("failures", testFailures)
	t.Run("cancelled", testCancelled)
	t.Run("links", testNetlinkLinks)
}

func testDnsmasq(t *testing.T) {
	connect(t, "eth0", "dnsmasq", poolArg, "--dhcp-option=option:dns-server,10.77.0.1,1.1.1.1,10.77.0.2,10.77.0.3",
		"--dhcp-option=option:domain-search,lan.example,example.org", "--dhcp-option=option:router,10.77.0.1")
	dir := t.TempDir()
	writeFile(t, filepath.Join(mkEtc(t, dir), "resolv.conf"), "nameserver 1.1.1.1\n")
	writeFile(t, filepath.Join(dir, HeadPath), "nameserver 9.9.9.9\n")
	const resolvConf = "search lan.example example.org\nnameserver 1.1.1.1\nnameserver 9.9.9.9\nnameserver 10.77.0.1\n"
	opt := Options{Links: mustNetlink(t), DHCP: &Client{}, Root: dir, Preferred: preferred}
	for range 2 { // the second time nothing may change
		begin := time.Now()
		result, err := configure(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s after %s", result.Interfaces[0], result.Interfaces[0].Elapsed)
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
		want := []string{"mtu 1500", "addr 10.77.0.50/24",
			"route 0.0.0.0/0 via 10.77.0.1 src 10.77.0.50 metric 100 onlink false"}
		if diff := cmp.Diff(want, kernelState(t, "eth0")); diff != "" {
			t.Errorf("kernel (-want +got):\n%s", diff)
		}
		checkFile(t, filepath.Join(dir, ResolvConfPath), resolvConf)
		if string(result.ResolvConf) != resolvConf {
			t.Errorf("result has %q as resolv.conf", result.ResolvConf)
		}
		checkLease(t, result)
	}
}

func checkLease(t *testing.T, result Result) {
	t.Helper()
	if len(result.Interfaces) != 1 {
		t.Fatalf("%d interfaces, want 1", len(result.Interfaces))
	}
	l := result.Interfaces[0].Lease
	if l.Obtained.IsZero() {
		t.Errorf("lease without its time: %+v", l)
	}
	s := l.Settings
	if s.Server != adr("10.77.0.1") || s.Lease != time.Hour || s.Renew != 30*time.Minute || s.Rebind != 3150*time.Second {
		t.Errorf("server %s, times %s, %s, %s", s.Server, s.Lease, s.Renew, s.Rebind)
	}
}

func testClassless(t *testing.T) {
	connect(t, "eth0", "dnsmasq", poolArg, "--dhcp-option=option:mtu,1400",
		"--dhcp-option=121,0.0.0.0/0,10.77.0.1,172.16.0.0/12,10.77.0.2,192.0.2.0/24,0.0.0.0,198.51.100.0/24,203.0.113.1")
	opt := Options{Links: mustNetlink(t), DHCP: quickClient(), Root: t.TempDir()}
	if _, err := configure(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	want := []string{"mtu 1400", "addr 10.77.0.50/24",
		"route 0.0.0.0/0 via 10.77.0.1 src 10.77.0.50 metric 100 onlink false",
		"route 172.16.0.0/12 via 10.77.0.2 src 10.77.0.50 metric 100 onlink false",
		"route 192.0.2.0/24 via <nil> src 10.77.0.50 metric 100 onlink false",
		"route 198.51.100.0/24 via 203.0.113.1 src 10.77.0.50 metric 100 onlink true"}
	if diff := cmp.Diff(want, kernelState(t, "eth0")); diff != "" {
		t.Errorf("kernel (-want +got):\n%s", diff)
	}
}

// testLateServer has a server that starts after two seconds.
func testLateServer(t *testing.T) {
	connect(t, "eth0", "late", poolArg)
	begin := time.Now()
	opt := Options{Links: mustNetlink(t), DHCP: &Client{Backoff: Backoff{Max: time.Second}}, Root: t.TempDir()}
	if _, err := configure(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 1900*time.Millisecond || took > 20*time.Second {
		t.Errorf("took %s, want a little more than 2s", took)
	}
}

// testTwoLinks has a server on one link and silence on the other, which must not hold the first one up.
func testTwoLinks(t *testing.T) {
	connect(t, "eth0", "silent")
	connect(t, "eth1", "dnsmasq", poolArg)
	limits := quickly()
	limits.Lease = time.Minute
	opt := Options{Links: mustNetlink(t), DHCP: quickClient(), Root: t.TempDir(), Limits: limits}
	begin := time.Now()
	result, err := configure(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if len(result.Interfaces) != 2 || result.Interfaces[0].Link.Name != "eth1" {
		t.Fatalf("interfaces %v, want eth1 first", result.Interfaces)
	}
	if err := result.Interfaces[1].Err; !errors.Is(err, ErrNoAnswer) || !strings.HasPrefix(err.Error(), "eth0: ") {
		t.Errorf("other link: got error %v, want %v", err, ErrNoAnswer)
	}
}

// testHostileFirst has a server that sends usable messages only after several hostile ones.
func testHostileFirst(t *testing.T) {
	connect(t, "eth0", "hostile first")
	result, err := configure(t.Context(), Options{Links: mustNetlink(t), DHCP: quickClient(), Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got := result.Interfaces[0].Lease.Settings.Address; got != pfx("10.0.2.15/24") {
		t.Errorf("address %s, want 10.0.2.15/24", got)
	}
}

// testFailures has servers that never give a usable lease. Each failure is bounded, and names the link, what was
// waited for and why what came was not good.
func testFailures(t *testing.T) {
	tests := []struct {
		role string
		want error
		text []string
	}{
		{"unplugged", ErrNoCarrier, []string{"eth0: waited for carrier: no carrier"}},
		{"silent", ErrNoAnswer, []string{"eth0: dhcp: waited for an offer, asked "}},
		{"loopback", ErrNoAnswer, []string{"for an offer", "last answer refused: address 127.0.0.1 is loopback"}},
		{"nameless", ErrNoAnswer, []string{"for an offer", "no usable server identifier"}},
		{"garbage", ErrNoAnswer, []string{"for an offer"}},
		{"fickle", ErrNoAnswer, []string{`server 10.0.2.2 took its offer back ("no\x1b[2J\n")`}},
		{"forgetful", ErrNoAnswer, []string{"an offer, but no acknowledgement in 5 tries"}},
	}
	for _, tt := range tests {
		t.Run(tt.role, func(t *testing.T) {
			connect(t, "eth0", tt.role)
			dir := t.TempDir()
			client := &Client{Backoff: Backoff{First: 20 * time.Millisecond, Max: 40 * time.Millisecond}}
			begin := time.Now()
			_, err := configure(t.Context(), Options{Links: mustNetlink(t), DHCP: client, Root: dir, Limits: quickly(),
				Preferred: preferred})
			if took := time.Since(begin); took < silence || took > 20*silence {
				t.Errorf("took %s, want a little more than %s", took, silence)
			}
			if !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			for _, text := range append(tt.text, "configure network: eth0: ") {
				if !strings.Contains(anyWait.ReplaceAllString(err.Error(), "waited"), text) {
					t.Errorf("got error %q, want one with %q", err, text)
				}
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("control characters in %q", err)
			}
			checkEntries(t, dir) // no resolv.conf without a lease
			if state := kernelState(t, "eth0"); len(state) != 1 {
				t.Errorf("the link got %v", state)
			}
		})
	}
}

// anyWait stands for how long was waited in a message.
var anyWait = regexp.MustCompile(`waited [0-9.]+m?s`)

func testCancelled(t *testing.T) {
	connect(t, "eth0", "silent")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stop")
	time.AfterFunc(300*time.Millisecond, func() { cancel(cause) })
	begin := time.Now()
	_, err := configure(ctx, Options{Links: mustNetlink(t), DHCP: &Client{}, Root: t.TempDir()})
	if !errors.Is(err, cause) || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got error %v, want %v and %v", err, ErrNoAnswer, cause)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// testNetlinkLinks looks at what Netlink says about links, and at its errors.
func testNetlinkLinks(t *testing.T) {
	connect(t, "eth0", "silent")
	links := mustNetlink(t)
	all, err := links.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]Link)
	for _, l := range all {
		byName[l.Name] = l
	}
	eth := byName["eth0"]
	if !eth.Ethernet || eth.Kind != "veth" || len(eth.HardwareAddr) != 6 || eth.Loopback || eth.Up || eth.Slave {
		t.Errorf("eth0: %+v", eth)
	}
	if lo := byName["lo"]; !lo.Loopback {
		t.Errorf("lo: %+v", lo)
	}
	const none = 9999
	for what, err := range map[string]error{
		"set link up":              links.LinkSetUp(none),
		"set mtu 1400":             links.LinkSetMTU(none, 1400),
		"set address 10.0.2.15/24": links.AddrReplace(none, pfx("10.0.2.15/24"), 0, 0),
		"set route to 0.0.0.0/0":   links.RoutesReplace(none, plain().Routes),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s on a link that is not there: got error %v", what, err)
		}
	}
	if _, err := (&Client{}).Acquire(t.Context(), ether(none, "none0")); err == nil || os.IsTimeout(err) {
		t.Errorf("dhcp on a link that is not there: got error %v", err)
	}
}
