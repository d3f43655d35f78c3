// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/insomniacslk/dhcp/iana"
)

// Lease6 is what a DHCPv6 server has granted or told. Its Settings have no address if it was only asked for the rest;
// their lease is then how long the rest is taken for right.
type Lease6 struct {
	Settings  Settings
	Managed   bool          // an address was asked for
	Preferred time.Duration // how long the address is for new connections
	Server    dhcpv6.DUID
	Obtained  time.Time // the times count from here
}

// DHCP6 is DHCP for IPv6.
type DHCP6 interface {
	// Acquire asks for an address and all else (managed), or for all else; until ctx ends.
	Acquire(ctx context.Context, link Link, managed bool) (Lease6, error)
	// Extend asks for more time. An error that wraps ErrLeaseLost ends the lease; after any other it can be tried again.
	Extend(ctx context.Context, link Link, lease Lease6, how How) (Lease6, error)
	// Release gives an address back.
	Release(ctx context.Context, link Link, lease Lease6) error
}

// Client6 is a DHCPv6 client (RFC 8415). The zero value is ready. As Client it makes its own messages, and asks the
// kernel for no entropy. It knows itself by its link's hardware address (DUID-LL), so a server knows it again.
type Client6 struct {
	Backoff Backoff
	// Jitter returns at least 0 and less than 1; nil means a random number.
	Jitter func() float64
}

// exchange6 is one exchange with a server.
type exchange6 struct {
	client  *Client6
	conn    *nclient6.Client
	link    Link
	managed bool
	refused error // why the last unusable answer was refused
}

// open6 opens a socket on the link-local address, which the kernel must have made by now.
func (c *Client6) open6(ctx context.Context, link Link) (*exchange6, error) {
	own, err := dhcpv6.GetLinkLocalAddr(link.Name)
	if err != nil {
		return nil, fmt.Errorf("dhcpv6: %w", err)
	}
	addr, _ := netip.AddrFromSlice(own)
	addr = addr.WithZone(strconv.Itoa(link.Index)) // package net remembers for a minute which name had which index
	conn, err := listenOn(ctx, link.Name, netip.AddrPortFrom(addr, dhcpv6.DefaultClientPort))
	if err != nil {
		return nil, fmt.Errorf("dhcpv6: %w", err)
	}
	client, err := nclient6.NewWithConn(&guarded{conn, parses6}, link.HardwareAddr, nclient6.WithRetry(1),
		nclient6.WithTimeout(time.Hour))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dhcpv6: %w", err), conn.Close())
	}
	return &exchange6{client: c, conn: client, link: link}, nil
}

// message makes a message of our own.
func message6(link Link, kind dhcpv6.MessageType, server dhcpv6.DUID) *dhcpv6.Message {
	m := &dhcpv6.Message{MessageType: kind}
	r := rand.Uint32()
	m.TransactionID = dhcpv6.TransactionID{byte(r >> 16), byte(r >> 8), byte(r)}
	m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: link.HardwareAddr}))
	m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList,
		dhcpv6.OptionInformationRefreshTime))
	m.AddOption(dhcpv6.OptElapsedTime(0))
	if server != nil {
		m.AddOption(dhcpv6.OptServerID(server))
	}
	return m
}

// addressOption is the request for an address, for the one of the lease if there is one.
func addressOption(link Link, have netip.Prefix) *dhcpv6.OptIANA {
	o := &dhcpv6.OptIANA{IaId: [4]byte(link.HardwareAddr[2:6])}
	if have.IsValid() {
		o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.IP(have.Addr().AsSlice())})
	}
	return o
}

// Acquire implements DHCP6.
func (c *Client6) Acquire(ctx context.Context, link Link, managed bool) (Lease6, error) {
	x, err := c.open6(ctx, link)
	if err != nil {
		return Lease6{}, err
	}
	defer x.close()
	x.managed = managed
	if !managed {
		return x.ask(ctx, message6(link, dhcpv6.MessageTypeInformationRequest, nil), dhcpv6.MessageTypeReply, noLimit)
	}
	solicit := message6(link, dhcpv6.MessageTypeSolicit, nil)
	solicit.AddOption(addressOption(link, netip.Prefix{}))
	for {
		offer, err := x.ask(ctx, solicit, dhcpv6.MessageTypeAdvertise, noLimit)
		if err != nil {
			return Lease6{}, err
		}
		request := message6(link, dhcpv6.MessageTypeRequest, offer.Server)
		request.AddOption(addressOption(link, offer.Settings.Address))
		lease, err := x.ask(ctx, request, dhcpv6.MessageTypeReply, requestTries)
		if err == nil || ctx.Err() != nil {
			return lease, err
		}
		sleep(ctx, c.wait(0)) // then anew, perhaps with another server
	}
}

// Extend implements DHCP6.
func (c *Client6) Extend(ctx context.Context, link Link, lease Lease6, how How) (Lease6, error) {
	if !lease.Managed {
		return c.Acquire(ctx, link, false)
	}
	x, err := c.open6(ctx, link)
	if err != nil {
		return Lease6{}, err
	}
	defer x.close()
	x.managed = true
	m := message6(link, dhcpv6.MessageTypeRenew, lease.Server)
	if how != Renew {
		m = message6(link, dhcpv6.MessageTypeRebind, nil)
	}
	m.AddOption(addressOption(link, lease.Settings.Address))
	return x.ask(ctx, m, dhcpv6.MessageTypeReply, extendTries)
}

// Release implements DHCP6. That the server has heard it is waited for only once.
func (c *Client6) Release(ctx context.Context, link Link, lease Lease6) error {
	x, err := c.open6(ctx, link)
	if err != nil {
		return err
	}
	defer x.close()
	m := message6(link, dhcpv6.MessageTypeRelease, lease.Server)
	m.AddOption(addressOption(link, lease.Settings.Address))
	ctx, cancel := context.WithTimeout(ctx, c.wait(0))
	defer cancel()
	_, err = x.conn.SendAndRead(ctx, x.conn.RemoteAddr(), m, nclient6.IsMessageType(dhcpv6.MessageTypeReply))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("dhcpv6: release %s: %w", lease.Settings.Address.Addr(), err)
	}
	return nil
}

func (c *Client6) wait(n int) time.Duration {
	if c.Jitter != nil {
		return c.Backoff.Wait(n, c.Jitter())
	}
	return c.Backoff.Wait(n, rand.Float64())
}

func (x *exchange6) close() { _ = x.conn.Close() }

// noLimit is for ask: only its context ends it.
const noLimit = -1

// ask sends a message, again and again with growing waits, until an answer of the kind is usable, ctx ends or tries are
// used up.
func (x *exchange6) ask(ctx context.Context, m *dhcpv6.Message, kind dhcpv6.MessageType, tries int) (Lease6, error) {
	begin := time.Now()
	var lease Lease6
	var lost error
	match := func(p *dhcpv6.Message) bool {
		if p.MessageType != kind {
			return false
		}
		var err error
		if lease, err = LeaseFrom6(p, x.link, x.managed); err == nil {
			return true
		}
		if errors.Is(err, ErrLeaseLost) {
			lost = err
		}
		x.refused = err
		return lost != nil
	}
	sent := 0
	for ; tries < 0 || sent < tries; sent++ {
		wait, cancel := context.WithTimeout(ctx, x.client.wait(sent))
		m.UpdateOption(dhcpv6.OptElapsedTime(time.Since(begin)))
		_, err := x.conn.SendAndRead(wait, x.conn.RemoteAddr(), m, match)
		cancel()
		switch {
		case lost != nil:
			return Lease6{}, fmt.Errorf("dhcpv6: %w", lost)
		case err == nil:
			lease.Obtained = time.Now()
			return lease, nil
		case ctx.Err() == nil && wait.Err() == nil:
			return Lease6{}, fmt.Errorf("dhcpv6: send: %w", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	text := fmt.Sprintf("dhcpv6: waited %s for a %s", time.Since(begin).Round(time.Millisecond), kind)
	if x.refused != nil {
		text += ", last answer refused: " + x.refused.Error()
	}
	return Lease6{}, fmt.Errorf("%s: %w", text, ErrNoAnswer)
}
