// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"encoding/binary"
	"fmt"
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

// rdnss is the option for nameservers.
func rdnss(lifetime uint32, servers ...string) []byte {
	var value []byte
	for _, s := range servers {
		value = append(value, adr(s).AsSlice()...)
	}
	return raOption(optionRDNSS, lifetime, value)
}

// dnssl is the option for search domains.
func dnssl(lifetime uint32, names ...string) []byte {
	var value []byte
	for _, n := range names {
		for label := range strings.SplitSeq(n, ".") {
			value = append(append(value, byte(len(label))), label...)
		}
		value = append(value, 0)
	}
	return raOption(optionDNSSL, lifetime, value)
}

// raOption is an option with a lifetime, padded to 8 bytes.
func raOption(kind byte, lifetime uint32, value []byte) []byte {
	o := binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, lifetime)
	o = append(o, value...)
	for len(o)%8 != 0 {
		o = append(o, 0)
	}
	o[1] = byte(len(o) / 8)
	return o
}

// userOption is the kernel's message for options, with an attribute behind them.
func userOption(link uint32, options ...[]byte) []byte {
	all := slices.Concat(options...)
	m := []byte{10, 0}
	m = binary.NativeEndian.AppendUint16(m, uint16(len(all)))
	m = binary.NativeEndian.AppendUint32(m, link)
	m = append(m, routerAdvertisement, 0, 0, 0, 0, 0, 0, 0)
	m = append(m, all...)
	return append(m, 20, 0, 1, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
}

func TestAdvertsOf(t *testing.T) {
	solicited := userOption(2, rdnss(60, "2001:db8::53"))
	solicited[8] = 136
	long := userOption(2, rdnss(60, "2001:db8::53"))
	binary.NativeEndian.PutUint16(long[2:], 0xffff)
	many := make([]string, MaxDNS+1)
	for i := range many {
		many[i] = fmt.Sprintf("2001:db8::%d", i+1)
	}
	tests := []struct {
		name    string
		message []byte
		want    []Advert
	}{
		{"two", userOption(7, rdnss(600, "2001:db8::53", "fe80::1")),
			[]Advert{{Link: 7, DNS: addrs("2001:db8::53", "fe80::1"), Lifetime: 10 * time.Minute}}},
		{"search domains", userOption(7, dnssl(600, "Example.org", "lan")),
			[]Advert{{Link: 7, Search: []string{"example.org", "lan"}, Lifetime: 10 * time.Minute}}},
		{"both, among others", userOption(7, raOption(38, 1, nil), rdnss(60, "2001:db8::53"), dnssl(0, "lan")),
			[]Advert{{Link: 7, DNS: addrs("2001:db8::53"), Lifetime: time.Minute}, {Link: 7, Search: []string{"lan"}}}},
		{"no longer", userOption(2, rdnss(0, "2001:db8::53")), []Advert{{Link: 2, DNS: addrs("2001:db8::53")}}},
		{"for a moment", userOption(2, rdnss(1, "2001:db8::53")),
			[]Advert{{Link: 2, DNS: addrs("2001:db8::53"), Lifetime: MinLease}}},
		{"for ever", userOption(2, rdnss(0xffffffff, "2001:db8::53")),
			[]Advert{{Link: 2, DNS: addrs("2001:db8::53"), Lifetime: MaxLease}}},
		{"hostile addresses", userOption(2, rdnss(60, "ff02::1", "::", "::1", "::ffff:1.2.3.4", "2001:db8::53")),
			[]Advert{{Link: 2, DNS: addrs("2001:db8::53"), Lifetime: time.Minute, Dropped: []string{
				"nameserver ff02::1: multicast", "nameserver ::: unspecified", "nameserver ::1: loopback",
				"nameserver 1.2.3.4: of IPv4"}}}},
		{"too many", userOption(2, rdnss(60, many...)), []Advert{{Link: 2, DNS: addrs(many[:MaxDNS]...),
			Lifetime: time.Minute, Dropped: []string{"nameservers: more than 8"}}}},
		{"hostile names", userOption(2, dnssl(60, "a b", "lan", "x\nnameserver 6")),
			[]Advert{{Link: 2, Search: []string{"lan"}, Lifetime: time.Minute, Dropped: []string{
				`search domain "a b": not a domain name`, `search domain "x\nnameserver 6": not a domain name`}}}},
		{"half an address", userOption(2, rdnss(60, "2001:db8::53")[:16]), nil},
		{"no address", userOption(2, raOption(optionRDNSS, 60, nil)),
			[]Advert{{Link: 2, Lifetime: time.Minute, Dropped: []string{"nameservers: 0 bytes, want 16 for each"}}}},
		{"an address and a half", userOption(2, raOption(optionRDNSS, 60, make([]byte, 24))),
			[]Advert{{Link: 2, Lifetime: time.Minute, Dropped: []string{"nameservers: 24 bytes, want 16 for each"}}}},
		{"half a name", userOption(2, raOption(optionDNSSL, 60, []byte{3, 'l', 'a', 'n', 0, 9, 'x', 'y'})),
			[]Advert{{Link: 2, Lifetime: time.Minute, Dropped: []string{"search domains: cut off"}}}},
		{"a compressed name", userOption(2, raOption(optionDNSSL, 60, []byte{3, 'l', 'a', 'n', 0, 0xc0, 8, 0})),
			[]Advert{{Link: 2, Lifetime: time.Minute, Dropped: []string{"search domains: cut off"}}}},
		{"a length of 0", userOption(2, []byte{optionRDNSS, 0, 0, 0, 0, 0, 0, 60}), nil},
		{"not an advertisement", solicited, nil},
		{"options that are longer than the message", long, []Advert{{Link: 2, DNS: addrs("2001:db8::53"),
			Lifetime: time.Minute}}},
		{"nothing", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, advertsOf(tt.message), compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAdvertsOfCut cuts a message at every byte: whatever is left is read as nothing or as the whole first option.
func TestAdvertsOfCut(t *testing.T) {
	first := rdnss(60, "2001:db8::53")
	whole := userOption(2, first, dnssl(60, "lan"))
	for n := range whole {
		got := advertsOf(whole[:n])
		want := 0
		if n >= userOptionHeader+len(first) {
			want = 1
		}
		if n >= userOptionHeader+len(first)+16 {
			want = 2
		}
		if len(got) != want {
			t.Errorf("%d bytes: %d options, want %d", n, len(got), want)
		}
	}
}

// FuzzAdvertsOf feeds what the kernel hands on from the wire.
func FuzzAdvertsOf(f *testing.F) {
	for _, m := range [][]byte{userOption(2, rdnss(60, "2001:db8::53", "fe80::1")), userOption(7, dnssl(60, "example.org", "lan"))} {
		if got := advertsOf(m); len(got) != 1 || len(got[0].Dropped) != 0 {
			f.Fatalf("seed is read as %+v", got)
		}
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		var all adverts
		now := time.Now()
		for _, a := range advertsOf(message) {
			if a.Lifetime != 0 && (a.Lifetime < MinLease || a.Lifetime > MaxLease) || len(a.Dropped) > maxDropped {
				t.Errorf("%+v", a)
			}
			for _, d := range a.Dropped {
				if strings.ContainsAny(d, "\n\r\x1b") {
					t.Errorf("complaint %q", d)
				}
			}
			all.add(a, "eth0", now)
		}
		dns, search, left := all.names(now)
		if len(dns) > MaxDNS || len(search) > MaxSearch || left <= 0 || left > look6 {
			t.Errorf("%v, %v for %s", dns, search, left)
		}
		c := Merge(nil, ResolvConf{}, Settings{DNS: dns, Search: search})
		back, err := ParseResolvConf(strings.NewReader(string(c.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, back, compareAddrs); diff != "" {
			t.Errorf("resolv.conf reads back as something else (-want +got):\n%s", diff)
		}
		for _, d := range dns {
			if d.IsMulticast() || d.IsUnspecified() || d.IsLoopback() || d.IsLinkLocalUnicast() != (d.Zone() != "") {
				t.Errorf("nameserver %s", d)
			}
		}
	})
}

// TestAdverts follows resolv.conf by what routers say; times are virtual. There is no DHCP server.
func TestAdverts(t *testing.T) {
	const a, b = "2001:db8::a", "2001:db8::b"
	says := func(lifetime time.Duration, servers ...string) func(*recorder) {
		return func(r *recorder) { r.heard(Advert{Link: 2, DNS: addrs(servers...), Lifetime: lifetime}) }
	}
	plug := func(in bool) func(*recorder) { return func(r *recorder) { r.plug(2, in) } }
	type event struct {
		at time.Duration
		do func(*recorder)
	}
	many := make([]string, MaxDNS)
	for i := range many {
		many[i] = fmt.Sprintf("2001:db8::%x", 0x10+i)
	}
	tests := []struct {
		name      string
		preferred []netip.Addr
		events    []event
		want      []string // resolv.conf, with the second from which on it is so
		solicits  int
		silent    bool
	}{
		{"one that stays", nil, []event{{10 * time.Second, says(time.Hour, a)}}, []string{"10s " + a}, 0, false},
		{"behind the preferred one", addrs("1.1.1.1"), []event{{10 * time.Second, says(time.Hour, a)}},
			[]string{"0s 1.1.1.1", "10s 1.1.1.1 " + a}, 0, false},
		{"a link-local one", nil, []event{{10 * time.Second, says(time.Hour, "fe80::1")}}, []string{"10s fe80::1%eth0"}, 0, false},
		{"taken back", nil, []event{{10 * time.Second, says(time.Hour, a, b)}, {20 * time.Second, says(0, a)},
			{30 * time.Second, says(0, b)}}, []string{"10s " + a + " " + b, "20s " + b, "30s"}, 0, false},
		{"taken back beside the preferred one", addrs("1.1.1.1"), []event{{10 * time.Second, says(time.Hour, a)},
			{20 * time.Second, says(0, a)}}, []string{"0s 1.1.1.1", "10s 1.1.1.1 " + a, "20s 1.1.1.1"}, 0, false},
		{"taken back without having been said", nil, []event{{10 * time.Second, says(0, a)}}, nil, 0, false},
		{"forgotten", nil, []event{{10 * time.Second, says(70*time.Second, a)}, {20 * time.Second, says(time.Hour, b)}},
			[]string{"10s " + a, "20s " + a + " " + b, "1m20s " + b}, 0, false},
		{"said again in time", nil, []event{{10 * time.Second, says(20*time.Second, a)}, {25 * time.Second, says(time.Hour, a)}},
			[]string{"10s " + a}, 0, false},
		{"at most one change in 5 s", nil, []event{{10 * time.Second, says(time.Hour, a)}, {11 * time.Second, says(time.Hour, b)},
			{12 * time.Second, says(0, a)}, {13 * time.Second, says(time.Hour, a)}, {14 * time.Second, says(0, b)},
			{14500 * time.Millisecond, says(time.Hour, b)}}, []string{"10s " + a, "15s " + a + " " + b}, 0, false},
		{"too many: the first ones stay", nil, []event{{10 * time.Second, says(time.Hour, many...)},
			{20 * time.Second, says(time.Hour, a)}}, []string{"10s " + strings.Join(many[:3], " ")}, 0, false},
		// What the routers said before is used until those that are there now are heard. The kernel does not ask them.
		{"the cable out and in", addrs("1.1.1.1"), []event{{10 * time.Second, says(time.Hour, a)}, {20 * time.Second, plug(false)},
			{30 * time.Second, plug(true)}, {31500 * time.Millisecond, says(time.Hour, b)}},
			[]string{"0s 1.1.1.1", "10s 1.1.1.1 " + a, "32s 1.1.1.1 " + b}, 1, false},
		{"the cable out and in, and nobody there", nil, []event{{10 * time.Second, says(time.Minute, a)},
			{20 * time.Second, plug(false)}, {30 * time.Second, plug(true)}}, []string{"10s " + a, "1m10s"}, maxSolicits, false},
		{"nothing is ever said", nil, nil, nil, maxSolicits, true},
		{"of another link", nil, []event{{time.Second / 2, func(r *recorder) { r.heard(Advert{Link: 9, DNS: addrs(a), Lifetime: time.Hour}) }}},
			nil, maxSolicits, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{links: []Link{ether(2, "eth0")}, carrier: map[int]time.Time{2: {}},
					inet6: Inet6{Router: true, Addresses: []netip.Prefix{pfx("2001:db8::5/64")}}}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				if !tt.silent { // a router is heard, which has said nothing of use yet
					time.AfterFunc(time.Second/2, func() { rec.heard(Advert{Link: 2}) })
				}
				for _, e := range tt.events {
					time.AfterFunc(e.at, func() { e.do(rec) })
				}
				var running sync.WaitGroup
				running.Go(func() { New(Options{Links: rec, DHCP: servers{}, Root: dir, Preferred: tt.preferred}).Run(ctx) })
				got, last := []string(nil), ""
				for begin := time.Now(); ctx.Err() == nil; time.Sleep(time.Second) {
					synctest.Wait()
					text, _ := os.ReadFile(filepath.Join(dir, ResolvConfPath))
					if string(text) != last {
						last = string(text)
						servers := strings.Fields(strings.ReplaceAll(last, "nameserver ", ""))
						got = append(got, strings.Join(append([]string{time.Since(begin).String()}, servers...), " "))
					}
				}
				running.Wait()
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("resolv.conf (-want +got):\n%s", diff)
				}
				solicits := len(slices.DeleteFunc(rec.calls, func(c string) bool { return c != "solicit 2" }))
				if solicits != tt.solicits {
					t.Errorf("solicited %d times, want %d", solicits, tt.solicits)
				}
			})
		})
	}
}
