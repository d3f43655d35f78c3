// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRouters has networks whose nameservers only stand in router advertisements: no DHCP of any kind answers there.
func TestRouters(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if err := hurry6(); err != nil {
		t.Fatal(err)
	}
	t.Run("dnsmasq", testRouterDnsmasq)
	t.Run("changes its mind", testRouterChanges)
	t.Run("heard before", testRouterBefore)
}

// resolves waits until resolv.conf is text.
func (r *running) resolves(t *testing.T, text string) {
	t.Helper()
	r.eventually(t, "resolv.conf: "+text, func() bool {
		got, err := os.ReadFile(filepath.Join(r.opt.Root, ResolvConfPath))
		return err == nil && string(got) == text
	})
}

func testRouterDnsmasq(t *testing.T) {
	server := connect(t, "eth0", "dnsmasq", "--enable-ra", "--dhcp-range=2001:db8:77::,ra-only,64,1h", dns6Arg,
		"--dhcp-option=option6:domain-search,lan.example,example.org")
	n := keep(t, Options{DHCP: quickClient(), DHCP6: &Client6{}, Preferred: preferred, Limits: quickly()})
	n.eventually(t, "IPv6", func() bool {
		_, err := n.Await(t.Context())
		return err == nil
	})
	const text = "search lan.example example.org\nnameserver 1.1.1.1\nnameserver 2001:db8:77::53\n"
	n.resolves(t, text)
	n.hears(t, 0, "eth0: router advertisements: nameserver 2001:db8:77::53")
	result, err := n.Await(t.Context())
	if err != nil || string(result.ResolvConf) != text {
		t.Errorf("got %q as resolv.conf, error %v", result.ResolvConf, err)
	}
	if slices.ContainsFunc(n.said(), func(l string) bool { return strings.Contains(l, "DHCPv6") }) {
		t.Errorf("a DHCPv6 server was asked: %q", n.said())
	}
	server.plug(t, "down")
	n.eventually(t, "the carrier is lost", func() bool {
		_, err := n.Await(t.Context())
		return err != nil
	})
	server.plug(t, "up")
	n.eventually(t, "the routers are asked again", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.nics[0].adverts.heard
	})
	n.resolves(t, text)
}

// testRouterChanges has a router that says some of what must not be believed, and then takes all back.
func testRouterChanges(t *testing.T) {
	router := connect(t, "eth0", "router")
	router.advertise(t, rdnss(600, "2001:db8:77::53", "ff02::66", "fe80::53", "::1"), rdnss(600),
		raOption(optionRDNSS, 600, make([]byte, 24)), dnssl(600, "lan.example"),
		raOption(optionDNSSL, 600, []byte{3, 'b', 'a', 'd', 0, 40, 'x', 'y'}))
	n := keep(t, Options{DHCP: quickClient(), Limits: quickly()})
	n.resolves(t, "search lan.example\nnameserver 2001:db8:77::53\nnameserver fe80::53%eth0\n")
	n.hears(t, 0, "eth0: not used: nameserver ff02::66: multicast")
	n.eventually(t, "an address", func() bool {
		_, err := n.Await(t.Context())
		return err == nil
	})
	router.advertise(t, rdnss(0, "2001:db8:77::53", "fe80::53"))
	n.resolves(t, "search lan.example\n")
	n.hears(t, 0, "eth0: router advertisements: no nameserver")
}

// testRouterBefore has a router that only speaks when it is asked, and that the kernel has heard before: it is asked
// again.
func testRouterBefore(t *testing.T) {
	router := connect(t, "eth0", "router")
	router.advertise(t, rdnss(600, "2001:db8:77::53"))
	links := mustNetlink(t)
	all, err := links.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	index := candidates(all)[0].Index
	if err := links.LinkSetUp(index); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := links.Inet6(index)
		if err != nil || time.Now().After(end) {
			t.Fatalf("no advertisement, error %v", err)
		}
		if state.Router {
			break
		}
	}
	n := keep(t, Options{DHCP: quickClient(), Limits: quickly()})
	n.resolves(t, "nameserver 2001:db8:77::53\n")
}

// advertise makes a router advertise options, now and whenever it is asked.
func (p peer) advertise(t *testing.T, options ...[]byte) {
	t.Helper()
	path := filepath.Join(p.dir, "options")
	if err := os.WriteFile(path+".new", slices.Concat(options...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// route is a router. It advertises its network, and the options in the file that advertise writes: when it is asked, and
// when they are others than before.
func route() error {
	ifc, err := net.InterfaceByName(serverLink)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	join := &unix.IPv6Mreq{Multiaddr: adr("ff02::2").As16(), Interface: uint32(ifc.Index)}
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, join),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}),
	} {
		if err != nil {
			return err
		}
	}
	everyone := &unix.SockaddrInet6{ZoneId: uint32(ifc.Index), Addr: adr("ff02::1").As16()}
	var last []byte
	buf := make([]byte, 2048)
	for {
		options, _ := os.ReadFile("options") // it may not be there yet
		n, _, err := unix.Recvfrom(fd, buf, 0)
		asked := err == nil && n > 0 && buf[0] == routerSolicitation
		if options == nil || !asked && bytes.Equal(options, last) {
			continue
		}
		// Until both ends of the link are up there is no way to send.
		if err := unix.Sendto(fd, append(advertisement(), options...), 0, everyone); err == nil {
			last = options
		}
	}
}

// advertisement is a router advertisement (RFC 4861, section 4.2) with a network for addresses of one's own making.
func advertisement() []byte {
	m := []byte{routerAdvertisement, 0, 0, 0, 64, 0, 1800 >> 8, 1800 & 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	m = append(m, 3, 4, 64, 0xc0) // prefix information: on the link, autonomous
	m = binary.BigEndian.AppendUint32(m, 3600)
	m = binary.BigEndian.AppendUint32(m, 3600)
	m = append(m, 0, 0, 0, 0)
	return append(m, adr("2001:db8:77::").AsSlice()...)
}
