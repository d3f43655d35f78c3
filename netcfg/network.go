// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// What Configure's errors wrap.
var (
	ErrNoLink    = errors.New("no ethernet interface") // the machine has no link to ask on
	ErrNoCarrier = errors.New("no carrier")            // nothing at the other end of a link's cable
)

// errSettled is why a link is given up when another one has its lease and Settle is over.
var errSettled = errors.New("another link has its lease")

// The first lease's routes get FirstMetric, those of each later one MetricStep more: the first lease wins.
const (
	FirstMetric = 100
	MetricStep  = 10
)

// Limits are the longest times that the parts of Configure may take. A zero field means its default.
type Limits struct {
	Appear  time.Duration // for a first link to show up; default 5 s
	Carrier time.Duration // for a link to have carrier after it was brought up; default 10 s
	Lease   time.Duration // for a lease on one link, from its carrier on; default 30 s
	Settle  time.Duration // for the other links, after the first lease; default 2 s
	Poll    time.Duration // between two looks at a link's state; default 20 ms
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
	set(&l.Poll, 20*time.Millisecond)
	return l
}

// Options are what Configure works with. Links and DHCP are required.
type Options struct {
	Links Links
	DHCP  DHCP
	// Root is the directory below which resolv.conf and its head file lie; "" means "/".
	Root string
	// Preferred nameservers come before those of the head file and of DHCP.
	Preferred []netip.Addr
	Limits    Limits
	// Log takes one line at a time about what is under way, from one goroutine at a time; nil means no one listens.
	Log func(line string)
}

// Interface is what became of one link.
type Interface struct {
	Link    Link
	Lease   Lease         // meaningful when Err is nil
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

// Result is what Configure did.
type Result struct {
	// Interfaces holds every link that was tried; those with a lease come first, in the order of their metrics.
	Interfaces []Interface
	// ResolvConf is the text that etc/resolv.conf now has; when no nameserver is known the file is left as it is.
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

// Configure brings the network up. In this order:
//
//  1. it waits for an Ethernet link to exist;
//  2. on all links at once: link up, wait for carrier, DHCPv4;
//  3. as each lease arrives: MTU (only ever smaller), address, routes, the first lease with the smallest metric;
//  4. when every link is done, or Settle after the first lease: etc/resolv.conf.
//
// It succeeds when at least one link is configured and resolv.conf is written. Otherwise the error names each link and
// what was waited for; Result then still says what was done. It can be repeated at any time: nothing is added twice.
func Configure(ctx context.Context, opt Options) (Result, error) {
	opt.Limits = opt.Limits.withDefaults()
	if opt.Log == nil {
		opt.Log = func(string) {}
	}
	links, err := waitLinks(ctx, opt)
	if err != nil {
		return Result{}, err
	}
	var result Result
	result.Interfaces = configureAll(ctx, opt, links)
	leased := result.Leased()
	if len(leased) == 0 {
		return result, fmt.Errorf("configure network: %w", joinLines(result.Interfaces))
	}
	result.ResolvConf, err = updateResolvConf(opt, leased)
	if err != nil {
		return result, fmt.Errorf("configure network: %w", err)
	}
	return result, nil
}

// waitLinks returns the links worth asking on, as soon as there are any.
func waitLinks(ctx context.Context, opt Options) ([]Link, error) {
	wait, cancel := context.WithTimeout(ctx, opt.Limits.Appear)
	defer cancel()
	for {
		all, err := opt.Links.LinkList()
		if err != nil {
			return nil, fmt.Errorf("configure network: %w", err)
		}
		if links := candidates(all); len(links) > 0 {
			return links, nil
		}
		if wait.Err() != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("configure network: wait for an interface: %w", context.Cause(ctx))
			}
			return nil, fmt.Errorf("configure network: waited %s: %w (have %s)", opt.Limits.Appear, ErrNoLink, names(all))
		}
		sleep(wait, opt.Limits.Poll)
	}
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

// configureAll works on all links at once and returns when each is done, or Settle after the first lease.
func configureAll(ctx context.Context, opt Options, links []Link) []Interface {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	found := make(chan Interface)
	for _, l := range links {
		go func() {
			lease, err := acquire(ctx, opt, l)
			found <- Interface{Link: l, Lease: lease, Err: err}
		}()
	}
	var leased, failed []Interface
	for range links {
		i := <-found
		if i.Err == nil {
			i.Metric = FirstMetric + len(leased)*MetricStep
			i.Err = apply(opt.Links, i)
		}
		i.Elapsed = time.Since(begin)
		if i.Err != nil {
			i.Err = fmt.Errorf("%s: %w", i.Link.Name, i.Err)
			failed = append(failed, i)
			opt.Log(i.String())
			continue
		}
		if len(leased) == 0 {
			defer time.AfterFunc(opt.Limits.Settle, func() { cancel(errSettled) }).Stop()
		}
		leased = append(leased, i)
		opt.Log(i.String())
		for _, d := range i.Lease.Settings.Dropped {
			opt.Log(fmt.Sprintf("%s: not used: %s", i.Link.Name, d))
		}
	}
	return append(leased, failed...)
}

// acquire brings one link up and gets a lease for it.
func acquire(ctx context.Context, opt Options, link Link) (Lease, error) {
	if err := opt.Links.LinkSetUp(link.Index); err != nil {
		return Lease{}, err
	}
	if err := waitCarrier(ctx, opt, link.Index); err != nil {
		return Lease{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Limits.Lease)
	defer cancel()
	return opt.DHCP.Acquire(ctx, link)
}

// waitCarrier waits until the other end of the link is there.
func waitCarrier(ctx context.Context, opt Options, index int) error {
	begin := time.Now()
	wait, cancel := context.WithTimeout(ctx, opt.Limits.Carrier)
	defer cancel()
	for {
		l, err := opt.Links.LinkByIndex(index)
		if err != nil {
			return err
		}
		if l.Carrier {
			return nil
		}
		if wait.Err() != nil {
			waited := time.Since(begin).Round(time.Millisecond)
			if cause := context.Cause(wait); !errors.Is(cause, context.DeadlineExceeded) {
				return fmt.Errorf("waited %s for carrier: %w: %w", waited, ErrNoCarrier, cause)
			}
			return fmt.Errorf("waited %s for carrier: %w", waited, ErrNoCarrier)
		}
		sleep(wait, opt.Limits.Poll)
	}
}

// apply gives a link what its lease says.
func apply(links Links, i Interface) error {
	s := i.Lease.Settings
	if s.MTU > 0 && s.MTU < i.Link.MTU {
		if err := links.LinkSetMTU(i.Link.Index, s.MTU); err != nil {
			return err
		}
	}
	if err := links.AddrReplace(i.Link.Index, s.Address); err != nil {
		return err
	}
	routes := make([]Route, len(s.Routes))
	for n, r := range s.Routes {
		r.Link, r.Metric, r.Source = i.Link.Index, i.Metric, s.Address.Addr()
		routes[n] = r
	}
	return links.RoutesReplace(i.Link.Index, routes)
}

// updateResolvConf writes resolv.conf for the leases there are and returns its text.
func updateResolvConf(opt Options, leased []Interface) ([]byte, error) {
	dir := opt.Root
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
	settings := make([]Settings, len(leased))
	for n, i := range leased {
		settings[n] = i.Lease.Settings
	}
	conf := Merge(opt.Preferred, head, settings...)
	if len(conf.Nameservers) == 0 {
		opt.Log(ResolvConfPath + ": left as it is: no lease names a nameserver")
		return readResolvConf(root)
	}
	text := conf.Bytes()
	return text, writeResolvConf(root, text)
}

// joinLines makes one error of one line out of those of all interfaces.
func joinLines(interfaces []Interface) error {
	var list linesError
	for _, i := range interfaces {
		list = append(list, i.Err)
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
