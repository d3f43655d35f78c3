// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kindling/internal/event"
)

// Route is how the host would send a packet to an address.
type Route struct {
	Unicast  bool // RTN_UNICAST: to another machine; not local, broadcast, blackhole or the like
	Loopback bool // through the loopback device
}

// Routes is what the policy asks the host about an address, at the time it is dialled.
type Routes interface {
	Lookup(dst netip.Addr) (Route, error)
	Own() ([]netip.Addr, error) // the addresses of the host's interfaces
}

// refusal is why the guest may not reach an address; empty: it may.
type refusal string

const (
	refusedOutside   refusal = "the guest may not reach the outside"
	refusedNetwork   refusal = "nothing in the guest's own network answers there"
	refusedLoopback  refusal = "a loopback address of the host"
	refusedLinkLocal refusal = "a link-local address, or a cloud's metadata service"
	refusedSpecial   refusal = "not the address of a machine"
	refusedOwn       refusal = "an address of the host"
	refusedRoute     refusal = "the host has no route to another machine for it"
)

// reserved are the IPv4 addresses that no machine on the outside has (RFC 6890), whatever the kernel routes.
var reserved = []struct {
	prefix netip.Prefix
	why    refusal
}{
	{netip.MustParsePrefix("0.0.0.0/8"), refusedSpecial}, // Linux connects 0.0.0.0 to itself
	{netip.MustParsePrefix("10.0.2.0/24"), refusedNetwork},
	{netip.MustParsePrefix("127.0.0.0/8"), refusedLoopback},
	{netip.MustParsePrefix("169.254.0.0/16"), refusedLinkLocal},     // also a cloud's metadata service
	{netip.MustParsePrefix("100.100.100.200/32"), refusedLinkLocal}, // Alibaba's, which is not link-local
	{netip.MustParsePrefix("168.63.129.16/32"), refusedLinkLocal},   // Azure's
	{netip.MustParsePrefix("224.0.0.0/4"), refusedSpecial},          // multicast
	{netip.MustParsePrefix("240.0.0.0/4"), refusedSpecial},          // class E, and the limited broadcast
}

// refuseAddr judges an address by itself.
func refuseAddr(dst netip.Addr) refusal {
	if !dst.Is4() {
		return refusedSpecial
	}
	for _, r := range reserved {
		if r.prefix.Contains(dst) {
			return r.why
		}
	}
	return ""
}

// refuseRoute judges an address by what the host knows about it.
func refuseRoute(dst netip.Addr, own []netip.Addr, route Route) refusal {
	switch {
	case slices.Contains(own, dst):
		return refusedOwn
	case !route.Unicast || route.Loopback:
		return refusedRoute
	}
	return ""
}

// judge is the whole policy for connections to the outside. Where the host cannot be asked, the answer is no.
func judge(dst netip.Addr, outside bool, routes Routes) refusal {
	if why := refuseAddr(dst); why != "" {
		return why
	}
	if !outside {
		return refusedOutside
	}
	own, err := routes.Own()
	if err != nil {
		return refusedRoute
	}
	route, err := routes.Lookup(dst)
	if err != nil {
		return refusedRoute
	}
	return refuseRoute(dst, own, route)
}

// kernelRoutes asks this host's kernel.
type kernelRoutes struct{}

// Own implements Routes.
func (kernelRoutes) Own() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own, nil
}

// Lookup implements Routes. Of a route with several ways, every one has to lead to another machine.
func (kernelRoutes) Lookup(dst netip.Addr) (Route, error) {
	list, err := netlink.RouteGet(dst.AsSlice())
	if err != nil {
		return Route{}, fmt.Errorf("look up the route to %s: %w", dst, err)
	}
	route := Route{Unicast: len(list) > 0}
	for _, r := range list {
		dev, err := net.InterfaceByIndex(r.LinkIndex)
		if err != nil {
			return Route{}, fmt.Errorf("look up the route to %s: %w", dst, err)
		}
		route.Unicast = route.Unicast && r.Type == unix.RTN_UNICAST
		route.Loopback = route.Loopback || dev.Flags&net.FlagLoopback != 0
	}
	return route, nil
}

// maxLogged is how many addresses are logged; a guest can try four billion.
const maxLogged = 64

// refusals counts what is refused, and logs each address once.
type refusals struct {
	log   func(string)
	count atomic.Int64

	mu   sync.Mutex
	seen map[netip.Addr]bool
}

func (r *refusals) add(dst netip.AddrPort, why refusal) {
	r.count.Add(1)
	if r.log == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[dst.Addr()] || len(r.seen) > maxLogged {
		return
	}
	if r.seen == nil {
		r.seen = make(map[netip.Addr]bool)
	}
	r.seen[dst.Addr()] = true
	if len(r.seen) > maxLogged {
		r.log("guest network: further refused addresses are not logged")
		return
	}
	r.log(event.Clean(fmt.Sprintf("guest network: connection to %s refused: %s", dst, string(why))))
}
