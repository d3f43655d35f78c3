// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// dhcpMessage is a client's message of a kind.
func dhcpMessage(t testing.TB, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(net.HardwareAddr(guestMAC)), dhcpv4.WithMessageType(kind),
	}, modifiers...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func requested(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}

func server(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a)))
}

func TestDHCPReply(t *testing.T) {
	lease := " 10.0.2.15/24 via 10.0.2.2 dns 10.0.2.3 for 24h0m0s from 10.0.2.2 to "
	none := " 0.0.0.0/%!s(<nil>) via <nil> dns <nil> for 0s from 10.0.2.2 to "
	own := dhcpv4.WithClientIP(net.IP{10, 0, 2, 15})
	tests := []struct {
		name string
		m    *dhcpv4.DHCPv4
		want string // "": no answer
	}{
		{"discover", dhcpMessage(t, dhcpv4.MessageTypeDiscover), "OFFER" + lease + "255.255.255.255"},
		{"discover for another address", dhcpMessage(t, dhcpv4.MessageTypeDiscover, requested("192.0.2.9")), "OFFER" + lease + "255.255.255.255"},
		{"request", dhcpMessage(t, dhcpv4.MessageTypeRequest, requested("10.0.2.15"), server("10.0.2.2")), "ACK" + lease + "255.255.255.255"},
		{"request to another server", dhcpMessage(t, dhcpv4.MessageTypeRequest, requested("10.0.2.15"), server("10.0.2.9")), ""},
		{"after a reboot", dhcpMessage(t, dhcpv4.MessageTypeRequest, requested("10.0.2.15")), "ACK" + lease + "255.255.255.255"},
		{"after a reboot, from another network", dhcpMessage(t, dhcpv4.MessageTypeRequest, requested("192.0.2.9")), "NAK" + none + "255.255.255.255"},
		{"renewal", dhcpMessage(t, dhcpv4.MessageTypeRequest, own), "ACK" + lease + "10.0.2.15"},
		{"renewal of another address", dhcpMessage(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IP{10, 0, 2, 16})), "NAK" + none + "255.255.255.255"},
		{"inform", dhcpMessage(t, dhcpv4.MessageTypeInform, own), "ACK 0.0.0.0/ffffff00 via 10.0.2.2 dns 10.0.2.3 for 0s from 10.0.2.2 to 10.0.2.15"},
		{"inform from elsewhere", dhcpMessage(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IP{127, 0, 0, 1})), "ACK 0.0.0.0/ffffff00 via 10.0.2.2 dns 10.0.2.3 for 0s from 10.0.2.2 to 255.255.255.255"},
		{"release", dhcpMessage(t, dhcpv4.MessageTypeRelease, own), ""},
		{"decline", dhcpMessage(t, dhcpv4.MessageTypeDecline, requested("10.0.2.15")), ""},
		{"offer", dhcpMessage(t, dhcpv4.MessageTypeOffer), ""},
		{"BOOTP", dhcpMessage(t, dhcpv4.MessageTypeNone), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply, to := dhcpReply(tt.m.ToBytes())
			got := ""
			if reply != nil {
				m, err := dhcpv4.FromBytes(reply)
				if err != nil || m.TransactionID != tt.m.TransactionID {
					t.Fatalf("%v, reply %v", err, m)
				}
				got = summary(m, to)
			}
			if diff := cmp.Diff(fmt.Sprint(tt.want), got); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
	whole := tests[0].m.ToBytes()
	for i := range whole {
		dhcpReply(whole[:i])
	}
}

func summary(m *dhcpv4.DHCPv4, to netip.Addr) string {
	first := func(list []net.IP) string {
		if len(list) == 0 {
			return "<nil>"
		}
		return list[0].String()
	}
	mask := "%!s(<nil>)"
	if m.SubnetMask() != nil {
		mask = m.SubnetMask().String()
	}
	if mask == "ffffff00" && !m.YourIPAddr.IsUnspecified() {
		mask = "24"
	}
	return fmt.Sprintf("%s %s/%s via %s dns %s for %s from %s to %s", m.MessageType(), m.YourIPAddr, mask, first(m.Router()),
		first(m.DNS()), m.IPAddressLeaseTime(0), m.ServerIdentifier(), to)
}

// TestLease gets a lease over the wire, as a machine without an address, and renews it with its address.
func TestLease(t *testing.T) {
	_, conn := serve(t, Options{})
	w := newWire(t, conn)
	nobody, all := netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpClientPort), netip.AddrPortFrom(limitedBroadcast, dhcpPort)
	ask := func(src, dst netip.AddrPort, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		t.Helper()
		start := time.Now()
		w.send(udpFrame(src, dst, m.ToBytes()))
		frame := w.receive(patience, from(HostAddr, header.UDPProtocolNumber))
		if frame == nil {
			t.Fatalf("no answer to %s", m.MessageType())
		}
		reply, err := dhcpv4.FromBytes(header.UDP(packet(frame)).Payload())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s after %s", reply.MessageType(), time.Since(start))
		return reply
	}
	offer := ask(nobody, all, dhcpMessage(t, dhcpv4.MessageTypeDiscover))
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	ack := ask(nobody, all, request)
	if got := ack.YourIPAddr.String(); ack.MessageType() != dhcpv4.MessageTypeAck || got != GuestAddr.String() {
		t.Fatalf("%s of %s", ack.MessageType(), got)
	}
	renewal, err := dhcpv4.NewRenewFromAck(ack)
	if err != nil {
		t.Fatal(err)
	}
	ack = ask(netip.AddrPortFrom(GuestAddr, dhcpClientPort), netip.AddrPortFrom(HostAddr, dhcpPort), renewal)
	if ack.MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("renewal: %s", ack.MessageType())
	}
}
