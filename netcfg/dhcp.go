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
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
)

// ErrNoAnswer is what the error of an exchange wraps that ended without a usable answer.
var ErrNoAnswer = errors.New("no usable answer")

// ErrLeaseLost is what the error of Extend wraps when a server has taken the lease back.
var ErrLeaseLost = errors.New("the server takes the lease back")

// Lease is what a server has granted.
type Lease struct {
	Settings Settings
	Obtained time.Time // when the acknowledgement came; the times in Settings count from here
}

// How says whom to ask for more time, and in which state the client is (RFC 2131, section 4.3.2).
type How int

// The ways to extend a lease.
const (
	Renew   How = iota // the server that has granted it
	Rebind             // any server
	Confirm            // any server, after the link was away: does it still hold (INIT-REBOOT)?
)

// DHCP obtains and keeps leases for links that are up and have carrier. Each call returns when it has an answer, when
// ctx ends, or (but for Acquire) after some tries.
type DHCP interface {
	// Acquire asks for a lease until it has one or ctx ends.
	Acquire(ctx context.Context, link Link) (Lease, error)
	// Extend asks for more time. An error that wraps ErrLeaseLost ends the lease; after any other it can be tried again.
	Extend(ctx context.Context, link Link, lease Lease, how How) (Lease, error)
	// Release gives a lease back. Nobody answers that.
	Release(ctx context.Context, link Link, lease Lease) error
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
	// MinLease is the shortest lease that is believed; 0 means the constant of that name.
	MinLease time.Duration
	// Probe is how long other machines have to say that they have an address before it is used; 0 means 750 ms.
	Probe time.Duration
	// DeclinePause is waited after an address was declined; 0 means 10 s.
	DeclinePause time.Duration
}

// exchange is one attempt to get a lease on one link.
type exchange struct {
	client  *Client
	conn    *nclient4.Client
	raw     net.PacketConn // below conn
	to      *net.UDPAddr
	link    Link
	refused string // why the last unusable answer was refused
}

// Acquire implements DHCP: it asks until a server has granted a usable lease or ctx ends. Answers that cannot be used
// do not end the wait for better ones; the last of them is named in the error, which wraps ErrNoAnswer. An address that
// another machine has is declined; if the link does not have it yet, it takes a moment to find that out.
func (c *Client) Acquire(ctx context.Context, link Link) (Lease, error) {
	x, err := c.broadcast(link)
	if err != nil {
		return Lease{}, err
	}
	defer x.close()
	var declined []string
	for {
		pause := c.Backoff.Wait(0, c.jitter())
		lease, err := x.run(ctx)
		if err == nil {
			err = x.claim(ctx, lease)
		}
		switch {
		case errors.Is(err, errDeclined):
			declined = append(declined, x.refused)
			if pause = c.DeclinePause; pause <= 0 {
				pause = declinePause
			}
		case !errors.Is(err, errOfferLost):
			for _, d := range declined {
				lease.Settings.drop("%s", d)
			}
			return lease, err
		}
		// Start anew (RFC 2131, section 3.1), but not in a tight loop. When ctx ends, so does the next discovery.
		sleep(ctx, pause)
	}
}

// claim declines a lease whose address another machine has.
func (x *exchange) claim(ctx context.Context, lease Lease) error {
	s := lease.Settings
	owner, err := x.client.probe(ctx, x.link, s.Address.Addr())
	if err != nil && x.refused != "" {
		err = fmt.Errorf("%w, last answer refused: %s", err, x.refused)
	}
	if err != nil || owner == nil {
		return err
	}
	x.refused = fmt.Sprintf("address %s: %s has it", s.Address.Addr(), owner)
	m := x.client.farewell(x.link, dhcpv4.MessageTypeDecline, s.Server)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(s.Address.Addr().AsSlice()))
	if _, err := x.raw.WriteTo(m.ToBytes(), x.to); err != nil {
		return fmt.Errorf("dhcp: decline %s: %w", s.Address.Addr(), err)
	}
	return errDeclined
}

// broadcast opens a raw socket, which needs no address.
func (c *Client) broadcast(link Link) (*exchange, error) {
	raw, err := nclient4.NewRawUDPConn(link.Name, nclient4.ClientPort)
	if err != nil {
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	return c.exchange(raw, link)
}

// anyAddr is what a client listens on while it has an address: a server refuses by broadcast even then (RFC 2131,
// section 4.1).
var anyAddr = netip.AddrPortFrom(netip.IPv4Unspecified(), nclient4.ClientPort)

// unicast opens an ordinary socket, so that a server beyond a router is reached as well.
func (c *Client) unicast(ctx context.Context, link Link) (*exchange, error) {
	udp, err := listenOn(ctx, link.Name, anyAddr)
	if err != nil {
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	return c.exchange(udp, link)
}

func (c *Client) exchange(conn net.PacketConn, link Link) (*exchange, error) {
	// Every wait is bounded by its own context; the library's time-out must not end one earlier.
	client, err := nclient4.NewWithConn(&guarded{conn, parses4}, link.HardwareAddr, nclient4.WithRetry(1),
		nclient4.WithTimeout(time.Hour))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dhcp: %w", err), conn.Close())
	}
	return &exchange{client: c, conn: client, raw: conn, to: client.RemoteAddr(), link: link}, nil
}

func (x *exchange) close() { _ = x.conn.Close() }

// Extend implements DHCP.
func (c *Client) Extend(ctx context.Context, link Link, lease Lease, how How) (Lease, error) {
	own := net.IP(lease.Settings.Address.Addr().AsSlice())
	request := c.message(link, dhcpv4.MessageTypeRequest)
	var x *exchange
	var err error
	switch how {
	case Renew:
		request.ClientIPAddr = own
		if x, err = c.unicast(ctx, link); err == nil {
			x.to = &net.UDPAddr{IP: lease.Settings.Server.AsSlice(), Port: nclient4.ServerPort}
		}
	case Rebind:
		request.ClientIPAddr = own
		x, err = c.broadcast(link)
	default:
		request.UpdateOption(dhcpv4.OptRequestedIPAddress(own))
		x, err = c.broadcast(link)
	}
	if err != nil {
		return Lease{}, err
	}
	defer x.close()
	answer, err := x.ask(ctx, "acknowledgement", request, extendTries, x.isExtension(how, lease))
	switch {
	case errors.Is(err, errOfferLost) && x.refused != "":
		return Lease{}, fmt.Errorf("dhcp: %w in %d tries, last answer refused: %s", ErrNoAnswer, extendTries, x.refused)
	case errors.Is(err, errOfferLost):
		return Lease{}, fmt.Errorf("dhcp: %w in %d tries", ErrNoAnswer, extendTries)
	case err != nil:
		return Lease{}, err
	case answer.MessageType() == dhcpv4.MessageTypeNak:
		return Lease{}, fmt.Errorf("dhcp: %w: server %s says %.80q", ErrLeaseLost, answer.ServerIdentifier(),
			answer.Message())
	}
	return c.lease(answer, lease.Settings.Server)
}

// extendTries is how often more time is asked for in one call of Extend.
const extendTries = 3

// isExtension accepts a usable acknowledgement, or the refusal of a server: when renewing, of the one that has granted
// the lease only; otherwise any on the link may say that the address is not for this network.
func (x *exchange) isExtension(how How, lease Lease) nclient4.Matcher {
	return func(p *dhcpv4.DHCPv4) bool {
		server, why := usableHost(p.ServerIdentifier())
		if how == Renew && why == "" && server != lease.Settings.Server {
			x.refuse(fmt.Errorf("an answer of %s, which has not granted the lease", server))
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

// Release implements DHCP.
func (c *Client) Release(ctx context.Context, link Link, lease Lease) error {
	s := lease.Settings
	udp, err := listenOn(ctx, link.Name, anyAddr)
	if err != nil {
		return fmt.Errorf("dhcp: release %s: %w", s.Address.Addr(), err)
	}
	m := c.farewell(link, dhcpv4.MessageTypeRelease, s.Server)
	m.ClientIPAddr = s.Address.Addr().AsSlice()
	_, err = udp.WriteTo(m.ToBytes(), &net.UDPAddr{IP: s.Server.AsSlice(), Port: nclient4.ServerPort})
	if err = errors.Join(err, udp.Close()); err != nil {
		return fmt.Errorf("dhcp: release %s: %w", s.Address.Addr(), err)
	}
	return nil
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
	if errors.Is(err, errOfferLost) {
		x.refused = fmt.Sprintf("an offer, but no acknowledgement in %d tries", requestTries)
	}
	if err != nil {
		return Lease{}, err
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		x.refused = fmt.Sprintf("server %s took its offer back (%.80q)", offer.ServerIdentifier(), answer.Message())
		return Lease{}, errOfferLost
	}
	server, _ := usableHost(offer.ServerIdentifier())
	return x.client.lease(answer, server)
}

// lease makes an acknowledgement of that server a lease.
func (c *Client) lease(answer *dhcpv4.DHCPv4, server netip.Addr) (Lease, error) {
	least := c.MinLease
	if least <= 0 {
		least = MinLease
	}
	settings, err := settingsFrom(answer, least)
	if !settings.Server.IsValid() {
		settings.Server = server
	}
	return Lease{Settings: settings, Obtained: time.Now()}, err
}

// requestTries is how often an offer is asked for before it is given up.
const requestTries = 5

// These tell that an exchange failed after its offer and is to be started again; they never leave Acquire.
var (
	errOfferLost = errors.New("offer lost")
	errDeclined  = errors.New("address declined")
)

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
		answer, err := x.conn.SendAndRead(wait, x.to, message, match)
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

// farewell makes a message that nobody answers, with nothing that is only for answers (RFC 2131, table 5).
func (c *Client) farewell(link Link, kind dhcpv4.MessageType, server netip.Addr) *dhcpv4.DHCPv4 {
	m := c.message(link, kind)
	m.UpdateOption(dhcpv4.OptServerIdentifier(server.AsSlice()))
	delete(m.Options, dhcpv4.OptionParameterRequestList.Code())
	delete(m.Options, dhcpv4.OptionMaximumDHCPMessageSize.Code())
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
