// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// What Await's errors wrap.
var (
	ErrNoLink    = errors.New("no ethernet interface") // the machine has no link to ask on
	ErrNoCarrier = errors.New("no carrier")            // nothing at the other end of a link's cable
)

// Static links get StaticMetric, each further one MetricStep more; the first lease's routes get FirstMetric, those of
// each later one MetricStep more. A link keeps its metric. The smallest wins: static before DHCP, early before late.
const (
	StaticMetric = 50
	FirstMetric  = 100
	MetricStep   = 10
)

// Limits are the longest times that the parts of a Network's work may take. A zero field means its default.
type Limits struct {
	Appear  time.Duration // for a first link to show up; default 5 s
	Carrier time.Duration // for a link to have carrier after it was brought up; default 10 s
	Lease   time.Duration // for a lease on one link, from its carrier on; default 30 s
	Settle  time.Duration // for the other links, after the first lease; default 2 s
	Release time.Duration // for giving back the leases at the end; default 1 s
	Poll    time.Duration // between two looks at the links until there is a network; default 200 ms
	Watch   time.Duration // between two looks at the links later, beside what the kernel reports; default 5 s
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&l.Appear, 5*time.Second)
	set(&l.Carrier, 10*time.Second)
	set(&l.Lease, 30*time.Second)
	set(&l.Settle, 2*time.Second)
	set(&l.Release, time.Second)
	set(&l.Poll, 200*time.Millisecond)
	set(&l.Watch, 5*time.Second)
	return l
}

// Static is the configuration of one link that asks no server for an IPv4 address.
type Static struct {
	Link      string // name or hardware address, as in "52:54:00:12:34:56"
	Addresses []netip.Prefix
	Gateways  []netip.Addr // of default routes
}

// Options are what a Network works with. Links and DHCP are required.
type Options struct {
	Links Links
	DHCP  DHCP
	DHCP6 DHCP6 // nil: IPv6 is left to the kernel alone
	// Root is the directory below which resolv.conf and its head file lie; "" means "/".
	Root string
	// Preferred nameservers come before those of the head file and of DHCP.
	Preferred []netip.Addr
	// Static links are not asked on; with OnlyStatic, no other link is touched.
	Static     []Static
	OnlyStatic bool
	Limits     Limits
	// Log takes one line at a time about what is under way, from one goroutine at a time; it must not call the Network.
	// nil means no one listens.
	Log func(line string)
	// Spawn starts a goroutine; nil means plainly. In a PID 1, a panic must not go unnoticed there.
	Spawn func(name string, f func())
}

// Interface is how one link stands.
type Interface struct {
	Link    Link
	Lease   Lease         // meaningful when Err is nil; a static one has no times
	Metric  int           // of its routes
	Elapsed time.Duration // from the start until the lease was applied or given up
	Err     error         // nil when the link is configured; names the link
}

// String is one line for events and logs.
func (i Interface) String() string {
	if i.Err != nil {
		return i.Err.Error()
	}
	return i.Link.Name + ": " + i.Lease.Settings.String()
}

// Result is how a Network stands.
type Result struct {
	// Interfaces holds every link; those that are configured come first, in the order of their metrics.
	Interfaces []Interface
	// ResolvConf is the text that etc/resolv.conf has; when no nameserver is known the file is left as it is.
	ResolvConf []byte
}

// Leased returns the interfaces that are configured.
func (r Result) Leased() []Interface {
	var out []Interface
	for _, i := range r.Interfaces {
		if i.Err == nil {
			out = append(out, i)
		}
	}
	return out
}

// Network is the network of the machine, kept up for as long as Run runs:
//
//  1. each Ethernet link that there is or comes is brought up, and watched for its carrier;
//  2. all links at once: an address by DHCPv4 (or the static one), MTU (smaller than the link's own, or that), routes;
//     renewed in time, taken away when a server takes it back or its time is over, and then asked for anew;
//  3. IPv6 beside that: addresses by the kernel from router advertisements, nameservers out of those, and DHCPv6 where
//     they ask for it;
//  4. etc/resolv.conf, whenever something of it changes;
//  5. a link without carrier loses its routes, so that another one is used; when the carrier is back they return at
//     once, and the server is asked whether the lease still holds.
//
// Nothing is added twice, so that what an earlier Network has left is taken over.
type Network struct {
	opt  Options
	kick chan struct{} // the kernel has said that something changed

	mu         sync.Mutex
	nics       []*nic // in the order in which they were found
	others     []Link // links that nothing is done with
	begun      time.Time
	first      time.Time // when a link was configured for the first time
	looking    error     // why the links cannot be listed
	resolvConf []byte
	resolving  error         // why resolv.conf could not be written
	changed    chan struct{} // closed at the next change
}

// New makes a Network, which does nothing before Run.
func New(opt Options) *Network {
	opt.Limits = opt.Limits.withDefaults()
	if opt.Log == nil {
		opt.Log = func(string) {}
	}
	if opt.Spawn == nil {
		opt.Spawn = func(_ string, f func()) { go f() }
	}
	return &Network{opt: opt, kick: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Run keeps the network up until ctx ends; then it gives back what servers have granted, within Limits.Release, and
// returns. It is to be called once.
func (n *Network) Run(ctx context.Context) {
	var running sync.WaitGroup
	spawn := func(name string, f func()) {
		running.Add(1)
		n.opt.Spawn(name, func() {
			defer running.Done()
			f()
		})
	}
	defer running.Wait()
	n.update(func() { n.begun = time.Now() })
	spawn("network changes", func() { n.opt.Links.Watch(ctx, func() { wake(n.kick) }, n.hear) })
	for {
		n.look(ctx, spawn)
		timer := time.NewTimer(n.nextLook())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-n.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// wake fills a channel that has room for one.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// nextLook is how long to wait for the kernel to report something before looking unasked.
func (n *Network) nextLook() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.first.IsZero() && time.Since(n.begun) < n.opt.Limits.Appear+n.opt.Limits.Carrier {
		return n.opt.Limits.Poll
	}
	return n.opt.Limits.Watch
}

// look compares the links that there are with those that are known.
func (n *Network) look(ctx context.Context, spawn func(string, func())) {
	all, err := n.opt.Links.LinkList()
	n.update(func() { n.looking, n.others = err, all })
	if err != nil {
		return
	}
	there := make(map[int]bool)
	for _, l := range candidates(all) {
		there[l.Index] = true
		c := n.find(l.Index)
		if c == nil {
			if c = n.add(ctx, l); c == nil {
				continue
			}
			spawn("network "+l.Name, func() { c.run(c.life) })
			spawn("network 6 "+l.Name, func() { c.run6(c.life) })
		}
		c.setCarrier(l.Carrier)
	}
	for _, c := range n.list() {
		if !there[c.link.Index] {
			n.remove(c)
		}
	}
}

func (n *Network) list() []*nic {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.nics)
}

func (n *Network) find(index int) *nic {
	for _, c := range n.list() {
		if c.link.Index == index {
			return c
		}
	}
	return nil
}

// hear passes on what a router advertises. What comes before its link is known is asked for once more.
func (n *Network) hear(a Advert) {
	if c := n.find(a.Link); c != nil {
		c.hear(a)
	}
}

// add takes up a link, unless it is none of ours.
func (n *Network) add(ctx context.Context, l Link) *nic {
	c := newNIC(ctx, n, l)
	static := 0
	for _, s := range n.opt.Static {
		if s.Link == l.Name || strings.EqualFold(s.Link, l.HardwareAddr.String()) {
			c.static, c.metric = &s, StaticMetric+MetricStep*static
			break
		}
		static++
	}
	if c.static == nil && n.opt.OnlyStatic {
		return nil
	}
	n.update(func() { n.nics = append(n.nics, c) })
	return c
}

// remove forgets a link that is gone, and what its lease had said.
func (n *Network) remove(c *nic) {
	c.setCarrier(false)
	c.cancel()
	n.update(func() {
		n.nics = slices.DeleteFunc(n.nics, func(o *nic) bool { return o == c })
		n.opt.Log(c.link.Name + ": the interface is gone")
		n.resolve()
	})
}

// update changes the state and wakes those who wait for a change.
func (n *Network) update(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	close(n.changed)
	n.changed = make(chan struct{})
}

// say logs a line.
func (n *Network) say(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opt.Log(fmt.Sprintf(format, args...))
}

// Await waits until it is decided how the network stands: every link is configured or given up for now, or Settle is
// over after the first one. It succeeds when a link is configured and resolv.conf is written, or when IPv6 alone has
// brought an address and a nameserver. Otherwise the error names each link and what was waited for. Result says what
// there is in both cases. It may be called at any time, also again: Run goes on trying.
func (n *Network) Await(ctx context.Context) (Result, error) {
	for {
		n.mu.Lock()
		result, wait, err := n.status(time.Now())
		changed := n.changed
		n.mu.Unlock()
		if wait <= 0 {
			if err != nil {
				err = fmt.Errorf("configure network: %w", err)
			}
			return result, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			err := ErrNoLink
			if len(result.Interfaces) > 0 {
				err = joinLines(result.Interfaces)
			}
			return result, fmt.Errorf("configure network: %w: %w", err, context.Cause(ctx))
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// undecided is how long to wait for a change when only a change can decide.
const undecided = time.Hour

// status says how the network stands; wait is positive while that is not decided yet. The lock is held.
func (n *Network) status(now time.Time) (result Result, wait time.Duration, err error) {
	result = n.result()
	open := 0
	for _, c := range n.nics {
		if c.open {
			open++
		}
	}
	limits := n.opt.Limits
	switch leased := len(result.Leased()); {
	case n.begun.IsZero():
		return result, undecided, nil
	case leased > 0 && open > 0 && now.Sub(n.first) < limits.Settle:
		return result, limits.Settle - now.Sub(n.first), nil
	case leased > 0:
		return result, 0, n.resolving
	case len(n.nics) == 0 && n.looking != nil:
		return result, 0, n.looking
	case len(n.nics) == 0 && now.Sub(n.begun) < limits.Appear:
		return result, limits.Appear - now.Sub(n.begun), nil
	case len(n.nics) == 0:
		return result, 0, fmt.Errorf("waited %s: %w (have %s)", limits.Appear, ErrNoLink, names(n.others))
	case open > 0:
		return result, undecided, nil
	case slices.ContainsFunc(n.nics, (*nic).reaches6):
		return result, 0, n.resolving
	}
	return result, 0, joinLines(result.Interfaces)
}

// result is how each link stands. The lock is held.
func (n *Network) result() Result {
	r := Result{ResolvConf: n.resolvConf}
	for _, c := range n.nics {
		r.Interfaces = append(r.Interfaces, c.state())
	}
	slices.SortStableFunc(r.Interfaces, func(a, b Interface) int {
		switch {
		case a.Err == nil && b.Err == nil:
			return a.Metric - b.Metric
		case a.Err == nil:
			return -1
		case b.Err == nil:
			return 1
		}
		return 0
	})
	return r
}

func names(links []Link) string {
	if len(links) == 0 {
		return "none at all"
	}
	list := make([]string, len(links))
	for i, l := range links {
		list[i] = l.Name
	}
	return strings.Join(list, ", ")
}

// nextMetric gives a link that is configured for the first time its place. The lock is held.
func (n *Network) nextMetric() int {
	metric := FirstMetric
	for slices.ContainsFunc(n.nics, func(c *nic) bool { return c.metric == metric }) {
		metric += MetricStep
	}
	return metric
}

// resolve writes resolv.conf for what there is: the preferred nameservers, those of the head file, those of the links
// in the order of their metrics, those of DHCPv6, and then those of router advertisements (the order of RFC 8106,
// section 5.3.1). Those that are gone are not kept for want of others. The lock is held.
func (n *Network) resolve(gone ...netip.Addr) {
	var settings []Settings
	for _, i := range n.result().Leased() {
		settings = append(settings, i.Lease.Settings)
	}
	known := len(settings)
	for _, c := range n.nics {
		if c.carrier && c.lease6 != nil {
			settings = append(settings, c.lease6.Settings)
		}
	}
	for _, c := range n.nics {
		if c.carrier && len(c.names.DNS)+len(c.names.Search) > 0 {
			settings = append(settings, c.names)
		}
	}
	if len(settings)+len(gone) == 0 && !slices.ContainsFunc(n.nics, (*nic).reaches6) {
		return // what was written for a link that is gone for now does no harm
	}
	text, err := n.writeResolvConf(settings, known > 0, gone)
	if err != nil && n.resolving == nil {
		n.opt.Log(err.Error())
	}
	n.resolving = err
	if err == nil {
		n.resolvConf = text
	}
}

func (n *Network) writeResolvConf(settings []Settings, say bool, gone []netip.Addr) ([]byte, error) {
	dir := n.opt.Root
	if dir == "" {
		dir = "/"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	head, err := readHead(root)
	if err != nil {
		return nil, err
	}
	conf := Merge(n.opt.Preferred, head, settings...)
	if len(conf.Nameservers) == 0 {
		if say && n.resolvConf == nil {
			n.opt.Log(ResolvConfPath + ": left as it is: no lease names a nameserver")
		}
		old, err := readResolvConf(root)
		if err != nil || !conf.keep(old, gone) {
			return old, err
		}
	}
	text := conf.Bytes()
	return text, writeResolvConf(root, text)
}

// joinLines makes one error of one line out of those of all interfaces.
func joinLines(interfaces []Interface) error {
	var list linesError
	for _, i := range interfaces {
		if i.Err != nil {
			list = append(list, i.Err)
		}
	}
	return list
}

// linesError is several errors in one line; errors.Is and errors.As see each of them.
type linesError []error

func (e linesError) Error() string {
	text := make([]string, len(e))
	for i, err := range e {
		text[i] = err.Error()
	}
	return strings.Join(text, "; ")
}

func (e linesError) Unwrap() []error { return e }
