// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestKeeping runs the network for a while over the real kernel: leases that are extended or lost, cables that are
// taken out and put back, IPv6, and the end of it all.
func TestKeeping(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if err := hurry6(); err != nil {
		t.Fatal(err)
	}
	t.Run("extensions", testExtensions)
	t.Run("dnsmasq", testExtendDnsmasq)
	t.Run("cable", testCable)
	t.Run("failover", testFailover)
	t.Run("static", testStatic)
	t.Run("new link", testNewLink)
	t.Run("managed IPv6", testManaged6)
	t.Run("stateless IPv6", testStateless6)
	t.Run("IPv6 alone", testOnly6)
	t.Run("hostile IPv6", testHostile6)
}

// running is a Network that runs, and what it has said.
type running struct {
	*Network
	stop func() // and wait for its end

	mu    sync.Mutex
	lines []string
}

// keep runs a network until the test ends, or stop is called.
func keep(t *testing.T, opt Options) *running {
	t.Helper()
	r := &running{}
	opt.Links = mustNetlink(t)
	if opt.Root == "" {
		opt.Root = t.TempDir()
	}
	opt.Log = func(line string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lines = append(r.lines, line)
	}
	r.Network = New(opt)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("the network does not end")
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// eventually waits until a condition holds.
func (r *running) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("%s: not in 10 s; said:\n%s", what, strings.Join(r.said(), "\n"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// hears waits for a line with text, after the first n lines.
func (r *running) hears(t *testing.T, n int, text string) {
	t.Helper()
	r.eventually(t, text, func() bool {
		return slices.ContainsFunc(r.said()[n:], func(l string) bool { return strings.Contains(l, text) })
	})
}

func mustAwait(t *testing.T, n *running) Result {
	t.Helper()
	result, err := n.Await(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func quickClient() *Client {
	return &Client{MinLease: shortLease, Backoff: Backoff{First: 50 * time.Millisecond, Max: 100 * time.Millisecond},
		Probe: 60 * time.Millisecond, DeclinePause: 100 * time.Millisecond}
}

// testExtensions has a server of each kind, all at once, for a little longer than a lease.
func testExtensions(t *testing.T) {
	roles := []string{"extends", "refuses", "moves", "falls silent", "answers the second server", "lies",
		"narrow, then wide", "narrow, then refuses"}
	peers := make([]peer, len(roles))
	for i, role := range roles {
		peers[i] = connectTo(t, 80+i, fmt.Sprint("eth", i), "scene "+role)
	}
	n := keep(t, Options{DHCP: quickClient()})
	mustAwait(t, n)
	begin := time.Now()
	own := func(link, host int) string { return fmt.Sprintf("addr 10.%d.0.%d/24", 80+link, host) }
	for i := range roles {
		if state := kernelState(t, fmt.Sprint("eth", i)); !slices.Contains(state, own(i, 15)) {
			t.Errorf("%s: begins with %v", roles[i], state)
		}
	}
	// These two have a smaller MTU until the first second is over.
	for _, link := range []string{"eth6", "eth7"} {
		if state := kernelState(t, link); state[0] != "mtu 1400" {
			t.Errorf("%s: begins with %v", link, state)
		}
	}
	// Who falls silent is the last: at the end of the lease its address goes, and then there is a new one.
	n.hears(t, 0, "eth3: 10.83.0.15/24 is not used any longer: the lease has ended, and no server has extended it")
	n.hears(t, 0, "eth3: 10.83.0.16/24")
	time.Sleep(time.Until(begin.Add(sceneLease + 200*time.Millisecond))) // what was not extended has ended by now
	for i, host := range []int{15, 16, 16, 16, 15, 15, 15, 16} {
		state := kernelState(t, fmt.Sprint("eth", i))
		want := []string{"mtu 1500", own(i, host)}
		if diff := cmp.Diff(want, state[:min(2, len(state))]); diff != "" || len(state) != 3 {
			t.Errorf("%s: (-want +got):\n%s%v", roles[i], diff, state)
		}
	}
	n.hears(t, 0, "eth1: 10.81.0.15/24 is not used any longer: dhcp: the server takes the lease back: server 10.81.0.1 says")
	n.hears(t, 0, "eth4: 10.84.0.15/24 is not extended yet: dhcp: no usable answer in 3 tries")
	lost := slices.DeleteFunc(n.said(), func(l string) bool { return !strings.Contains(l, "not used any longer") })
	for _, i := range []int{0, 2, 4, 5, 6} { // those keep, or move, what they have
		if slices.ContainsFunc(lost, func(l string) bool { return strings.HasPrefix(l, fmt.Sprintf("eth%d: ", i)) }) {
			t.Errorf("%s: lost its lease: %q", roles[i], lost)
		}
	}
	n.mu.Lock()
	n.lines = nil
	n.mu.Unlock()
	n.stop()
	for i, host := range []int{15, 16, 16, 16, 15, 15, 15, 16} {
		path := filepath.Join(peers[i].dir, "released")
		want := fmt.Sprintf("10.%d.0.%d 10.%d.0.1", 80+i, host, 80+i)
		n.eventually(t, roles[i]+": "+want+" is given back", func() bool {
			got, err := os.ReadFile(path)
			return err == nil && string(got) == want
		})
	}
}

// testExtendDnsmasq asks dnsmasq for more time in each way, and gives the lease back.
func testExtendDnsmasq(t *testing.T) {
	server := connect(t, "eth0", "dnsmasq", poolArg)
	n := keep(t, Options{DHCP: quickClient()})
	lease := mustAwait(t, n).Interfaces[0].Lease
	link := n.nics[0].link
	for _, how := range []How{Renew, Rebind, Confirm} {
		got, err := quickClient().Extend(t.Context(), link, lease, how)
		if err != nil {
			t.Errorf("way %d: %v", how, err)
		} else if got.Settings.String() != lease.Settings.String() || !got.Obtained.After(lease.Obtained) {
			t.Errorf("way %d: %s of %s, was %s of %s", how, got.Settings, got.Obtained, lease.Settings, lease.Obtained)
		}
	}
	wrong := lease
	wrong.Settings.Address = pfx("10.99.0.9/24")
	if _, err := quickClient().Extend(t.Context(), link, wrong, Confirm); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("an address of another network is confirmed: %v", err)
	}
	path := filepath.Join(server.dir, "leases")
	leases := func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
	if !strings.Contains(leases(), "10.77.0.50") {
		t.Errorf("leases: %q", leases())
	}
	n.stop()
	n.hears(t, 0, "eth0: 10.77.0.50/24 is given back")
	n.eventually(t, "the lease is gone from dnsmasq's file", func() bool {
		return !strings.Contains(leases(), "10.77.0.50")
	})
}

// testCable takes the cable out and puts it back: the route goes and comes, and the lease is asked about.
func testCable(t *testing.T) {
	server := connect(t, "eth0", "dnsmasq", poolArg, "--dhcp-option=option:router,10.77.0.1")
	n := keep(t, Options{DHCP: quickClient()})
	mustAwait(t, n)
	full := kernelState(t, "eth0")
	for range 2 {
		said := len(n.said())
		server.plug(t, "down")
		n.hears(t, said, "eth0: the link is lost")
		if diff := cmp.Diff(full[:2], kernelState(t, "eth0")); diff != "" {
			t.Errorf("without a cable (-want +got):\n%s", diff)
		}
		if _, err := n.Await(t.Context()); !errors.Is(err, ErrNoCarrier) {
			t.Errorf("got error %v, want %v", err, ErrNoCarrier)
		}
		server.plug(t, "up")
		n.hears(t, said, "eth0: the link is back")
		n.hears(t, said, "eth0: 10.77.0.50/24 via 10.77.0.1")
		mustAwait(t, n)
		if diff := cmp.Diff(full, kernelState(t, "eth0")); diff != "" {
			t.Errorf("with the cable back (-want +got):\n%s", diff)
		}
	}
}

// testFailover has two links; the default route and the nameserver are those of the one that has a cable.
func testFailover(t *testing.T) {
	first := connectTo(t, 77, "eth0", "dnsmasq", poolArg, "--dhcp-option=option:router,10.77.0.1",
		"--dhcp-option=option:dns-server,10.77.0.1")
	n := keep(t, Options{DHCP: quickClient(), Preferred: preferred})
	mustAwait(t, n)
	connectTo(t, 78, "eth1", "dnsmasq", "--dhcp-range=10.78.0.50,10.78.0.50,255.255.255.0,1h",
		"--dhcp-option=option:router,10.78.0.1", "--dhcp-option=option:dns-server,10.78.0.1")
	n.hears(t, 0, "eth1: 10.78.0.50/24")
	resolvConf := filepath.Join(n.opt.Root, ResolvConfPath)
	resolves := func(text string) {
		t.Helper()
		n.eventually(t, text, func() bool {
			got, err := os.ReadFile(resolvConf)
			return err == nil && string(got) == text
		})
	}
	resolves("nameserver 1.1.1.1\nnameserver 10.77.0.1\nnameserver 10.78.0.1\n")
	if metrics := metricsOf(mustAwait(t, n)); !slices.Equal(metrics, []int{100, 110}) {
		t.Errorf("metrics %v", metrics)
	}
	first.plug(t, "down")
	n.hears(t, 0, "eth0: the link is lost")
	resolves("nameserver 1.1.1.1\nnameserver 10.78.0.1\n")
	first.plug(t, "up")
	n.hears(t, 0, "eth0: the link is back")
	resolves("nameserver 1.1.1.1\nnameserver 10.77.0.1\nnameserver 10.78.0.1\n")
}

func metricsOf(r Result) (metrics []int) {
	for _, i := range r.Interfaces {
		metrics = append(metrics, i.Metric)
	}
	return metrics
}

// testStatic has a link that asks no one, while the other one is asked on; and nothing of a link that is not named.
func testStatic(t *testing.T) {
	silent := connect(t, "eth0", "silent")
	connectTo(t, 78, "eth1", "dnsmasq", "--dhcp-range=10.78.0.50,10.78.0.50,255.255.255.0,1h",
		"--dhcp-option=option:dns-server,10.78.0.1")
	static := []Static{{Link: "eth0", Addresses: []netip.Prefix{pfx("10.77.0.9/24"), pfx("2001:db8:77::9/64")},
		Gateways: addrs("10.77.0.1", "2001:db8:77::1")}}
	n := keep(t, Options{DHCP: quickClient(), Preferred: preferred, Static: static})
	result := mustAwait(t, n)
	if metrics := metricsOf(result); !slices.Equal(metrics, []int{50, 100}) {
		t.Errorf("metrics %v of %v", metrics, result.Interfaces)
	}
	want := []string{"mtu 1500", "addr 10.77.0.9/24", "route 0.0.0.0/0 via 10.77.0.1 src <nil> metric 50 onlink false"}
	if diff := cmp.Diff(want, kernelState(t, "eth0")); diff != "" {
		t.Errorf("kernel (-want +got):\n%s", diff)
	}
	n.hears(t, 0, "eth0: 10.77.0.9/24 via 10.77.0.1, static")
	checkFile(t, filepath.Join(n.opt.Root, ResolvConfPath), "nameserver 1.1.1.1\nnameserver 10.78.0.1\n")
	silent.plug(t, "down")
	n.hears(t, 0, "eth0: the link is lost")
	silent.plug(t, "up")
	n.hears(t, 0, "eth0: the link is back")
	n.eventually(t, "the route is back", func() bool { return cmp.Equal(want, kernelState(t, "eth0")) })
	n.stop()

	only := keep(t, Options{DHCP: quickClient(), Static: static, OnlyStatic: true})
	if result := mustAwait(t, only); len(result.Interfaces) != 1 || result.Interfaces[0].Link.Name != "eth0" {
		t.Errorf("interfaces %v, want only eth0", result.Interfaces)
	}
}

// testNewLink has an adapter that comes late, and goes.
func testNewLink(t *testing.T) {
	n := keep(t, Options{DHCP: quickClient(), Limits: quickly()})
	if _, err := n.Await(t.Context()); !errors.Is(err, ErrNoLink) {
		t.Fatalf("got error %v, want %v", err, ErrNoLink)
	}
	t.Run("there", func(t *testing.T) {
		connect(t, "usb0", "dnsmasq", poolArg)
		n.hears(t, 0, "usb0: 10.77.0.50/24")
		mustAwait(t, n)
	})
	n.hears(t, 0, "usb0: the interface is gone")
	if _, err := n.Await(t.Context()); !errors.Is(err, ErrNoLink) {
		t.Errorf("got error %v, want %v", err, ErrNoLink)
	}
}

const (
	managedArg   = "--dhcp-range=2001:db8:77::50,2001:db8:77::50,64,1h"
	statelessArg = "--dhcp-range=2001:db8:77::,ra-stateless,64,1h"
	dns6Arg      = "--dhcp-option=option6:dns-server,[2001:db8:77::53]"
)

// testManaged6 has routers that send to a DHCPv6 server, beside DHCPv4, which is not held up.
func testManaged6(t *testing.T) {
	server := connect(t, "eth0", "dnsmasq", poolArg, "--enable-ra", managedArg, dns6Arg,
		"--dhcp-option=option:dns-server,10.77.0.1")
	n := keep(t, Options{DHCP: quickClient(), DHCP6: &Client6{}})
	mustAwait(t, n)
	n.hears(t, 0, "eth0: DHCPv6: 2001:db8:77::50/128, nameserver 2001:db8:77::53, lease 1h0m0s")
	n.hears(t, 0, "eth0: IPv6 address 2001:db8:77::50/128")
	n.eventually(t, "resolv.conf", func() bool {
		text, _ := os.ReadFile(filepath.Join(n.opt.Root, ResolvConfPath))
		return string(text) == "nameserver 10.77.0.1\nnameserver 2001:db8:77::53\n"
	})
	c := n.nics[0]
	n.mu.Lock()
	lease := *c.lease6
	n.mu.Unlock()
	for _, how := range []How{Renew, Rebind} {
		got, err := (&Client6{}).Extend(t.Context(), c.link, lease, how)
		if err != nil || got.Settings.Address != lease.Settings.Address {
			t.Errorf("way %d: got %s, error %v", how, got.Settings, err)
		}
	}
	lease.Settings.Address = pfx("2001:db8:99::1/128")
	if _, err := (&Client6{}).Extend(t.Context(), c.link, lease, Rebind); err == nil {
		t.Error("an address of another network is extended")
	}
	n.stop()
	n.hears(t, 0, "eth0: 2001:db8:77::50/128 is given back")
	path := filepath.Join(server.dir, "leases")
	n.eventually(t, "the lease is gone from dnsmasq's file", func() bool {
		text, err := os.ReadFile(path)
		return err == nil && !strings.Contains(string(text), "2001:db8:77::50")
	})
}

// testStateless6 has addresses from the router, and only nameservers from DHCPv6.
func testStateless6(t *testing.T) {
	server := connect(t, "eth0", "dnsmasq", poolArg, "--enable-ra", statelessArg, dns6Arg)
	n := keep(t, Options{DHCP: quickClient(), DHCP6: &Client6{}})
	mustAwait(t, n)
	n.hears(t, 0, "eth0: IPv6 address 2001:db8:77:0:")
	n.hears(t, 0, "eth0: DHCPv6: no address, nameserver 2001:db8:77::53, lease 2h0m0s")
	said := len(n.said())
	server.plug(t, "down")
	n.hears(t, said, "eth0: the link is lost")
	server.plug(t, "up")
	n.hears(t, said, "eth0: DHCPv6: no address, nameserver 2001:db8:77::53")
}

// testOnly6 has a network without IPv4: it is good enough when nobody answers there.
func testOnly6(t *testing.T) {
	connect(t, "eth0", "dnsmasq", "--enable-ra", managedArg, dns6Arg)
	n := keep(t, Options{DHCP: quickClient(), DHCP6: &Client6{}, Limits: quickly()})
	begin := time.Now()
	_, _ = n.Await(t.Context()) // it may be too early for IPv6 as well
	if took := time.Since(begin); took < silence {
		t.Errorf("IPv4 was waited for only %s", took)
	}
	n.eventually(t, "IPv6", func() bool {
		_, err := n.Await(t.Context())
		text, _ := os.ReadFile(filepath.Join(n.opt.Root, ResolvConfPath))
		return err == nil && string(text) == "nameserver 2001:db8:77::53\n"
	})
}

// testHostile6 has DHCPv6 servers whose answers must not be used: what comes after them is, and without that it is said
// why nothing was.
func testHostile6(t *testing.T) {
	for role, text := range map[string]string{
		"hostile 6": "", "useless 6": "last answer refused: dhcp answer refused: address ff02::1 is multicast",
	} {
		t.Run(role, func(t *testing.T) {
			connect(t, "eth0", role)
			links := mustNetlink(t)
			all, err := links.LinkList()
			if err != nil {
				t.Fatal(err)
			}
			link := candidates(all)[0]
			if err := links.LinkSetUp(link.Index); err != nil {
				t.Fatal(err)
			}
			client := &Client6{Backoff: Backoff{First: 100 * time.Millisecond, Max: 100 * time.Millisecond}}
			var lease Lease6
			// Until there is an address to ask from.
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				ctx, cancel := context.WithTimeout(t.Context(), silence)
				lease, err = client.Acquire(ctx, link, true)
				cancel()
				if done := err == nil || text != "" && strings.Contains(err.Error(), text); done || time.Now().After(end) {
					break
				}
			}
			switch {
			case text == "" && (err != nil || lease.Settings.Address != pfx("2001:db8:77::5/128")):
				t.Errorf("got %s, error %v", lease.Settings, err)
			case text != "" && (!errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), text)):
				t.Errorf("got error %v, want one with %q", err, text)
			}
		})
	}
}
