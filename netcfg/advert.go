// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Advert is what one option of a router advertisement says about names (RFC 8106), checked and bounded.
type Advert struct {
	Link     int           // index of the link on which it came
	DNS      []netip.Addr  // nameservers, at most MaxDNS; link-local ones have no zone yet
	Search   []string      // domain names, at most MaxSearch
	Lifetime time.Duration // how long they may be used, MinLease to MaxLease; 0: no longer
	Dropped  []string      // one short line each: what of the option was not usable
}

// The kernel hands options of router advertisements to user space as they came, in messages of its own
// (include/uapi/linux/rtnetlink.h, struct nduseroptmsg; numbers in the order of the machine):
//
//	1 byte   address family
//	1 byte   padding
//	2 bytes  length of the options
//	4 bytes  index of the link
//	1 byte   type of the ICMPv6 message
//	7 bytes  code, padding
//	then the options, each with its type, its length in 8 bytes, and its value; then netlink attributes
const (
	userOptionHeader    = 16
	routerAdvertisement = 134 // RFC 4861, section 4.2
	optionRDNSS         = 25  // RFC 8106, section 5.1
	optionDNSSL         = 31  // RFC 8106, section 5.2
)

// advertsOf reads such a message. Options that are not about names are passed over.
func advertsOf(message []byte) []Advert {
	if len(message) < userOptionHeader || message[8] != routerAdvertisement {
		return nil
	}
	options := message[userOptionHeader:]
	options = options[:min(len(options), int(binary.NativeEndian.Uint16(message[2:])))]
	link := int(int32(binary.NativeEndian.Uint32(message[4:])))
	var list []Advert
	for len(options) >= 8 {
		length := 8 * int(options[1])
		if length == 0 || length > len(options) {
			break
		}
		if a, ok := advertOf(options[:length]); ok {
			a.Link = link
			list = append(list, a)
		}
		options = options[length:]
	}
	return list
}

// advertOf reads an option; ok is false when it is not about names. Behind type and length are 2 bytes that mean nothing
// and the lifetime in seconds; then addresses, or names padded with zeros.
func advertOf(option []byte) (a Advert, ok bool) {
	var s Settings
	value := option[8:]
	switch option[0] {
	case optionRDNSS:
		var list []net.IP
		for rest := value; len(rest) >= net.IPv6len; rest = rest[net.IPv6len:] {
			list = append(list, net.IP(rest[:net.IPv6len]))
		}
		if len(list) == 0 || len(value)%net.IPv6len != 0 {
			list = nil
			s.drop("nameservers: %d bytes, want 16 for each", len(value))
		}
		s.DNS = s.nameservers(list, usableNear6)
	case optionDNSSL:
		names, whole := labels(value)
		if !whole {
			names = nil
			s.drop("search domains: cut off")
		}
		s.Search = s.domains(names)
	default:
		return Advert{}, false
	}
	lifetime := time.Duration(binary.BigEndian.Uint32(option[4:])) * time.Second
	if lifetime > 0 {
		lifetime = min(max(lifetime, MinLease), MaxLease)
	}
	return Advert{DNS: s.DNS, Search: s.Search, Lifetime: lifetime, Dropped: s.Dropped}, true
}

// usableNear6 is usableHost6 for a machine that may be known by its link-local address.
func usableNear6(ip net.IP) (addr netip.Addr, why string) {
	if addr, why = usableHost6(ip); why == linkLocal {
		why = ""
	}
	return addr, why
}

// labels reads names as DNS has them (RFC 1035, section 3.1), without compression. Empty ones are padding.
func labels(b []byte) (names []string, whole bool) {
	var name []string
	for len(b) > 0 {
		n := int(b[0])
		b = b[1:]
		if n > len(b) || n > 63 {
			return names, false
		}
		if n > 0 {
			name = append(name, string(b[:n]))
			b = b[n:]
			continue
		}
		if len(name) > 0 {
			names = append(names, strings.Join(name, "."))
		}
		name = nil
	}
	return names, len(name) == 0
}

// adverts is what the routers on one link have said about names.
type adverts struct {
	heard   bool // anything since the link has carrier
	dns     []advertised[netip.Addr]
	search  []advertised[string]
	dropped []string // what was not usable, at most maxDropped
}

// advertised is one name or address, until its time is over.
type advertised[T comparable] struct {
	what  T
	until time.Time
}

// add notes what a router says now. What was said first is kept, should there be too much; but what was said before the
// carrier was lost is only used until a router says something now: the network may be another one.
func (a *adverts) add(ad Advert, zone string, now time.Time) {
	if !a.heard {
		*a = adverts{heard: true}
	}
	dns := slices.Clone(ad.DNS)
	for i, d := range dns {
		if d.IsLinkLocalUnicast() {
			dns[i] = d.WithZone(zone)
		}
	}
	a.dns = renew(a.dns, dns, ad.Lifetime, now, MaxDNS)
	a.search = renew(a.search, ad.Search, ad.Lifetime, now, MaxSearch)
	a.dropped = firstOf(slices.Concat(a.dropped, ad.Dropped), maxDropped)
}

// renew gives what is said now its time, or takes it away, and forgets what is over.
func renew[T comparable](list []advertised[T], said []T, lifetime time.Duration, now time.Time, most int) []advertised[T] {
	list = slices.DeleteFunc(list, func(o advertised[T]) bool {
		return !o.until.After(now) || lifetime == 0 && slices.Contains(said, o.what)
	})
	if lifetime == 0 {
		return list
	}
	for _, w := range said {
		at := slices.IndexFunc(list, func(o advertised[T]) bool { return o.what == w })
		switch {
		case at >= 0:
			list[at].until = now.Add(lifetime)
		case len(list) < most:
			list = append(list, advertised[T]{w, now.Add(lifetime)})
		}
	}
	return list
}

// names is what may be used now, and for how long that stays so; at most look6.
func (a *adverts) names(now time.Time) (dns []netip.Addr, search []string, left time.Duration) {
	left = look6
	return living(a.dns, now, &left), living(a.search, now, &left), left
}

func living[T comparable](list []advertised[T], now time.Time, left *time.Duration) (what []T) {
	for _, o := range list {
		if o.until.After(now) {
			what = append(what, o.what)
			*left = min(*left, o.until.Sub(now))
		}
	}
	return what
}
