// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netkeys

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compare = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func get(values ...string) func(string) string {
	return func(name string) string {
		for i, v := range []string{VarMode, VarStatic, VarDNS} {
			if v == name && i < len(values) {
				return values[i]
			}
		}
		return ""
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestParse(t *testing.T) {
	eth0 := Link{Name: "eth0", Addresses: prefixes("192.0.2.2/24"), Gateways: addrs("192.0.2.1")}
	for _, tt := range []struct {
		name              string
		mode, static, dns string
		want              Config
	}{
		{"nothing", "", "", "", Config{Mode: ModeAuto}},
		{"off", "off", "", "", Config{Mode: ModeOff}},
		{"one link", "static", "eth0,192.0.2.2/24,192.0.2.1", "192.0.2.53", Config{ModeStatic, []Link{eth0}, addrs("192.0.2.53")}},
		{"as a person may write it", `"auto"`, `"eth0 192.0.2.2/24, 192.0.2.1"`, `'192.0.2.53 2001:db8::53'`,
			Config{ModeAuto, []Link{eth0}, addrs("192.0.2.53", "2001:db8::53")}},
		{"two links, both families, one known by its hardware address", "",
			"52:54:00:AB:cd:ef,192.0.2.2/24,2001:db8::2/64,192.0.2.1,2001:db8::1,lan-1.2,198.51.100.7/31", "127.0.0.1",
			Config{ModeAuto, []Link{
				{"52:54:00:ab:cd:ef", prefixes("192.0.2.2/24", "2001:db8::2/64"), addrs("192.0.2.1", "2001:db8::1")},
				{Name: "lan-1.2", Addresses: prefixes("198.51.100.7/31")},
			}, addrs("127.0.0.1")}},
		{"a gateway beyond the own network", "", "eth0,192.0.2.2/32,203.0.113.1", "",
			Config{ModeAuto, []Link{{"eth0", prefixes("192.0.2.2/32"), addrs("203.0.113.1")}}, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(get(tt.mode, tt.static, tt.dns))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, compare); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ mode, static, dns, want string }{
		{"on", "", "", `NET_MODE: "on" is none of auto, static, off`},
		{"static", "", "", "NET_MODE is static, but NET_STATIC is empty"},
		{"", "192.0.2.2/24", "", `NET_STATIC: "192.0.2.2/24": the name of a link must come first, as in eth0,192.0.2.2/24,192.0.2.1`},
		{"", "192.0.2.1", "", `NET_STATIC: "192.0.2.1": the name of a link must come first, as in eth0,192.0.2.2/24,192.0.2.1`},
		{"", "eth0", "", "NET_STATIC: eth0: no address, such as 192.0.2.2/24"},
		{"", "eth0,eth1,192.0.2.2/24", "", "NET_STATIC: eth0: no address, such as 192.0.2.2/24"},
		{"", "eth0,192.0.2.2/33", "", `NET_STATIC: eth0: "192.0.2.2/33" is no address with its prefix length, such as 192.0.2.2/24`},
		{"", "eth0,192.0.2.2", "", "NET_STATIC: eth0: gateway 192.0.2.2 stands behind no address of its kind (an address has its prefix length, as in /24)"},
		{"", "eth0,192.0.2.2/24,2001:db8::1", "", "NET_STATIC: eth0: gateway 2001:db8::1 stands behind no address of its kind (an address has its prefix length, as in /24)"},
		{"", "eth0,192.0.2.2/24,192.0.2.2", "", "NET_STATIC: eth0: gateway 192.0.2.2 is the link's own address"},
		{"", "eth0,192.0.2.2/24,192.0.2.1,192.0.2.3", "", "NET_STATIC: eth0: second gateway 192.0.2.3"},
		{"", "eth0,192.0.2.2/24,127.0.0.1", "", "NET_STATIC: eth0: gateway 127.0.0.1 is no address of another machine"},
		{"", "eth0,127.0.0.1/8", "", "NET_STATIC: eth0: 127.0.0.1/8 is no address that a machine can have"},
		{"", "eth0,240.0.0.1/8", "", "NET_STATIC: eth0: 240.0.0.1/8 is no address that a machine can have"},
		{"", "eth0,192.0.2.1/0", "", "NET_STATIC: eth0: 192.0.2.1/0 is no address that a machine can have"},
		{"", "eth0,192.0.2.0/24", "", "NET_STATIC: eth0: 192.0.2.0/24 is the address of the network itself, or its broadcast address"},
		{"", "eth0,192.0.2.255/24", "", "NET_STATIC: eth0: 192.0.2.255/24 is the address of the network itself, or its broadcast address"},
		{"", "eth0,192.0.2.2/24,192.0.2.2/24", "", "NET_STATIC: eth0: 192.0.2.2/24 stands there twice"},
		{"", "eth0,192.0.2.2/24,eth0,192.0.2.3/24", "", "NET_STATIC: eth0 stands there twice"},
		{"", "eth0;reboot,192.0.2.2/24", "", `NET_STATIC: "eth0;reboot" is no name of a link, no address with its prefix length, and no gateway`},
		{"", "aninterfacewithalongname,192.0.2.2/24", "", `NET_STATIC: "aninterfacewithalongname" is no name of a link, no address with its prefix length, and no gateway`},
		{"", "..,192.0.2.2/24", "", `NET_STATIC: ".." is no name of a link, no address with its prefix length, and no gateway`},
		{"", "eth0,1.2.3.4/24,a,1.2.3.4/24,b,1.2.3.4/24,c,1.2.3.4/24,d,1.2.3.4/24,e,1.2.3.4/24,f,1.2.3.4/24,g,1.2.3.4/24,h", "", "NET_STATIC: more than 8 links"},
		{"", strings.Repeat("e", 128), "", "NET_STATIC: 128 bytes, 127 are possible"},
		{"", "", "dns.example", `NET_DNS: "dns.example" is no address`},
		{"", "", "224.0.0.1", "NET_DNS: 224.0.0.1 is no address of a nameserver"},
		{"", "", "1.1.1.1,1.1.1.1", "NET_DNS: 1.1.1.1 stands there twice"},
		{"", "", "1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4", "NET_DNS: more than 3 nameservers, which is all that a resolver asks"},
	} {
		_, err := Parse(get(tt.mode, tt.static, tt.dns))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q %q %q: got error %v, want %s", tt.mode, tt.static, tt.dns, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range [][3]string{
		{"auto", "eth0,192.0.2.2/24,192.0.2.1", "192.0.2.53"},
		{"static", "52:54:00:ab:cd:ef,2001:db8::2/64,2001:db8::1", "2001:db8::53,1.1.1.1"},
	} {
		if _, err := Parse(get(seed[:]...)); err != nil {
			f.Fatalf("seed %q is refused: %v", seed, err)
		}
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, mode, static, dns string) {
		c, err := Parse(get(mode, static, dns))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Fatalf("error %q", err)
			}
			return
		}
		if len(c.Static) > MaxLinks || len(c.DNS) > MaxDNS {
			t.Errorf("%d links, %d nameservers", len(c.Static), len(c.DNS))
		}
		for _, l := range c.Static {
			if len(l.Addresses) == 0 || len(l.Addresses) > MaxAddresses || len(l.Gateways) > 2 {
				t.Errorf("link %+v", l)
			}
		}
	})
}
