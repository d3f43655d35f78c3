// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Netlink is the kernel's own Links, over a route netlink socket in the network namespace of the calling thread.
// Changing anything needs CAP_NET_ADMIN.
type Netlink struct {
	h *netlink.Handle
}

// NewNetlink opens the socket; Close it when done.
func NewNetlink() (*Netlink, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route netlink socket: %w", err)
	}
	return &Netlink{h: h}, nil
}

// Close closes the socket.
func (n *Netlink) Close() { n.h.Close() }

// LinkList implements Links.
func (n *Netlink) LinkList() ([]Link, error) {
	list, err := n.h.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	links := make([]Link, 0, len(list))
	for _, l := range list {
		links = append(links, linkOf(l))
	}
	return links, nil
}

func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	return Link{
		Index:        a.Index,
		Name:         a.Name,
		HardwareAddr: a.HardwareAddr,
		MTU:          a.MTU,
		Kind:         l.Type(),
		Ethernet:     a.EncapType == "ether",
		Loopback:     a.RawFlags&unix.IFF_LOOPBACK != 0,
		Slave:        a.MasterIndex != 0,
		Up:           a.RawFlags&unix.IFF_UP != 0,
		Carrier:      a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
}

// byIndex is enough of a link for the calls that only need its index.
func byIndex(index int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// LinkSetUp implements Links.
func (n *Netlink) LinkSetUp(index int) error {
	acceptRA(index)
	if err := n.h.LinkSetUp(byIndex(index)); err != nil {
		return fmt.Errorf("set link up: %w", err)
	}
	return nil
}

// LinkSetMTU implements Links.
func (n *Netlink) LinkSetMTU(index, mtu int) error {
	if err := n.h.LinkSetMTU(byIndex(index), mtu); err != nil {
		return fmt.Errorf("set mtu %d: %w", mtu, err)
	}
	return nil
}

// AddrReplace implements Links.
func (n *Netlink) AddrReplace(index int, addr netip.Prefix, valid, preferred time.Duration) error {
	a := &netlink.Addr{IPNet: ipNet(addr), ValidLft: int(valid / time.Second), PreferedLft: int(preferred / time.Second)}
	if err := n.h.AddrReplace(byIndex(index), a); err != nil {
		return fmt.Errorf("set address %s: %w", addr, err)
	}
	return nil
}

// AddrDel implements Links.
func (n *Netlink) AddrDel(index int, addr netip.Prefix) error {
	err := n.h.AddrDel(byIndex(index), &netlink.Addr{IPNet: ipNet(addr)})
	if err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("delete address %s: %w", addr, err)
	}
	return nil
}

// RoutesReplace implements Links. Routes of netcfg are known by their origin in the kernel's table (RTPROT_DHCP).
func (n *Netlink) RoutesReplace(index int, routes []Route) error {
	for _, r := range routes {
		if err := n.h.RouteReplace(kernelRoute(index, r)); err != nil {
			return fmt.Errorf("set route to %s via %s: %w", r.Dst, r.Gateway, err)
		}
	}
	filter := &netlink.Route{LinkIndex: index, Protocol: unix.RTPROT_DHCP}
	there, err := n.h.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, old := range there {
		if slices.ContainsFunc(routes, func(r Route) bool { return sameRoute(old, kernelRoute(index, r)) }) {
			continue
		}
		if err := n.h.RouteDel(&old); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("delete route to %s: %w", old.Dst, err)
		}
	}
	return nil
}

// sameRoute tells whether old is what RouteReplace has made of wanted.
func sameRoute(old netlink.Route, wanted *netlink.Route) bool {
	return old.Dst != nil && old.Dst.String() == wanted.Dst.String() && old.Priority == wanted.Priority &&
		old.Gw.Equal(wanted.Gw) && (wanted.Src == nil || old.Src.Equal(wanted.Src))
}

func kernelRoute(index int, r Route) *netlink.Route {
	k := &netlink.Route{
		LinkIndex: index,
		Dst:       ipNet(r.Dst),
		Priority:  r.Metric,
		Protocol:  unix.RTPROT_DHCP,
	}
	if r.Source.IsValid() {
		k.Src = net.IP(r.Source.AsSlice())
	}
	if r.Gateway.IsValid() {
		k.Gw = net.IP(r.Gateway.AsSlice())
	} else if r.Dst.Addr().Is4() {
		k.Scope = netlink.SCOPE_LINK
	}
	if r.OnLink {
		k.Flags = int(netlink.FLAG_ONLINK)
	}
	return k
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
