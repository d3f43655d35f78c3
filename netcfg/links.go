// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"net"
	"net/netip"
	"slices"
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

// Links is what Configure asks of the kernel. Netlink implements it; tests record the calls.
//
// Configure makes calls from several goroutines at once.
type Links interface {
	// LinkList returns every interface there is.
	LinkList() ([]Link, error)
	// LinkByIndex returns the present state of one interface.
	LinkByIndex(index int) (Link, error)
	// LinkSetUp brings an interface up; one that is up already is no error.
	LinkSetUp(index int) error
	// LinkSetMTU sets the largest packet, in bytes.
	LinkSetMTU(index, mtu int) error
	// AddrReplace gives an interface an address; one that is there already is no error.
	AddrReplace(index int, addr netip.Prefix) error
	// RoutesReplace makes routes the only ones that DHCP put on the link index; all others stay.
	RoutesReplace(index int, routes []Route) error
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
