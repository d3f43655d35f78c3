// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// ErrRefused is what errors about a DHCP answer that must not be used wrap.
var ErrRefused = errors.New("dhcp answer refused")

// Limits on what a server may ask for. What is beyond them is dropped (lists), clamped (times) or ignored (MTU).
const (
	MinPrefix = 8   // shortest prefix, in bits, of an own address or of a route that is not the default route
	MinMTU    = 576 // smallest MTU, in bytes: what every IPv4 host must take (RFC 791)

	MaxDNS    = 8  // nameservers kept of one answer
	MaxRoutes = 32 // routes kept of one answer
	MaxSearch = 6  // search domains (MAXDNSRCH of glibc before 2.26, the strictest reader)

	MinLease     = 10 * time.Second   // a shorter lease would only flood the server
	MaxLease     = 7 * 24 * time.Hour // a longer one, or one without end, is asked for again after half of this
	DefaultLease = time.Hour          // when the server names no time (RFC 2131 demands it)
)

// maxDropped bounds Settings.Dropped, so that a hostile answer cannot flood a log.
const maxDropped = 16

// Settings is what a link gets out of a DHCPv4 answer, checked and bounded.
type Settings struct {
	Address netip.Prefix // own address with the length of its network's prefix
	Routes  []Route      // in the server's order; Link and Metric are not set yet
	DNS     []netip.Addr // without duplicates, at most MaxDNS
	Search  []string     // domain names, lower case, at most MaxSearch
	MTU     int          // bytes; 0 when the server names none
	Server  netip.Addr   // server identifier; the zero Addr when the answer has none

	// Lease is how long the address may be used; Renew and Rebind (T1 and T2 of RFC 2131) are when to ask that server,
	// then any server, for more. 0 < Renew < Rebind < Lease.
	Lease, Renew, Rebind time.Duration

	// Dropped says, one short line each, what of the answer was not usable.
	Dropped []string
}

// Gateway is the router of the default route, or the zero Addr when there is none.
func (s Settings) Gateway() netip.Addr {
	for _, r := range s.Routes {
		if r.Dst.Bits() == 0 {
			return r.Gateway
		}
	}
	return netip.Addr{}
}

// String is one line for events and logs: "10.0.2.15/24 via 10.0.2.2, nameserver 10.0.2.3, lease 24h0m0s". Without a
// lease it is a static configuration.
func (s Settings) String() string {
	var b strings.Builder
	if s.Address.IsValid() {
		b.WriteString(s.Address.String())
	} else {
		b.WriteString("no address")
	}
	switch gw := s.Gateway(); {
	case gw.IsValid():
		fmt.Fprintf(&b, " via %s", gw)
	case s.Address.Addr().Is4():
		b.WriteString(" without a gateway")
	}
	if len(s.DNS) > 0 {
		b.WriteString(", " + s.nameserverText())
	}
	if s.Lease == 0 {
		b.WriteString(", static")
	} else {
		fmt.Fprintf(&b, ", lease %s", s.Lease)
	}
	return b.String()
}

// nameserverText is "nameserver" with all of them, or that there is none.
func (s Settings) nameserverText() string {
	if len(s.DNS) == 0 {
		return "no nameserver"
	}
	text := "nameserver"
	for _, d := range s.DNS {
		text += " " + d.String()
	}
	return text
}

// SettingsFrom turns a DHCPv4 offer or acknowledgement into Settings. It refuses (an error that wraps ErrRefused) an
// answer whose address or prefix cannot be used; anything else that is wrong is left out and listed in Dropped.
//
// Options: RFC 2132; classless routes: RFC 3442, which replace the router option when present; domain search: RFC 3397.
func SettingsFrom(answer *dhcpv4.DHCPv4) (Settings, error) { return settingsFrom(answer, MinLease) }

// settingsFrom is SettingsFrom with another shortest lease.
func settingsFrom(answer *dhcpv4.DHCPv4, minLease time.Duration) (Settings, error) {
	if answer == nil {
		return Settings{}, fmt.Errorf("%w: no answer", ErrRefused)
	}
	addr, err := ownAddress(answer)
	if err != nil {
		return Settings{}, err
	}
	s := Settings{Address: addr}
	s.Server, _ = usableHost(answer.ServerIdentifier())
	s.Routes = s.routes(answer)
	s.DNS = s.nameservers(answer.DNS(), usableHost)
	s.Search = s.search(answer)
	s.MTU = s.mtu(answer)
	s.Lease, s.Renew, s.Rebind = leaseTimes(answer, minLease)
	return s, nil
}

func (s *Settings) drop(format string, args ...any) {
	if len(s.Dropped) < maxDropped {
		s.Dropped = append(s.Dropped, fmt.Sprintf(format, args...))
	}
}

// ownAddress checks the address that the server gives us, with its prefix.
func ownAddress(answer *dhcpv4.DHCPv4) (netip.Prefix, error) {
	addr, why := usableHost(answer.YourIPAddr)
	if why == "" && addr.IsLinkLocalUnicast() {
		why = linkLocal // RFC 3927, section 1.6: never by DHCP
	}
	if why != "" {
		return netip.Prefix{}, fmt.Errorf("%w: address %s is %s", ErrRefused, answer.YourIPAddr, why)
	}
	bits, err := prefixBits(addr, answer)
	if err != nil {
		return netip.Prefix{}, err
	}
	prefix := netip.PrefixFrom(addr, bits)
	if bits <= 30 && (addr == prefix.Masked().Addr() || addr == broadcastOf(prefix)) {
		return netip.Prefix{}, fmt.Errorf("%w: address %s is the network's own or its broadcast address",
			ErrRefused, prefix)
	}
	return prefix, nil
}

// prefixBits reads the subnet mask option; without one the class of the address decides, as in RFC 950.
func prefixBits(addr netip.Addr, answer *dhcpv4.DHCPv4) (int, error) {
	if !answer.Options.Has(dhcpv4.OptionSubnetMask) {
		switch first := addr.As4()[0]; {
		case first < 128:
			return 8, nil
		case first < 192:
			return 16, nil
		default:
			return 24, nil
		}
	}
	mask := answer.SubnetMask()
	if len(mask) != net.IPv4len {
		return 0, fmt.Errorf("%w: subnet mask option of %d bytes, want 4", ErrRefused,
			len(answer.Options.Get(dhcpv4.OptionSubnetMask)))
	}
	ones, size := mask.Size()
	if size == 0 || ones < MinPrefix {
		return 0, fmt.Errorf("%w: subnet mask %d.%d.%d.%d, want a prefix of %d to 32 bits", ErrRefused,
			mask[0], mask[1], mask[2], mask[3], MinPrefix)
	}
	return ones, nil
}

// routes reads the classless routes or, without them, the routers, of which the first usable one gets the default
// route.
func (s *Settings) routes(answer *dhcpv4.DHCPv4) []Route {
	if answer.Options.Has(dhcpv4.OptionClasslessStaticRoute) {
		if list := answer.ClasslessStaticRoute(); list != nil {
			return s.classless(list)
		}
		s.drop("classless routes: malformed")
	}
	for _, ip := range answer.Router() {
		gw, why := s.gateway(ip)
		if why == "" {
			return []Route{{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: gw, OnLink: !s.Address.Contains(gw)}}
		}
		s.drop("router %s: %s", ip, why)
	}
	return nil
}

func (s *Settings) classless(list []*dhcpv4.Route) []Route {
	var routes []Route
	for _, r := range list {
		dst, why := destination(r.Dest)
		if why != "" {
			s.drop("route to %s: %s", r.Dest, why)
			continue
		}
		route := Route{Dst: dst}
		// A router of 0.0.0.0 means that the destination is on the link itself (RFC 3442).
		if !r.Router.IsUnspecified() {
			if route.Gateway, why = s.gateway(r.Router); why != "" {
				s.drop("route to %s: router %s: %s", dst, r.Router, why)
				continue
			}
			route.OnLink = !s.Address.Contains(route.Gateway)
		} else if dst.Bits() == 0 {
			s.drop("route to %s: no router", dst)
			continue
		}
		if slices.ContainsFunc(routes, func(o Route) bool { return o.Dst == dst }) {
			s.drop("route to %s: second one", dst)
			continue
		}
		if len(routes) == MaxRoutes {
			s.drop("routes: more than %d", MaxRoutes)
			break
		}
		routes = append(routes, route)
	}
	return routes
}

// gateway checks a router's address; why is "" when it can be used.
func (s *Settings) gateway(ip net.IP) (addr netip.Addr, why string) {
	addr, why = usableHost(ip)
	if why == "" && addr == s.Address.Addr() {
		return addr, "our own address"
	}
	return addr, why
}

// destination checks the network of a route; why is "" when it can be used.
func destination(network *net.IPNet) (dst netip.Prefix, why string) {
	addr, ok := netip.AddrFromSlice(network.IP.To4())
	ones, size := network.Mask.Size()
	if !ok || size != 32 {
		return netip.Prefix{}, "not an IPv4 network"
	}
	dst = netip.PrefixFrom(addr, ones).Masked()
	switch {
	case ones == 0:
		return dst, ""
	case ones < MinPrefix:
		return dst, fmt.Sprintf("prefix shorter than %d bits", MinPrefix)
	}
	if _, why := usableHost(net.IP(dst.Addr().AsSlice())); why != "" {
		return dst, why
	}
	return dst, ""
}

// nameservers picks the usable ones, at most MaxDNS; usable is usableHost or the like.
func (s *Settings) nameservers(list []net.IP, usable func(net.IP) (netip.Addr, string)) []netip.Addr {
	var dns []netip.Addr
	for _, ip := range list {
		addr, why := usable(ip)
		switch {
		case why != "":
			s.drop("nameserver %s: %s", ip, why)
		case slices.Contains(dns, addr):
		case len(dns) == MaxDNS:
			s.drop("nameservers: more than %d", MaxDNS)
			return dns
		default:
			dns = append(dns, addr)
		}
	}
	return dns
}

// search reads the search list and, after it, the domain name, in which some servers put several names.
func (s *Settings) search(answer *dhcpv4.DHCPv4) []string {
	var names []string
	if labels := answer.DomainSearch(); labels != nil {
		names = labels.Labels
	}
	return s.domains(append(slices.Clone(names), strings.Fields(strings.TrimRight(answer.DomainName(), "\x00"))...))
}

// domains picks what may stand in a search list, at most MaxSearch.
func (s *Settings) domains(names []string) []string {
	var search []string
	for _, raw := range names {
		name, ok := cleanDomain(raw)
		switch {
		case !ok:
			s.drop("search domain %.80q: not a domain name", raw)
		case slices.Contains(search, name):
		case len(search) == MaxSearch:
			s.drop("search domains: more than %d", MaxSearch)
			return search
		default:
			search = append(search, name)
		}
	}
	return search
}

func (s *Settings) mtu(answer *dhcpv4.DHCPv4) int {
	if !answer.Options.Has(dhcpv4.OptionInterfaceMTU) {
		return 0
	}
	v, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, answer.Options)
	if err != nil || v < MinMTU {
		s.drop("mtu %d: less than %d", v, MinMTU)
		return 0
	}
	return int(v)
}

// leaseTimes reads the lease, renewal and rebinding times and brings them into order: 0 < renew < rebind < lease.
func leaseTimes(answer *dhcpv4.DHCPv4, least time.Duration) (lease, renew, rebind time.Duration) {
	lease = min(max(answer.IPAddressLeaseTime(DefaultLease), least), MaxLease)
	return inOrder(lease, answer.IPAddressRenewalTime(0), answer.IPAddressRebindingTime(0), least)
}

// inOrder brings the times of a lease, which is at least as long as least, into order.
func inOrder(lease, renew, rebind, least time.Duration) (_, _, _ time.Duration) {
	if renew <= 0 || rebind <= renew || lease <= rebind {
		renew, rebind = lease/2, lease/8*7 // the defaults of RFC 2131, section 4.4.5
	}
	return lease, max(renew, least/2), max(rebind, least/8*7)
}

// usableHost turns ip into an address of a single other machine; why is "" when it is one, else what it is instead.
func usableHost(ip net.IP) (addr netip.Addr, why string) {
	addr, ok := netip.AddrFromSlice(ip.To4())
	if !ok {
		return netip.Addr{}, "missing"
	}
	switch first := addr.As4()[0]; {
	case addr.IsUnspecified():
		return addr, "unspecified"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return addr, "the broadcast address"
	case addr.IsLoopback():
		return addr, "loopback"
	case addr.IsMulticast():
		return addr, "multicast"
	case first == 0 || first >= 240:
		return addr, "reserved"
	}
	return addr, ""
}

// broadcastOf is the last address of an IPv4 prefix.
func broadcastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}

// cleanDomain returns name in lower case and without its final dot, and whether it is a domain name that may stand in
// resolv.conf: labels of letters, digits, "-" and "_", 1 to 63 bytes each, 253 bytes in all (RFC 1035, section 2.3.4).
func cleanDomain(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
	}
	return name, true
}
