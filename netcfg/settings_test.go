// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// compareAddrs lets cmp look at addresses and prefixes.
var compareAddrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

var (
	ip  = net.ParseIP
	adr = netip.MustParseAddr
	pfx = netip.MustParsePrefix
)

// options are raw DHCP options by code; nil removes one.
type options map[dhcpv4.OptionCode][]byte

func b4(a ...byte) []byte { return a }

// answer is a usable answer of a server like QEMU's, with the given address and options changed.
func answer(address string, change options) *dhcpv4.DHCPv4 {
	p := &dhcpv4.DHCPv4{
		OpCode:       dhcpv4.OpcodeBootReply,
		HWType:       iana.HWTypeEthernet,
		ClientHWAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
		YourIPAddr:   ip(address).To4(),
		Options: dhcpv4.OptionsFromList(
			dhcpv4.OptMessageType(dhcpv4.MessageTypeAck),
			dhcpv4.OptServerIdentifier(ip("10.0.2.2")),
			dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)),
			dhcpv4.OptRouter(ip("10.0.2.2")),
			dhcpv4.OptDNS(ip("10.0.2.3")),
			dhcpv4.OptIPAddressLeaseTime(24*time.Hour),
		),
	}
	for code, value := range change {
		if value == nil {
			delete(p.Options, code.Code())
			continue
		}
		p.Options[code.Code()] = value
	}
	return p
}

// plain is what answer("10.0.2.15", nil) gives.
func plain() Settings {
	return Settings{
		Address: pfx("10.0.2.15/24"),
		Routes:  []Route{{Dst: pfx("0.0.0.0/0"), Gateway: adr("10.0.2.2")}},
		DNS:     []netip.Addr{adr("10.0.2.3")},
		Server:  adr("10.0.2.2"),
		Lease:   24 * time.Hour, Renew: 12 * time.Hour, Rebind: 21 * time.Hour,
	}
}

func TestSettingsFrom(t *testing.T) {
	search := (&rfc1035label.Labels{Labels: []string{"Example.ORG", "a.example.org", "exa mple", "x\nnameserver 6.6.6.6",
		"-x.org", "example.org", strings.Repeat("x", 60) + "._tcp.org"}}).ToBytes()
	tests := []struct {
		name    string
		address string
		options options
		want    func(*Settings) // changes to plain
	}{
		{"as QEMU answers", "10.0.2.15", nil, func(*Settings) {}},
		{"nothing but an address", "192.168.1.7", options{
			dhcpv4.OptionSubnetMask: nil, dhcpv4.OptionRouter: nil, dhcpv4.OptionDomainNameServer: nil,
			dhcpv4.OptionIPAddressLeaseTime: nil, dhcpv4.OptionServerIdentifier: nil,
		}, func(s *Settings) {
			*s = Settings{Address: pfx("192.168.1.7/24"), Lease: time.Hour, Renew: 30 * time.Minute,
				Rebind: 52*time.Minute + 30*time.Second}
		}},
		{"class a without a mask", "10.0.2.15", options{dhcpv4.OptionSubnetMask: nil},
			func(s *Settings) { s.Address = pfx("10.0.2.15/8") }},
		{"class b without a mask", "172.16.2.15", options{dhcpv4.OptionSubnetMask: nil, dhcpv4.OptionRouter: nil},
			func(s *Settings) { s.Address, s.Routes = pfx("172.16.2.15/16"), nil }},
		{"point to point", "10.0.2.15", options{dhcpv4.OptionSubnetMask: b4(255, 255, 255, 255)},
			func(s *Settings) { s.Address, s.Routes[0].OnLink = pfx("10.0.2.15/32"), true }},
		{"first of a /31", "10.0.2.14", options{dhcpv4.OptionSubnetMask: b4(255, 255, 255, 254),
			dhcpv4.OptionRouter: b4(10, 0, 2, 15)}, func(s *Settings) {
			s.Address, s.Routes[0].Gateway = pfx("10.0.2.14/31"), adr("10.0.2.15")
		}},
		{"hostile routers before a good one", "10.0.2.15", options{dhcpv4.OptionRouter: b4(
			0, 0, 0, 0, 127, 0, 0, 1, 224, 0, 0, 1, 255, 255, 255, 255, 10, 0, 2, 15, 10, 0, 2, 9)}, func(s *Settings) {
			s.Routes[0].Gateway = adr("10.0.2.9")
			s.Dropped = []string{"router 0.0.0.0: unspecified", "router 127.0.0.1: loopback", "router 224.0.0.1: multicast",
				"router 255.255.255.255: the broadcast address", "router 10.0.2.15: our own address"}
		}},
		{"router option of a wrong length", "10.0.2.15", options{dhcpv4.OptionRouter: b4(10, 0, 2)},
			func(s *Settings) { s.Routes = nil }},
		{"router on another network", "10.0.2.15", options{dhcpv4.OptionRouter: b4(192, 0, 2, 1)},
			func(s *Settings) { s.Routes[0].Gateway, s.Routes[0].OnLink = adr("192.0.2.1"), true }},
		{"classless routes instead of the router", "10.0.2.15", options{dhcpv4.OptionClasslessStaticRoute: b4(
			16, 172, 16, 10, 0, 2, 7,
			24, 192, 0, 2, 0, 0, 0, 0,
			0, 10, 0, 2, 8,
			0, 10, 0, 2, 9,
		)}, func(s *Settings) {
			s.Routes = []Route{{Dst: pfx("172.16.0.0/16"), Gateway: adr("10.0.2.7")}, {Dst: pfx("192.0.2.0/24")},
				{Dst: pfx("0.0.0.0/0"), Gateway: adr("10.0.2.8")}}
			s.Dropped = []string{"route to 0.0.0.0/0: second one"}
		}},
		{"hostile classless routes", "10.0.2.15", options{dhcpv4.OptionClasslessStaticRoute: b4(
			1, 128, 10, 0, 2, 7, // half of the internet
			8, 127, 10, 0, 2, 7,
			24, 224, 0, 0, 10, 0, 2, 7,
			16, 172, 16, 127, 0, 0, 1,
			0, 0, 0, 0, 0,
		)}, func(s *Settings) {
			s.Routes = nil
			s.Dropped = []string{"route to 128.0.0.0/1: prefix shorter than 8 bits", "route to 127.0.0.0/8: loopback",
				"route to 224.0.0.0/24: multicast", "route to 172.16.0.0/16: router 127.0.0.1: loopback",
				"route to 0.0.0.0/0: no router"}
		}},
		{"malformed classless routes", "10.0.2.15", options{dhcpv4.OptionClasslessStaticRoute: b4(33, 1, 2, 3)},
			func(s *Settings) { s.Dropped = []string{"classless routes: malformed"} }},
		{"too many routes", "10.0.2.15", options{dhcpv4.OptionClasslessStaticRoute: manyRoutes(200)}, func(s *Settings) {
			s.Routes = nil
			for i := range MaxRoutes {
				s.Routes = append(s.Routes, Route{
					Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24), Gateway: adr("10.0.2.7"),
				})
			}
			s.Dropped = []string{"routes: more than 32"}
		}},
		{"nameservers, hostile and twice", "10.0.2.15", options{dhcpv4.OptionDomainNameServer: b4(
			127, 0, 0, 53, 10, 0, 2, 3, 10, 0, 2, 3, 0, 0, 0, 0, 239, 1, 1, 1, 9, 9, 9, 9)}, func(s *Settings) {
			s.DNS = []netip.Addr{adr("10.0.2.3"), adr("9.9.9.9")}
			s.Dropped = []string{"nameserver 127.0.0.53: loopback", "nameserver 0.0.0.0: unspecified",
				"nameserver 239.1.1.1: multicast"}
		}},
		{"too many nameservers", "10.0.2.15", options{dhcpv4.OptionDomainNameServer: manyAddrs(60)}, func(s *Settings) {
			s.DNS = nil
			for i := range MaxDNS {
				s.DNS = append(s.DNS, netip.AddrFrom4([4]byte{9, 9, 9, byte(i + 1)}))
			}
			s.Dropped = []string{"nameservers: more than 8"}
		}},
		{"more faults than are told", "10.0.2.15", options{dhcpv4.OptionRouter: make([]byte, 4*50)}, func(s *Settings) {
			s.Routes = nil
			for range maxDropped {
				s.Dropped = append(s.Dropped, "router 0.0.0.0: unspecified")
			}
		}},
		{"search list", "10.0.2.15", options{dhcpv4.OptionDNSDomainSearchList: search,
			dhcpv4.OptionDomainName: []byte("lan example.org home.arpa\x00")}, func(s *Settings) {
			s.Search = []string{"example.org", "a.example.org", strings.Repeat("x", 60) + "._tcp.org", "lan", "home.arpa"}
			s.Dropped = []string{`search domain "exa mple": not a domain name`,
				`search domain "x\nnameserver 6.6.6.6": not a domain name`, `search domain "-x.org": not a domain name`}
		}},
		{"domain name with a line end", "10.0.2.15", options{
			dhcpv4.OptionDomainName: []byte("evil.org\nnameserver 6.6.6.6")}, func(s *Settings) {
			// The pieces are names of their own, as far as a search list goes.
			s.Search = []string{"evil.org", "nameserver", "6.6.6.6"}
		}},
		{"too many search domains", "10.0.2.15", options{dhcpv4.OptionDomainName: []byte("a b c d e f g h")},
			func(s *Settings) {
				s.Search = []string{"a", "b", "c", "d", "e", "f"}
				s.Dropped = []string{"search domains: more than 6"}
			}},
		{"mtu", "10.0.2.15", options{dhcpv4.OptionInterfaceMTU: b4(5, 220)}, func(s *Settings) { s.MTU = 1500 }},
		{"tiny mtu", "10.0.2.15", options{dhcpv4.OptionInterfaceMTU: b4(0, 68)},
			func(s *Settings) { s.Dropped = []string{"mtu 68: less than 576"} }},
		{"mtu of a wrong length", "10.0.2.15", options{dhcpv4.OptionInterfaceMTU: b4(5)},
			func(s *Settings) { s.Dropped = []string{"mtu 0: less than 576"} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := plain()
			tt.want(&want)
			// Over the wire and back, so that what is tested can really come from a server.
			p, err := dhcpv4.FromBytes(answer(tt.address, tt.options).ToBytes())
			if err != nil {
				t.Fatal(err)
			}
			got, err := SettingsFrom(p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func manyRoutes(n int) []byte {
	var b []byte
	for i := range n {
		b = append(b, 24, 172, 16, byte(i), 10, 0, 2, 7)
	}
	return b
}

func manyAddrs(n int) []byte {
	var b []byte
	for i := range n {
		b = append(b, 9, 9, 9, byte(i+1))
	}
	return b
}

func TestSettingsRefused(t *testing.T) {
	tests := []struct {
		address string
		mask    []byte
		text    string
	}{
		{"0.0.0.0", nil, "address 0.0.0.0 is unspecified"},
		{"0.1.2.3", nil, "address 0.1.2.3 is reserved"},
		{"127.0.0.1", nil, "address 127.0.0.1 is loopback"},
		{"127.8.9.10", nil, "address 127.8.9.10 is loopback"},
		{"224.0.0.1", nil, "address 224.0.0.1 is multicast"},
		{"239.255.255.250", nil, "address 239.255.255.250 is multicast"},
		{"240.0.0.1", nil, "address 240.0.0.1 is reserved"},
		{"255.255.255.255", nil, "address 255.255.255.255 is the broadcast address"},
		{"169.254.3.4", nil, "address 169.254.3.4 is link-local"},
		{"10.0.2.0", b4(255, 255, 255, 0), "10.0.2.0/24 is the network's own or its broadcast address"},
		{"10.0.2.255", b4(255, 255, 255, 0), "10.0.2.255/24 is the network's own or its broadcast address"},
		{"10.0.2.7", b4(255, 255, 255, 248), "10.0.2.7/29 is the network's own or its broadcast address"},
		{"10.0.2.15", b4(0, 0, 0, 0), "subnet mask 0.0.0.0, want a prefix of 8 to 32 bits"},
		{"10.0.2.15", b4(254, 0, 0, 0), "subnet mask 254.0.0.0"},
		{"10.0.2.15", b4(255, 0, 255, 0), "subnet mask 255.0.255.0"},
		{"10.0.2.15", b4(255, 255, 255), "subnet mask option of 3 bytes"},
		{"10.0.2.15", b4(255, 255, 255, 0, 0), "subnet mask option of 5 bytes"},
		{"10.0.2.15", []byte{}, "subnet mask option of 0 bytes"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %v", tt.address, tt.mask), func(t *testing.T) {
			change := options{}
			if tt.mask != nil {
				change[dhcpv4.OptionSubnetMask] = tt.mask
			}
			_, err := SettingsFrom(answer(tt.address, change))
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got error %v, want one with %q", err, tt.text)
			}
		})
	}
	if _, err := SettingsFrom(nil); !errors.Is(err, ErrRefused) {
		t.Errorf("no answer: got error %v, want %v", err, ErrRefused)
	}
	if _, err := SettingsFrom(&dhcpv4.DHCPv4{}); !errors.Is(err, ErrRefused) {
		t.Errorf("empty answer: got error %v, want %v", err, ErrRefused)
	}
}

func TestLeaseTimes(t *testing.T) {
	seconds := func(n uint32) []byte { return b4(byte(n>>24), byte(n>>16), byte(n>>8), byte(n)) }
	tests := []struct {
		name                 string
		lease, renew, rebind []byte
		want                 [3]time.Duration
	}{
		{"usual", seconds(3600), seconds(1800), seconds(3150),
			[3]time.Duration{time.Hour, 30 * time.Minute, 3150 * time.Second}},
		{"other than usual", seconds(3600), seconds(600), seconds(1200),
			[3]time.Duration{time.Hour, 10 * time.Minute, 20 * time.Minute}},
		{"only the lease", seconds(3600), nil, nil, [3]time.Duration{time.Hour, 30 * time.Minute, 3150 * time.Second}},
		{"zero", seconds(0), nil, nil, [3]time.Duration{10 * time.Second, 5 * time.Second, 8750 * time.Millisecond}},
		{"one second each", seconds(1), seconds(1), seconds(1),
			[3]time.Duration{10 * time.Second, 5 * time.Second, 8750 * time.Millisecond}},
		{"short, but as it is", seconds(30), nil, nil,
			[3]time.Duration{30 * time.Second, 15 * time.Second, 26250 * time.Millisecond}},
		{"for ever", seconds(0xffffffff), seconds(0xffffffff), seconds(0xffffffff),
			[3]time.Duration{MaxLease, MaxLease / 2, MaxLease / 8 * 7}},
		{"renewal after the lease", seconds(3600), seconds(7200), seconds(9000),
			[3]time.Duration{time.Hour, 30 * time.Minute, 3150 * time.Second}},
		{"renewal after rebinding", seconds(3600), seconds(1200), seconds(600),
			[3]time.Duration{time.Hour, 30 * time.Minute, 3150 * time.Second}},
		{"all the time", seconds(3600), seconds(1), seconds(2),
			[3]time.Duration{time.Hour, 5 * time.Second, 8750 * time.Millisecond}},
		{"wrong length", b4(1, 2), b4(1), b4(), [3]time.Duration{time.Hour, 30 * time.Minute, 3150 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := SettingsFrom(answer("10.0.2.15", options{dhcpv4.OptionIPAddressLeaseTime: tt.lease,
				dhcpv4.OptionRenewTimeValue: tt.renew, dhcpv4.OptionRebindingTimeValue: tt.rebind}))
			if err != nil {
				t.Fatal(err)
			}
			if got := [3]time.Duration{s.Lease, s.Renew, s.Rebind}; got != tt.want {
				t.Errorf("lease, renew, rebind: got %v, want %v", got, tt.want)
			}
			if s.Renew <= 0 || s.Rebind <= s.Renew || s.Lease <= s.Rebind {
				t.Errorf("out of order: %s, %s, %s", s.Renew, s.Rebind, s.Lease)
			}
		})
	}
}

func TestSettingsString(t *testing.T) {
	s := plain()
	s.DNS = append(s.DNS, adr("9.9.9.9"))
	want := "10.0.2.15/24 via 10.0.2.2, nameserver 10.0.2.3 9.9.9.9, lease 24h0m0s"
	if got := s.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.DNS, s.Routes = nil, nil
	if got, want := s.String(), "10.0.2.15/24 without a gateway, lease 24h0m0s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzSettingsFrom feeds packets as they come off the wire.
func FuzzSettingsFrom(f *testing.F) {
	seeds := []*dhcpv4.DHCPv4{
		answer("10.0.2.15", nil),
		answer("10.0.2.15", options{dhcpv4.OptionClasslessStaticRoute: manyRoutes(3),
			dhcpv4.OptionDNSDomainSearchList: {1, 'a', 0, 1, 'b', 0xc0, 0}, dhcpv4.OptionInterfaceMTU: b4(5, 220)}),
	}
	for _, p := range seeds {
		if _, err := SettingsFrom(p); err != nil {
			f.Fatalf("seed is refused: %v", err)
		}
		f.Add(p.ToBytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		s, err := SettingsFrom(p)
		if err != nil {
			if !errors.Is(err, ErrRefused) || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Fatalf("error %q", err)
			}
			return
		}
		checkSane(t, s)
	})
}

// checkSane holds for whatever a server sends.
func checkSane(t *testing.T, s Settings) {
	t.Helper()
	a := s.Address.Addr()
	if !a.Is4() || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || s.Address.Bits() < MinPrefix {
		t.Errorf("address %s", s.Address)
	}
	if len(s.Routes) > MaxRoutes || len(s.DNS) > MaxDNS || len(s.Search) > MaxSearch || len(s.Dropped) > maxDropped {
		t.Errorf("%d routes, %d nameservers, %d search domains, %d complaints", len(s.Routes), len(s.DNS), len(s.Search),
			len(s.Dropped))
	}
	if s.Renew <= 0 || s.Rebind <= s.Renew || s.Lease <= s.Rebind || s.Lease > MaxLease {
		t.Errorf("times %s, %s, %s", s.Renew, s.Rebind, s.Lease)
	}
	for _, d := range s.Dropped {
		if strings.ContainsAny(d, "\n\r\x1b") {
			t.Errorf("complaint %q", d)
		}
	}
	text := Merge(nil, ResolvConf{}, s).Bytes()
	back, err := ParseResolvConf(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Merge(nil, ResolvConf{}, s), back, compareAddrs); diff != "" {
		t.Errorf("resolv.conf reads back as something else (-want +got):\n%s", diff)
	}
}
