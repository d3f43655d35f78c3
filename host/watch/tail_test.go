// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tailed is a file that grows, its tail, and what the tail has given.
type tailed struct {
	t    *testing.T
	path string
	tail *Tail
	got  []string
}

func newTailed(t *testing.T, maxLine int) *tailed {
	path := filepath.Join(t.TempDir(), "log")
	f := &tailed{t: t, path: path, tail: NewTail(func() (*os.File, error) { return os.Open(path) }, maxLine)}
	t.Cleanup(func() {
		if err := f.tail.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *tailed) emit(line []byte, cut bool) {
	text := string(line)
	if cut {
		text += "<cut>"
	}
	f.got = append(f.got, text)
}

func (f *tailed) write(text string) {
	f.t.Helper()
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		f.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		f.t.Fatal(err)
	}
}

// poll polls until nothing is new and gives the lines since the last time.
func (f *tailed) poll() []string {
	f.t.Helper()
	for {
		n, err := f.tail.Poll(f.emit)
		if err != nil {
			f.t.Fatal(err)
		}
		if n == 0 {
			got := f.got
			f.got = nil
			return got
		}
	}
}

func TestTail(t *testing.T) {
	f := newTailed(t, 8)
	steps := []struct {
		write string
		want  []string
	}{
		{"", nil},
		{"one\ntw", []string{"one"}},
		{"o\r\n\r\nthree\n", []string{"two", "three"}},
		{"12345678\n123456789\n1234567890123", []string{"12345678", "12345678<cut>"}},
		{"4\nnext\n", []string{"12345678<cut>", "next"}},
		{" 10%\r 20%\r", []string{" 10%", " 20%"}},
		{"\x00\xff\n", []string{"\x00\xff"}},
		{"rest", nil},
	}
	if diff := cmp.Diff([]string(nil), f.poll()); diff != "" {
		t.Errorf("absent file (-want +got):\n%s", diff)
	}
	for _, s := range steps {
		f.write(s.write)
		if diff := cmp.Diff(s.want, f.poll()); diff != "" {
			t.Errorf("after %q (-want +got):\n%s", s.write, diff)
		}
	}
}

func TestTailPieces(t *testing.T) {
	f := newTailed(t, 50)
	f.write(strings.Repeat("0123456789\n", 3*chunkSize/11))
	n, err := f.tail.Poll(f.emit)
	if err != nil || n != chunkSize {
		t.Fatalf("Poll = %d, %v; want %d", n, err, chunkSize)
	}
	f.poll()
	if want := int64(3 * chunkSize / 11 * 11); f.tail.offset != want {
		t.Errorf("offset %d, want %d", f.tail.offset, want)
	}
}

func TestTailUnreadable(t *testing.T) {
	tail := NewTail(func() (*os.File, error) { return os.Open("/") }, 10)
	if _, err := tail.Poll(func([]byte, bool) {}); err == nil {
		t.Error("a folder can be followed")
	}
	if err := tail.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzTail writes data in two pieces: the lines are the same as in one, and none is longer than allowed.
func FuzzTail(f *testing.F) {
	f.Add([]byte("one\ntwo\r\nthree"), 5)
	f.Add([]byte(strings.Repeat("x", 40)+"\n"), 39)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		if at < 0 || at > len(data) {
			return
		}
		whole, pieces := newTailed(t, 16), newTailed(t, 16)
		whole.write(string(data))
		pieces.write(string(data[:at]))
		got := pieces.poll()
		pieces.write(string(data[at:]))
		got = append(got, pieces.poll()...)
		want := whole.poll()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-whole +pieces):\n%s", diff)
		}
		for _, line := range got {
			if len(strings.TrimSuffix(line, "<cut>")) > 16 {
				t.Errorf("line of %d bytes", len(line))
			}
		}
	})
}
