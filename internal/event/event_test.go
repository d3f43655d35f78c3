// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	for _, e := range []Event{
		{Seq: 1, TimeMS: 2, Kind: KindPhase, Name: "linux-disk"},
		{Seq: 2, Kind: KindStep, Name: "build: bash-5.2", Step: "012-build-bash-5.2-pass1", Number: 12, Status: StatusFailed,
			Exit: 3, DurationMS: 1500, Text: "exit status 3"},
		{Seq: 3, Kind: KindPayload, Step: "007-x", Name: "a.tar", Done: 1 << 40, Total: 1 << 41},
		{Seq: 4, Kind: KindDone, Status: StatusFailed, Reason: ReasonAfter, Text: "50-sign.sh: <exit> & 1"},
	} {
		line, err := Encode(e)
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Errorf("%q is not one line", line)
		}
		got, err := Decode(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
}

// Text of any length and content gives a line that the reader accepts.
func TestEncodeHostileText(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("\x00", 5000), strings.Repeat("\"", 5000), strings.Repeat("\u2028", 5000), strings.Repeat("ä", 5000),
		strings.Repeat("\xff", 5000), strings.Repeat("<>&", 3000), "a\nb\r\nc",
	} {
		line, err := Encode(Event{Kind: KindLog, Name: text, Step: text, Text: text})
		if err != nil {
			t.Errorf("%.10q: %v", text, err)
			continue
		}
		if len(line) > MaxLine+1 {
			t.Errorf("%.10q: %d bytes", text, len(line))
		}
		if _, err := Decode(line); err != nil {
			t.Errorf("%.10q: %v", text, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		line string
		want error
	}{
		{"", ErrMalformed}, {"{", ErrMalformed}, {"[]", ErrMalformed}, {"null", ErrMalformed}, {"{}", ErrMalformed},
		{`{"seq":-1,"kind":"log"}`, ErrMalformed}, {`{"seq":1,"kind":"log"} x`, ErrMalformed},
		{`{"seq":1,"kind":"reboot"}`, ErrMalformed}, {`{"kind":"step","status":"fine"}`, ErrMalformed},
		{`{"kind":"done"}`, ErrMalformed}, {`{"kind":"done","status":"start"}`, ErrMalformed},
		{`{"kind":"done","status":"failed","reason":"mood"}`, ErrMalformed},
		{`{"kind":"log","duration_ms":-5}`, ErrMalformed}, {`{"kind":"plan","total":-5}`, ErrMalformed},
		{`{"kind":"log","text":"` + strings.Repeat("x", MaxLine) + `"}`, ErrTooLong},
	} {
		if e, err := Decode([]byte(tt.line)); !errors.Is(err, tt.want) {
			t.Errorf("%.60q: got %+v, %v, want %v", tt.line, e, err, tt.want)
		}
	}
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain text", "plain text"}, {"a\tb", "a b"}, {"a\rb\nc", "abc"}, {"grün ✓", "grün ✓"},
		{"\x1b[31mred\x1b[0m", "red"}, {"\x1b]0;title\x07x", "x"}, {"\x1b]0;title\x1b\\x", "x"}, {"\x1bcx", "x"},
		{"\x1b[", ""}, {"\x1b", ""}, {"\u009b31mx", "31mx"}, {"a\u202eb", "ab"}, {"\xff\xfe!", "!"}, {"\x1bPq#0\x1b\\y", "y"},
	} {
		if got := Clean(tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range []Event{{Kind: KindLog, Text: "x"}, {Kind: KindDone, Status: StatusOK}} {
		line, err := Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := Decode(line); err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Decode(line)
		if err != nil {
			return
		}
		for _, text := range []string{e.Name, e.Step, e.Text} {
			if Clean(text) != text || !utf8.ValidString(text) {
				t.Errorf("%q is not clean", text)
			}
		}
		again, err := Encode(e)
		if err != nil {
			t.Fatalf("%+v cannot be written again: %v", e, err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// What is written by hand is what encoding/json would write, or another spelling of the same text.
func FuzzEncode(f *testing.F) {
	f.Add(uint64(1), int64(2), "step", "a name", "007-x", 3, "ok", "step", 4, int64(5), int64(6), int64(7), "\x00\x1f\"\\/<>&\u2028\u2029\xff\ufffd\U0001f600")
	f.Add(uint64(1<<63), int64(-1), "", "", "", -3, "", "", -4, int64(-5), int64(-1<<63), int64(1<<63-1), "")
	f.Fuzz(func(t *testing.T, seq uint64, ms int64, kind, name, step string, number int, status, reason string, exit int,
		duration, done, total int64, text string) {
		e := Event{seq, ms, Kind(kind), name, step, number, Status(status), Reason(reason), exit, duration, done, total, text}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var byHand, byLibrary map[string]any
		own := e.appendJSON(nil)
		if err := errors.Join(json.Unmarshal(own, &byHand), json.Unmarshal(want, &byLibrary)); err != nil {
			t.Fatalf("%q: %v", own, err)
		}
		if d := cmp.Diff(byLibrary, byHand); d != "" {
			t.Errorf("(-encoding/json +by hand)\n%s", d)
		}
		if bytes.ContainsFunc(own, func(r rune) bool { return r < 0x20 || r == 0x2028 }) {
			t.Errorf("%q is not one line", own)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e := Event{Seq: 12345, TimeMS: 6789, Kind: KindLog, Step: "012-build-bash-5.2-pass1", Text: "gcc -c -O2 -o build/thing.o src/thing.c"}
	for b.Loop() {
		if _, err := Encode(e); err != nil {
			b.Fatal(err)
		}
	}
}
