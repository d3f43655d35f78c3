// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fixed is a host.
type fixed struct {
	route      Route
	own        []netip.Addr
	routeError error
	ownError   error
}

func (f fixed) Lookup(netip.Addr) (Route, error) { return f.route, f.routeError }
func (f fixed) Own() ([]netip.Addr, error)       { return f.own, f.ownError }

func TestJudge(t *testing.T) {
	elsewhere := fixed{route: Route{Unicast: true}, own: []netip.Addr{netip.MustParseAddr("203.0.113.9")}}
	tests := []struct {
		dst     string
		outside bool
		host    fixed
		want    refusal
	}{
		{"198.51.100.7", true, elsewhere, ""},
		{"192.168.1.1", true, elsewhere, ""},
		{"10.0.3.1", true, elsewhere, ""},
		{"10.0.1.255", true, elsewhere, ""},
		{"172.16.0.1", true, elsewhere, ""},
		{"100.64.0.1", true, elsewhere, ""},
		{"198.51.100.7", false, elsewhere, refusedOutside},
		{"127.0.0.1", false, elsewhere, refusedLoopback},
		{"127.0.0.1", true, elsewhere, refusedLoopback},
		{"127.0.0.53", true, elsewhere, refusedLoopback},
		{"127.255.255.255", true, elsewhere, refusedLoopback},
		{"0.0.0.0", true, elsewhere, refusedSpecial},
		{"0.1.2.3", true, elsewhere, refusedSpecial},
		{"169.254.169.254", true, elsewhere, refusedLinkLocal},
		{"169.254.0.1", true, elsewhere, refusedLinkLocal},
		{"224.0.0.1", true, elsewhere, refusedSpecial},
		{"239.255.255.255", true, elsewhere, refusedSpecial},
		{"240.0.0.1", true, elsewhere, refusedSpecial},
		{"255.255.255.255", true, elsewhere, refusedSpecial},
		{"10.0.2.2", true, elsewhere, refusedNetwork},
		{"10.0.2.15", true, elsewhere, refusedNetwork},
		{"203.0.113.9", true, elsewhere, refusedOwn},
		{"198.51.100.7", true, fixed{route: Route{}}, refusedRoute},
		{"198.51.100.7", true, fixed{route: Route{Unicast: true, Loopback: true}}, refusedRoute},
		{"198.51.100.7", true, fixed{route: Route{Unicast: true}, routeError: errors.New("no netlink")}, refusedRoute},
		{"198.51.100.7", true, fixed{route: Route{Unicast: true}, ownError: errors.New("no netlink")}, refusedRoute},
		{"2001:db8::1", true, elsewhere, refusedSpecial},
		{"::1", true, elsewhere, refusedSpecial},
		{"::ffff:198.51.100.7", true, elsewhere, refusedSpecial},
	}
	for _, tt := range tests {
		if got := judge(netip.MustParseAddr(tt.dst), tt.outside, tt.host); got != tt.want {
			t.Errorf("%s (outside %t, %+v): %q, want %q", tt.dst, tt.outside, tt.host, got, tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	var lines []string
	r := refusals{log: func(line string) { lines = append(lines, line) }}
	first := netip.MustParseAddrPort("127.0.0.1:22")
	for range 3 {
		r.add(first, refusedLoopback)
	}
	want := []string{"guest network: connection to 127.0.0.1:22 refused: a loopback address of the host"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for i := range 1000 {
		r.add(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 80), refusedOutside)
	}
	if len(lines) != maxLogged+1 || !strings.Contains(lines[maxLogged], "not logged") || len(r.seen) != maxLogged+1 {
		t.Errorf("%d lines, %d addresses, last %q", len(lines), len(r.seen), lines[len(lines)-1])
	}
	if r.count.Load() != 1003 {
		t.Errorf("count %d", r.count.Load())
	}
}

// namespaceEnv is set in the process that TestKernelRoutes starts in a network namespace.
const namespaceEnv = "KINDLING_TEST_USERNET_NAMESPACE"

// TestKernelRoutes asks a real kernel, in a network namespace with one link and routes of every kind.
func TestKernelRoutes(t *testing.T) {
	if os.Getenv(namespaceEnv) == "" {
		inNamespace(t)
		return
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}}
	link.PeerName = "veth1"
	must(t, netlink.LinkAdd(link))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	peer, err := netlink.LinkByName(link.PeerName)
	must(t, err)
	for _, l := range []netlink.Link{lo, link, peer} {
		must(t, netlink.LinkSetUp(l))
	}
	addr, err := netlink.ParseAddr("203.0.113.1/24")
	must(t, err)
	must(t, netlink.AddrAdd(link, addr))
	for dst, kind := range map[string]int{
		"198.51.100.1/32": unix.RTN_BLACKHOLE, "198.51.100.2/32": unix.RTN_UNREACHABLE, "198.51.100.3/32": unix.RTN_LOCAL,
		"198.51.100.4/32": unix.RTN_UNICAST, "198.51.100.5/32": unix.RTN_UNICAST,
	} {
		to, err := netlink.ParseIPNet(dst)
		must(t, err)
		r := &netlink.Route{Dst: to, Type: kind}
		switch {
		case strings.HasPrefix(dst, "198.51.100.4"):
			r.LinkIndex, r.Scope = lo.Attrs().Index, netlink.SCOPE_LINK
		case kind == unix.RTN_LOCAL:
			r.LinkIndex, r.Scope = lo.Attrs().Index, netlink.SCOPE_HOST
		case kind == unix.RTN_UNICAST:
			r.Gw = []byte{203, 0, 113, 254}
		}
		must(t, netlink.RouteAdd(r))
	}
	for dst, want := range map[string]refusal{
		"203.0.113.7":   "", // on the link
		"198.51.100.5":  "", // by a gateway
		"203.0.113.1":   refusedOwn,
		"203.0.113.255": refusedRoute, // broadcast
		"198.51.100.1":  refusedRoute, // blackhole
		"198.51.100.2":  refusedRoute, // unreachable
		"198.51.100.3":  refusedRoute, // local, on no interface
		"198.51.100.4":  refusedRoute, // loopback device
		"192.0.2.1":     refusedRoute, // no route
	} {
		if got := judge(netip.MustParseAddr(dst), true, kernelRoutes{}); got != want {
			t.Errorf("%s: %q, want %q", dst, got, want)
		}
	}
	for _, dst := range []string{"127.0.0.1", "203.0.113.1"} {
		if got, err := (kernelRoutes{}).Lookup(netip.MustParseAddr(dst)); err != nil || got.Unicast {
			t.Errorf("%s: %+v, %v", dst, got, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inNamespace runs the calling test again in a network namespace, for which anyone but root needs a user namespace.
func inNamespace(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if id := os.Geteuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, os.ErrPermission) && os.Getenv("CI") == "" {
		t.Skip("no network namespace of one's own on this machine: ", err)
	}
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("--- PASS: %s ", t.Name())) {
		t.Errorf("in the namespace: %v\n%s", err, out)
	}
}
