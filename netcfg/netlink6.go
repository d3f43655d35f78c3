// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Flags of IFLA_INET6_FLAGS (include/net/if_inet6.h of the kernel).
const (
	flagAdvertised = 0x20 // IF_RA_RCVD
	flagManaged    = 0x40 // IF_RA_MANAGED
	flagOther      = 0x80 // IF_RA_OTHERCONF
)

// routerSolicitation is a type of ICMPv6 message (RFC 4861, section 4.1).
const routerSolicitation = 133

// watchPause is waited after the kernel's reports could not be read, such as when there were too many of them.
const watchPause = 100 * time.Millisecond

// Watch implements Links: of changes, what the kernel reports only says that it is time to look.
func (n *Netlink) Watch(ctx context.Context, changed func(), heard func(Advert)) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_IFINFO,
		unix.RTNLGRP_ND_USEROPT)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, socket.Close)()
	for ctx.Err() == nil {
		messages, _, err := socket.Receive()
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return
			}
			sleep(ctx, watchPause)
		}
		look := err != nil
		for _, m := range messages {
			if m.Header.Type != unix.RTM_NEWNDUSEROPT {
				look = true
				continue
			}
			for _, a := range advertsOf(m.Data) {
				heard(a)
			}
		}
		if look {
			changed()
		}
	}
}

// Solicit implements Links. The kernel does so itself when a link is set up, but not when its carrier is back.
func (n *Netlink) Solicit(index int) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("solicit routers: %w", err)
	}
	// No router would take a message that may have come through another one (RFC 4861, section 6.1.1).
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	if err == nil {
		to := &unix.SockaddrInet6{ZoneId: uint32(index), Addr: netip.IPv6LinkLocalAllRouters().As16()}
		err = unix.Sendto(fd, []byte{routerSolicitation, 7: 0}, unix.MSG_DONTWAIT, to) // the kernel adds the checksum
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("solicit routers: %w", err)
	}
	return nil
}

// acceptRA has the kernel make addresses and routes from router advertisements, which is its default. A kernel without
// IPv6 has none of these files, and needs none.
func acceptRA(index int) {
	ifc, err := net.InterfaceByIndex(index)
	if err != nil {
		return
	}
	for _, s := range []struct{ name, value string }{{"disable_ipv6", "0"}, {"accept_ra", "1"}, {"autoconf", "1"}} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+ifc.Name+"/"+s.name, []byte(s.value), 0) // nothing depends on it
	}
}

// Inet6 implements Links.
func (n *Netlink) Inet6(index int) (Inet6, error) {
	flags, err := inet6Flags(index)
	if err != nil {
		return Inet6{}, fmt.Errorf("read IPv6 of interface %d: %w", index, err)
	}
	six := Inet6{Router: flags&flagAdvertised != 0, Managed: flags&flagManaged != 0, Other: flags&flagOther != 0}
	addrs, err := n.h.AddrList(byIndex(index), netlink.FAMILY_V6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return Inet6{}, fmt.Errorf("read IPv6 addresses of interface %d: %w", index, err)
	}
	const notReady = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED
	for _, a := range addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ok && a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&notReady == 0 {
			six.Addresses = append(six.Addresses, netip.PrefixFrom(addr, bits))
		}
	}
	return six, nil
}

// inet6Flags asks for the flags that router advertisements set; 0 without IPv6. They stand in the answer to a request
// for links of that family: in IFLA_PROTINFO, and there in IFLA_INET6_FLAGS.
func inet6Flags(index int) (uint32, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_INET6))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, err
	}
	for _, m := range messages {
		if len(m) < unix.SizeofIfInfomsg || int(binary.NativeEndian.Uint32(m[4:8])) != index {
			continue
		}
		info, err := attribute(m[unix.SizeofIfInfomsg:], unix.IFLA_PROTINFO)
		if err != nil {
			return 0, err
		}
		flags, err := attribute(info, unix.IFLA_INET6_FLAGS)
		if err != nil || len(flags) < 4 {
			return 0, err
		}
		return binary.NativeEndian.Uint32(flags), nil
	}
	return 0, nil
}

// attribute finds an attribute of netlink; nil if it is not there.
func attribute(list []byte, kind uint16) ([]byte, error) {
	attrs, err := nl.ParseRouteAttr(list)
	for _, a := range attrs {
		if a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return a.Value, nil
		}
	}
	return nil, err
}
