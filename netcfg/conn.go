// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"
)

// guarded passes on only packets that the DHCP library can be given: it parses them in a goroutine of its own, where a
// panic could not be caught, and would end a PID 1.
type guarded struct {
	net.PacketConn
	parses func(packet []byte) error
}

// ReadFrom implements net.PacketConn.
func (g *guarded) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := g.PacketConn.ReadFrom(p)
		if err != nil || g.harmless(p[:n]) {
			return n, from, err
		}
	}
}

func (g *guarded) harmless(packet []byte) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return g.parses(packet) == nil
}

func parses4(packet []byte) error {
	_, err := dhcpv4.FromBytes(packet)
	return err
}

func parses6(packet []byte) error {
	_, err := dhcpv6.MessageFromBytes(packet)
	return err
}

// listenOn opens a UDP socket for an own address on one interface. Another DHCP client, such as one of the bootstrap's
// own, may have the same port.
func listenOn(ctx context.Context, link string, at netip.AddrPort) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
				err = unix.BindToDevice(int(fd), link)
			}
		})
		if cerr != nil {
			return cerr
		}
		return err
	}}
	return config.ListenPacket(ctx, "udp", net.UDPAddrFromAddrPort(at).String())
}
