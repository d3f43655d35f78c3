// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// An address that a server has granted is probed for before it is used: somebody may have it by other means (RFC 5227,
// section 2.1). The times there come to 4 to 7 s; these come to less than one, because each boot waits for them.
const (
	probes       = 3                      // questions whether anybody has the address
	defaultProbe = 750 * time.Millisecond // for all of them to be answered
	declinePause = 10 * time.Second       // after an address was declined (RFC 2131, section 3.1)
)

// arpMessage is a message of ARP for IPv4 on Ethernet (RFC 826).
type arpMessage struct {
	Request bool
	Sender  [6]byte    // hardware address
	From    netip.Addr // the sender's address; 0.0.0.0 in a probe
	To      netip.Addr // the address in question
}

// arpLength is how long a message is, in bytes; behind it a frame may have padding.
const arpLength = 28

// arpHead begins each message: Ethernet, IPv4, and the lengths of their addresses.
func arpHead() []byte { return []byte{0, 1, 8, 0, 6, 4} }

// The operations of ARP.
const (
	arpRequest = 1
	arpReply   = 2
)

func (m arpMessage) bytes() []byte {
	operation := uint16(arpReply)
	if m.Request {
		operation = arpRequest
	}
	b := binary.BigEndian.AppendUint16(arpHead(), operation)
	b = append(b, m.Sender[:]...)
	b = append(b, m.From.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(b, m.To.AsSlice()...)
}

// parseARP reads a message; ok is false if it is not one of IPv4 on Ethernet.
func parseARP(b []byte) (m arpMessage, ok bool) {
	if len(b) < arpLength || !bytes.Equal(b[:6], arpHead()) {
		return m, false
	}
	operation := binary.BigEndian.Uint16(b[6:])
	m = arpMessage{Request: operation == arpRequest, Sender: [6]byte(b[8:]), From: netip.AddrFrom4([4]byte(b[14:])),
		To: netip.AddrFrom4([4]byte(b[24:]))}
	return m, m.Request || operation == arpReply
}

// claims tells whether the sender has an address, or is about to use it (RFC 5227, section 2.1.1).
func (m arpMessage) claims(a netip.Addr) bool {
	return m.From == a || m.Request && m.From.IsUnspecified() && m.To == a
}

// probe asks whether another machine has an address; it returns that one's hardware address, or nil, and then announces
// the address. It is not asked for one that the link has already.
func (c *Client) probe(ctx context.Context, link Link, a netip.Addr) (net.HardwareAddr, error) {
	ifc := &net.Interface{Index: link.Index, HardwareAddr: link.HardwareAddr}
	if has(ifc, a) {
		return nil, nil
	}
	conn, err := packet.Listen(ifc, packet.Datagram, unix.ETH_P_ARP, nil)
	if err != nil {
		return nil, fmt.Errorf("dhcp: probe %s: %w", a, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	wait := c.Probe
	if wait <= 0 {
		wait = defaultProbe
	}
	m := arpMessage{Request: true, Sender: [6]byte(link.HardwareAddr), From: netip.IPv4Unspecified(), To: a}
	own := ownMACs(link)
	for range probes {
		owner, err := whoHas(conn, m, own, time.Now().Add(wait/probes))
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("dhcp: probe %s: %w: %w", a, ErrNoAnswer, context.Cause(ctx))
		case err != nil:
			return nil, fmt.Errorf("dhcp: probe %s: %w", a, err)
		case owner != nil:
			return owner, nil
		}
	}
	m.From = a // so that nobody goes on sending to who had it before
	if _, err := conn.WriteTo(m.bytes(), everybody()); err != nil {
		return nil, fmt.Errorf("dhcp: announce %s: %w", a, err)
	}
	return nil, nil
}

func everybody() *packet.Addr { return &packet.Addr{HardwareAddr: bytes.Repeat([]byte{0xff}, 6)} }

// whoHas sends a probe, and listens until somebody else claims its address (it returns who) or end has come.
func whoHas(conn net.PacketConn, probe arpMessage, own [][6]byte, end time.Time) (net.HardwareAddr, error) {
	if err := conn.SetReadDeadline(end); err != nil {
		return nil, err
	}
	if _, err := conn.WriteTo(probe.bytes(), everybody()); err != nil {
		return nil, err
	}
	buf := make([]byte, 64)
	for time.Now().Before(end) { // whatever comes
		n, _, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, err
		}
		if m, ok := parseARP(buf[:n]); ok && m.claims(probe.To) && !slices.Contains(own, m.Sender) {
			return m.Sender[:], nil
		}
	}
	return nil, nil
}

// has tells whether an interface has an address.
func has(ifc *net.Interface, a netip.Addr) bool {
	list, err := ifc.Addrs()
	return err == nil && slices.ContainsFunc(list, func(o net.Addr) bool {
		n, ok := o.(*net.IPNet)
		return ok && n.IP.Equal(a.AsSlice())
	})
}

// ownMACs are the hardware addresses of this machine: what comes from them comes from no other one.
func ownMACs(link Link) [][6]byte {
	own := [][6]byte{[6]byte(link.HardwareAddr)}
	all, _ := net.Interfaces() // without them, those on the same wire count as others
	for _, i := range all {
		if len(i.HardwareAddr) == 6 {
			own = append(own, [6]byte(i.HardwareAddr))
		}
	}
	return own
}
