// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Link is one network interface as the kernel shows it at one moment.
type Link struct {
	Index        int
	Name         string
	HardwareAddr net.HardwareAddr
	MTU          int    // bytes
	Kind         string // "device" for hardware, else what the kernel calls it: "veth", "dummy", "bridge"
	Ethernet     bool   // the hardware type is Ethernet (wireless in station mode as well)
	Loopback     bool
	Slave        bool // part of a bridge or bond, which gets the address instead
	Up           bool // administratively up
	Carrier      bool // the other end of the cable is there; known only while Up
}

// Route is one entry of the routing table.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr // the zero Addr when Dst is on the link itself
	OnLink  bool       // the gateway lies outside the link's own network, and is reached directly all the same
	Source  netip.Addr // own address to send from; the zero Addr leaves it to the kernel
	Link    int        // index of the link
	Metric  int        // the smallest wins
}

// Inet6 is what the kernel has made of router advertisements on one interface.
type Inet6 struct {
	Router    bool           // an advertisement has come
	Managed   bool           // it says that addresses are to be had by DHCPv6
	Other     bool           // it says that nameservers and the like are to be had by DHCPv6
	Addresses []netip.Prefix // global ones that are ready for use, however they came
}

// Links is what a Network asks of the kernel. Netlink implements it; tests record the calls.
//
// A Network makes calls from several goroutines at once.
type Links interface {
	// LinkList returns every interface there is.
	LinkList() ([]Link, error)
	// Watch calls changed whenever a link or its IPv6 may have changed, and heard with what router advertisements say about
	// names, until ctx ends. It may call changed for nothing, and may return early when the kernel does not report.
	Watch(ctx context.Context, changed func(), heard func(Advert))
	// Solicit asks the routers on a link to advertise themselves. They need not answer.
	Solicit(index int) error
	// LinkSetUp brings an interface up, with IPv6 from router advertisements if the kernel has IPv6; one that is up
	// already is no error.
	LinkSetUp(index int) error
	// LinkSetMTU sets the largest packet, in bytes.
	LinkSetMTU(index, mtu int) error
	// AddrReplace gives an interface an address; one that is there already is no error. The kernel removes it when valid
	// is over, and does not use it for new connections when preferred is over; 0 means never.
	AddrReplace(index int, addr netip.Prefix, valid, preferred time.Duration) error
	// AddrDel takes an address away; one that is not there is no error.
	AddrDel(index int, addr netip.Prefix) error
	// RoutesReplace makes routes the only ones that netcfg put on the link index; all others stay. A route that was
	// there and stays is there all the time.
	RoutesReplace(index int, routes []Route) error
	// Inet6 returns what the kernel has of IPv6 on the interface; nothing of it when the kernel has no IPv6.
	Inet6(index int) (Inet6, error)
}

// candidates picks the links worth asking for a lease, in the order of their indexes.
func candidates(links []Link) []Link {
	var out []Link
	for _, l := range links {
		switch {
		case l.Loopback, l.Slave, !l.Ethernet, len(l.HardwareAddr) != 6:
		case l.Kind == "dummy", l.Kind == "ifb": // no one is at their other end
		default:
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Link) int { return a.Index - b.Index })
	return out
}
