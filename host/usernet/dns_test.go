// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const dnsTypeA = dnsmessage.TypeA

// query is a DNS query on the wire.
func query(name string, kind dnsmessage.Type, id uint16) []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// answer is the answer of a name server: 198.51.100.7 for every name.
func answer(query []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil
	}
	m.Response = true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsTypeA, Class: dnsmessage.ClassINET, TTL: 60},
		Body:   &dnsmessage.AResource{A: [4]byte{198, 51, 100, 7}},
	}}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// rcode is the code of a reply, with the number of its answers.
func rcode(t *testing.T, reply []byte) (dnsmessage.RCode, int) {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(reply); err != nil || !m.Response || m.ID != 7 {
		t.Fatalf("reply %x: %v", reply, err)
	}
	return m.RCode, len(m.Answers)
}

// stuckResolver waits for the end.
type stuckResolver struct{}

func (stuckResolver) Exchange(ctx context.Context, _ []byte, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// resolverFunc is a resolver.
type resolverFunc func(query []byte) ([]byte, error)

func (f resolverFunc) Exchange(_ context.Context, query []byte, _ string) ([]byte, error) {
	return f(query)
}

func (g guest) dialDNS(t *testing.T) *gonet.UDPConn {
	t.Helper()
	to := full(netip.AddrPortFrom(DNSAddr, dnsPort))
	c, err := gonet.DialUDP(g.Stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a query as the guest does, over both protocols, and wants the same answer from both.
func (g guest) ask(t *testing.T, query []byte) (dnsmessage.RCode, int) {
	t.Helper()
	overUDP := g.dialDNS(t)
	_ = overUDP.SetDeadline(time.Now().Add(patience))
	if _, err := overUDP.Write(query); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxDNSUDP)
	size, err := overUDP.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	overTCP := g.mustDial(t, "10.0.2.3:53")
	_ = overTCP.SetDeadline(time.Now().Add(patience))
	if _, err := overTCP.Write(withLength(query)); err != nil {
		t.Fatal(err)
	}
	var length [2]byte
	if _, err := io.ReadFull(overTCP, length[:]); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(overTCP, reply); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(buf[:size], reply); diff != "" {
		t.Errorf("UDP and TCP (-udp +tcp):\n%s", diff)
	}
	return rcode(t, reply)
}

// TestDNS asks as a guest, without and with the outside.
func TestDNS(t *testing.T) {
	for _, outside := range []bool{false, true} {
		asked := 0
		_, conn := serve(t, Options{Outside: outside, Resolver: resolverFunc(func(q []byte) ([]byte, error) {
			asked++
			return answer(q), nil
		})})
		code, answers := boot(t, conn).ask(t, query("mirror.example.", dnsTypeA, 7))
		if outside && (code != dnsmessage.RCodeSuccess || answers != 1 || asked != 2) {
			t.Errorf("outside: %v with %d answers, asked %d times", code, answers, asked)
		}
		if !outside && (code != dnsmessage.RCodeNameError || answers != 0 || asked != 0) {
			t.Errorf("no outside: %v with %d answers, asked %d times", code, answers, asked)
		}
	}
}

func TestResolve(t *testing.T) {
	good := query("a.example.", dnsTypeA, 7)
	two := append([]byte{}, good...)
	two[5] = 2
	two = append(two, good[12:]...)
	status := append([]byte{}, good...)
	status[2] |= 2 << 3
	right := resolverFunc(func(q []byte) ([]byte, error) { return answer(q), nil })
	tests := []struct {
		name     string
		query    []byte
		resolver Resolver
		want     dnsmessage.RCode
		none     bool
	}{
		{"right", good, right, dnsmessage.RCodeSuccess, false},
		{"no resolver", good, resolverFunc(func([]byte) ([]byte, error) { return nil, errors.New("down") }), dnsmessage.RCodeServerFailure, false},
		{"answer to something else", good, resolverFunc(func([]byte) ([]byte, error) {
			return answer(query("b.example.", dnsTypeA, 7)), nil
		}), dnsmessage.RCodeServerFailure, false},
		{"answer is a query", good, resolverFunc(func(q []byte) ([]byte, error) { return q, nil }), dnsmessage.RCodeServerFailure, false},
		{"zone transfer", query("a.example.", dnsmessage.TypeAXFR, 7), right, dnsmessage.RCodeRefused, false},
		{"two questions", two, right, dnsmessage.RCodeFormatError, false},
		{"status query", status, right, dnsmessage.RCodeNotImplemented, false},
		{"a reply", answer(good), right, 0, true},
		{"no question", good[:12], right, 0, true},
		{"empty", nil, right, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &Network{opt: Options{Outside: true, Resolver: tt.resolver}, ctx: t.Context()}
			reply := n.resolve(tt.query, "udp")
			if tt.none {
				if reply != nil {
					t.Errorf("reply %x", reply)
				}
				return
			}
			if code, _ := rcode(t, reply); code != tt.want {
				t.Errorf("code %v, want %v", code, tt.want)
			}
		})
	}
	for i := range good {
		n := &Network{ctx: t.Context()}
		if reply := n.resolve(good[:i], "udp"); reply != nil {
			t.Errorf("reply to %d bytes of a query: %x", i, reply)
		}
	}
}

// nameServer answers over UDP and TCP on one port of 127.0.0.1, over UDP with a wrong reply first.
func nameServer(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); p.Close() })
	go func() {
		buf := make([]byte, maxDNSUDP)
		for {
			n, addr, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(answer(query("spoofed.example.", dnsTypeA, 7)), addr)
			_, _ = p.WriteTo(answer(buf[:n]), addr)
		}
	}()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			var length [2]byte
			_, _ = io.ReadFull(c, length[:])
			q := make([]byte, binary.BigEndian.Uint16(length[:]))
			_, _ = io.ReadFull(c, q)
			_, _ = c.Write(withLength(answer(q)))
			c.Close()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// TestHostResolver has a first nameserver that refuses, and a second one that answers.
func TestHostResolver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# comment\nsearch example\nnameserver 127.0.0.9\nnameserver wrong\n nameserver\t127.0.0.1 \noptions edns0\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := hostResolver{path: path, port: nameServer(t)}
	for _, network := range []string{"udp", "tcp"} {
		reply, err := h.Exchange(t.Context(), query("a.example.", dnsTypeA, 7), network)
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		if code, answers := rcode(t, reply); code != dnsmessage.RCodeSuccess || answers != 1 {
			t.Errorf("%s: %v, %d answers", network, code, answers)
		}
	}
}

func TestNameservers(t *testing.T) {
	local := []string{"127.0.0.1"}
	tests := []struct {
		text string
		want []string
	}{
		{"", local},
		{"options timeout:1\n", local},
		{"nameserver 127.0.0.53\n", []string{"127.0.0.53"}},
		{"nameserver fe80::1%eth0\nnameserver 192.0.2.1 # x\n", []string{"fe80::1%eth0", "192.0.2.1"}},
		{strings.Repeat("nameserver 192.0.2.1\n", 5), []string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := nameservers(path)
		var got []string
		for _, a := range list {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", tt.text, err, diff)
		}
	}
	if list, err := nameservers(filepath.Join(t.TempDir(), "none")); err != nil || len(list) != 1 {
		t.Errorf("no file: %v, %v", list, err)
	}
}
