// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// How long what a server tells without an address is taken for right (RFC 8415, section 21.23).
const (
	minRefresh     = 10 * time.Minute
	defaultRefresh = 24 * time.Hour
)

// maxDUID is the longest identity of a server that is taken, in bytes (RFC 8415, section 11.1).
const maxDUID = 130

// LeaseFrom6 turns a DHCPv6 advertisement or reply into a lease. It refuses (an error that wraps ErrRefused, or
// ErrLeaseLost when the server says that the address is not ours any longer) an answer that is not for us, does not say
// whose it is, or, when an address was asked for, has none that can be used; anything else that is wrong is left out
// and listed in Dropped.
func LeaseFrom6(answer *dhcpv6.Message, link Link, managed bool) (Lease6, error) {
	l := Lease6{Managed: managed, Server: answer.Options.ServerID()}
	own := dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: link.HardwareAddr}
	switch client := answer.Options.ClientID(); {
	case l.Server == nil || len(l.Server.ToBytes()) > maxDUID:
		return Lease6{}, fmt.Errorf("%w: no usable server identifier", ErrRefused)
	case managed && client == nil, client != nil && !bytes.Equal(client.ToBytes(), own.ToBytes()):
		return Lease6{}, fmt.Errorf("%w: it is for another machine", ErrRefused)
	}
	if err := refusal(answer.Options.Status()); err != nil {
		return Lease6{}, err
	}
	s := &l.Settings
	s.DNS = s.nameservers(answer.Options.DNS(), usableHost6)
	if list := answer.Options.DomainSearchList(); list != nil {
		s.Search = s.domains(list.Labels)
	}
	if !managed {
		refresh := min(max(answer.Options.InformationRefreshTime(defaultRefresh), minRefresh), MaxLease)
		s.Lease, s.Renew, s.Rebind = inOrder(2*refresh, refresh, refresh+refresh/2, minRefresh)
		return l, nil
	}
	return l, l.addAddress(answer.Options.IANA(), link)
}

// refusal makes a status of a server an error.
func refusal(status *dhcpv6.OptStatusCode) error {
	if status == nil || status.StatusCode == iana.StatusSuccess {
		return nil
	}
	why := ErrRefused
	if status.StatusCode == iana.StatusNoBinding || status.StatusCode == iana.StatusNotOnLink {
		why = ErrLeaseLost
	}
	return fmt.Errorf("%w: status %s, %.80q", why, status.StatusCode, status.StatusMessage)
}

// addAddress takes the first usable address.
func (l *Lease6) addAddress(list []*dhcpv6.OptIANA, link Link) error {
	why := fmt.Errorf("%w: no address in it", ErrRefused)
	for _, ia := range list {
		if !bytes.Equal(ia.IaId[:], link.HardwareAddr[2:6]) {
			continue
		}
		if err := refusal(ia.Options.Status()); err != nil {
			why = err
			continue
		}
		for _, a := range ia.Options.Addresses() {
			addr, text := usableHost6(a.IPv6Addr)
			switch {
			case text != "":
				why = fmt.Errorf("%w: address %s is %s", ErrRefused, a.IPv6Addr, text)
			case a.ValidLifetime == 0:
				why = fmt.Errorf("%w: address %s is not valid any longer", ErrLeaseLost, addr)
			default:
				l.Settings.Address = netip.PrefixFrom(addr, 128)
				valid := min(max(a.ValidLifetime, MinLease), MaxLease)
				l.Preferred = min(max(a.PreferredLifetime, time.Second), valid)
				l.Settings.Lease, l.Settings.Renew, l.Settings.Rebind = inOrder(valid, ia.T1, ia.T2, MinLease)
				return nil
			}
		}
	}
	return why
}

// linkLocal is what usableHost6 says of an address that means nothing without its link.
const linkLocal = "link-local"

// usableHost6 turns ip into an address of a single other machine; why is "" when it is one, else what it is instead.
func usableHost6(ip net.IP) (addr netip.Addr, why string) {
	addr, ok := netip.AddrFromSlice(ip)
	switch {
	case !ok || !addr.Is6():
		return addr, "missing"
	case addr.Is4In6():
		return addr, "of IPv4"
	case addr.IsUnspecified():
		return addr, "unspecified"
	case addr.IsLoopback():
		return addr, "loopback"
	case addr.IsMulticast():
		return addr, "multicast"
	case addr.IsLinkLocalUnicast():
		return addr, linkLocal
	}
	return addr, ""
}
