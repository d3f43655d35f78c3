// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package netkeys reads the variables of bootstrap.cfg that configure the guest's network: NET_MODE, NET_STATIC and
// NET_DNS. The host checks with it what a user asks for, the guest what a user may have edited since.
//
// It is pure: text in, values out. It touches no network. docs/network.md is the manual.
package netkeys

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// The variables of bootstrap.cfg.
const (
	VarMode   = "NET_MODE"   // "auto", "static" or "off"; empty means "auto"
	VarStatic = "NET_STATIC" // eth0,192.0.2.2/24,192.0.2.1[,eth1,...]
	VarDNS    = "NET_DNS"    // 192.0.2.53[,2001:db8::53]
)

// Mode says which links are configured.
type Mode string

// The modes.
const (
	ModeAuto   Mode = "auto"   // the links of NET_STATIC as that says, all others by DHCP
	ModeStatic Mode = "static" // the links of NET_STATIC only
	ModeOff    Mode = "off"    // none
)

// Limits of what is taken.
const (
	MaxLinks     = 8   // in NET_STATIC
	MaxAddresses = 8   // of one link, and as many gateways
	MaxDNS       = 3   // a resolver asks no more
	MaxValue     = 127 // bytes of one value: the room that the tree's configurator has for a word
	maxName      = 15  // bytes of an interface's name (IFNAMSIZ of Linux)
)

// Link is one link of NET_STATIC.
type Link struct {
	Name      string // of the interface, or its hardware address in lower case
	Addresses []netip.Prefix
	Gateways  []netip.Addr // of default routes, at most one for each family
}

// Config is what the variables say.
type Config struct {
	Mode   Mode
	Static []Link
	DNS    []netip.Addr
}

// Parse reads the variables; get gives the value of one, with quotes or without. The error is one line that names the
// variable.
func Parse(get func(name string) string) (Config, error) {
	c := Config{Mode: ModeAuto}
	words := func(name string) ([]string, error) {
		value := strings.Trim(get(name), `"'`)
		if len(value) > MaxValue {
			return nil, fmt.Errorf("%s: %d bytes, %d are possible", name, len(value), MaxValue)
		}
		return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }), nil
	}
	mode, err := words(VarMode)
	if err != nil {
		return Config{}, err
	}
	if len(mode) > 0 {
		c.Mode = Mode(strings.Join(mode, ","))
	}
	if !slices.Contains([]Mode{ModeAuto, ModeStatic, ModeOff}, c.Mode) {
		return Config{}, fmt.Errorf("%s: %.40q is none of auto, static, off", VarMode, c.Mode)
	}
	static, err := words(VarStatic)
	if err != nil {
		return Config{}, err
	}
	if c.Static, err = parseStatic(static); err != nil {
		return Config{}, fmt.Errorf("%s: %w", VarStatic, err)
	}
	if c.Mode == ModeStatic && len(c.Static) == 0 {
		return Config{}, fmt.Errorf("%s is static, but %s is empty", VarMode, VarStatic)
	}
	dns, err := words(VarDNS)
	if err != nil {
		return Config{}, err
	}
	if c.DNS, err = parseDNS(dns); err != nil {
		return Config{}, fmt.Errorf("%s: %w", VarDNS, err)
	}
	return c, nil
}

// parseStatic reads links, each with what belongs to it behind it:
//
//	static  = link *( "," link )
//	link    = ( interface-name / hardware-address ) 1*( "," address "/" prefix-length ) *( "," gateway )
func parseStatic(words []string) ([]Link, error) {
	var links []Link
	for _, w := range words {
		var last *Link
		if len(links) > 0 {
			last = &links[len(links)-1]
		}
		mac, isMAC := hardwareAddress(w)
		addr, addrErr := netip.ParseAddr(w)
		switch {
		case isMAC, addrErr != nil && !strings.Contains(w, "/"):
			if !isMAC {
				mac = w
			}
			if err := addLink(&links, mac); err != nil {
				return nil, err
			}
		case last == nil:
			return nil, fmt.Errorf("%.60q: the name of a link must come first, as in eth0,192.0.2.2/24,192.0.2.1", w)
		case addrErr == nil:
			if err := last.addGateway(addr); err != nil {
				return nil, err
			}
		default:
			if err := last.addAddress(w); err != nil {
				return nil, err
			}
		}
	}
	for _, l := range links {
		if len(l.Addresses) == 0 {
			return nil, fmt.Errorf("%s: no address, such as 192.0.2.2/24", l.Name)
		}
	}
	return links, nil
}

// hardwareAddress reads six bytes in hexadecimal with colons.
func hardwareAddress(word string) (string, bool) {
	mac, err := net.ParseMAC(word)
	return mac.String(), err == nil && len(mac) == 6 && strings.Count(word, ":") == 5
}

func addLink(links *[]Link, name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	_, isMAC := hardwareAddress(name)
	switch {
	case !isMAC && (len(name) > maxName || strings.Trim(name, letters) != "" || strings.Trim(name, ".") == ""):
		return fmt.Errorf("%.60q is no name of a link, no address with its prefix length, and no gateway", name)
	case slices.ContainsFunc(*links, func(l Link) bool { return l.Name == name }):
		return fmt.Errorf("%s stands there twice", name)
	case len(*links) == MaxLinks:
		return fmt.Errorf("more than %d links", MaxLinks)
	}
	*links = append(*links, Link{Name: name})
	return nil
}

func (l *Link) addAddress(word string) error {
	p, err := netip.ParsePrefix(word)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %.60q is no address with its prefix length, such as 192.0.2.2/24", l.Name, word)
	case !usable(p.Addr()) || p.Bits() == 0:
		return fmt.Errorf("%s: %s is no address that a machine can have", l.Name, p)
	case p.Addr().Is4() && p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || !p.Contains(p.Addr().Next())):
		return fmt.Errorf("%s: %s is the address of the network itself, or its broadcast address", l.Name, p)
	case slices.Contains(l.Addresses, p):
		return fmt.Errorf("%s: %s stands there twice", l.Name, p)
	case len(l.Addresses) == MaxAddresses:
		return fmt.Errorf("%s: more than %d addresses", l.Name, MaxAddresses)
	}
	l.Addresses = append(l.Addresses, p)
	return nil
}

func (l *Link) addGateway(gateway netip.Addr) error {
	family := func(p netip.Prefix) bool { return p.Addr().Is4() == gateway.Is4() }
	switch {
	case !usable(gateway):
		return fmt.Errorf("%s: gateway %s is no address of another machine", l.Name, gateway)
	case !slices.ContainsFunc(l.Addresses, family):
		return fmt.Errorf("%s: gateway %s stands behind no address of its kind (an address has its prefix length, as in /24)",
			l.Name, gateway)
	case slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == gateway }):
		return fmt.Errorf("%s: gateway %s is the link's own address", l.Name, gateway)
	case slices.ContainsFunc(l.Gateways, func(a netip.Addr) bool { return a.Is4() == gateway.Is4() }):
		return fmt.Errorf("%s: second gateway %s", l.Name, gateway)
	}
	l.Gateways = append(l.Gateways, gateway)
	return nil
}

func parseDNS(words []string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, w := range words {
		a, err := netip.ParseAddr(w)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%.60q is no address", w)
		case !usable(a) && !a.IsLoopback():
			return nil, fmt.Errorf("%s is no address of a nameserver", a)
		case slices.Contains(list, a):
			return nil, fmt.Errorf("%s stands there twice", a)
		case len(list) == MaxDNS:
			return nil, fmt.Errorf("more than %d nameservers, which is all that a resolver asks", MaxDNS)
		}
		list = append(list, a)
	}
	return list, nil
}

// usable tells whether an address can be that of one machine on a network.
func usable(a netip.Addr) bool {
	if a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
		return false
	}
	return !a.Is4() || a.As4()[0] != 0 && a.As4()[0] < 240
}
