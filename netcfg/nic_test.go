// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// script is a server, or several, that answer what they are told to. Asking takes no time; without an answer it takes
// until the end of its context, or a second when more time is asked for.
type script struct {
	rec     *recorder
	begin   time.Time
	acquire []netip.Prefix // addresses to grant, one after the other; the zero one: no answer
	extend  []string       // "ok", "lost", "silent" or an address; the last one for ever
	mtu     []int          // of each grant, one after the other; then none
	lease   time.Duration
}

func (s *script) grant(address netip.Prefix) Lease {
	settings := plain()
	settings.Address = address
	if len(s.mtu) > 0 {
		settings.MTU, s.mtu = s.mtu[0], s.mtu[1:]
	}
	settings.Lease, settings.Renew, settings.Rebind = inOrder(s.lease, 0, 0, MinLease)
	return Lease{Settings: settings, Obtained: time.Now()}
}

func (s *script) note(format string, args ...any) {
	_ = s.rec.do("%s: %s", time.Since(s.begin).Round(time.Second), fmt.Sprintf(format, args...))
}

func (s *script) Acquire(ctx context.Context, link Link) (Lease, error) {
	s.note("discover on %s", link.Name)
	var next netip.Prefix
	if len(s.acquire) > 0 {
		next, s.acquire = s.acquire[0], s.acquire[1:]
	}
	if !next.IsValid() {
		<-ctx.Done()
		return Lease{}, fmt.Errorf("dhcp: %w", ErrNoAnswer)
	}
	return s.grant(next), nil
}

func (s *script) Extend(ctx context.Context, _ Link, lease Lease, how How) (Lease, error) {
	s.note("%s %s", [...]string{"renew", "rebind", "confirm"}[how], lease.Settings.Address.Addr())
	what := s.extend[0]
	if len(s.extend) > 1 {
		s.extend = s.extend[1:]
	}
	switch what {
	case "ok":
		return s.grant(lease.Settings.Address), nil
	case "lost":
		return Lease{}, fmt.Errorf("dhcp: %w", ErrLeaseLost)
	case "silent":
		sleep(ctx, time.Second)
		return Lease{}, fmt.Errorf("dhcp: %w", ErrNoAnswer)
	}
	return s.grant(pfx(what)), nil
}

func (s *script) Release(_ context.Context, _ Link, lease Lease) error {
	s.note("release %s", lease.Settings.Address.Addr())
	return nil
}

// TestLease follows one link through the life of its lease; times are virtual.
func TestLease(t *testing.T) {
	const a, b = "10.0.2.15/24", "10.0.2.16/24"
	routes := func(address string) string {
		return "routes 2 [0.0.0.0/0 via 10.0.2.2 src " + strings.TrimSuffix(address, "/24") + " dev 2 metric 100]"
	}
	first := []string{"up 2", "0s: discover on eth0", "addr 2 " + a, routes(a)}
	again := []string{"addr 2 " + a, routes(a)}
	tests := []struct {
		name    string
		acquire []netip.Prefix
		extend  []string
		unplug  [2]time.Duration // when the cable is out and in again
		stop    time.Duration
		want    [][]string // calls
	}{
		{"renewed", []netip.Prefix{pfx(a)}, []string{"ok"}, [2]time.Duration{}, 65 * time.Minute,
			[][]string{first, {"30m0s: renew 10.0.2.15"}, again, {"1h0m0s: renew 10.0.2.15"}, again,
				{"1h5m0s: release 10.0.2.15"}}},
		{"taken back when it is to be renewed", []netip.Prefix{pfx(a), pfx(b)}, []string{"lost"}, [2]time.Duration{},
			31 * time.Minute, [][]string{first, {"30m0s: renew 10.0.2.15", "routes 2 []", "del addr 2 " + a,
				"30m0s: discover on eth0", "addr 2 " + b, routes(b), "31m0s: release 10.0.2.16"}}},
		{"another address when it is renewed", []netip.Prefix{pfx(a)}, []string{b, "ok"}, [2]time.Duration{}, 31 * time.Minute,
			[][]string{first, {"30m0s: renew 10.0.2.15", "del addr 2 " + a, "addr 2 " + b, routes(b),
				"31m0s: release 10.0.2.16"}}},
		// The pauses: half of what is left to T2 at 52:30, then to the end.
		{"nobody answers, then somebody does", []netip.Prefix{pfx(a)},
			[]string{"silent", "silent", "silent", "silent", "silent", "silent", "ok"}, [2]time.Duration{}, 59 * time.Minute,
			[][]string{first, {"30m0s: renew 10.0.2.15", "41m16s: renew 10.0.2.15", "46m53s: renew 10.0.2.15",
				"49m42s: renew 10.0.2.15", "51m7s: renew 10.0.2.15", "52m8s: renew 10.0.2.15", "52m30s: rebind 10.0.2.15"},
				again, {"59m0s: release 10.0.2.15"}}},
		{"nobody answers to the end", []netip.Prefix{pfx(a), {}, pfx(b)}, []string{"silent"}, [2]time.Duration{},
			61 * time.Minute, [][]string{first, {"30m0s: renew 10.0.2.15", "41m16s: renew 10.0.2.15",
				"46m53s: renew 10.0.2.15", "49m42s: renew 10.0.2.15", "51m7s: renew 10.0.2.15", "52m8s: renew 10.0.2.15",
				"52m30s: rebind 10.0.2.15", "56m16s: rebind 10.0.2.15", "58m8s: rebind 10.0.2.15", "59m9s: rebind 10.0.2.15",
				"routes 2 []", "del addr 2 " + a, "1h0m0s: discover on eth0", "1h0m31s: discover on eth0", "addr 2 " + b,
				routes(b), "1h1m0s: release 10.0.2.16"}}},
		{"the cable out, and the same lease", []netip.Prefix{pfx(a)}, []string{"ok"},
			[2]time.Duration{time.Minute, 2 * time.Minute}, 3 * time.Minute, [][]string{first, {"routes 2 []"}, again,
				{"2m0s: confirm 10.0.2.15"}, again, {"3m0s: release 10.0.2.15"}}},
		{"the cable out, and another network", []netip.Prefix{pfx(a), pfx(b)}, []string{"lost"},
			[2]time.Duration{time.Minute, 2 * time.Minute}, 3 * time.Minute, [][]string{first, {"routes 2 []"}, again,
				{"2m0s: confirm 10.0.2.15", "routes 2 []", "del addr 2 " + a, "2m0s: discover on eth0", "addr 2 " + b, routes(b),
					"3m0s: release 10.0.2.16"}}},
		{"the cable out, and nobody who confirms", []netip.Prefix{pfx(a), pfx(b)}, []string{"silent"},
			[2]time.Duration{time.Minute, 2 * time.Minute}, 3 * time.Minute, [][]string{first, {"routes 2 []"}, again,
				{"2m0s: confirm 10.0.2.15", "2m1s: discover on eth0", "del addr 2 " + a, "addr 2 " + b, routes(b),
					"3m0s: release 10.0.2.16"}}},
		{"the cable out, and nobody at all", []netip.Prefix{pfx(a)}, []string{"silent", "ok"},
			[2]time.Duration{time.Minute, 2 * time.Minute}, 31 * time.Minute, [][]string{first, {"routes 2 []"}, again,
				{"2m0s: confirm 10.0.2.15", "2m1s: discover on eth0", "30m0s: renew 10.0.2.15"}, again,
				{"31m0s: release 10.0.2.15"}}},
		{"the cable out for longer than the lease", []netip.Prefix{pfx(a), pfx(b)}, []string{"ok"},
			[2]time.Duration{time.Minute, 2 * time.Hour}, 121 * time.Minute, [][]string{first, {"routes 2 []",
				"routes 2 []", "del addr 2 " + a, "2h0m0s: discover on eth0", "addr 2 " + b, routes(b),
				"2h1m0s: release 10.0.2.16"}}},
		{"the cable out at the end", []netip.Prefix{pfx(a)}, []string{"ok"}, [2]time.Duration{time.Minute, time.Hour},
			2 * time.Minute, [][]string{first, {"routes 2 []"}}},
		{"no server for long", []netip.Prefix{{}, {}, {}, pfx(a)}, []string{"ok"}, [2]time.Duration{}, 2 * time.Minute,
			[][]string{{"up 2", "0s: discover on eth0", "31s: discover on eth0", "1m3s: discover on eth0",
				"1m37s: discover on eth0", "addr 2 " + a, routes(a), "2m0s: release 10.0.2.15"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}}
				server := &script{rec: rec, begin: time.Now(), acquire: tt.acquire, extend: tt.extend, lease: time.Hour}
				ctx, cancel := context.WithTimeout(t.Context(), tt.stop)
				defer cancel()
				if tt.unplug[0] > 0 {
					time.AfterFunc(tt.unplug[0], func() { rec.plug(2, false) })
					back := time.AfterFunc(tt.unplug[1], func() { rec.plug(2, true) })
					defer back.Stop()
				}
				New(Options{Links: rec, DHCP: server, Root: dir}).Run(ctx)
				var want []string
				for _, w := range tt.want {
					want = append(want, w...)
				}
				if diff := cmp.Diff(want, rec.calls); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestLeaseMTU makes sure that a link has the smaller MTU of its lease, and its own one as soon as there is none.
func TestLeaseMTU(t *testing.T) {
	const a, b = "10.0.2.15/24", "10.0.2.16/24"
	routes := "routes 2 [0.0.0.0/0 via 10.0.2.2 src 10.0.2.15 dev 2 metric 100]"
	routesB := strings.ReplaceAll(routes, ".15", ".16")
	tests := []struct {
		name   string
		mtu    []int
		extend []string
		want   []string // calls, after the discovery
	}{
		{"then none", []int{1400}, []string{"ok"}, []string{"mtu 2 1400", "addr 2 " + a, routes, "30m0s: renew 10.0.2.15",
			"mtu 2 1500", "addr 2 " + a, routes}},
		{"then the same", []int{1400, 1400}, []string{"ok"}, []string{"mtu 2 1400", "addr 2 " + a, routes,
			"30m0s: renew 10.0.2.15", "addr 2 " + a, routes}},
		{"then a larger one than the link's own", []int{1400, 9000}, []string{"ok"}, []string{"mtu 2 1400", "addr 2 " + a,
			routes, "30m0s: renew 10.0.2.15", "mtu 2 1500", "addr 2 " + a, routes}},
		{"then the link's own", []int{1400, 1500}, []string{"ok"}, []string{"mtu 2 1400", "addr 2 " + a,
			routes, "30m0s: renew 10.0.2.15", "mtu 2 1500", "addr 2 " + a, routes}},
		{"none, then one", []int{0, 1400}, []string{"ok"}, []string{"addr 2 " + a, routes, "30m0s: renew 10.0.2.15",
			"mtu 2 1400", "addr 2 " + a, routes}},
		{"the lease is lost", []int{1400}, []string{"lost"}, []string{"mtu 2 1400", "addr 2 " + a, routes,
			"30m0s: renew 10.0.2.15", "routes 2 []", "del addr 2 " + a, "mtu 2 1500", "30m0s: discover on eth0", "addr 2 " + b,
			routesB}},
		{"another lease", []int{1400, 1300}, []string{"lost"}, []string{"mtu 2 1400", "addr 2 " + a, routes,
			"30m0s: renew 10.0.2.15", "routes 2 []", "del addr 2 " + a, "mtu 2 1500", "30m0s: discover on eth0",
			"mtu 2 1300", "addr 2 " + b, routesB}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}}
				server := &script{rec: rec, begin: time.Now(), acquire: []netip.Prefix{pfx(a), pfx(b)}, extend: tt.extend,
					mtu: tt.mtu, lease: time.Hour}
				ctx, cancel := context.WithTimeout(t.Context(), 31*time.Minute)
				defer cancel()
				New(Options{Links: rec, DHCP: server, Root: dir}).Run(ctx)
				got := rec.calls[2 : len(rec.calls)-1] // between "up", the discovery and the release
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestLeaseIsSaid makes sure that a long life does not fill a log: what is the same is said once an hour at most.
func TestLeaseIsSaid(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}}
		server := &script{rec: rec, begin: time.Now(), acquire: []netip.Prefix{pfx("10.0.2.15/24")}, extend: []string{"ok"},
			lease: MinLease}
		var lines []string
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		New(Options{Links: rec, DHCP: server, Root: dir, Log: func(line string) { lines = append(lines, line) }}).Run(ctx)
		if renewals := strings.Count(strings.Join(rec.calls, "\n"), "renew"); renewals < 17_000 {
			t.Errorf("%d renewals in a day of leases of 10 s", renewals)
		}
		if len(lines) < 20 || len(lines) > 30 {
			t.Errorf("%d lines in a day:\n%s", len(lines), strings.Join(lines, "\n"))
		}
	})
}

// TestSpawn makes sure that nothing of a Network runs outside of what its owner watches, and that it ends when one of
// its goroutines has not come back in good order.
func TestSpawn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}}
		var mu sync.Mutex
		caught := make(map[string]any)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		New(Options{Links: rec, DHCP: &panicking{}, Root: dir, Spawn: func(name string, f func()) {
			go func() {
				defer func() {
					if r := recover(); r != nil {
						mu.Lock()
						caught[name] = r
						mu.Unlock()
					}
				}()
				f()
			}()
		}}).Run(ctx)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff(map[string]any{"network eth0": "on purpose"}, caught); diff != "" {
			t.Errorf("caught (-want +got):\n%s", diff)
		}
	})
}

type panicking struct{ script }

func (*panicking) Acquire(context.Context, Link) (Lease, error) { panic("on purpose") }

// script6 is a DHCPv6 server that answers what it is told to.
type script6 struct {
	rec    *recorder
	begin  time.Time
	answer []string // "ok", "lost" or "silent"; the last one for ever
}

func (s *script6) next(ctx context.Context, call string, managed bool) (Lease6, error) {
	_ = s.rec.do("%s: %s managed %t", time.Since(s.begin).Round(time.Second), call, managed)
	what := s.answer[0]
	if len(s.answer) > 1 {
		s.answer = s.answer[1:]
	}
	switch what {
	case "lost":
		return Lease6{}, fmt.Errorf("dhcpv6: %w", ErrLeaseLost)
	case "silent":
		sleep(ctx, tries6)
		return Lease6{}, fmt.Errorf("dhcpv6: %w", ErrNoAnswer)
	}
	l := Lease6{Managed: managed, Preferred: 20 * time.Minute, Obtained: time.Now()}
	l.Settings.DNS = addrs("2001:db8::53")
	if managed {
		l.Settings.Address = pfx("2001:db8::5/128")
	}
	l.Settings.Lease, l.Settings.Renew, l.Settings.Rebind = inOrder(time.Hour, 0, 0, MinLease)
	return l, nil
}

func (s *script6) Acquire(ctx context.Context, _ Link, managed bool) (Lease6, error) {
	return s.next(ctx, "acquire", managed)
}

func (s *script6) Extend(ctx context.Context, _ Link, l Lease6, how How) (Lease6, error) {
	return s.next(ctx, [...]string{"renew", "rebind"}[how], l.Managed)
}

func (s *script6) Release(context.Context, Link, Lease6) error {
	_, err := s.next(context.Background(), "release", true)
	return err
}

// TestDHCP6 follows what is asked for IPv6, by what the routers say; IPv4 never waits for it.
func TestDHCP6(t *testing.T) {
	const set = "addr 2 2001:db8::5/128 valid 1h0m0s preferred 20m0s"
	tests := []struct {
		name   string
		inet6  Inet6
		answer []string
		stop   time.Duration
		want   []string
	}{
		{"no router", Inet6{}, []string{"ok"}, time.Hour, nil},
		{"a router that needs no server", Inet6{Router: true}, []string{"ok"}, time.Hour, nil},
		{"flags without an advertisement", Inet6{Managed: true}, []string{"ok"}, time.Hour, nil},
		{"addresses", Inet6{Router: true, Managed: true, Other: true}, []string{"ok"}, 40 * time.Minute,
			[]string{"0s: acquire managed true", set, "30m0s: renew managed true", set, "40m0s: release managed true"}},
		{"all but addresses", Inet6{Router: true, Other: true}, []string{"ok"}, 40 * time.Minute,
			[]string{"0s: acquire managed false", "30m0s: renew managed false"}},
		{"no server, for some time", Inet6{Router: true, Managed: true}, []string{"silent", "silent", "silent", "ok"},
			2 * time.Minute, []string{"0s: acquire managed true", "16s: acquire managed true", "33s: acquire managed true",
				"52s: acquire managed true", set, "2m0s: release managed true"}},
		{"taken back", Inet6{Router: true, Managed: true}, []string{"ok", "lost", "ok"}, 31 * time.Minute,
			[]string{"0s: acquire managed true", set, "30m0s: renew managed true", "del addr 2 2001:db8::5/128",
				"30m0s: acquire managed true", set, "31m0s: release managed true"}},
		{"let end", Inet6{Router: true, Managed: true}, []string{"ok", "silent"}, 60*time.Minute + 10*time.Second,
			[]string{"0s: acquire managed true", set, "30m0s: renew managed true", "41m23s: renew managed true",
				"47m4s: renew managed true", "49m54s: renew managed true", "51m20s: renew managed true",
				"52m30s: rebind managed true", "56m23s: rebind managed true", "58m19s: rebind managed true",
				"59m34s: rebind managed true", "del addr 2 2001:db8::5/128", "1h0m0s: acquire managed true"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}, inet6: tt.inet6}
				ctx, cancel := context.WithTimeout(t.Context(), tt.stop)
				defer cancel()
				n := New(Options{Links: rec, DHCP: servers{"eth0": {0, plain()}}, Root: dir,
					DHCP6: &script6{rec: rec, begin: time.Now(), answer: tt.answer}})
				var running sync.WaitGroup
				running.Go(func() { n.Run(ctx) })
				begin := time.Now()
				if _, err := n.Await(ctx); err != nil || time.Since(begin) > time.Second {
					t.Errorf("IPv4 came after %s, error %v", time.Since(begin), err)
				}
				running.Wait()
				var got []string
				for _, c := range rec.calls {
					if strings.Contains(c, "managed") || strings.Contains(c, "2001:") {
						got = append(got, c)
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
			})
		})
	}
}
