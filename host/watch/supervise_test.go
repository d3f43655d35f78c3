// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/audit"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/internal/event"
)

// machine is a process in a test's hands.
type machine struct {
	done    chan struct{}
	once    sync.Once
	exit    string
	stopErr error
	deaf    bool // Stop does not end it
	stops   int
}

func newMachine() *machine { return &machine{done: make(chan struct{})} }

func (m *machine) end(exit string) {
	m.once.Do(func() {
		m.exit = exit
		close(m.done)
	})
}

func (m *machine) Done() <-chan struct{} { return m.done }
func (m *machine) ExitText() string      { return m.exit }
func (m *machine) Stop(context.Context) error {
	m.stops++
	if !m.deaf {
		m.end("exit status 0")
	}
	return m.stopErr
}

// recorder is a sink that remembers.
type recorder struct {
	views  []View
	events []event.Event
}

func (r *recorder) Update(v View)       { r.views = append(r.views, v) }
func (r *recorder) Event(e event.Event) { r.events = append(r.events, e) }

// writer is a port of a machine in a test's hands.
type writer struct {
	t *testing.T
	f *os.File
}

func (w writer) write(text string) {
	w.t.Helper()
	if _, err := w.f.WriteString(text); err != nil {
		w.t.Error(err)
	}
}

// port gives the two ends of one.
func port(t *testing.T) (Source, writer) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, writer{t, w}
}

// testRun is a run whose ports the test writes to.
type testRun struct {
	Run
	console, events, output writer
}

func newRun(t *testing.T) (*testRun, *machine, *recorder) {
	t.Helper()
	dir, err := rundir.Create(rundir.Options{Path: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	m, r := newMachine(), &recorder{}
	run := &testRun{Run: Run{Process: m, Dir: dir, Options: testOptions(), Sink: r, Report: report.Report{Label: "test"}}}
	run.Console, run.console = port(t)
	run.Events, run.events = port(t)
	run.Output, run.output = port(t)
	return run, m, r
}

const failedRun = `{"seq":1,"ms":1,"kind":"phase","name":"steps"}
{"seq":2,"ms":2,"kind":"plan","total":1}
{"seq":3,"ms":3,"kind":"step","step":"001-build-a","name":"build: a","n":1,"status":"start"}
{"seq":4,"ms":4,"kind":"log","step":"001-build-a","text":"cc \u001b[31m-c a.c"}
{"seq":5,"ms":5,"kind":"log","step":"../../evil","text":"x"}
garbage
{"seq":6,"ms":6,"kind":"step","step":"001-build-a","name":"build: a","n":1,"status":"failed","exit":2,"duration_ms":3}
{"seq":7,"ms":7,"kind":"done","status":"failed","reason":"step","step":"001-build-a","exit":2}`

func TestSuperviseFailedStep(t *testing.T) {
	r, m, sink := newRun(t)
	r.console.write("Linux version 6.1\r\nstarting\r\n")
	r.events.write(failedRun[:300])
	time.AfterFunc(120*time.Millisecond, func() {
		r.events.write(failedRun[300:]) // the last line has no newline
		m.end("exit status 0")
	})
	v := Supervise(t.Context(), r.Run)
	log := r.Dir.At("steps/001-build-a.log")
	want := Verdict{Result: report.ResultStep, Phase: "steps", Step: "001-build-a", Log: log,
		Line: "step 1 of 1 (build: a) failed with exit status 2 in phase steps"}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Fatalf("verdict (-want +got):\n%s", diff)
	}
	if want := want.Line + "; log: " + log; v.String() != want || v.ExitStatus() != 10 {
		t.Errorf("String %q, status %d; want %q", v, v.ExitStatus(), want)
	}
	if diff := cmp.Diff(map[string]string{"001-build-a.log": "cc -c a.c\n"}, contents(t, r.Dir.At(rundir.Steps))); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
	if len(sink.events) != 7 || len(sink.views) < 2 || m.stops != 0 {
		t.Errorf("%d events, %d views, %d stops", len(sink.events), len(sink.views), m.stops)
	}
	doc, err := report.Read(r.Dir.At(rundir.Report))
	if err != nil {
		t.Fatal(err)
	}
	if doc.Result != report.ResultStep || doc.ExitStatus != 10 || doc.Label != "test" || len(doc.Steps) != 1 ||
		doc.Steps[0].Log != "steps/001-build-a.log" || doc.Log != "steps/001-build-a.log" || len(doc.Phases) != 2 {
		t.Errorf("report %+v", doc)
	}
	if diff := cmp.Diff(report.Events{Read: 7, Malformed: 1}, doc.Events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestSuperviseEnds(t *testing.T) {
	tests := []struct {
		name    string
		console string
		events  string
		qemu    string
		exit    string // the machine ends by itself with this; empty: it is stopped
		cancel  bool
		change  func(*Options)
		want    report.Result
		line    string
		log     string
	}{
		{name: "success", events: `{"seq":1,"kind":"done","status":"ok"}` + "\n", exit: "exit status 0",
			want: report.ResultOK, line: "the run ended successfully"},
		{name: "no power-off", events: `{"seq":1,"kind":"done","status":"ok"}` + "\n",
			change: func(o *Options) { o.PowerOff = 50 * time.Millisecond },
			want:   report.ResultOK, line: "the run ended successfully"},
		{name: "panic", console: "Kernel panic - not syncing: x\n",
			change: func(o *Options) { o.PanicGrace = 50 * time.Millisecond },
			want:   report.ResultPanic, line: "kernel panic in phase start", log: "console.log"},
		{name: "hang", console: "loading",
			change: func(o *Options) { o.Rules, o.Patience = nil, 100*time.Millisecond },
			want:   report.ResultHang, line: "hang: no sign of life for", log: "console.log"},
		{name: "QEMU refuses", qemu: "warning: x\nqemu: could not open disk\n", exit: "exit status 1",
			want: report.ResultQEMU, log: "qemu.log",
			line: "QEMU ended (exit status 1) without a final event in phase start: qemu: could not open disk"},
		{name: "interrupt", cancel: true, want: report.ResultInterrupted, line: "interrupted in phase start",
			log: "console.log"},
		{name: "flood", events: strings.Repeat("x", 2000),
			change: func(o *Options) { o.MaxOutput = 1000 },
			want:   report.ResultInternal, line: "stopped: console, events and step logs have reached the run's limit of 1000 bytes", log: "console.log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, m, _ := newRun(t)
			if tt.change != nil {
				tt.change(&r.Options)
			}
			r.console.write(tt.console)
			r.events.write(tt.events)
			r.output.write(tt.qemu)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.exit != "" {
				m.end(tt.exit)
			}
			if tt.cancel {
				cancel()
			}
			v := Supervise(ctx, r.Run)
			if v.Result != tt.want || !strings.HasPrefix(v.Line, tt.line) {
				t.Errorf("verdict %+v, want %s %q", v, tt.want, tt.line)
			}
			if got := r.Dir.Rel(v.Log); got != tt.log {
				t.Errorf("log %q, want %q", got, tt.log)
			}
			if stopped := m.stops == 1; stopped != (tt.exit == "") {
				t.Errorf("%d stops", m.stops)
			}
			doc, err := report.Read(r.Dir.At(rundir.Report))
			if err != nil || doc.Result != tt.want || doc.ExitStatus != tt.want.ExitStatus() {
				t.Errorf("report: %s, %d, %v", doc.Result, doc.ExitStatus, err)
			}
		})
	}
}

// TestSuperviseAliveAfterPanicWords has the words of a panic on the console and events after them.
func TestSuperviseAliveAfterPanicWords(t *testing.T) {
	r, m, _ := newRun(t)
	r.console.write("Kernel panic - not syncing: quoted\n")
	time.AfterFunc(150*time.Millisecond, func() {
		r.events.write(`{"seq":1,"kind":"done","status":"ok"}` + "\n")
		m.end("exit status 0")
	})
	if v := Supervise(t.Context(), r.Run); v.Result != report.ResultOK {
		t.Errorf("verdict %+v", v)
	}
}

// TestSuperviseEventsBeforePanic finds a panic and the events before it at the same time.
func TestSuperviseEventsBeforePanic(t *testing.T) {
	r, m, _ := newRun(t)
	r.events.write(`{"seq":1,"kind":"phase","name":"steps"}` + "\n")
	r.console.write("Kernel panic - not syncing: x\n")
	m.end("exit status 0")
	if v := Supervise(t.Context(), r.Run); v.Result != report.ResultPanic || v.Phase != "steps" {
		t.Errorf("verdict %+v", v)
	}
}

func TestSuperviseHostFaults(t *testing.T) {
	t.Run("no report", func(t *testing.T) {
		r, m, _ := newRun(t)
		r.events.write(`{"seq":1,"kind":"done","status":"ok"}`)
		if err := os.Mkdir(r.Dir.At(rundir.Report), 0o700); err != nil {
			t.Fatal(err)
		}
		m.end("exit status 0")
		v := Supervise(t.Context(), r.Run)
		if v.ExitStatus() != 1 || !strings.Contains(v.Line, "its report is missing; run folder ") {
			t.Errorf("verdict %+v", v)
		}
	})
	t.Run("no folder for logs", func(t *testing.T) {
		r, m, _ := newRun(t)
		if err := os.Remove(r.Dir.At(rundir.Steps)); err != nil {
			t.Fatal(err)
		}
		v := Supervise(t.Context(), r.Run)
		if v.ExitStatus() != 1 || !strings.HasPrefix(v.Line, "the run cannot be watched: step logs: ") || m.stops != 1 {
			t.Errorf("verdict %+v, %d stops", v, m.stops)
		}
		if doc, err := report.Read(r.Dir.At(rundir.Report)); err != nil || doc.Result != report.ResultInternal {
			t.Errorf("report %v, %v", doc.Result, err)
		}
	})
	t.Run("log not writable, stop fails", func(t *testing.T) {
		r, m, _ := newRun(t)
		if err := os.Mkdir(r.Dir.At("steps/001-build-a.log"), 0o700); err != nil {
			t.Fatal(err)
		}
		r.events.write(failedRun + "\n")
		r.Options.PowerOff, m.deaf, m.stopErr = 0, true, errors.New("not permitted")
		time.AfterFunc(200*time.Millisecond, func() { m.end("signal killed") })
		if v := Supervise(t.Context(), r.Run); v.ExitStatus() != 10 || v.Log != r.Dir.At(rundir.ConsoleLog) {
			t.Errorf("verdict %+v", v)
		}
		doc, err := report.Read(r.Dir.At(rundir.Report))
		if err != nil {
			t.Fatal(err)
		}
		notes := strings.Join(doc.Notes, "\n")
		for _, part := range []string{
			"the host could not write: step log: ", "the host could not stop the machine: not permitted",
		} {
			if !strings.Contains(notes, part) {
				t.Errorf("notes %q, want %q", notes, part)
			}
		}
	})
}

// The room is that of the run folder, and is asked for when the machine has ended.
func TestSuperviseNoRoom(t *testing.T) {
	r, m, _ := newRun(t)
	r.Free = func() (uint64, error) { return 0, nil }
	m.end("exit status 0")
	if v := Supervise(t.Context(), r.Run); v.Result != report.ResultInternal || !strings.Contains(v.Line, "disk of the run folder is full") {
		t.Errorf("%+v", v)
	}
	free, err := freeBytes(r.Dir.Path())
	if err != nil || free < minRoom {
		t.Errorf("%d bytes free, %v", free, err)
	}
	if _, err := freeBytes(r.Dir.Path() + "/none"); err == nil {
		t.Error("there is room in a folder that is not there")
	}
}

// A guest that writes without end fills no disk: it is held back, and stopped at the limit.
func TestSuperviseEndless(t *testing.T) {
	r, m, _ := newRun(t)
	r.Options.MaxOutput = 1 << 20
	go func() {
		for text := strings.Repeat("x", 1<<16) + "\n"; ; {
			if _, err := r.console.f.WriteString(text); err != nil {
				return
			}
		}
	}()
	v := Supervise(t.Context(), r.Run)
	if v.Result != report.ResultInternal || m.stops != 1 {
		t.Errorf("verdict %+v, %d stops", v, m.stops)
	}
	if size := r.Dir.Size(rundir.ConsoleLog); size != 1<<20 {
		t.Errorf("the console log has %d bytes", size)
	}
}

// What a machine wrote before it was kept is replayed from the logs, a line that was cut at that moment included.
func TestSuperviseReplay(t *testing.T) {
	r, m, sink := newRun(t)
	r.Replay = true
	for name, text := range map[string]string{rundir.Events: failedRun[:200], rundir.ConsoleLog: "Linux version 6.1\nhalf"} {
		if err := r.Dir.Write(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	r.events.write(failedRun[200:])
	m.end("exit status 0")
	if v := Supervise(t.Context(), r.Run); v.Result != report.ResultStep || len(sink.events) != 7 {
		t.Errorf("verdict %+v, %d events", v, len(sink.events))
	}
	if data, err := r.Dir.Read(rundir.Events, 1<<20); err != nil || string(data) != failedRun {
		t.Errorf("%v\n%s", err, data)
	}
}

// A guest without an event port gets its final event from what drives it.
func TestSuperviseFinal(t *testing.T) {
	r, m, sink := newRun(t)
	r.Events = nil
	r.Final = func(said string) event.Event {
		return event.Event{Seq: 1, Kind: event.KindDone, Status: event.StatusFailed, Reason: event.ReasonStep, Text: said}
	}
	r.console.write("one\n\x1b[31mlast words\n\n")
	m.end("exit status 0")
	if v := Supervise(t.Context(), r.Run); v.Result != report.ResultStep || !strings.HasSuffix(v.Line, ": last words") || len(sink.events) != 1 {
		t.Errorf("verdict %+v, %d events", v, len(sink.events))
	}
	if data, err := r.Dir.Read(rundir.Events, 1<<20); err != nil || !strings.Contains(string(data), `"done"`) {
		t.Errorf("%v\n%s", err, data)
	}
}

// A success that the guest reports is one only if the audit finds nothing against it; other ends are not audited.
func TestSuperviseAudit(t *testing.T) {
	const done = `{"seq":1,"ms":1,"kind":"done","status":"ok"}` + "\n"
	doubt := audit.Finding{Audit: report.Audit{Steps: report.StepsIncomplete, Owed: 2, Missing: []string{"002-build-b"}},
		Doubt: "the guest reports success, \x1b[31mbut", Step: "002-build-b"}
	clean := audit.Finding{Audit: report.Audit{Steps: report.StepsComplete, Owed: 2, Journal: report.JournalChecked}}
	for _, tt := range []struct {
		name, events string
		found        audit.Finding
		result       report.Result
		status       int
		line         string
		audits       int
	}{
		{"complete", done, clean, report.ResultOK, 0, "the run ended successfully", 1},
		{"a step is missing", done, doubt, report.ResultInconsistent, 16, "the guest reports success, but", 1},
		{"no final event", "", doubt, report.ResultQEMU, 15, "QEMU ended (exit status 0) without a final event in phase start", 0},
	} {
		r, m, _ := newRun(t)
		r.events.write(tt.events)
		audits := 0
		r.Audit = func(context.Context) audit.Finding { audits++; return tt.found }
		m.end("exit status 0")
		v := Supervise(t.Context(), r.Run)
		doc, err := report.Read(r.Dir.At(rundir.Report))
		if err != nil {
			t.Fatal(err)
		}
		if v.Result != tt.result || v.ExitStatus() != tt.status || v.Line != tt.line || audits != tt.audits {
			t.Errorf("%s: %s, %d audits", tt.name, v, audits)
		}
		if doc.Result != tt.result || doc.ExitStatus != tt.status || (doc.Audit != nil) != (tt.audits > 0) {
			t.Errorf("%s: report %s, %d, %v", tt.name, doc.Result, doc.ExitStatus, doc.Audit)
		}
		if doc.Audit != nil && cmp.Diff(tt.found.Audit, *doc.Audit) != "" {
			t.Errorf("%s: %s", tt.name, cmp.Diff(tt.found.Audit, *doc.Audit))
		}
	}
}

// A run that goes on with logs beyond its limit is stopped, with a report.
func TestSuperviseOverLimit(t *testing.T) {
	r, m, _ := newRun(t)
	r.Options.MaxOutput = 10
	if err := r.Dir.Write(rundir.ConsoleLog, []byte("much more than that\n")); err != nil {
		t.Fatal(err)
	}
	r.console.write("more\n")
	if v := Supervise(t.Context(), r.Run); v.Result != report.ResultInternal || m.stops != 1 {
		t.Errorf("verdict %+v, %d stops", v, m.stops)
	}
}
