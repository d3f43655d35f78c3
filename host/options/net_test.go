// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options

import (
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

func TestNet(t *testing.T) {
	const noAgent = ": only the agent reads it, and there is none: leave it out, and --agent=off as well in QEMU or on bare metal"
	for _, tt := range []struct {
		name    string
		args    []string
		noAgent bool
		config  string
		err     string
	}{
		{name: "nothing"},
		{name: "the default", args: []string{"--net=auto"}},
		{name: "off", args: []string{"--net=off"}, config: "NET_MODE=off\n"},
		{name: "two links and two nameservers", args: []string{"--net=static", "--net-static=eth0,192.0.2.2/24,192.0.2.1",
			"--net-static", "52:54:00:12:34:56,2001:db8::2/64", "--net-dns=192.0.2.53", "--net-dns=2001:db8::53"},
			config: "NET_MODE=static\nNET_STATIC=eth0,192.0.2.2/24,192.0.2.1,52:54:00:12:34:56,2001:db8::2/64\n" +
				"NET_DNS=192.0.2.53,2001:db8::53\n"},
		{name: "nothing, without an agent", noAgent: true},
		{name: "off, without an agent", args: []string{"--net=off"}, noAgent: true, err: "--net" + noAgent},
		{name: "static, without an agent", args: []string{"--net-static=eth0,192.0.2.2/24"}, noAgent: true, err: "--net-static" + noAgent},
		{name: "bad address", args: []string{"--net-static=eth0,192.0.2.2"},
			err: "--net-static: eth0: gateway 192.0.2.2 stands behind no address of its kind (an address has its prefix length, as in /24)"},
		{name: "a name for a nameserver", args: []string{"--net-dns=dns.example"}, err: `--net-dns: "dns.example" is no address`},
		{name: "static without a link", args: []string{"--net=static"}, err: "--net is static, but --net-static is empty"},
		{name: "a command", args: []string{"--net-static=$(reboot),192.0.2.2/24"},
			err: `--net-static: "$(reboot)" is no name of a link, no address with its prefix length, and no gateway`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n Net
			parser, err := kong.New(&n)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := n.Check(!tt.noAgent); err != nil {
				got = err.Error()
			}
			if got != tt.err {
				t.Fatalf("got error %q, want %q", got, tt.err)
			}
			c := &steps.Config{}
			n.AddTo(c)
			if diff := cmp.Diff(tt.config, string(c.Bytes())); diff != "" && tt.err == "" {
				t.Errorf("bootstrap.cfg (-want +got):\n%s", diff)
			}
		})
	}
}
