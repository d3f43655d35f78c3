// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package console

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		typed, forGuest string
		commands        []command
	}{
		{"ls\r", "ls\r", nil},
		{"\x03\x04\x1b[A", "\x03\x04\x1b[A", nil},
		{"a\x01xb", "ab", []command{commandEnd}},
		{"\x01h\x01?\x01H", "", []command{commandHelp, commandHelp, commandHelp}},
		{"\x01\x01x", "\x01x", nil},
		{"\x01qa", "a", nil},
		{"\x01", "", nil},
	} {
		for cut := range len(tt.typed) + 1 { // wherever a read ends
			var k keys
			var forGuest []byte
			var commands []command
			for _, part := range []string{tt.typed[:cut], tt.typed[cut:]} {
				for rest := []byte(part); len(rest) > 0; {
					var out []byte
					var c command
					out, c, rest = k.feed(rest)
					forGuest = append(forGuest, out...)
					if c != commandNone {
						commands = append(commands, c)
					}
				}
			}
			if string(forGuest) != tt.forGuest || len(commands) != len(tt.commands) {
				t.Errorf("%q cut at %d: %q, %v", tt.typed, cut, forGuest, commands)
			}
			for i := range commands {
				if commands[i] != tt.commands[i] {
					t.Errorf("%q cut at %d: %v", tt.typed, cut, commands)
				}
			}
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("ls\x01x\x01\x01\x01h"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		var k keys
		n := 0
		for rest := typed; len(rest) > 0; n++ {
			var out []byte
			before := len(rest)
			out, _, rest = k.feed(rest)
			if len(rest) >= before || len(out) > before {
				t.Fatalf("%q: %d bytes became %d and %d", typed, before, len(out), len(rest))
			}
		}
	})
}

// buffer is what a terminal shows.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// until waits for something that happens soon.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has not happened", what)
		}
	}
}

// pipes gives the files of a user without a terminal.
func pipes(t *testing.T) (in, inWriter, out *os.File, seen *buffer) {
	t.Helper()
	in, inWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outReader, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	seen = &buffer{}
	go func() { _, _ = io.Copy(seen, outReader) }()
	t.Cleanup(func() { in.Close(); inWriter.Close(); out.Close(); outReader.Close() })
	return in, inWriter, out, seen
}

// shower is what a guest prints to.
type shower struct{ c *Console }

func (s shower) Write(b []byte) (int, error) { s.c.Show(b); return len(b), nil }

// guest is the machine's end.
func guest(t *testing.T, c *Console) (prints io.Writer, reads *buffer) {
	t.Helper()
	reads = &buffer{}
	c.Run(reads)
	return shower{c}, reads
}

// At a real terminal every key goes to the guest, Ctrl-C too, but for the commands; the terminal is as before afterwards.
func TestTerminal(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	seen := &buffer{}
	go func() { _, _ = io.Copy(seen, master) }()
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{}, 1)
	c, err := Open(Options{In: slave, Out: slave, End: func() { ended <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	prints, reads := guest(t, c)
	until(t, "the help", func() bool { return strings.Contains(seen.String(), "Ctrl-A x ends the run") })
	if _, err := io.WriteString(prints, "\x1b[1mlogin:\x1b[0m "); err != nil {
		t.Fatal(err)
	}
	until(t, "the guest's output", func() bool { return strings.Contains(seen.String(), "\x1b[1mlogin:\x1b[0m ") })
	if _, err := io.WriteString(master, "a\x03\x04\x13b\x01\x01"); err != nil {
		t.Fatal(err)
	}
	until(t, "typing", func() bool { return reads.String() == "a\x03\x04\x13b\x01" })
	if _, err := io.WriteString(master, "\x01x"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("Ctrl-A x does not end the run")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if after, err := term.GetState(int(slave.Fd())); err != nil || *after != *before {
		t.Errorf("the terminal is not as before: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// Without a terminal what comes goes to the guest as it is; its end is told to a guest that waits for a person, each
// time, and to no other.
func TestPipe(t *testing.T) {
	in, inWriter, out, seen := pipes(t)
	c, err := Open(Options{In: in, Out: out, End: func() { t.Error("ended") }})
	if err != nil {
		t.Fatal(err)
	}
	c.every = 20 * time.Millisecond
	prints, reads := guest(t, c)
	if _, err := io.WriteString(inWriter, "retry\n\x01x"); err != nil {
		t.Fatal(err)
	}
	until(t, "typing", func() bool { return reads.String() == "retry\n\x01x" })
	inWriter.Close()
	time.Sleep(5 * c.every)
	if got := reads.String(); got != "retry\n\x01x" {
		t.Errorf("a guest that does not wait heard %q", got)
	}
	c.Waiting(true)
	until(t, "the end", func() bool { return strings.HasPrefix(reads.String(), "retry\n\x01x\x04\x04") })
	c.Waiting(false)
	if _, err := io.WriteString(prints, "bye\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	until(t, "the last words", func() bool { return seen.String() == "bye\n" })
}

// A terminal that takes nothing holds up neither the guest nor the end; what it misses is said.
func TestStuckTerminal(t *testing.T) {
	r, w, err := os.Pipe() // nobody reads
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c, err := Open(Options{Out: w})
	if err != nil {
		t.Fatal(err)
	}
	prints, _ := guest(t, c)
	const much = 4 * shownBytes
	began := time.Now()
	if _, err := prints.Write(make([]byte, much)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %s", took)
	}
	seen := &buffer{}
	go func() { _, _ = io.Copy(seen, r) }()
	until(t, "what is missing", func() bool { return strings.Contains(seen.String(), " bytes are not shown here; console.log has them") })
}

// A guest that reads nothing holds up nobody.
func TestDeafGuest(t *testing.T) {
	in, inWriter, out, _ := pipes(t)
	c, err := Open(Options{In: in, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	port, deaf, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close(); deaf.Close() })
	c.Run(deaf)
	if _, err := inWriter.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	inWriter.Close()
	until(t, "reading it all", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.ended })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
