// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
)

// Sizes of frames, in bytes. QEMU's stream netdev (net/stream.c, since 7.2) writes each Ethernet frame, without its
// check sequence, after a length of four bytes, big-endian.
const (
	mtu           = 1500
	maxFrame      = header.EthernetMinimumSize + mtu // header and payload
	maxQEMUFrame  = 4096 + 65536                     // NET_BUFSIZE in QEMU's include/net/net.h
	lengthSize    = 4
	streamBuffer  = 64 << 10
	outgoingQueue = 1024 // frames, 1.5 MB; what does not fit is dropped, and TCP sends it again
)

// errFrameLength is the cause of a connection that ends because its framing is broken.
var errFrameLength = errors.New("no frame of QEMU has this length")

// frameReader reads frames from a stream.
type frameReader struct {
	r   *bufio.Reader
	buf []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, streamBuffer), buf: make([]byte, maxFrame)}
}

// next is the next frame, valid until the next call. Frames longer than the link's MTU allows are skipped. The error is
// io.EOF if the stream ends between two frames.
func (f *frameReader) next() ([]byte, error) {
	for {
		var length [lengthSize]byte
		if _, err := io.ReadFull(f.r, length[:]); err != nil {
			return nil, err
		}
		size := binary.BigEndian.Uint32(length[:])
		switch {
		case size > maxQEMUFrame:
			return nil, fmt.Errorf("frame of %d bytes: %w", size, errFrameLength)
		case size > maxFrame:
			if _, err := f.r.Discard(int(size)); err != nil {
				return nil, unexpected(err)
			}
			continue
		}
		if _, err := io.ReadFull(f.r, f.buf[:size]); err != nil {
			return nil, unexpected(err)
		}
		return f.buf[:size], nil
	}
}

// unexpected makes the end of a stream inside a frame an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeFrames writes what the stack sends until ctx ends or w fails.
func writeFrames(ctx context.Context, w io.Writer, link *channel.Endpoint) error {
	buf := bufio.NewWriterSize(w, streamBuffer)
	for {
		pkt := link.Read()
		if pkt == nil {
			if err := buf.Flush(); err != nil {
				return err
			}
			if pkt = link.ReadContext(ctx); pkt == nil {
				return nil
			}
		}
		frame := pkt.ToView()
		pkt.DecRef()
		length := binary.BigEndian.AppendUint32(nil, uint32(frame.Size())) //nolint:gosec // at most maxFrame
		_, err := buf.Write(length)
		if err == nil {
			_, err = buf.Write(frame.AsSlice())
		}
		frame.Release()
		if err != nil {
			return err
		}
	}
}

// admit reports whether the stack may see a frame from the guest. The stack answers for every address, so that it can
// stand for the outside; admit keeps it from doing so where QEMU's network would be silent: it lets through ARP for the
// two addresses of this network, and IPv4 from an address of the guest to those two, to a broadcast address (UDP only),
// or to the outside (TCP and UDP only: UDP is answered with "port unreachable", so that no client waits for it).
func admit(frame []byte) bool {
	if len(frame) < header.EthernetMinimumSize || len(frame) > maxFrame {
		return false
	}
	payload := frame[header.EthernetMinimumSize:]
	switch header.Ethernet(frame).Type() {
	case header.ARPProtocolNumber:
		arp := header.ARP(payload)
		return arp.IsValid() && isServer(netip.AddrFrom4([4]byte(arp.ProtocolAddressTarget())))
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(payload)
		return ip.IsValid(len(payload)) && admitIPv4(ip)
	}
	return false
}

func admitIPv4(ip header.IPv4) bool {
	src, dst := netip.AddrFrom4(ip.SourceAddress().As4()), netip.AddrFrom4(ip.DestinationAddress().As4())
	protocol := ip.TransportProtocol()
	udp, tcp := protocol == header.UDPProtocolNumber, protocol == header.TCPProtocolNumber
	switch {
	case src.IsUnspecified():
		return udp && dst == limitedBroadcast // DHCP before the lease
	case !subnet().Contains(src) || isServer(src) || src == broadcast:
		return false
	case isServer(dst):
		return udp || tcp || protocol == header.ICMPv4ProtocolNumber
	case dst == limitedBroadcast || dst == broadcast:
		return udp
	case subnet().Contains(dst) || dst.IsMulticast():
		return false
	}
	return udp || tcp
}
