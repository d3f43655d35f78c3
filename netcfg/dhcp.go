// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
)

// ErrNoAnswer is what the error of an exchange wraps that ended without a usable answer.
var ErrNoAnswer = errors.New("no usable answer")

// Lease is what a server has granted.
type Lease struct {
	Settings Settings
	Offer    *dhcpv4.DHCPv4
	ACK      *dhcpv4.DHCPv4
	Obtained time.Time // when the acknowledgement came; the times in Settings count from here
}

// DHCP obtains a lease for a link that is up and has carrier. It returns when it has one or when ctx ends.
type DHCP interface {
	Acquire(ctx context.Context, link Link) (Lease, error)
}

// Backoff says how long to wait for an answer before asking again. The first wait is short, because some network
// drivers (e1000) lose the first packet after the link came up; each further one is twice as long.
type Backoff struct {
	First time.Duration // 0 means 250 ms
	Max   time.Duration // 0 means 4 s
}

// Wait is the time to wait for an answer to the request number n, which counts from 0. Jitter is at least 0 and less
// than 1; the result lies within a tenth of the doubled time.
func (b Backoff) Wait(n int, jitter float64) time.Duration {
	first, most := b.First, b.Max
	if first <= 0 {
		first = 250 * time.Millisecond
	}
	if most <= 0 {
		most = 4 * time.Second
	}
	wait := min(first, most)
	for range n {
		if wait > most/2 {
			wait = most
			break
		}
		wait *= 2
	}
	return time.Duration(float64(wait) * (0.9 + 0.2*jitter))
}

// Client is a DHCPv4 client (RFC 2131) on raw sockets, for links without an address. The zero value is ready.
//
// It makes its own messages, because those of the library take the transaction ID from the kernel's entropy pool, for
// which a machine that has just started can wait for minutes.
type Client struct {
	Backoff Backoff
	// Jitter returns at least 0 and less than 1; nil means a random number.
	Jitter func() float64
	// XID returns a transaction ID; nil means a random one. It need not be secret: everyone on the link sees it.
	XID func() uint32
}

// exchange is one attempt to get a lease on one link.
type exchange struct {
	client  *Client
	conn    *nclient4.Client
	link    Link
	refused string // why the last unusable answer was refused
}

// Acquire implements DHCP: it asks until a server has granted a usable lease or ctx ends. Answers that cannot be used
// do not end the wait for better ones; the last of them is named in the error, which wraps ErrNoAnswer.
func (c *Client) Acquire(ctx context.Context, link Link) (Lease, error) {
	// Every wait is bounded by its own context; the library's time-out must not end one earlier.
	conn, err := nclient4.New(link.Name, nclient4.WithHWAddr(link.HardwareAddr), nclient4.WithRetry(1),
		nclient4.WithTimeout(time.Hour))
	if err != nil {
		return Lease{}, fmt.Errorf("dhcp: %w", err)
	}
	defer func() { _ = conn.Close() }()
	x := &exchange{client: c, conn: conn, link: link}
	for {
		lease, err := x.run(ctx)
		if !errors.Is(err, errOfferLost) {
			return lease, err
		}
		// Start anew (RFC 2131, section 3.1), but not in a tight loop. When ctx ends, so does the next discovery.
		sleep(ctx, c.Backoff.Wait(0, c.jitter()))
	}
}

// run does one discovery and one request.
func (x *exchange) run(ctx context.Context) (Lease, error) {
	discover := x.client.message(x.link, dhcpv4.MessageTypeDiscover)
	offer, err := x.ask(ctx, "offer", discover, -1, x.isOffer)
	if err != nil {
		return Lease{}, err
	}
	request := x.client.message(x.link, dhcpv4.MessageTypeRequest)
	request.TransactionID = discover.TransactionID // RFC 2131, section 4.4.1
	request.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
	request.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
	// A server that stays silent after its offer is given up after requestTries, and discovery starts again.
	answer, err := x.ask(ctx, "acknowledgement", request, requestTries, x.isAnswerTo(offer))
	if err != nil {
		return Lease{}, err
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		x.refused = fmt.Sprintf("server %s took its offer back (%.80q)", offer.ServerIdentifier(), answer.Message())
		return Lease{}, errOfferLost
	}
	settings, err := SettingsFrom(answer)
	if err != nil {
		return Lease{}, err
	}
	return Lease{Settings: settings, Offer: offer, ACK: answer, Obtained: time.Now()}, nil
}

// requestTries is how often an offer is asked for before it is given up.
const requestTries = 5

// errOfferLost tells that an exchange failed after its offer and is to be started again; it never leaves Acquire.
var errOfferLost = errors.New("offer lost")

// ask sends message, again and again with growing waits, until an answer matches, ctx ends or tries are used up; tries
// below 0 means no limit. What it says in its error: what was waited for, how often it was asked for, how long, and
// why the last answer that did come was not usable.
func (x *exchange) ask(ctx context.Context, what string, message *dhcpv4.DHCPv4, tries int,
	match nclient4.Matcher) (*dhcpv4.DHCPv4, error) {
	begin := time.Now()
	sent := 0
	for tries < 0 || sent < tries {
		wait, cancel := context.WithTimeout(ctx, x.client.Backoff.Wait(sent, x.client.jitter()))
		message.NumSeconds = uint16(min(time.Since(begin)/time.Second, 0xffff))
		answer, err := x.conn.SendAndRead(wait, x.conn.RemoteAddr(), message, match)
		cancel()
		sent++
		if err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			break
		}
		if wait.Err() == nil {
			return nil, fmt.Errorf("dhcp: send: %w", err)
		}
	}
	if ctx.Err() == nil {
		x.refused = fmt.Sprintf("an offer, but no %s in %d tries", what, sent)
		return nil, errOfferLost
	}
	text := fmt.Sprintf("dhcp: waited %s for an %s, asked %d times",
		time.Since(begin).Round(time.Millisecond), what, sent)
	if x.refused != "" {
		text += ", last answer refused: " + x.refused
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s: %w: %w", text, ErrNoAnswer, cause)
	}
	return nil, fmt.Errorf("%s: %w", text, ErrNoAnswer)
}

// isOffer accepts the first offer that is usable as a whole; a hostile one that comes first does not win.
func (x *exchange) isOffer(p *dhcpv4.DHCPv4) bool {
	if p.MessageType() != dhcpv4.MessageTypeOffer {
		return false
	}
	s, err := SettingsFrom(p)
	switch {
	case err != nil:
		x.refuse(err)
	case !s.Server.IsValid():
		x.refuse(fmt.Errorf("%w: no usable server identifier", ErrRefused))
	default:
		return true
	}
	return false
}

// isAnswerTo accepts the acknowledgement, if it is usable, or the refusal of the server that made offer.
func (x *exchange) isAnswerTo(offer *dhcpv4.DHCPv4) nclient4.Matcher {
	return func(p *dhcpv4.DHCPv4) bool {
		if !p.ServerIdentifier().Equal(offer.ServerIdentifier()) {
			return false
		}
		switch p.MessageType() {
		case dhcpv4.MessageTypeNak:
			return true
		case dhcpv4.MessageTypeAck:
			_, err := SettingsFrom(p)
			x.refuse(err)
			return err == nil
		default:
			return false
		}
	}
}

func (x *exchange) refuse(err error) {
	if err != nil {
		x.refused = strings.TrimPrefix(err.Error(), ErrRefused.Error()+": ")
	}
}

// message makes a request with everything that discovery and request have in common.
func (c *Client) message(link Link, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	xid := c.XID
	if xid == nil {
		xid = rand.Uint32
	}
	m := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootRequest,
		HWType:        iana.HWTypeEthernet,
		ClientHWAddr:  link.HardwareAddr,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  net.IPv4zero,
		GatewayIPAddr: net.IPv4zero,
		Options:       make(dhcpv4.Options),
	}
	binary.BigEndian.PutUint32(m.TransactionID[:], xid())
	m.UpdateOption(dhcpv4.OptMessageType(kind))
	m.UpdateOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize))
	m.UpdateOption(dhcpv4.OptParameterRequestList(
		// RFC 3442: the classless routes are to stand before the router.
		dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter,
		dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList,
		dhcpv4.OptionInterfaceMTU, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue,
		dhcpv4.OptionRebindingTimeValue,
	))
	return m
}

func (c *Client) jitter() float64 {
	if c.Jitter != nil {
		return c.Jitter()
	}
	return rand.Float64()
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
