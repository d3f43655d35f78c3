// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// FuzzFrames reads streams: what is read is within the bounds, and is what stands in the stream.
func FuzzFrames(f *testing.F) {
	frame := pingFrame(GuestAddr, HostAddr)
	seeds := [][]byte{
		append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...),
		append(binary.BigEndian.AppendUint32(nil, 2000), make([]byte, 2000)...),
		{0, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff},
	}
	for i, seed := range seeds {
		if _, err := newFrameReader(bytes.NewReader(seed)).next(); (err == nil) != (i == 0 || i == 2) {
			f.Fatalf("seed %d: %v", i, err)
		}
		f.Add(seed)
	}
	in := bytes.NewReader(nil)
	r := newFrameReader(in)
	f.Fuzz(func(t *testing.T, stream []byte) {
		in.Reset(stream)
		r.r.Reset(in)
		for {
			frame, err := r.next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errFrameLength) {
					t.Fatal(err)
				}
				return
			}
			end := len(stream) - in.Len() - r.r.Buffered()
			if len(frame) > maxFrame || !bytes.Equal(stream[end-len(frame):end], frame) {
				t.Fatalf("frame of %d bytes before offset %d", len(frame), end)
			}
			admit(frame)
		}
	})
}

// FuzzStack gives frames to a whole network: what it sends goes to the guest's own addresses.
func FuzzStack(f *testing.F) {
	at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	nobody := at(netip.IPv4Unspecified(), dhcpClientPort)
	for i, seed := range [][]byte{
		arpFrame(header.ARPRequest, GuestAddr, HostAddr),
		pingFrame(GuestAddr, HostAddr),
		synFrame(at(GuestAddr, 1), at(HostAddr, 80)),
		synFrame(at(GuestAddr, 2), at(netip.MustParseAddr("127.0.0.1"), 80)),
		udpFrame(at(GuestAddr, 1), at(DNSAddr, dnsPort), query("a.example.", dnsTypeA, 7)),
		udpFrame(at(GuestAddr, 1), at(netip.MustParseAddr("198.51.100.7"), 53), []byte("x")),
		udpFrame(nobody, at(limitedBroadcast, dhcpPort), dhcpMessage(f, dhcpv4.MessageTypeDiscover).ToBytes()),
	} {
		if !admit(seed) {
			f.Fatalf("seed %d is not admitted", i)
		}
		f.Add(seed)
	}
	n, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { n.Close() })
	f.Fuzz(func(t *testing.T, frame []byte) {
		n.inject(frame)
		for pkt := n.link.Read(); pkt != nil; pkt = n.link.Read() {
			v := pkt.ToView()
			out := v.AsSlice()
			if header.Ethernet(out).Type() == header.IPv4ProtocolNumber {
				ip := header.IPv4(out[header.EthernetMinimumSize:])
				dst := netip.AddrFrom4(ip.DestinationAddress().As4())
				if !subnet().Contains(dst) && dst != limitedBroadcast {
					t.Errorf("a packet to %s", dst)
				}
			}
			v.Release()
			pkt.DecRef()
		}
	})
}

// FuzzDHCP gives messages to the server: what it answers is a message for the one guest.
func FuzzDHCP(f *testing.F) {
	for _, m := range []*dhcpv4.DHCPv4{
		dhcpMessage(f, dhcpv4.MessageTypeDiscover),
		dhcpMessage(f, dhcpv4.MessageTypeRequest, requested("10.0.2.15"), server("10.0.2.2")),
		dhcpMessage(f, dhcpv4.MessageTypeRequest, requested("192.0.2.1")),
		dhcpMessage(f, dhcpv4.MessageTypeInform),
	} {
		if reply, _ := dhcpReply(m.ToBytes()); reply == nil {
			f.Fatalf("no answer to %s", m.MessageType())
		}
		f.Add(m.ToBytes())
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		reply, to := dhcpReply(request)
		if reply == nil {
			return
		}
		m, err := dhcpv4.FromBytes(reply)
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || (to != limitedBroadcast && !subnet().Contains(to)) {
			t.Errorf("%v to %s: %v", err, to, m)
		}
	})
}

// FuzzDNS gives queries to the nameserver: what it answers is a reply to the query.
func FuzzDNS(f *testing.F) {
	n := &Network{opt: Options{Outside: true, Resolver: resolverFunc(func(q []byte) ([]byte, error) {
		return answer(q), nil
	})}, ctx: f.Context()}
	for _, seed := range [][]byte{query("a.example.", dnsTypeA, 7), query("a.example.", dnsmessage.TypeAXFR, 7)} {
		if n.resolve(seed, "udp") == nil {
			f.Fatalf("no answer to %x", seed)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query []byte) {
		reply := n.resolve(query, "udp")
		if reply == nil {
			return
		}
		var p dnsmessage.Parser
		head, err := p.Start(reply)
		if err != nil || !head.Response || head.ID != binary.BigEndian.Uint16(query) {
			t.Errorf("%v, %v", err, head)
		}
	})
}
