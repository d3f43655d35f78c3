// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var errInjected = errors.New("injected")

// recorder is a kernel in memory that notes the calls that change something.
type recorder struct {
	mu      sync.Mutex
	links   []Link
	appear  time.Time         // before this there are no links
	carrier map[int]time.Time // from when on a link that is up has carrier; missing means never
	fail    string            // the call that is to fail
	calls   []string
	changed func() // of Watch, as is heard
	heard   func(Advert)
	inet6   Inet6
}

func (r *recorder) do(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	call := fmt.Sprintf(format, args...)
	r.calls = append(r.calls, call)
	if call == r.fail {
		return errInjected
	}
	return nil
}

func (r *recorder) LinkList() ([]Link, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == "list" {
		return nil, errInjected
	}
	if time.Now().Before(r.appear) {
		return nil, nil
	}
	links := slices.Clone(r.links)
	for i, l := range links {
		from, ok := r.carrier[l.Index]
		links[i].Carrier = ok && !time.Now().Before(from)
	}
	return links, nil
}

func (r *recorder) Watch(ctx context.Context, changed func(), heard func(Advert)) {
	r.mu.Lock()
	r.changed, r.heard = changed, heard
	r.mu.Unlock()
	<-ctx.Done()
}

// plug gives a link carrier, or takes it away, and reports that.
func (r *recorder) plug(index int, carrier bool) {
	r.mu.Lock()
	if delete(r.carrier, index); carrier {
		r.carrier[index] = time.Time{}
	}
	changed := r.changed
	r.mu.Unlock()
	changed()
}

func (r *recorder) Inet6(int) (Inet6, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inet6, nil
}

func (r *recorder) Solicit(index int) error { return r.do("solicit %d", index) }

func (r *recorder) LinkSetUp(index int) error { return r.do("up %d", index) }

func (r *recorder) LinkSetMTU(index, mtu int) error { return r.do("mtu %d %d", index, mtu) }

func (r *recorder) AddrReplace(index int, addr netip.Prefix, valid, preferred time.Duration) error {
	if valid != 0 {
		return r.do("addr %d %s valid %s preferred %s", index, addr, valid, preferred)
	}
	return r.do("addr %d %s", index, addr)
}

func (r *recorder) AddrDel(index int, addr netip.Prefix) error {
	return r.do("del addr %d %s", index, addr)
}

func (r *recorder) RoutesReplace(index int, routes []Route) error {
	var text []string
	for _, rt := range routes {
		text = append(text, fmt.Sprintf("%s via %s src %s dev %d metric %d",
			rt.Dst, rt.Gateway, rt.Source, rt.Link, rt.Metric))
	}
	return r.do("routes %d [%s]", index, strings.Join(text, ", "))
}

// servers answers for each link by name, after a time; a link without one hears nothing.
type servers map[string]struct {
	after    time.Duration
	settings Settings
}

func (s servers) Acquire(ctx context.Context, link Link) (Lease, error) {
	srv, ok := s[link.Name]
	if !ok {
		<-ctx.Done()
		return Lease{}, fmt.Errorf("dhcp: %w: %w", ErrNoAnswer, context.Cause(ctx))
	}
	sleep(ctx, srv.after)
	if ctx.Err() != nil {
		return Lease{}, fmt.Errorf("dhcp: %w: %w", ErrNoAnswer, context.Cause(ctx))
	}
	return Lease{Settings: srv.settings, Obtained: time.Now()}, nil
}

func (s servers) Extend(ctx context.Context, link Link, _ Lease, _ How) (Lease, error) {
	return s.Acquire(ctx, link)
}

func (s servers) Release(context.Context, Link, Lease) error { return nil }

// configure runs a network until it is decided how it stands.
func configure(ctx context.Context, opt Options) (Result, error) {
	n := New(opt)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	defer running.Wait()
	defer cancel()
	return n.Await(ctx)
}

func ether(index int, name string) Link {
	return Link{Index: index, Name: name, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}, MTU: 1500,
		Kind: "device", Ethernet: true}
}

func second() Settings {
	s := plain()
	s.Address, s.DNS = pfx("10.9.0.7/16"), addrs("10.9.0.1")
	s.Routes = []Route{{Dst: pfx("0.0.0.0/0"), Gateway: adr("10.9.0.1")}}
	return s
}

func TestCandidates(t *testing.T) {
	odd := func(index int, change func(*Link)) Link {
		l := ether(index, fmt.Sprint("x", index))
		change(&l)
		return l
	}
	got := candidates([]Link{
		ether(7, "eth1"),
		odd(1, func(l *Link) { l.Loopback = true }),
		odd(2, func(l *Link) { l.Ethernet = false }),
		odd(3, func(l *Link) { l.Kind = "dummy" }),
		odd(4, func(l *Link) { l.Slave = true }),
		odd(5, func(l *Link) { l.HardwareAddr = nil }),
		ether(6, "eth0"),
		odd(8, func(l *Link) { l.Kind = "veth" }),
	})
	want := []Link{ether(6, "eth0"), ether(7, "eth1"), odd(8, func(l *Link) { l.Kind = "veth" })}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// outcome is what a start of the network comes to; times are virtual.
type outcome struct {
	Calls      []string
	Lines      []string // of the result's interfaces
	Metrics    []int
	ResolvConf string
	Took       time.Duration
}

func TestNetwork(t *testing.T) {
	const up2 = "routes 2 [0.0.0.0/0 via 10.0.2.2 src 10.0.2.15 dev 2 metric 100]"
	two := []Link{ether(2, "eth0"), ether(3, "eth1")}
	small := plain()
	small.MTU = 1400
	big := plain()
	big.MTU = 9000
	tests := []struct {
		name      string
		rec       *recorder
		carrier   map[int]time.Duration
		appear    time.Duration
		dhcp      servers
		preferred []netip.Addr
		head      string
		want      outcome
	}{
		{
			name: "one link", rec: &recorder{links: two[:1]}, carrier: map[int]time.Duration{2: 0},
			dhcp: servers{"eth0": {0, plain()}}, preferred: addrs("1.1.1.1"),
			want: outcome{
				Calls:      []string{"up 2", "addr 2 10.0.2.15/24", up2},
				Lines:      []string{"eth0: 10.0.2.15/24 via 10.0.2.2, nameserver 10.0.2.3, lease 24h0m0s"},
				Metrics:    []int{100},
				ResolvConf: "nameserver 1.1.1.1\nnameserver 10.0.2.3\n",
			},
		},
		{
			name: "late link, late carrier, late server, smaller mtu", rec: &recorder{links: two[:1]},
			appear: time.Second, carrier: map[int]time.Duration{2: 3 * time.Second},
			dhcp: servers{"eth0": {4 * time.Second, small}}, head: "nameserver 9.9.9.9\n",
			want: outcome{
				Calls:      []string{"up 2", "mtu 2 1400", "addr 2 10.0.2.15/24", up2},
				Lines:      []string{"eth0: 10.0.2.15/24 via 10.0.2.2, nameserver 10.0.2.3, lease 24h0m0s"},
				Metrics:    []int{100},
				ResolvConf: "nameserver 9.9.9.9\nnameserver 10.0.2.3\n",
				Took:       7 * time.Second,
			},
		},
		{
			name: "larger mtu is not taken", rec: &recorder{links: two[:1]}, carrier: map[int]time.Duration{2: 0},
			dhcp: servers{"eth0": {0, big}},
			want: outcome{
				Calls:      []string{"up 2", "addr 2 10.0.2.15/24", up2},
				Lines:      []string{"eth0: 10.0.2.15/24 via 10.0.2.2, nameserver 10.0.2.3, lease 24h0m0s"},
				Metrics:    []int{100},
				ResolvConf: "nameserver 10.0.2.3\n",
			},
		},
		{
			name: "the first lease wins", rec: &recorder{links: two}, carrier: map[int]time.Duration{2: 0, 3: 0},
			dhcp: servers{"eth0": {2 * time.Second, plain()}, "eth1": {time.Second, second()}},
			want: outcome{
				Calls: []string{"up 2", "up 3", "addr 3 10.9.0.7/16",
					"routes 3 [0.0.0.0/0 via 10.9.0.1 src 10.9.0.7 dev 3 metric 100]",
					"addr 2 10.0.2.15/24", "routes 2 [0.0.0.0/0 via 10.0.2.2 src 10.0.2.15 dev 2 metric 110]"},
				Lines: []string{"eth1: 10.9.0.7/16 via 10.9.0.1, nameserver 10.9.0.1, lease 24h0m0s",
					"eth0: 10.0.2.15/24 via 10.0.2.2, nameserver 10.0.2.3, lease 24h0m0s"},
				Metrics:    []int{100, 110},
				ResolvConf: "nameserver 10.9.0.1\nnameserver 10.0.2.3\n",
				Took:       2 * time.Second,
			},
		},
		{
			name: "the other link has no cable", rec: &recorder{links: two}, carrier: map[int]time.Duration{2: 0},
			dhcp: servers{"eth0": {time.Second, plain()}},
			want: outcome{
				Calls: []string{"up 2", "up 3", "addr 2 10.0.2.15/24", up2},
				Lines: []string{"eth0: 10.0.2.15/24 via 10.0.2.2, nameserver 10.0.2.3, lease 24h0m0s",
					"eth1: still waiting for carrier: no carrier"},
				Metrics:    []int{100, 0},
				ResolvConf: "nameserver 10.0.2.3\n",
				Took:       3 * time.Second, // Settle after the first
			},
		},
		{
			name: "a link that cannot be configured does not stop the other", carrier: map[int]time.Duration{2: 0, 3: 0},
			rec:  &recorder{links: two, fail: "addr 2 10.0.2.15/24"},
			dhcp: servers{"eth0": {100 * time.Millisecond, plain()}, "eth1": {time.Second, second()}},
			want: outcome{
				Calls: []string{"up 2", "up 3", "addr 2 10.0.2.15/24", "addr 3 10.9.0.7/16",
					"routes 3 [0.0.0.0/0 via 10.9.0.1 src 10.9.0.7 dev 3 metric 100]"},
				Lines:      []string{"eth1: 10.9.0.7/16 via 10.9.0.1, nameserver 10.9.0.1, lease 24h0m0s", "eth0: injected"},
				Metrics:    []int{100, 0},
				ResolvConf: "nameserver 10.9.0.1\n",
				Took:       time.Second,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.head != "" {
				writeFile(t, filepath.Join(mkEtc(t, dir), "resolv.conf.head"), tt.head)
			}
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				prepare(tt.rec, begin, tt.appear, tt.carrier)
				result, err := configure(t.Context(), Options{
					Links: tt.rec, DHCP: tt.dhcp, Root: dir, Preferred: tt.preferred,
				})
				if err != nil {
					t.Fatal(err)
				}
				got := outcomeOf(tt.rec, result)
				got.Took = time.Since(begin).Round(100 * time.Millisecond)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
			checkFile(t, filepath.Join(dir, ResolvConfPath), tt.want.ResolvConf)
		})
	}
}

func prepare(r *recorder, begin time.Time, appear time.Duration, carrier map[int]time.Duration) {
	r.appear = begin.Add(appear)
	r.carrier = make(map[int]time.Time)
	for index, after := range carrier {
		r.carrier[index] = begin.Add(appear + after - min(appear, after))
	}
}

func outcomeOf(r *recorder, result Result) outcome {
	o := outcome{Calls: r.calls, ResolvConf: string(result.ResolvConf)}
	// The links come up in any order.
	ups := slices.IndexFunc(o.Calls, func(c string) bool { return !strings.HasPrefix(c, "up ") })
	if ups > 0 {
		slices.Sort(o.Calls[:ups])
	}
	for _, i := range result.Interfaces {
		o.Lines = append(o.Lines, i.String())
		o.Metrics = append(o.Metrics, i.Metric)
	}
	return o
}

func TestNetworkFails(t *testing.T) {
	two := []Link{ether(2, "eth0"), ether(3, "eth1")}
	lo := Link{Index: 1, Name: "lo", Loopback: true}
	limits := Limits{Appear: time.Second, Carrier: 2 * time.Second, Lease: 3 * time.Second}
	tests := []struct {
		name    string
		rec     *recorder
		carrier map[int]time.Duration
		dhcp    servers
		want    error
		text    string
		took    time.Duration
	}{
		{"no links at all", &recorder{}, nil, nil, ErrNoLink,
			"configure network: waited 1s: no ethernet interface (have none at all)", time.Second},
		{"only loopback", &recorder{links: []Link{lo}}, nil, nil, ErrNoLink,
			"configure network: waited 1s: no ethernet interface (have lo)", time.Second},
		{"no carrier", &recorder{links: append(two[:1:1], lo)}, nil, nil, ErrNoCarrier,
			"configure network: eth0: waited 2s for carrier: no carrier", 2 * time.Second},
		{"no server", &recorder{links: two[:1]}, map[int]time.Duration{2: 0}, nil, ErrNoAnswer,
			"configure network: eth0: dhcp: no usable answer: context deadline exceeded", 3 * time.Second},
		{"each for its own reason", &recorder{links: two}, map[int]time.Duration{3: 0}, nil, ErrNoAnswer,
			"configure network: eth0: waited 2s for carrier: no carrier; " +
				"eth1: dhcp: no usable answer: context deadline exceeded", 3 * time.Second},
		{"links cannot be listed", &recorder{fail: "list"}, nil, nil, errInjected, "configure network: injected", 0},
		{"link cannot be brought up", &recorder{links: two[:1], fail: "up 2"}, nil, nil, errInjected,
			"configure network: eth0: injected", 0},
		{"route cannot be set", &recorder{links: two[:1],
			fail: "routes 2 [0.0.0.0/0 via 10.0.2.2 src 10.0.2.15 dev 2 metric 100]"}, map[int]time.Duration{2: 0},
			servers{"eth0": {0, plain()}}, errInjected, "configure network: eth0: injected", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				prepare(tt.rec, begin, 0, tt.carrier)
				_, err := configure(t.Context(), Options{Links: tt.rec, DHCP: tt.dhcp, Root: dir, Limits: limits})
				if !errors.Is(err, tt.want) {
					t.Fatalf("got error %v, want %v", err, tt.want)
				}
				if diff := cmp.Diff(tt.text, err.Error()); diff != "" {
					t.Errorf("message (-want +got):\n%s", diff)
				}
				if took := time.Since(begin); took.Round(50*time.Millisecond) != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
			})
			checkEntries(t, dir)
		})
	}
}

func TestNetworkEndsWithContext(t *testing.T) {
	cause := errors.New("stop")
	for name, rec := range map[string]*recorder{
		"no link":    {},
		"no carrier": {links: []Link{ether(2, "eth0")}},
		"no server":  {links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(cause) })
				begin := time.Now()
				_, err := configure(ctx, Options{Links: rec, DHCP: servers{}, Root: "/nonexistent"})
				if !errors.Is(err, cause) {
					t.Errorf("got error %v, want %v", err, cause)
				}
				if took := time.Since(begin).Round(50 * time.Millisecond); took != time.Second {
					t.Errorf("took %s, want 1s", took)
				}
			})
		})
	}
}

// TestNetworkKeepsResolvConf makes sure that a lease without nameservers does not take away those that are there.
func TestNetworkKeepsResolvConf(t *testing.T) {
	dir := t.TempDir()
	const old = "nameserver 1.1.1.1\n"
	writeFile(t, filepath.Join(mkEtc(t, dir), "resolv.conf"), old)
	s := plain()
	s.DNS, s.Dropped = nil, []string{"nameserver 127.0.0.1: loopback"}
	rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}}
	var lines []string
	result, err := configure(t.Context(), Options{Links: rec, DHCP: servers{"eth0": {0, s}}, Root: dir,
		Log: func(line string) { lines = append(lines, line) }})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, filepath.Join(dir, ResolvConfPath), old)
	if string(result.ResolvConf) != old {
		t.Errorf("result has %q, want %q", result.ResolvConf, old)
	}
	want := []string{
		"eth0: 10.0.2.15/24 via 10.0.2.2, lease 24h0m0s",
		"eth0: not used: nameserver 127.0.0.1: loopback",
		"etc/resolv.conf: left as it is: no lease names a nameserver",
		"eth0: 10.0.2.15/24 is given back",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// TestNetworkCannotWrite makes sure that a network without resolv.conf is a failure that still says what was done.
func TestNetworkCannotWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ResolvConfPath, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{dir, filepath.Join(dir, "missing")} {
		rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}}}
		result, err := configure(t.Context(), Options{Links: rec, DHCP: servers{"eth0": {0, plain()}}, Root: root})
		if err == nil || len(result.Leased()) != 1 {
			t.Errorf("%s: got error %v and %d leases, want an error and 1", root, err, len(result.Leased()))
		}
	}
}

func TestBackoff(t *testing.T) {
	tests := []struct {
		b      Backoff
		jitter float64
		want   []time.Duration
	}{
		{Backoff{}, 0.5, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
			4 * time.Second, 4 * time.Second}},
		{Backoff{}, 0, []time.Duration{225 * time.Millisecond, 450 * time.Millisecond}},
		{Backoff{First: time.Second, Max: 3 * time.Second}, 0.5, []time.Duration{time.Second, 2 * time.Second,
			3 * time.Second, 3 * time.Second}},
		{Backoff{First: time.Minute, Max: time.Second}, 0.5, []time.Duration{time.Second, time.Second}},
	}
	for _, tt := range tests {
		for n, want := range tt.want {
			if got := tt.b.Wait(n, tt.jitter); got.Round(time.Microsecond) != want {
				t.Errorf("%+v, request %d: got %s, want %s", tt.b, n, got, want)
			}
		}
		if got := tt.b.Wait(1<<20, 0.999); got <= 0 || got > 5*time.Second {
			t.Errorf("%+v, request 2^20: got %s", tt.b, got)
		}
	}
}
