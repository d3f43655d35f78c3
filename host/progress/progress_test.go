// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package progress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"kindling/host/watch"
	"kindling/internal/event"
)

const sec = time.Second

// marks are one of each kind.
var marks = []watch.Mark{
	{Kind: watch.MarkPhase, Name: "start"},
	{Kind: watch.MarkPhase, At: 4 * sec, Name: "init", Text: "start", Duration: 4 * sec},
	{Kind: watch.MarkNet, At: 5 * sec, Name: "eth0", Text: "10.0.2.15/24"},
	{Kind: watch.MarkImport, At: 6 * sec, Name: "b.tar", Bytes: 512 << 10, Size: 2 << 20},
	{Kind: watch.MarkStep, At: 70 * sec, Name: "build: a", Number: 3, Total: 7, Status: event.StatusOK,
		Duration: 62 * sec},
	{Kind: watch.MarkStep, At: 71 * sec, Name: "build: b", Number: 4, Total: 7, Status: event.StatusFailed, Exit: 2,
		Duration: 340 * time.Millisecond, Text: "no such file"},
	{Kind: watch.MarkStep, At: 72 * sec, Name: "build: c", Number: 5, Status: event.StatusOK},
	{Kind: watch.MarkNote, At: 2 * time.Hour, Text: "after script 50-sign.sh"},
}

const plain = `[  0.0 s] phase start
[  4.0 s] phase init (start took 4.0 s)
[  5.0 s] network: eth0 10.0.2.15/24
[  6.0 s] imported 512.0 KiB of 2.0 MiB (b.tar)
[  1m10s] step 3/7 build: a (1m02s)
[  1m11s] step 4/7 build: b FAILED after 0.3 s: no such file, exit status 2
[  1m12s] step 5 build: c (0.0 s)
[  2h00m] note: after script 50-sign.sh
`

// within fails the test when work takes longer than limit.
func within(t *testing.T, limit time.Duration, what string, work func()) {
	t.Helper()
	began := time.Now()
	work()
	if took := time.Since(began); took > limit {
		t.Errorf("%s took %v, at most %v", what, took, limit)
	}
}

func TestPlain(t *testing.T) {
	var out bytes.Buffer
	p := NewPlain(&out)
	for i := range len(marks) + 1 {
		p.Update(watch.View{Marks: marks[:i]})
		p.Event(event.Event{Kind: event.KindLog, Text: "not shown"})
	}
	p.Close()
	if diff := cmp.Diff(plain, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSkippedStep(t *testing.T) {
	got := markLine(watch.Mark{Kind: watch.MarkStep, Name: "build: b", Number: 3, Total: 9, Status: event.StatusSkipped, At: time.Second})
	if got != "[  1.0 s] step 3/9 build: b skipped by hand\n" {
		t.Errorf("got %q", got)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	j := NewJSON(&out)
	want := []event.Event{
		{Seq: 1, TimeMS: 2, Kind: event.KindPhase, Name: "init"},
		{Seq: 2, TimeMS: 3, Kind: event.KindLog, Step: "a", Text: "a <b> \"c\""},
		{Seq: 3, TimeMS: 4, Kind: event.KindDone, Status: event.StatusOK},
	}
	for _, e := range want {
		j.Event(e)
		j.Update(watch.View{Marks: marks})
	}
	j.Close()
	var got []event.Event
	for line := range strings.Lines(out.String()) {
		e, err := event.Decode([]byte(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, e)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// stuck is a writer that takes nothing until it is released.
type stuck struct {
	release chan struct{}
	mu      sync.Mutex
	out     bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

// TestSlowReader has a reader that reads nothing for the whole run and begins at its end.
func TestSlowReader(t *testing.T) {
	many := make([]watch.Mark, 10_000)
	for i := range many {
		many[i] = watch.Mark{Kind: watch.MarkNote, Text: "x"}
	}
	for name, start := range map[string]func(io.Writer) Display{
		"plain": func(w io.Writer) Display { return NewPlain(w) },
		"JSON":  func(w io.Writer) Display { return NewJSON(w) },
	} {
		t.Run(name, func(t *testing.T) {
			w := &stuck{release: make(chan struct{})}
			d := start(w)
			within(t, 2*sec, "feeding", func() {
				for i := range 2 * jsonQueue {
					d.Update(watch.View{Marks: many[:min(i, len(many))]})
					d.Event(event.Event{Kind: event.KindLog, Text: "x"})
				}
			})
			close(w.release)
			d.Close()
			lines := strings.Split(strings.TrimSpace(w.out.String()), "\n")
			if name == "plain" && len(lines) != len(many) {
				t.Errorf("%d lines, want %d", len(lines), len(many))
			}
			if last := lines[len(lines)-1]; name == "JSON" && len(lines) < jsonQueue {
				t.Errorf("%d lines, the last %s", len(lines), last)
			}
		})
	}
}

// TestSkippedAreCounted has a queue that overflows and a reader that comes back.
func TestSkippedAreCounted(t *testing.T) {
	w := &stuck{release: make(chan struct{})}
	j := NewJSON(w)
	const sent = jsonQueue + 500
	for range sent {
		j.Event(event.Event{Kind: event.KindLog})
	}
	close(w.release)
	for deadline := time.Now().Add(5 * sec); len(j.pump.events) > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	j.Event(event.Event{Kind: event.KindDone, Status: event.StatusOK})
	j.Close()
	logs, skipped := strings.Count(w.out.String(), `"kind":"log"`), 0
	for line := range strings.Lines(w.out.String()) {
		e, err := event.Decode([]byte(line))
		if err != nil || e.Kind != event.KindNote {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(e.Text, "%d events were left out", &n); err != nil {
			t.Errorf("note %q: %v", e.Text, err)
		}
		skipped += n
	}
	if logs+skipped != sent || skipped == 0 {
		t.Errorf("%d events, %d left out by the notes, %d sent", logs, skipped, sent)
	}
	if !strings.HasSuffix(w.out.String(), `"status":"ok"}`+"\n") {
		t.Error("the final event is not the last")
	}
}

func TestReaderNeverReads(t *testing.T) {
	w := &stuck{release: make(chan struct{})}
	defer close(w.release)
	p := NewPlain(w)
	p.Update(watch.View{Marks: marks})
	within(t, closePatience+sec, "Close", p.Close)
}

// gone is a writer whose reader has gone.
type gone struct{ writes int }

func (g *gone) Write([]byte) (int, error) {
	g.writes++
	return 0, errors.New("broken pipe")
}

func TestReaderGone(t *testing.T) {
	w := &gone{}
	p := NewPlain(w)
	p.Update(watch.View{Marks: marks})
	p.Close()
	if w.writes != 1 {
		t.Errorf("%d writes to a reader who has gone", w.writes)
	}
}

// screen is a terminal whose output is collected.
type screen struct {
	tty  *os.File
	mu   sync.Mutex
	text strings.Builder
	done chan struct{}
	ptmx *os.File
}

func newScreen(t *testing.T, cols uint16) *screen {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(ptmx, &pty.Winsize{Rows: 25, Cols: cols}); err != nil {
		t.Fatal(err)
	}
	s := &screen{tty: tty, ptmx: ptmx, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 4096)
		for {
			n, err := ptmx.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return // EIO: the other side is closed
			}
		}
	}()
	t.Cleanup(func() { _ = ptmx.Close() })
	return s
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// waitFor waits until the screen has shown text.
func (s *screen) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(5 * sec); !strings.Contains(s.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never shown: %q; shown: %q", text, s)
		}
	}
}

// rendered is what stands on the screen: mpb moves up n lines and clears to the end of the screen, no more than that.
func rendered(text string) string {
	var lines []string
	for chunk := range strings.SplitSeq(text, "\x1b[J") {
		up := 0
		if i := strings.LastIndex(chunk, "\x1b["); i >= 0 && strings.HasSuffix(chunk, "A") {
			for _, c := range chunk[i+2 : len(chunk)-1] {
				up = up*10 + int(c-'0')
			}
			chunk = chunk[:i]
		}
		lines = append(lines, strings.SplitAfter(chunk, "\n")...)
		if n := len(lines); n > 0 && lines[n-1] == "" {
			lines = lines[:n-1]
		}
		lines = lines[:max(0, len(lines)-up)]
	}
	return strings.ReplaceAll(strings.Join(lines, ""), "\r\n", "\n")
}

func TestTerminal(t *testing.T) {
	s := newScreen(t, 60)
	d := For(s.tty, false, "xterm", nil)
	if _, ok := d.(*Terminal); !ok {
		t.Fatalf("%T on a terminal", d)
	}
	v := watch.View{
		Elapsed: 72 * sec, Phase: "linux-disk", PhaseElapsed: 30 * sec,
		Step: "x", StepName: "build: d", StepNumber: 4, Steps: 8, StepsDone: 3, StepElapsed: 5 * sec, LogTail: []string{"cc " + strings.Repeat("ö日", 50)}, Marks: marks[:2],
	}
	d.Update(v)
	s.waitFor(t, "| cc ")
	s.waitFor(t, "step 4 of 8 build: d 5.0 s")
	s.waitFor(t, "linux-disk 30.0 s · 1m12s in all")
	v.Import, v.Silent = watch.Import{Name: "b.tar", Done: 1 << 20, Total: 4 << 20}, 12*sec
	v.Marks = marks
	d.Update(v)
	s.waitFor(t, "1.0 MiB of 4.0 MiB b.tar")
	s.waitFor(t, "silent for 12.0 s")
	d.Close()
	if err := s.tty.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.done
	if diff := cmp.Diff(plain, rendered(s.String())); diff != "" {
		t.Errorf("left on the screen (-want +got):\n%s\nraw: %q", diff, s)
	}
}

// TestTerminalRows looks at the lines that change in place, at several widths.
func TestTerminalRows(t *testing.T) {
	v := watch.View{
		Elapsed: 10 * sec, Phase: "start", PhaseElapsed: 10 * sec, Steps: 4, StepsDone: 1, LogTail: []string{"日本語 text"},
	}
	running := v
	running.Step, running.StepName = "x", "build: x"
	importing := v
	importing.Import = watch.Import{Name: "root filesystem", Done: 2 << 30}
	over := v
	over.Import = watch.Import{Name: "n", Done: 9, Total: 3}
	fast := v
	fast.Import = watch.Import{Name: "n", Done: 3 << 20, Total: 6 << 20, Rate: 3 << 19}
	hour := func(watch.View) (time.Duration, bool) { return time.Hour, true }
	unknown := func(watch.View) (time.Duration, bool) { return time.Hour, false }
	newest := func(v watch.View, _ int) string { return logRow(v, 0) }
	tests := []struct {
		name  string
		row   func(watch.View, int) string
		v     watch.View
		width int
		want  string
	}{
		{"phase", (&Terminal{}).phaseRow, v, 80, "start 10.0 s"},
		{"steps", workRow, v, 60, "[=====               ] 1 of 4 steps"},
		{"steps, narrow", workRow, v, 10, " 1 of 4 ste"},
		{"running, no number", workRow, running, 30, "[==        ]  build: x 0.0 s"},
		{"import of unknown size", workRow, importing, 80, "2.0 GiB root filesystem"},
		{"import beyond its size", workRow, over, 15, "[=====] 9 B of…"},
		{"import with a rate", workRow, fast, 80, "[=============             ] 3.0 MiB of 6.0 MiB (1.5 MiB/s) n"},
		{"phase with an estimate", (&Terminal{left: hour}).phaseRow, v, 80, "start 10.0 s · about 1h00m left"},
		{"phase of nobody's experience", (&Terminal{left: unknown}).phaseRow, v, 80, "start 10.0 s"},
		{"log", newest, v, 80, "| 日本語 text"},
		{"log, cut", newest, v, 6, "| 日…"},
		{"nothing to say", workRow, watch.View{}, 80, ""},
		{"no log", newest, watch.View{}, 80, ""},
		{"no room", newest, v, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := cut(tt.row(tt.v, tt.width), tt.width)
			if tt.name == "steps, narrow" {
				tt.want = " 1 of 4 s…"
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTerminalClosed closes the terminal in the middle of a run.
func TestTerminalClosed(t *testing.T) {
	s := newScreen(t, 80)
	d := NewTerminal(s.tty, nil)
	d.Update(watch.View{Phase: "init", Marks: marks[:1]})
	s.waitFor(t, "init")
	if err := s.ptmx.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, closePatience+2*sec, "going on", func() {
		for i := range len(marks) {
			d.Update(watch.View{Marks: marks[:i]})
			time.Sleep(20 * time.Millisecond)
		}
		d.Close()
	})
}

// TestTerminalStopped has a terminal that takes nothing, as after Ctrl-S: nobody reads the other side.
func TestTerminalStopped(t *testing.T) {
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(ptmx.Close(), tty.Close()) })
	if err := pty.Setsize(ptmx, &pty.Winsize{Rows: 25, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	d := NewTerminal(tty, nil)
	many := make([]watch.Mark, 5000)
	for i := range many {
		many[i] = watch.Mark{Kind: watch.MarkNote, Text: strings.Repeat("x", 70)}
	}
	within(t, closePatience+2*sec, "going on", func() {
		for i := range many {
			d.Update(watch.View{LogTail: []string{"x"}, Marks: many[:i]})
		}
		time.Sleep(300 * time.Millisecond)
		d.Update(watch.View{LogTail: []string{"x"}, Marks: many})
		d.Close()
	})
}

func TestFor(t *testing.T) {
	s := newScreen(t, 80)
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if d, ok := For(file, false, "xterm", nil).(*Plain); !ok {
		t.Errorf("%T for a file", d)
	} else {
		d.Close()
	}
	if d, ok := For(s.tty, false, "dumb", nil).(*Plain); !ok {
		t.Errorf("%T for a dumb terminal", d)
	} else {
		d.Close()
	}
	if d, ok := For(s.tty, true, "xterm", nil).(*JSON); !ok {
		t.Errorf("%T for a program", d)
	} else {
		d.Close()
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-sec: "0.0 s", 0: "0.0 s", 59*sec + 999*time.Millisecond: "59.9 s", 60 * sec: "1m00s", 3599 * sec: "59m59s",
		time.Hour: "1h00m", 100*time.Hour + 59*time.Minute: "100h59m",
	} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %q, want %q", d, got, want)
		}
	}
}
