// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const guestMAC = "\x52\x54\x00\x12\x34\x56"

// patience is how long a test waits for what has to come; quiet for what must not.
const (
	patience = 20 * time.Second
	quiet    = 100 * time.Millisecond
)

// socketpair is a connection as QEMU gets it.
func socketpair(t *testing.T) (ours, qemus net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

// serve starts a network, and gives QEMU's end of its connection. The network has ended without an error when the test
// does.
func serve(t *testing.T, opt Options) (*Network, net.Conn) {
	t.Helper()
	n, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ours, qemus := socketpair(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, ours) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
		qemus.Close()
	})
	return n, qemus
}

// guest is a machine with a real TCP/IP stack.
type guest struct{ *stack.Stack }

// boot starts a guest at QEMU's end of a connection.
func boot(t *testing.T, conn net.Conn) guest {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	link := channel.New(outgoingQueue, maxFrame, guestMAC)
	if err := s.CreateNIC(nicID, ethernet.New(link)); err != nil {
		t.Fatal(err)
	}
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{
		Address: tcpip.AddrFrom4(GuestAddr.As4()), PrefixLen: prefixBits,
	}}
	if err := s.AddProtocolAddress(nicID, address, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: address.AddressWithPrefix.Subnet(), NIC: nicID},
		{Destination: header.IPv4EmptySubnet, NIC: nicID, Gateway: tcpip.AddrFrom4(HostAddr.As4())},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = writeFrames(ctx, conn, link)
	}()
	go func() {
		frames := newFrameReader(conn)
		for frame, err := frames.next(); err == nil; frame, err = frames.next() {
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
			link.InjectInbound(0, pkt)
			pkt.DecRef()
		}
	}()
	t.Cleanup(func() {
		cancel()
		conn.Close()
		<-ended
		s.Destroy()
	})
	return guest{s}
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(a.Addr().As4()), Port: a.Port()}
}

// dial connects the guest to an address such as "10.0.2.2:80".
func (g guest) dial(ctx context.Context, address string) (*gonet.TCPConn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.Stack, full(at), ipv4.ProtocolNumber)
}

func (g guest) mustDial(t *testing.T, address string) *gonet.TCPConn {
	t.Helper()
	c, err := g.dial(t.Context(), address)
	if err != nil {
		t.Fatalf("dial %s: %v", address, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wire sends and receives single frames: what no honest stack would send too.
type wire struct {
	t    *testing.T
	conn net.Conn
	in   *frameReader
}

func newWire(t *testing.T, conn net.Conn) *wire {
	return &wire{t: t, conn: conn, in: newFrameReader(conn)}
}

func (w *wire) send(frame []byte) {
	w.t.Helper()
	if _, err := w.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		w.t.Fatal(err)
	}
}

// receive is the next frame that match likes, nil if none comes in the given time. It answers ARP on the way.
func (w *wire) receive(limit time.Duration, match func(frame []byte) bool) []byte {
	w.t.Helper()
	_ = w.conn.SetReadDeadline(time.Now().Add(limit))
	for {
		frame, err := w.in.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if match(frame) {
			return frame
		}
		if a := header.ARP(frame[header.EthernetMinimumSize:]); header.Ethernet(frame).Type() == header.ARPProtocolNumber &&
			a.Op() == header.ARPRequest && tcpip.AddrFrom4Slice(a.ProtocolAddressTarget()) == tcpip.AddrFrom4(GuestAddr.As4()) {
			w.send(arpFrame(header.ARPReply, GuestAddr, netip.AddrFrom4([4]byte(a.ProtocolAddressSender()))))
		}
	}
}

func ethernetFrame(dst tcpip.LinkAddress, kind tcpip.NetworkProtocolNumber, payload []byte) []byte {
	frame := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(payload))
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: dst, Type: kind})
	return append(frame, payload...)
}

func arpFrame(op header.ARPOp, from, to netip.Addr) []byte {
	a := make(header.ARP, header.ARPSize)
	a.SetIPv4OverEthernet()
	a.SetOp(op)
	copy(a.HardwareAddressSender(), guestMAC)
	copy(a.ProtocolAddressSender(), from.AsSlice())
	copy(a.ProtocolAddressTarget(), to.AsSlice())
	dst := header.EthernetBroadcastAddress
	if op == header.ARPReply {
		dst = hostMAC
		copy(a.HardwareAddressTarget(), hostMAC)
	}
	return ethernetFrame(dst, header.ARPProtocolNumber, a)
}

func ipFrame(src, dst netip.Addr, protocol tcpip.TransportProtocolNumber, payload []byte) []byte {
	ip := make(header.IPv4, header.IPv4MinimumSize)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip) + len(payload)), TTL: 64, Protocol: uint8(protocol),
		SrcAddr: tcpip.AddrFrom4(src.As4()), DstAddr: tcpip.AddrFrom4(dst.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	to := tcpip.LinkAddress(hostMAC)
	if dst == limitedBroadcast {
		to = header.EthernetBroadcastAddress
	}
	return ethernetFrame(to, header.IPv4ProtocolNumber, append(ip, payload...))
}

func sum(protocol tcpip.TransportProtocolNumber, src, dst netip.Addr, payload []byte) uint16 {
	pseudo := header.PseudoHeaderChecksum(protocol, tcpip.AddrFrom4(src.As4()), tcpip.AddrFrom4(dst.As4()), uint16(len(payload)))
	return ^checksum.Checksum(payload, pseudo)
}

func udpFrame(src, dst netip.AddrPort, payload []byte) []byte {
	u := make(header.UDP, header.UDPMinimumSize, header.UDPMinimumSize+len(payload))
	u.Encode(&header.UDPFields{SrcPort: src.Port(), DstPort: dst.Port(), Length: uint16(cap(u))})
	u = append(u, payload...)
	u.SetChecksum(sum(header.UDPProtocolNumber, src.Addr(), dst.Addr(), u))
	return ipFrame(src.Addr(), dst.Addr(), header.UDPProtocolNumber, u)
}

func synFrame(src, dst netip.AddrPort) []byte {
	s := make(header.TCP, header.TCPMinimumSize)
	s.Encode(&header.TCPFields{
		SrcPort: src.Port(), DstPort: dst.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	s.SetChecksum(sum(header.TCPProtocolNumber, src.Addr(), dst.Addr(), s))
	return ipFrame(src.Addr(), dst.Addr(), header.TCPProtocolNumber, s)
}

func pingFrame(src, dst netip.Addr) []byte {
	p := make(header.ICMPv4, header.ICMPv4MinimumSize)
	p.SetType(header.ICMPv4Echo)
	p.SetChecksum(^checksum.Checksum(p, 0))
	return ipFrame(src, dst, header.ICMPv4ProtocolNumber, p)
}

// from matches IPv4 frames of one protocol from an address.
func from(src netip.Addr, protocol tcpip.TransportProtocolNumber) func([]byte) bool {
	return func(frame []byte) bool {
		ip := header.IPv4(frame[header.EthernetMinimumSize:])
		return header.Ethernet(frame).Type() == header.IPv4ProtocolNumber && ip.TransportProtocol() == protocol &&
			ip.SourceAddress() == tcpip.AddrFrom4(src.As4())
	}
}

// packet is what an IPv4 frame carries.
func packet(frame []byte) []byte {
	return header.IPv4(frame[header.EthernetMinimumSize:]).Payload()
}
