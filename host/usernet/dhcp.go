// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

const (
	dhcpPort       = 67
	dhcpClientPort = 68
	leaseTime      = 24 * time.Hour // that of QEMU's network
)

// dhcp answers the guest's DHCP messages until conn ends.
func (n *Network) dhcp(conn *gonet.UDPConn) {
	buf := make([]byte, mtu)
	for {
		size, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		reply, to := dhcpReply(buf[:size])
		if reply == nil {
			continue
		}
		// A reply that is lost is asked for again.
		_, _ = conn.WriteTo(reply, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, dhcpClientPort)))
	}
}

// dhcpReply is the answer to a DHCP message (RFC 2131) and where it goes, or nil. There is one guest and one address,
// so nothing is kept between two messages: RELEASE and DECLINE change nothing.
func dhcpReply(request []byte) ([]byte, netip.Addr) {
	m, err := dhcpv4.FromBytes(request)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, netip.Addr{}
	}
	if id := m.ServerIdentifier(); id != nil && !id.Equal(HostAddr.AsSlice()) {
		return nil, netip.Addr{} // for another server
	}
	client, _ := netip.AddrFromSlice(m.ClientIPAddr.To4())
	kind := dhcpv4.MessageTypeNone
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeInform:
		kind = dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeRequest:
		wanted, ok := netip.AddrFromSlice(m.RequestedIPAddress().To4())
		if !ok {
			wanted = client // a renewal
		}
		kind = dhcpv4.MessageTypeAck
		if wanted != GuestAddr {
			kind = dhcpv4.MessageTypeNak
		}
	}
	if kind == dhcpv4.MessageTypeNone {
		return nil, netip.Addr{}
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(HostAddr.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(HostAddr.AsSlice())))
	if err != nil {
		return nil, netip.Addr{}
	}
	if kind != dhcpv4.MessageTypeNak {
		lease(reply, m.MessageType() != dhcpv4.MessageTypeInform)
	}
	if kind == dhcpv4.MessageTypeNak || !subnet().Contains(client) {
		return reply.ToBytes(), limitedBroadcast // it has no address to send to yet
	}
	return reply.ToBytes(), client
}

// lease adds the network's settings to a reply, and the address if the client asks for one.
func lease(reply *dhcpv4.DHCPv4, address bool) {
	if address {
		reply.YourIPAddr = GuestAddr.AsSlice()
		reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
	}
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(prefixBits, GuestAddr.BitLen())))
	reply.UpdateOption(dhcpv4.OptRouter(HostAddr.AsSlice()))
	reply.UpdateOption(dhcpv4.OptDNS(DNSAddr.AsSlice()))
}
