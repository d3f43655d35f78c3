// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

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

// LinkByIndex implements Links.
func (n *Netlink) LinkByIndex(index int) (Link, error) {
	l, err := n.h.LinkByIndex(index)
	if err != nil {
		return Link{}, fmt.Errorf("read network interface %d: %w", index, err)
	}
	return linkOf(l), nil
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

// AddrReplace implements Links. The address is valid until someone removes it.
func (n *Netlink) AddrReplace(index int, addr netip.Prefix) error {
	if err := n.h.AddrReplace(byIndex(index), &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("set address %s: %w", addr, err)
	}
	return nil
}

// RoutesReplace implements Links. Routes of DHCP are known by their origin in the kernel's table (RTPROT_DHCP).
func (n *Netlink) RoutesReplace(index int, routes []Route) error {
	filter := &netlink.Route{LinkIndex: index, Protocol: unix.RTPROT_DHCP}
	old, err := n.h.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range old {
		if err := n.h.RouteDel(&r); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("delete route to %s: %w", r.Dst, err)
		}
	}
	for _, r := range routes {
		if err := n.h.RouteReplace(kernelRoute(index, r)); err != nil {
			return fmt.Errorf("set route to %s via %s: %w", r.Dst, r.Gateway, err)
		}
	}
	return nil
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
	} else {
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
