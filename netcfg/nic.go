// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// repeatAfter is how long the same complaint about a link is not repeated.
const repeatAfter = time.Hour

// nic is one link that is kept configured. Two goroutines work on it, one for IPv4 and one for IPv6; what they share is
// behind the Network's lock.
type nic struct {
	net    *Network
	link   Link
	static *Static // nil: DHCP
	life   context.Context
	cancel context.CancelFunc // ends life, when the link is gone
	woken  [2]chan struct{}   // carrier, or something of IPv6, has changed: for IPv4 and for IPv6

	// Of the goroutine for IPv4 alone.
	complained time.Time // when a failure was last said; zero after a success
	renewed    time.Time // when an extension was last said
	failures   int       // rounds of asking in a row that have failed
	mtu        int       // in use: the link's own, which link has, or the smaller one of a lease

	// Behind the Network's lock.
	carrier  bool
	up       context.Context // ends when the carrier is lost; nil without one
	down     context.CancelCauseFunc
	open     bool   // neither configured nor given up so far
	awaiting string // what an open one waits for
	lease    *Lease
	held     bool // the lease is in use: its routes are set
	metric   int  // 0 before it has one
	elapsed  time.Duration
	err      error // why it is not held
	lease6   *Lease6
	inet6    Inet6
	adverts  adverts  // what the routers have said about names
	names    Settings // what of it is in use: DNS and Search
}

func newNIC(ctx context.Context, n *Network, l Link) *nic {
	c := &nic{net: n, link: l, mtu: l.MTU, open: true, awaiting: "carrier", err: ErrNoCarrier,
		woken: [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}}
	c.life, c.cancel = context.WithCancel(ctx)
	return c
}

// state is how the link stands. The lock is held.
func (c *nic) state() Interface {
	i := Interface{Link: c.link, Metric: c.metric, Elapsed: c.elapsed}
	switch {
	case c.held:
		i.Lease = *c.lease
	case c.open:
		i.Err = fmt.Errorf("%s: still waiting for %s: %w", c.link.Name, c.awaiting, c.err)
	default:
		i.Err = fmt.Errorf("%s: %w", c.link.Name, c.err)
	}
	return i
}

// setCarrier notes whether the other end of the link is there. Each time, it wakes who waits for that or for IPv6.
func (c *nic) setCarrier(carrier bool) {
	c.net.mu.Lock()
	switch {
	case carrier && !c.carrier:
		c.up, c.down = context.WithCancelCause(c.life)
	case !carrier && c.carrier:
		c.down(ErrNoCarrier)
		c.up = nil
		c.adverts.heard = false
	}
	c.carrier = carrier
	c.net.mu.Unlock()
	for _, w := range c.woken {
		wake(w)
	}
}

func (c *nic) upNow() context.Context {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.up
}

// waitUp waits for carrier; the context it returns ends when that is lost. It is nil when ctx has ended. late is called
// once, if it takes longer than patience.
func (c *nic) waitUp(ctx context.Context, woken <-chan struct{}, patience time.Duration, late func()) context.Context {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for ctx.Err() == nil {
		if up := c.upNow(); up != nil {
			return up
		}
		select {
		case <-ctx.Done():
		case <-woken:
		case <-timer.C:
			late()
		}
	}
	return nil
}

// run keeps the link's IPv4 configured until ctx ends, and gives the lease back then.
func (c *nic) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.net.opt.Links.LinkSetUp(c.link.Index)
		if err == nil {
			break
		}
		c.fail(ctx, err)
	}
	patience := c.net.opt.Limits.Carrier
	for {
		up := c.waitUp(ctx, c.woken[0], patience, func() {
			c.giveUp(fmt.Errorf("waited %s for carrier: %w", patience, ErrNoCarrier))
		})
		if up == nil {
			break
		}
		c.net.update(func() { c.awaiting, c.err = "a lease", ErrNoAnswer })
		if c.static != nil {
			c.holdStatic(up)
		} else {
			c.hold(up)
		}
		if ctx.Err() == nil {
			c.lost()
		}
	}
	c.release(ctx)
}

// giveUp notes why the link is not configured for now, and says it, unless it has just said the like.
func (c *nic) giveUp(err error) {
	c.net.update(func() {
		c.open, c.err, c.elapsed = false, err, time.Since(c.net.begun)
		if c.complained.IsZero() || time.Since(c.complained) >= repeatAfter {
			c.net.opt.Log(c.link.Name + ": " + err.Error())
			c.complained = time.Now()
		}
	})
}

// fail is giveUp and a pause, longer each time.
func (c *nic) fail(ctx context.Context, err error) {
	c.giveUp(err)
	c.failures++
	sleep(ctx, pauseAfter(c.failures))
}

// holdStatic applies the static configuration and waits for the carrier's end.
func (c *nic) holdStatic(up context.Context) {
	if c.lease != nil {
		c.net.say("%s: the link is back", c.link.Name)
	}
	for up.Err() == nil {
		err := c.applyStatic()
		if err == nil {
			<-up.Done()
			return
		}
		c.fail(up, err)
	}
}

func (c *nic) applyStatic() error {
	links, index := c.net.opt.Links, c.link.Index
	s := Settings{Address: c.static.Addresses[0]}
	for _, a := range c.static.Addresses {
		if err := links.AddrReplace(index, a, 0, 0); err != nil {
			return err
		}
	}
	for _, g := range c.static.Gateways {
		s.Routes = append(s.Routes, Route{Dst: everything(g), Gateway: g, OnLink: !c.static.contains(g),
			Link: index, Metric: c.metric})
	}
	if err := links.RoutesReplace(index, s.Routes); err != nil {
		return err
	}
	c.held4(Lease{Settings: s, Obtained: time.Now()})
	return nil
}

// contains tells whether one of the link's own networks has the address.
func (s *Static) contains(a netip.Addr) bool {
	for _, p := range s.Addresses {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// everything is the destination of a default route for the family of a gateway.
func everything(gateway netip.Addr) netip.Prefix {
	if gateway.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// hold keeps a lease while there is carrier.
func (c *nic) hold(up context.Context) {
	if c.lease != nil {
		c.comeBack(up)
	}
	for up.Err() == nil {
		if c.lease == nil {
			if err := c.acquire(up); err != nil && up.Err() == nil {
				c.fail(up, err)
			}
			continue
		}
		c.extend(up)
	}
}

// acquire gets a lease and applies it.
func (c *nic) acquire(up context.Context) error {
	ctx, cancel := context.WithTimeout(up, c.net.opt.Limits.Lease)
	defer cancel()
	lease, err := c.net.opt.DHCP.Acquire(ctx, c.link)
	if err != nil {
		return err
	}
	return c.adopt(lease)
}

// comeBack uses the lease again that the link had before it lost its carrier, and asks whether it still holds. Who does
// not answer may not be there any more: then any server is asked for a lease, while the old one goes on.
func (c *nic) comeBack(up context.Context) {
	if t, _ := due(c.lease.Settings, time.Since(c.lease.Obtained)); t == taskExpire {
		c.drop(errExpired)
		return
	}
	if err := c.apply(c.lease.Settings, c.metric); err != nil {
		c.drop(err)
		return
	}
	c.net.say("%s: the link is back", c.link.Name)
	c.held4(*c.lease)
	ctx, cancel := context.WithTimeout(up, c.net.opt.Limits.Lease)
	lease, err := c.net.opt.DHCP.Extend(ctx, c.link, *c.lease, Confirm)
	cancel()
	switch {
	case err == nil:
		err = c.adopt(lease)
	case errors.Is(err, ErrLeaseLost):
		c.drop(err)
		return
	case up.Err() == nil:
		err = c.acquire(up)
	}
	if err != nil && up.Err() == nil {
		c.net.say("%s: no server confirms the lease (%v): it is used until it ends", c.link.Name, err)
	}
}

// errExpired is why a lease is not used any longer when no server has extended it.
var errExpired = errors.New("the lease has ended, and no server has extended it")

// extend does what is next about the lease: wait, ask for more time, or drop it.
func (c *nic) extend(up context.Context) {
	s := c.lease.Settings
	t, left := due(s, time.Since(c.lease.Obtained))
	how := Renew
	switch t {
	case taskWait:
		sleep(up, left)
		return
	case taskExpire:
		c.drop(errExpired)
		return
	case taskRebind:
		how = Rebind
	}
	ctx, cancel := context.WithTimeout(up, left)
	defer cancel()
	lease, err := c.net.opt.DHCP.Extend(ctx, c.link, *c.lease, how)
	if err == nil {
		err = c.adopt(lease)
	}
	switch {
	case err == nil || up.Err() != nil:
	case errors.Is(err, ErrLeaseLost):
		c.drop(err)
	default:
		if c.complained.IsZero() || time.Since(c.complained) >= repeatAfter {
			c.complained = time.Now()
			c.net.say("%s: %s is not extended yet: %v", c.link.Name, s.Address, err)
		}
		_, left = due(s, time.Since(c.lease.Obtained))
		sleep(up, pauseBetween(left, s.Lease))
	}
}

// adopt makes a lease the one in use.
func (c *nic) adopt(lease Lease) error {
	c.net.mu.Lock()
	metric := c.metric
	if metric == 0 {
		metric = c.net.nextMetric()
		c.metric = metric
	}
	old := c.lease
	c.net.mu.Unlock()
	if old != nil && old.Settings.Address != lease.Settings.Address {
		// First, because with the first address of a network the kernel deletes all others of that network.
		if err := c.net.opt.Links.AddrDel(c.link.Index, old.Settings.Address); err != nil {
			c.net.say("%s: %v", c.link.Name, err)
		}
	}
	if err := c.apply(lease.Settings, metric); err != nil {
		if old == nil {
			c.net.update(func() { c.metric = 0 }) // the place is free for another link
			err = errors.Join(err, c.setMTU(0))
		}
		return err
	}
	c.held4(lease)
	return nil
}

// apply gives the link what its lease says.
func (c *nic) apply(s Settings, metric int) error {
	links, index := c.net.opt.Links, c.link.Index
	if err := c.setMTU(s.MTU); err != nil {
		return err
	}
	if err := links.AddrReplace(index, s.Address, 0, 0); err != nil {
		return err
	}
	routes := make([]Route, len(s.Routes))
	for n, r := range s.Routes {
		r.Link, r.Metric, r.Source = index, metric, s.Address.Addr()
		routes[n] = r
	}
	return links.RoutesReplace(index, routes)
}

// setMTU gives the link the MTU of a lease, if that is smaller than its own, and its own otherwise; 0 means its own.
func (c *nic) setMTU(mtu int) error {
	if mtu == 0 || mtu > c.link.MTU {
		mtu = c.link.MTU
	}
	if mtu == c.mtu {
		return nil
	}
	if err := c.net.opt.Links.LinkSetMTU(c.link.Index, mtu); err != nil {
		return err
	}
	c.mtu = mtu
	return nil
}

// held4 notes that the lease is in use. It is said when it is new, and otherwise once in a while.
func (c *nic) held4(lease Lease) {
	n := c.net
	n.update(func() {
		was := c.lease
		fresh := was == nil || was.Settings.String() != lease.Settings.String()
		if !c.held || fresh {
			c.elapsed = time.Since(n.begun)
		}
		if fresh || !c.complained.IsZero() || time.Since(c.renewed) >= repeatAfter {
			c.renewed = time.Now()
			n.opt.Log(c.link.Name + ": " + lease.Settings.String())
			for _, d := range lease.Settings.Dropped {
				n.opt.Log(fmt.Sprintf("%s: not used: %s", c.link.Name, d))
			}
		}
		if n.first.IsZero() {
			n.first = time.Now()
		}
		c.lease, c.held, c.open, c.err = &lease, true, false, nil
		c.failures, c.complained = 0, time.Time{}
		n.resolve()
	})
}

// drop ends the use of a lease: its address and its routes go away, and the link has its own MTU again.
func (c *nic) drop(why error) {
	links, index := c.net.opt.Links, c.link.Index
	err := errors.Join(links.RoutesReplace(index, nil), links.AddrDel(index, c.lease.Settings.Address), c.setMTU(0))
	c.net.update(func() {
		c.net.opt.Log(fmt.Sprintf("%s: %s is not used any longer: %v", c.link.Name, c.lease.Settings.Address, why))
		if err != nil {
			c.net.opt.Log(fmt.Sprintf("%s: %v", c.link.Name, err))
		}
		c.lease, c.held, c.err = nil, false, why
		c.net.resolve()
	})
}

// lost takes the routes of a link without carrier away, so that those of another one are used. The address stays: what
// is connected goes on if the carrier comes back soon.
func (c *nic) lost() {
	err := c.net.opt.Links.RoutesReplace(c.link.Index, nil)
	c.net.update(func() {
		if c.held {
			c.net.opt.Log(c.link.Name + ": the link is lost")
			c.complained = time.Now() // so that what comes next is said, and that it takes long is not
		}
		if err != nil {
			c.net.opt.Log(fmt.Sprintf("%s: %v", c.link.Name, err))
		}
		c.held, c.err = false, ErrNoCarrier
		c.net.resolve()
	})
}

// release gives the lease back to its server.
func (c *nic) release(ctx context.Context) {
	if c.lease == nil || c.static != nil || c.upNow() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.net.opt.Limits.Release)
	defer cancel()
	if err := c.net.opt.DHCP.Release(ctx, c.link, *c.lease); err != nil {
		c.net.say("%s: %v", c.link.Name, err)
		return
	}
	c.net.say("%s: %s is given back", c.link.Name, c.lease.Settings.Address)
}
