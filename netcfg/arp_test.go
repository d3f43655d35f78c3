// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The messages of a probe, of its answer, and of an announcement.
var (
	someMAC     = [6]byte{2, 0, 0, 0, 0, 7}
	arpProbe    = arpMessage{Request: true, Sender: someMAC, From: netip.IPv4Unspecified(), To: netip.AddrFrom4([4]byte{10, 0, 2, 15})}
	arpAnswer   = arpMessage{Sender: someMAC, From: arpProbe.To, To: netip.IPv4Unspecified()}
	arpAnnounce = arpMessage{Request: true, Sender: someMAC, From: arpProbe.To, To: arpProbe.To}
)

func TestARP(t *testing.T) {
	want := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 2, 15}
	if diff := cmp.Diff(want, arpProbe.bytes()); diff != "" {
		t.Errorf("probe (-want +got):\n%s", diff)
	}
	for _, m := range []arpMessage{arpProbe, arpAnswer, arpAnnounce} {
		for _, padding := range []int{0, 18} {
			got, ok := parseARP(append(m.bytes(), make([]byte, padding)...))
			if diff := cmp.Diff(m, got, compareAddrs); diff != "" || !ok {
				t.Errorf("read %t (-want +got):\n%s", ok, diff)
			}
		}
		for n := range arpLength {
			if _, ok := parseARP(m.bytes()[:n]); ok {
				t.Errorf("%d bytes are read", n)
			}
		}
		for i := range 8 { // anything else in the head, or another operation
			b := m.bytes()
			b[i] += 2
			if _, ok := parseARP(b); ok {
				t.Errorf("read with %d as byte %d", b[i], i)
			}
		}
	}
}

func TestARPClaims(t *testing.T) {
	other := adr("10.0.2.16")
	tests := []struct {
		name string
		m    arpMessage
		want bool
	}{
		{"has it", arpAnswer, true},
		{"announces it", arpAnnounce, true},
		{"asks for another one, from it", arpMessage{Request: true, From: arpProbe.To, To: other}, true},
		{"probes for it as well", arpProbe, true},
		{"asks for it", arpMessage{Request: true, From: other, To: arpProbe.To}, false},
		{"probes for another one", arpMessage{Request: true, From: netip.IPv4Unspecified(), To: other}, false},
		{"has another one", arpMessage{From: other, To: arpProbe.To}, false},
		{"an answer from nowhere", arpMessage{From: netip.IPv4Unspecified(), To: arpProbe.To}, false},
	}
	for _, tt := range tests {
		if got := tt.m.claims(arpProbe.To); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.name, got, tt.want)
		}
	}
}

// FuzzParseARP feeds messages as they come off the wire.
func FuzzParseARP(f *testing.F) {
	for _, m := range []arpMessage{arpProbe, arpAnswer, arpAnnounce} {
		if _, ok := parseARP(m.bytes()); !ok {
			f.Fatalf("seed %+v is not read", m)
		}
		f.Add(m.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseARP(b)
		if !ok {
			return
		}
		if !m.From.Is4() || !m.To.Is4() || len(b) < arpLength {
			t.Fatalf("%+v of %d bytes", m, len(b))
		}
		back, ok := parseARP(m.bytes())
		if diff := cmp.Diff(m, back, compareAddrs); diff != "" || !ok {
			t.Errorf("read %t (-want +got):\n%s", ok, diff)
		}
	})
}
