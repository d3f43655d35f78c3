// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

var link6 = ether(2, "eth0")

// answer6 is a usable reply, changed.
func answer6(change ...func(*dhcpv6.Message)) *dhcpv6.Message {
	m := message6(link6, dhcpv6.MessageTypeReply, &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: link6.HardwareAddr})
	m.UpdateOption(dhcpv6.OptDNS(ip("2001:db8::53")))
	for _, c := range change {
		c(m)
	}
	return m
}

// address adds an IA_NA with one address.
func address(text string, valid time.Duration, more ...dhcpv6.Option) func(*dhcpv6.Message) {
	return func(m *dhcpv6.Message) {
		ia := addressOption(link6, netip.Prefix{})
		ia.T1, ia.T2 = 10*time.Minute, 20*time.Minute
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: ip(text), ValidLifetime: valid, PreferredLifetime: valid / 2})
		for _, o := range more {
			ia.Options.Add(o)
		}
		m.AddOption(ia)
	}
}

func status(code iana.StatusCode) *dhcpv6.OptStatusCode {
	return &dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: "no\x1b[2J\n"}
}

func without(code dhcpv6.OptionCode) func(*dhcpv6.Message) {
	return func(m *dhcpv6.Message) { m.Options.Del(code) }
}

func TestLeaseFrom6(t *testing.T) {
	search := &rfc1035label.Labels{Labels: []string{"Lan.Example", "x\nnameserver 6.6.6.6", "lan.example"}}
	full := func(l *Lease6) {
		l.Managed, l.Preferred = true, 30*time.Minute
		l.Settings.Address = pfx("2001:db8::5/128")
		l.Settings.Lease, l.Settings.Renew, l.Settings.Rebind = time.Hour, 10*time.Minute, 20*time.Minute
	}
	tests := []struct {
		name    string
		answer  *dhcpv6.Message
		managed bool
		want    func(*Lease6)
	}{
		{"nameservers", answer6(), false, func(*Lease6) {}},
		{"address and nameservers", answer6(address("2001:db8::5", time.Hour)), true, full},
		{"address of another interface first", answer6(func(m *dhcpv6.Message) {
			address("2001:db8::66", time.Hour)(m)
			m.Options.OneIANA().IaId[0]++
		}, address("2001:db8::5", time.Hour)), true, full},
		{"search list and refresh time", answer6(func(m *dhcpv6.Message) {
			m.AddOption(dhcpv6.OptDomainSearchList(search))
			m.AddOption(dhcpv6.OptInformationRefreshTime(time.Hour))
		}), false, func(l *Lease6) {
			l.Settings.Lease, l.Settings.Renew, l.Settings.Rebind = 2*time.Hour, time.Hour, 90*time.Minute
			l.Settings.Search = []string{"lan.example"}
			l.Settings.Dropped = []string{`search domain "x\nnameserver 6.6.6.6": not a domain name`}
		}},
		{"refresh all the time", answer6(func(m *dhcpv6.Message) { m.AddOption(dhcpv6.OptInformationRefreshTime(0)) }), false,
			func(l *Lease6) {
				l.Settings.Lease, l.Settings.Renew, l.Settings.Rebind = 20*time.Minute, 10*time.Minute, 15*time.Minute
			}},
		{"an address for a second", answer6(address("2001:db8::5", time.Second)), true, func(l *Lease6) {
			full(l)
			l.Preferred = time.Second
			l.Settings.Lease, l.Settings.Renew, l.Settings.Rebind = 10*time.Second, 5*time.Second, 8750*time.Millisecond
		}},
		{"an address for ever", answer6(address("2001:db8::5", 0xffffffff*time.Second)), true, func(l *Lease6) {
			full(l)
			l.Preferred, l.Settings.Lease = MaxLease, MaxLease
		}},
		{"hostile nameservers", answer6(func(m *dhcpv6.Message) {
			m.UpdateOption(dhcpv6.OptDNS(ip("::"), ip("::1"), ip("ff02::1"), ip("fe80::1"), ip("::ffff:1.2.3.4"), ip("2001:db8::53"),
				ip("2001:db8::53"), ip("2001:db8::54")))
		}), false, func(l *Lease6) {
			l.Settings.DNS = addrs("2001:db8::53", "2001:db8::54")
			l.Settings.Dropped = []string{"nameserver ::: unspecified", "nameserver ::1: loopback", "nameserver ff02::1: multicast",
				"nameserver fe80::1: link-local", "nameserver 1.2.3.4: of IPv4"}
		}},
		{"too many nameservers", answer6(func(m *dhcpv6.Message) {
			var list []net.IP
			for i := range byte(60) {
				list = append(list, net.IP{0x20, 1, 13: 0, 15: i + 1})
			}
			m.UpdateOption(dhcpv6.OptDNS(list...))
		}), false, func(l *Lease6) {
			l.Settings.DNS = addrs("2001::1", "2001::2", "2001::3", "2001::4", "2001::5", "2001::6", "2001::7", "2001::8")
			l.Settings.Dropped = []string{"nameservers: more than 8"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := Lease6{Settings: Settings{DNS: addrs("2001:db8::53"), Lease: 48 * time.Hour, Renew: 24 * time.Hour,
				Rebind: 36 * time.Hour}}
			tt.want(&want)
			p, err := dhcpv6.MessageFromBytes(tt.answer.ToBytes()) // what is tested can really come from a server
			if err != nil {
				t.Fatal(err)
			}
			got, err := LeaseFrom6(p, link6, tt.managed)
			if err != nil {
				t.Fatal(err)
			}
			got.Server = nil
			if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLeaseFrom6Refused(t *testing.T) {
	other := &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 9, 9, 9, 9, 9}}
	tests := []struct {
		name    string
		answer  *dhcpv6.Message
		managed bool
		want    error
		text    string
	}{
		{"nobody's", answer6(without(dhcpv6.OptionServerID)), false, ErrRefused, "no usable server identifier"},
		{"another machine's", answer6(func(m *dhcpv6.Message) { m.UpdateOption(dhcpv6.OptClientID(other)) }), false, ErrRefused,
			"it is for another machine"},
		{"an address for no one", answer6(without(dhcpv6.OptionClientID), address("2001:db8::5", time.Hour)), true, ErrRefused,
			"it is for another machine"},
		{"no address", answer6(), true, ErrRefused, "no address in it"},
		{"multicast", answer6(address("ff02::1", time.Hour)), true, ErrRefused, "address ff02::1 is multicast"},
		{"loopback", answer6(address("::1", time.Hour)), true, ErrRefused, "address ::1 is loopback"},
		{"link-local", answer6(address("fe80::5", time.Hour)), true, ErrRefused, "address fe80::5 is link-local"},
		{"of IPv4", answer6(address("::ffff:1.2.3.4", time.Hour)), true, ErrRefused, "is of IPv4"},
		{"not valid any longer", answer6(address("2001:db8::5", 0)), true, ErrLeaseLost, "is not valid any longer"},
		{"none left", answer6(address("2001:db8::5", time.Hour, status(iana.StatusNoAddrsAvail))), true, ErrRefused,
			`status NoAddrsAvail, "no\x1b[2J\n"`},
		{"unknown to the server", answer6(address("2001:db8::5", time.Hour, status(iana.StatusNoBinding))), true, ErrLeaseLost,
			"status NoBinding"},
		{"of another network", answer6(func(m *dhcpv6.Message) { m.AddOption(status(iana.StatusNotOnLink)) }), true, ErrLeaseLost,
			"status NotOnLink"},
		{"a failure of the server", answer6(func(m *dhcpv6.Message) { m.AddOption(status(iana.StatusUnspecFail)) }), false,
			ErrRefused, "status UnspecFail"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := dhcpv6.MessageFromBytes(tt.answer.ToBytes())
			if err != nil {
				t.Fatal(err)
			}
			_, err = LeaseFrom6(p, link6, tt.managed)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got error %v, want one with %q", err, tt.text)
			}
		})
	}
}

// FuzzLeaseFrom6 feeds packets as they come off the wire.
func FuzzLeaseFrom6(f *testing.F) {
	for managed, m := range map[bool]*dhcpv6.Message{false: answer6(), true: answer6(address("2001:db8::5", time.Hour))} {
		if _, err := LeaseFrom6(m, link6, managed); err != nil {
			f.Fatalf("seed is refused: %v", err)
		}
		f.Add(m.ToBytes(), managed)
	}
	f.Fuzz(func(t *testing.T, data []byte, managed bool) {
		if !(&guarded{parses: parses6}).harmless(data) {
			return
		}
		p, err := dhcpv6.MessageFromBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		l, err := LeaseFrom6(p, link6, managed)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Fatalf("error %q", err)
			}
			return
		}
		s := l.Settings
		if managed != s.Address.IsValid() || s.Renew <= 0 || s.Rebind <= s.Renew || s.Lease <= s.Rebind ||
			managed && (l.Preferred <= 0 || l.Preferred > s.Lease || s.Lease > MaxLease) {
			t.Errorf("%+v", l)
		}
		if len(s.DNS) > MaxDNS || len(s.Search) > MaxSearch || len(s.Dropped) > maxDropped || l.Server == nil {
			t.Errorf("%+v", l)
		}
	})
}

// TestGuarded makes sure that what the library cannot bear does not get to it.
func TestGuarded(t *testing.T) {
	packets := [][]byte{{1}, {2, 2}, {3, 3, 3}}
	g := &guarded{&replay{packets: packets}, func(packet []byte) error {
		switch len(packet) {
		case 1:
			panic("on purpose")
		case 2:
			return errInjected
		}
		return nil
	}}
	buf := make([]byte, 10)
	n, _, err := g.ReadFrom(buf)
	if diff := cmp.Diff(packets[2], buf[:n]); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	if _, _, err := g.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got error %v, want %v", err, net.ErrClosed)
	}
}

// replay is a connection on which packets come, and then its end.
type replay struct {
	net.PacketConn
	packets [][]byte
}

func (r *replay) ReadFrom(p []byte) (int, net.Addr, error) {
	if len(r.packets) == 0 {
		return 0, nil, net.ErrClosed
	}
	n := copy(p, r.packets[0])
	r.packets = r.packets[1:]
	return n, nil, nil
}
