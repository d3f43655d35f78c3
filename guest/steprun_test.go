// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kindling/guest/port"
	"kindling/guest/proc"
	"kindling/internal/event"
	"kindling/steps"
)

// stuck is a terminal, or a serial line, that takes nothing until it is let go.
type stuck struct {
	free chan struct{}
	buf  safeBuffer
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.free
	return s.buf.Write(b)
}

// testAgent is an agent with a reaper, whose console and event port are given. Everything ends with the test.
func testAgent(t *testing.T, console, events io.Writer) *agent {
	t.Helper()
	a := newAgent()
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = func(error) { cancel() }
	var running sync.WaitGroup
	running.Go(func() { a.reaper.Run(ctx) })
	running.Go(func() { a.console.run(ctx, console) })
	running.Go(func() { a.port.Run(ctx, events, nil) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return a
}

// floodBytes is what the step of TestFlood prints at least; KINDLING_FLOOD_MIB makes it more.
const floodBytes = 24 << 20

// A step that floods is not slowed down by a console and an event port that take nothing at all; its log has every byte,
// and both say afterwards how much they have left out.
func TestFlood(t *testing.T) {
	want := int64(floodBytes)
	if mib, err := strconv.Atoi(os.Getenv("KINDLING_FLOOD_MIB")); err == nil {
		want = int64(mib) << 20
	}
	console, events := &stuck{free: make(chan struct{})}, &stuck{free: make(chan struct{})}
	a := testAgent(t, console, events)
	dir := t.TempDir()
	log, err := openLog(dir, "001-x", a.console, func(line string) { a.port.Send(event.Event{Kind: event.KindLog, Step: "001-x", Text: line}) })
	if err != nil {
		t.Fatal(err)
	}
	j := &job{agent: a, step: steps.Step{}, log: log}
	lines := want / 9 // "12345678\n"
	began := time.Now()
	if err := j.run(t.Context(), "/bin/sh", "sh", "-c", fmt.Sprintf("exec seq 10000000 %d", 10000000+lines-1)); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB in %s", lines*9>>20, time.Since(began))
	f, err := os.Open(filepath.Join(dir, "001-x.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, n := bufio.NewScanner(f), int64(0)
	for ; in.Scan(); n++ {
		if got, err := strconv.ParseInt(in.Text(), 10, 64); err != nil || got != 10000000+n {
			t.Fatalf("line %d of the log is %q", n+1, in.Text())
		}
	}
	if n != lines {
		t.Errorf("%d lines in the log, want %d", n, lines)
	}
	close(console.free)
	close(events.free)
	a.note("the end")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := a.port.Flush(ctx); err != nil {
		t.Error(err)
	}
	for !a.console.flushed() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	a.note("again") // what was left out is told with the next word behind it
	if err := a.port.Flush(ctx); err != nil {
		t.Error(err)
	}
	if got := console.buf.String(); !strings.Contains(got, "bytes of output dropped here") {
		t.Errorf("console: %q", got)
	}
	if got := events.buf.String(); !strings.Contains(got, "the event port was too slow: ") {
		t.Errorf("events end in %q", got[max(0, len(got)-500):])
	}
}

func TestPace(t *testing.T) {
	const mib = 1 << 20
	type look struct {
		at    time.Duration
		total int64
		text  string // part of it
	}
	for _, tt := range []struct {
		name  string
		looks []look
	}{
		{"as usual", []look{{10 * time.Second, 1000, ""}, {20 * time.Second, 10*mib - 1, ""}, {30 * time.Second, 10*mib + 1, ""}}},
		{"a flood is said again with growing intervals", []look{
			{10 * time.Second, 30 * mib, "prints 3.0 MiB a second, 30 MiB so far"}, {20 * time.Second, 60 * mib, ""}, {60 * time.Second, 180 * mib, ""},
			{70 * time.Second, 200 * mib, "2.0 MiB a second"}, {140 * time.Second, 400 * mib, ""}, {190 * time.Second, 500 * mib, "2.0 MiB"},
			{200 * time.Second, 501 * mib, ""},
		}},
		{"silence is said again with growing intervals, and anew after output", []look{
			{time.Minute, 5, ""}, {10 * time.Minute, 5, ""}, {11 * time.Minute, 5, "nothing for 10 minutes"}, {12 * time.Minute, 5, ""},
			{21 * time.Minute, 5, "nothing for 20 minutes"}, {31 * time.Minute, 5, ""}, {41 * time.Minute, 5, "nothing for 40 minutes"},
			{42 * time.Minute, 6, ""}, {51 * time.Minute, 6, ""}, {52 * time.Minute, 6, "nothing for 10 minutes"},
		}},
		{"a clock that stands still or goes back", []look{{0, 100 * mib, ""}, {-time.Hour, 200 * mib, ""}}},
	} {
		start := time.Unix(1e9, 0)
		p := newPace(start)
		for _, l := range tt.looks {
			text, silent := p.look(start.Add(l.at), l.total)
			if (text == "") != (l.text == "") || !strings.Contains(text, l.text) || (silent > 0) != strings.Contains(l.text, "nothing") {
				t.Errorf("%s: at %s: %q, %s; want %q", tt.name, l.at, text, silent, l.text)
			}
		}
	}
}

// Silence must not look like life on the console that the host reads; without a host the console is all there is.
func TestTellPace(t *testing.T) {
	for _, tt := range []struct {
		heard   bool
		silent  time.Duration
		console bool
	}{{true, 0, true}, {true, time.Minute, false}, {false, time.Minute, true}} {
		events := &safeBuffer{}
		a := &agent{console: newConsole(), port: port.New(sinceBoot), reaper: proc.NewReaper(), heard: tt.heard}
		(&job{agent: a}).tellPace("is like that", tt.silent)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.port.Run(ctx, events, nil) })
		_ = a.port.Flush(ctx)
		cancel()
		running.Wait()
		if said := len(a.console.waiting) > 0; said != tt.console || !strings.Contains(events.String(), `"kind":"pace"`) {
			t.Errorf("%+v: console %v, events %s", tt, said, events.String())
		}
	}
}

func TestJobsFor(t *testing.T) {
	const gib = 1 << 20 // in KiB
	for _, tt := range []struct {
		name string
		jobs int
		m    memory
		want int
	}{
		{"plenty", 4, memory{availableKiB: 8 * gib}, 4},
		{"exactly enough", 4, memory{availableKiB: 4 * jobKiB}, 4},
		{"a little less", 4, memory{availableKiB: 4*jobKiB - 1}, 3},
		{"swap counts half", 4, memory{availableKiB: jobKiB, swapFreeKiB: 4 * jobKiB}, 3},
		{"next to nothing", 4, memory{availableKiB: 1}, 1},
		{"nothing", 64, memory{}, 1},
		{"stalled", 8, memory{availableKiB: 8 * gib, stalled: 20}, 4},
		{"stalled, one job", 1, memory{availableKiB: 8 * gib, stalled: 90}, 1},
		{"hardly stalled", 8, memory{availableKiB: 8 * gib, stalled: 19.9}, 8},
		{"no jobs", 0, memory{availableKiB: 8 * gib}, 1},
	} {
		if got := jobsFor(tt.jobs, tt.m); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestMemoryFiles(t *testing.T) {
	var m memory
	if !m.parse(strings.NewReader("MemTotal: 9 kB\nMemAvailable:   2048 kB\nSwapFree:\t512 kB\nX: y\n\n")) || m != (memory{availableKiB: 2048, swapFreeKiB: 512}) {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{"", "MemAvailable: -1 kB\n", "MemAvailable: 99999999999999999999 kB\n", "MemAvailable:\n"} {
		if (&memory{}).parse(strings.NewReader(bad)) {
			t.Errorf("%q says something", bad)
		}
	}
	for text, want := range map[string]float64{
		"some avg10=1.00 avg60=2.50 avg300=3.00 total=1\nfull avg10=9 avg60=9 avg300=9 total=9\n": 2.5,
		"": 0, "full avg60=5\n": 0, "some avg60=x\n": 0, "some avg60=-1\n": 0, "some avg60=NaN\n": 0, "some avg60=101\n": 0,
	} {
		if got := someStalled(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if m, known := readMemory(); !known || m.availableKiB == 0 {
		t.Errorf("this machine: %+v, %v", m, known)
	}
}

// What a failed step is told of is what was killed during that step, and a massacre does not flood the console.
func TestKillsInStep(t *testing.T) {
	var k kills
	if k.explain() != nil {
		t.Error("nothing was killed")
	}
	if got := k.add(kill{7, "sh"}); got != "memory has run out: the kernel killed process 7 (sh)" {
		t.Errorf("%q", got)
	}
	k.begin("build: gcc")
	if k.explain() != nil {
		t.Error("that was before the step")
	}
	for i := range maxKills + 5 {
		if got := k.add(kill{i, "cc1plus"}); (got == "") != (i >= maxKills) || i == 0 && !strings.Contains(got, "during build: gcc") {
			t.Errorf("%d: %q", i, got)
		}
	}
	if got := k.explain(); got == nil || !strings.Contains(got.Error(), "15 processes") || !strings.Contains(got.Error(), "cc1plus (process 14)") {
		t.Error(got)
	}
}

func TestParseKmsg(t *testing.T) {
	for _, tt := range []struct {
		record string
		want   kill
	}{
		{"3,9,1,-;Out of memory: Killed process 123 (cc1plus) total-vm:1kB, anon-rss:2kB\n SUBSYSTEM=x\n", kill{123, "cc1plus"}},
		{"3,9,1,-;Out of memory: Kill process 45 (cc1) score 900 or sacrifice child\n", kill{45, "cc1"}},
		{"3,9,1,-;Memory cgroup out of memory: Killed process 5 (x) total-vm", kill{5, "x"}},
		{`3,9,1,-;Out of memory: Killed process 6 (a) (b\x1b[31m) total-vm`, kill{6, `a) (b\x1b[31m`}},
		{"3,9,1,-;Out of memory: Killed process 6 (\x1b[31mred) x", kill{6, "red"}},
		{"11,9,1,-;Out of memory: Killed process 123 (forged) total-vm", kill{}},
		{"3,9,1,-;somebody says: Out of memory: Killed process 1 (x)", kill{}},
		{"3,9,1,-;Out of memory: Killed process -1 (x)", kill{}},
		{"3,9,1,-;Out of memory: Killed process 99999999999999999999 (x)", kill{}},
		{"3,9,1,-;usb 1-1: new device\n", kill{}},
		{"Out of memory: Killed process 123 (x)", kill{}}, {"x,1;Out of memory: Killed process 1 (x)", kill{}}, {"", kill{}},
	} {
		if got, ok := parseKmsg(tt.record); got != tt.want || ok != (tt.want.pid != 0) {
			t.Errorf("%q: %+v, %v", tt.record, got, ok)
		}
	}
}

func FuzzParseKmsg(f *testing.F) {
	f.Add("3,9,1,-;Out of memory: Killed process 123 (cc1plus) total-vm:1kB, anon-rss:2kB\n SUBSYSTEM=x\n")
	f.Add("3,9,1,-;Out of memory: Kill process 45 (cc1) score 900 or sacrifice child\n")
	f.Fuzz(func(t *testing.T, record string) {
		got, ok := parseKmsg(record)
		if ok && (got.pid <= 0 || len(got.name) > 60 || event.Clean(got.name) != got.name) {
			t.Errorf("%q: %+v", record, got)
		}
	})
}

// Overwritten records are passed over, other errors end the reading; every kill is noted.
func TestReadKernel(t *testing.T) {
	a := &agent{console: newConsole(), port: port.New(sinceBoot)}
	records := [][]byte{[]byte("6,1,1,-;boot\n"), nil, []byte("3,2,1,-;Out of memory: Killed process 12 (ld) total-vm\n")}
	a.readKernel(readerFunc(func(b []byte) (int, error) {
		if len(records) == 0 {
			return 0, io.EOF
		}
		r := records[0]
		records = records[1:]
		if r == nil {
			return 0, fmt.Errorf("read: %w", errOverrun)
		}
		return copy(b, r), nil
	}))
	if !bytes.Contains(a.console.waiting, []byte("the kernel killed process 12 (ld)")) {
		t.Errorf("%q", a.console.waiting)
	}
}

// errOverrun is what /dev/kmsg says when records were overwritten before they could be read.
const errOverrun = syscall.EPIPE

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
