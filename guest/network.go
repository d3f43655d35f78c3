// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"kindling/internal/event"
	"kindling/internal/netkeys"
	"kindling/netcfg"
	"kindling/steps"
)

const (
	mirrorPatience  = 30 * time.Second // for one mirror to accept a connection
	maxOrigins      = 8                // hosts of origins that are tried when no mirror answers
	releasePatience = 3 * time.Second  // for the leases to be given back at the end
	qemuHost        = "10.0.2.2"       // the host as QEMU's user network shows it
)

// errNetworkOff is why there is no network when nobody wants one.
var errNetworkOff = errors.New(netkeys.VarMode + " is off")

// uplink is the machine's network in one life of the agent. It is started once, and then kept up beside the steps.
type uplink struct {
	network interface {
		Await(ctx context.Context) (netcfg.Result, error)
	}
	stop context.CancelFunc
	done chan struct{} // closed when the leases are given back

	// expected says that an earlier life had the network, and that this one has not waited for it yet.
	expected bool

	mu   sync.Mutex
	job  *job // that is waiting for the network, and so hears of it in its log
	tell func(line string, step string)
}

// line passes on what the network says: to the log of the step that waits for it, or else to the console.
func (u *uplink) line(text string) {
	u.mu.Lock()
	j := u.job
	u.mu.Unlock()
	step := ""
	if j != nil {
		step = j.step.ID()
		j.say("%s", text)
	}
	u.tell(text, step)
}

// hear makes j the one that hears what the network says; nil for none.
func (u *uplink) hear(j *job) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.job = j
}

// startNetwork starts the network in the background, once in a life.
func (a *agent) startNetwork(config *steps.Config) error {
	if a.uplink != nil {
		return nil
	}
	keys, err := netkeys.Parse(config.Get)
	if err != nil {
		return fmt.Errorf("%s: %w", configPath, err)
	}
	if keys.Mode == netkeys.ModeOff {
		return errNetworkOff
	}
	links, err := netcfg.NewNetlink()
	if err != nil {
		return err
	}
	// Not the run's context: the leases are given back when all else has ended.
	ctx, cancel := context.WithCancel(context.Background())
	u := &uplink{stop: cancel, done: make(chan struct{}), tell: a.netLine}
	network := netcfg.New(netcfg.Options{
		Links: links, DHCP: &netcfg.Client{}, DHCP6: &netcfg.Client6{}, Preferred: keys.DNS, Static: staticLinks(keys.Static),
		OnlyStatic: keys.Mode == netkeys.ModeStatic, Log: u.line, Spawn: a.spawn,
	})
	u.network = network
	a.uplink = u
	a.spawn("network", func() {
		defer close(u.done)
		defer links.Close()
		network.Run(ctx)
	})
	return nil
}

func staticLinks(links []netkeys.Link) []netcfg.Static {
	var list []netcfg.Static
	for _, l := range links {
		list = append(list, netcfg.Static{Link: l.Name, Addresses: l.Addresses, Gateways: l.Gateways})
	}
	return list
}

// netLine tells the host what the network says. What comes beside the steps is on the console only where there is no
// event port: it is no sign that a step lives.
func (a *agent) netLine(line, step string) {
	if step == "" && !a.heard {
		a.say("network: %s", line)
	}
	a.port.Send(event.Event{Kind: event.KindNet, Step: step, Text: line})
}

// stopNetwork gives the leases back. It waits for that, but not for long.
func (a *agent) stopNetwork() {
	if a.uplink == nil {
		return
	}
	a.uplink.stop()
	select {
	case <-a.uplink.done:
	case <-time.After(releasePatience):
		a.say("network: not down in %s (going on without)", releasePatience)
	}
}

// bringBackNetwork starts the network of a run that had it already when an earlier life ended. Nothing waits for it
// here: only what needs it does.
func (a *agent) bringBackNetwork() {
	if a.next >= len(a.order) || !a.hadNetwork() {
		return
	}
	config, err := readConfig()
	if err == nil {
		err = a.startNetwork(config)
	}
	if err != nil {
		a.note("no network: %v", err)
		return
	}
	a.uplink.expected = true
}

// hadNetwork tells whether the step that brings up the network is done.
func (a *agent) hadNetwork() bool {
	return slices.ContainsFunc(a.order, func(s steps.Step) bool {
		return isNetwork(s) && a.state.Done[s.ID()]
	})
}

// awaitNetwork starts the network if that has not been done, and waits until it is decided how it stands.
func (j *job) awaitNetwork(ctx context.Context) (netcfg.Result, error) {
	if err := j.agent.startNetwork(j.config); err != nil {
		return netcfg.Result{}, err
	}
	u := j.agent.uplink
	u.hear(j)
	defer u.hear(nil)
	return u.network.Await(ctx)
}

// expectNetwork waits, once, for a network that an earlier life had, so that a script finds what it would have found then.
// It may do without.
func (j *job) expectNetwork(ctx context.Context) {
	if j.agent.uplink == nil || !j.agent.uplink.expected {
		return
	}
	j.agent.uplink.expected = false
	if _, err := j.awaitNetwork(ctx); err != nil && ctx.Err() == nil {
		j.say("%v (going on without)", err)
	}
}

// getNetwork configures every interface. A plan that needs nothing more from the network goes on without one.
func getNetwork(ctx context.Context, j *job) error {
	result, err := j.awaitNetwork(ctx)
	if err == nil {
		for _, i := range result.Interfaces {
			if i.Err != nil {
				j.say("%s", i)
			}
		}
		j.say("%s", strings.TrimSpace(string(result.ResolvConf)))
		err = j.checkMirrors(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	missing := j.agent.missingSources()
	if len(missing) > 0 {
		return fmt.Errorf("%w; %d distfiles must still be downloaded, the first is %s", err, len(missing), missing[0].Name)
	}
	j.say("no network, and none is needed: every distfile is here (%v)", err)
	return nil
}

// checkMirrors tries to reach those that distfiles will really be downloaded from: the mirrors, and if none of them
// answers, the origins. One that answers is enough.
func (j *job) checkMirrors(ctx context.Context) error {
	missing := j.agent.missingSources()
	if len(missing) == 0 {
		return nil
	}
	var failures []error
	for _, m := range slices.Concat(j.mirrors(), origins(missing)) {
		err := reach(ctx, m)
		if err == nil {
			j.say("%s answers", m)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		j.say("%s: %v", m, err)
		failures = append(failures, err)
	}
	if len(failures) == 0 {
		return errors.New("there is no mirror, and no origin")
	}
	return fmt.Errorf("no mirror answers: %w", errors.Join(failures...))
}

// origins lists the servers of the sources' origins, as addresses, without duplicates.
func origins(sources []steps.Source) []string {
	var list []string
	for _, s := range sources {
		u, err := url.Parse(s.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		if base := u.Scheme + "://" + u.Host; !slices.Contains(list, base) && len(list) < maxOrigins {
			list = append(list, base)
		}
	}
	return list
}

// reach connects to the server of a URL.
func reach(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // "http" and "https" are service names
	}
	d := net.Dialer{Timeout: mirrorPatience}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// mirrors lists the mirrors to use: those of the kernel command line, then those of bootstrap.cfg.
func (j *job) mirrors() []string {
	return mirrorList(j.agent.cmdline.mirrors, j.config.Get("MIRRORS"), j.config.Get("QEMU") == "True")
}

// mirrorList joins and cleans the mirrors. In QEMU a mirror on the host's loopback is the host of the user network.
func mirrorList(first []string, configured string, qemu bool) []string {
	var list []string
	for _, m := range slices.Concat(first, strings.Fields(configured)) {
		m = strings.TrimRight(m, "/")
		if u, err := url.Parse(m); err == nil && qemu && u.Hostname() == "127.0.0.1" {
			host := qemuHost
			if u.Port() != "" {
				host = net.JoinHostPort(qemuHost, u.Port())
			}
			u.Host = host
			m = u.String()
		}
		if m != "" && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}
