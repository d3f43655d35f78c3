// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Waiting for IPv6, which nothing waits for.
const (
	look6  = 30 * time.Second // between two looks at what router advertisements have brought, beside the kernel's reports
	tries6 = 15 * time.Second // for a DHCPv6 server to answer, in one round of asking
	calm6  = 5 * time.Second  // between two changes of what router advertisements say about names

	// Between a router that the kernel has heard, but nobody here, and asking it; between asking and asking again; and how
	// often (RFC 4861, section 10).
	solicitDelay    = time.Second
	solicitInterval = 4 * time.Second
	maxSolicits     = 3
)

// run6 keeps up with the link's IPv6 until ctx ends. Addresses and routes from router advertisements are the kernel's
// business; what is done here is to say them, and to ask a DHCPv6 server if the routers say that there is one.
func (c *nic) run6(ctx context.Context) {
	for {
		up := c.waitUp(ctx, c.woken[1], undecided, func() {})
		if up == nil {
			break
		}
		c.hold6(up)
	}
	c.release6(ctx)
}

// hold6 looks whenever something may have changed, while there is carrier.
func (c *nic) hold6(up context.Context) {
	var asked six
	var sought solicits
	var used time.Time   // when the names of router advertisements have last changed
	if c.lease6 != nil { // the link has been away: the network may be another one
		c.drop6()
	}
	for up.Err() == nil {
		now, err := c.net.opt.Links.Inet6(c.link.Index)
		if err == nil {
			c.see6(now)
		}
		wait := c.use6(&used)
		if err == nil {
			wait = min(wait, c.solicit6(now, &sought))
		}
		if err == nil && c.net.opt.DHCP6 != nil {
			wait = min(wait, c.serve6(up, now, &asked))
		}
		timer := time.NewTimer(wait)
		select {
		case <-up.Done():
		case <-c.woken[1]:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// see6 notes and says the addresses that the link has.
func (c *nic) see6(now Inet6) {
	c.net.update(func() {
		for _, a := range now.Addresses {
			if !slices.Contains(c.inet6.Addresses, a) {
				c.net.opt.Log(fmt.Sprintf("%s: IPv6 address %s", c.link.Name, a))
			}
		}
		reached := c.reaches6()
		c.inet6 = now
		if c.reaches6() != reached {
			c.net.resolve()
		}
	})
}

// reaches6 tells whether the link has an address and a router of IPv6. The lock is held.
func (c *nic) reaches6() bool { return c.carrier && c.inet6.Router && len(c.inet6.Addresses) > 0 }

// hear notes what a router has said about names.
func (c *nic) hear(a Advert) {
	c.net.mu.Lock()
	c.adverts.add(a, c.link.Name, time.Now())
	c.net.mu.Unlock()
	wake(c.woken[1])
}

// use6 uses the names of router advertisements, and says them when they are others than before. It returns how long
// nothing has to be done. Routers that cannot make up their minds do not fill a log, or wear out a disk.
func (c *nic) use6(used *time.Time) (wait time.Duration) {
	c.net.update(func() {
		now, was := time.Now(), c.names
		dns, search, left := c.adverts.names(now)
		wait = left
		if !c.carrier || slices.Equal(dns, was.DNS) && slices.Equal(search, was.Search) &&
			slices.Equal(c.adverts.dropped, was.Dropped) {
			return
		}
		if calm := used.Add(calm6).Sub(now); calm > 0 {
			wait = min(left, calm)
			return
		}
		*used = now
		c.names = Settings{DNS: dns, Search: search, Dropped: c.adverts.dropped}
		c.net.opt.Log(c.link.Name + ": router advertisements: " + c.names.nameserverText())
		for _, d := range c.names.Dropped {
			if !slices.Contains(was.Dropped, d) {
				c.net.opt.Log(fmt.Sprintf("%s: not used: %s", c.link.Name, d))
			}
		}
		c.net.resolve(slices.DeleteFunc(was.DNS, func(a netip.Addr) bool { return slices.Contains(dns, a) })...)
	})
	return wait
}

// solicits is how asking routers stands while a link has carrier.
type solicits struct {
	sent int
	next time.Time
}

// solicit6 asks the routers that the kernel has heard to say once more what they have said about names: it may have been
// before anybody listened here. It returns how long nothing has to be done.
func (c *nic) solicit6(now Inet6, sought *solicits) time.Duration {
	c.net.mu.Lock()
	heard := c.adverts.heard
	c.net.mu.Unlock()
	if heard || !now.Router || sought.sent == maxSolicits {
		return look6
	}
	if sought.next.IsZero() {
		sought.next = time.Now().Add(solicitDelay) // what is under way comes first
	}
	if wait := time.Until(sought.next); wait > 0 {
		return wait
	}
	sought.sent++
	sought.next = time.Now().Add(solicitInterval)
	_ = c.net.opt.Links.Solicit(c.link.Index) // it may go better the next time, and nothing waits for it
	return solicitInterval
}

// six is how asking for DHCPv6 stands while a link has carrier.
type six struct {
	failures int
	again    time.Time // when to ask next
	managed  bool      // whether an address was asked for
	said     bool
}

// serve6 does what is next about DHCPv6, and returns how long nothing has to be done.
func (c *nic) serve6(up context.Context, now Inet6, asked *six) time.Duration {
	if c.lease6 == nil || c.lease6.Managed != now.Managed && (now.Managed || now.Other) {
		if !now.Router || !now.Managed && !now.Other {
			return look6
		}
		if asked.managed != now.Managed {
			*asked = six{managed: now.Managed}
		}
		if wait := time.Until(asked.again); wait > 0 {
			return wait
		}
		c.ask6(up, asked)
		return 0
	}
	t, left := due(c.lease6.Settings, time.Since(c.lease6.Obtained))
	switch wait := time.Until(asked.again); {
	case t == taskWait:
		return left
	case t == taskExpire:
		c.drop6()
		return 0
	case wait > 0:
		return wait
	}
	c.extend6(up, t, asked)
	return 0
}

// ask6 asks for what the routers say a DHCPv6 server has. e1000 and its like lose first packets, and a link-local
// address takes a second to be usable: so the first failure is followed by a quick repetition, and not said.
func (c *nic) ask6(up context.Context, asked *six) {
	ctx, cancel := context.WithTimeout(up, tries6)
	defer cancel()
	lease, err := c.net.opt.DHCP6.Acquire(ctx, c.link, asked.managed)
	if err == nil {
		err = c.adopt6(lease, asked)
	}
	if err != nil && up.Err() == nil {
		asked.failures++
		asked.again = time.Now().Add(pauseAfter(asked.failures))
		if asked.failures > 3 && !asked.said {
			asked.said = true
			c.net.say("%s: %v", c.link.Name, err)
		}
	}
}

// extend6 asks for more time.
func (c *nic) extend6(up context.Context, t task, asked *six) {
	how := Renew
	if t == taskRebind {
		how = Rebind
	}
	ctx, cancel := context.WithTimeout(up, tries6)
	defer cancel()
	lease, err := c.net.opt.DHCP6.Extend(ctx, c.link, *c.lease6, how)
	if err == nil {
		err = c.adopt6(lease, asked)
	}
	switch {
	case err == nil || up.Err() != nil:
	case errors.Is(err, ErrLeaseLost):
		c.drop6()
	default:
		s := c.lease6.Settings
		_, left := due(s, time.Since(c.lease6.Obtained))
		asked.again = time.Now().Add(pauseBetween(left, s.Lease))
	}
}

// adopt6 makes a lease the one in use. The kernel ends the use of its address by itself, should nobody be there to.
func (c *nic) adopt6(lease Lease6, asked *six) error {
	a := lease.Settings.Address
	if a.IsValid() {
		if err := c.net.opt.Links.AddrReplace(c.link.Index, a, lease.Settings.Lease, lease.Preferred); err != nil {
			return err
		}
	}
	c.net.update(func() {
		was := c.lease6
		if was == nil || was.Settings.String() != lease.Settings.String() {
			c.net.opt.Log(c.link.Name + ": DHCPv6: " + lease.Settings.String())
			for _, d := range lease.Settings.Dropped {
				c.net.opt.Log(fmt.Sprintf("%s: not used: %s", c.link.Name, d))
			}
		}
		if was != nil && was.Settings.Address.IsValid() && was.Settings.Address != a {
			_ = c.net.opt.Links.AddrDel(c.link.Index, was.Settings.Address) // the kernel removes it in time as well
		}
		c.lease6 = &lease
		c.net.resolve()
	})
	*asked = six{managed: lease.Managed}
	return nil
}

// drop6 ends the use of what DHCPv6 has brought.
func (c *nic) drop6() {
	c.net.update(func() {
		if a := c.lease6.Settings.Address; a.IsValid() {
			_ = c.net.opt.Links.AddrDel(c.link.Index, a) // the kernel removes it in time as well
			c.net.opt.Log(fmt.Sprintf("%s: %s of DHCPv6 is not used any longer", c.link.Name, a))
		}
		c.lease6 = nil
		c.net.resolve()
	})
}

func (c *nic) release6(ctx context.Context) {
	if c.lease6 == nil || c.lease6.Settings.Address == (netip.Prefix{}) || c.upNow() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.net.opt.Limits.Release)
	defer cancel()
	if err := c.net.opt.DHCP6.Release(ctx, c.link, *c.lease6); err != nil {
		c.net.say("%s: %v", c.link.Name, err)
		return
	}
	c.net.say("%s: %s is given back", c.link.Name, c.lease6.Settings.Address)
}
