// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// twoArg is a range of two addresses.
const twoArg = "--dhcp-range=10.77.0.50,10.77.0.51,255.255.255.0,1h"

// testInUse has a machine on the link with the address that dnsmasq is going to grant.
func testInUse(t *testing.T) {
	server := connect(t, "eth0", "dnsmasq", twoArg, "--log-dhcp")
	before := keep(t, Options{DHCP: quickClient()})
	first := mustAwait(t, before).Interfaces[0].Lease.Settings.Address
	before.stop()
	before.hears(t, 0, first.String()+" is given back")
	if err := mustNetlink(t).AddrDel(before.nics[0].link.Index, first); err != nil {
		t.Fatal(err)
	}

	server.own(t, first.Addr()) // the same address would be granted now
	begin := time.Now()
	after := keep(t, Options{DHCP: quickClient()})
	second := mustAwait(t, after).Interfaces[0].Lease.Settings.Address
	if second == first || !strings.HasPrefix(second.String(), "10.77.0.5") {
		t.Errorf("got %s, of which %s is in use", second, first)
	}
	if took := time.Since(begin); took < quickClient().DeclinePause {
		t.Errorf("took %s, want at least the pause of %s", took, quickClient().DeclinePause)
	}
	after.hears(t, 0, "eth0: not used: address "+first.Addr().String()+": ")
	log, err := os.ReadFile(filepath.Join(server.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "DHCPDECLINE(" + serverLink + ") " + first.Addr().String() + " "; strings.Count(string(log), want) != 1 {
		t.Errorf("%q not once in dnsmasq's log:\n%s", want, log)
	}
	after.stop()

	// With the other one in use as well there is nothing left, and it is said why.
	if err := mustNetlink(t).AddrDel(after.nics[0].link.Index, second); err != nil {
		t.Fatal(err)
	}
	server.own(t, second.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = quickClient().Acquire(ctx, after.nics[0].link) // it ends in a pause, a discovery or a probe
	if text := "has it"; !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want %v with %q", err, ErrNoAnswer, text)
	}
}

// testProbes listens to what is asked on the wire: an address is probed for and announced before it is used for the
// first time, and never again.
func testProbes(t *testing.T) {
	connect(t, "eth0", "dnsmasq", poolArg)
	wire := make(chan arpMessage, 100)
	listenARP(t, "eth0", wire)
	n := keep(t, Options{DHCP: quickClient()})
	lease := mustAwait(t, n).Interfaces[0].Lease
	own, link := lease.Settings.Address.Addr(), n.nics[0].link
	count := func() (probes, announcements int) {
		for {
			select {
			case m := <-wire:
				switch {
				case m.From.IsUnspecified() && m.To == own && m.Sender == [6]byte(link.HardwareAddr):
					probes++
				case m.From == own && m.To == own:
					announcements++
				}
			case <-time.After(100 * time.Millisecond):
				return probes, announcements
			}
		}
	}
	if asked, announced := count(); asked != probes || announced != 1 {
		t.Errorf("%d probes, %d announcements, want %d and 1", asked, announced, probes)
	}
	for _, how := range []How{Renew, Rebind, Confirm} {
		if _, err := quickClient().Extend(t.Context(), link, lease, how); err != nil {
			t.Errorf("way %d: %v", how, err)
		}
	}
	if again, err := quickClient().Acquire(t.Context(), link); err != nil || again.Settings.Address.Addr() != own {
		t.Errorf("got %s, error %v", again.Settings, err)
	}
	if asked, announced := count(); asked != 0 || announced != 0 {
		t.Errorf("%d probes, %d announcements of the address in use", asked, announced)
	}
}

// listenARP sets a link up and passes on every message of ARP on it, those of this machine too.
func listenARP(t *testing.T, name string, wire chan<- arpMessage) {
	t.Helper()
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := mustNetlink(t).LinkSetUp(ifc.Index); err != nil {
		t.Fatal(err)
	}
	conn, err := packet.Listen(ifc, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 14 {
				continue
			}
			if m, ok := parseARP(buf[14:n]); ok && buf[12] == 8 && buf[13] == 6 {
				wire <- m
			}
		}
	}()
}
