// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/event"
)

// journal is what an agent writes that is cut short in step 5, fails in step 6, and goes on.
func journal(t testing.TB) []byte {
	t.Helper()
	step := func(n int, name, id string, status event.Status, ms, took int64) event.Event {
		return event.Event{Kind: event.KindStep, Number: n, Name: name, Step: id, Status: status, TimeMS: ms, DurationMS: took}
	}
	events := []event.Event{
		{Kind: event.KindPlan, Name: "boot-a", Total: 7},
		step(4, "jump: move_disk", "004-jump-move_disk", event.StatusStart, 1000, 0),
		step(4, "jump: move_disk", "004-jump-move_disk", event.StatusOK, 8100, 7100),
		{Kind: event.KindPlan, Name: "boot-a", Total: 7},
		step(5, "build: bash-5.2", "005-build-bash-5.2-pass1", event.StatusStart, 9000, 0),
		{Kind: event.KindPlan, Name: "boot-b", Total: 7},
		step(5, "build: bash-5.2", "005-build-bash-5.2-pass1", event.StatusStart, 3_600_000, 0),
		step(5, "build: bash-5.2", "005-build-bash-5.2-pass1", event.StatusOK, 3_700_000, 100_000),
		step(6, "build: bash-5.2", "006-build-bash-5.2-pass2", event.StatusStart, 3_700_000, 0),
		{Kind: event.KindStep, Number: 6, Name: "build: bash-5.2", Step: "006-build-bash-5.2-pass2", Status: event.StatusFailed, Exit: 2, Text: "exit status 2\x1b[2J"},
		{Kind: event.KindDone, Status: event.StatusFailed, Text: "exit status 2"},
	}
	var out []byte
	for i, e := range events {
		e.Seq = uint64(i + 1)
		line, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, line...)
	}
	return out
}

func TestRead(t *testing.T) {
	run, err := Read(context.Background(), bytes.NewReader(append(journal(t), "no event\n{\"seq\":1"...)))
	if err != nil {
		t.Fatal(err)
	}
	want := Run{Boots: 2, Total: 7, Status: "failed", Reason: "exit status 2", Bad: 1, Steps: []Step{
		{Number: 4, ID: "004-jump-move_disk", Name: "jump: move_disk", Status: "ok", Tries: 1, Boot: 1, Start: time.Second, Duration: 7100 * time.Millisecond, LogSize: -1},
		{Number: 5, ID: "005-build-bash-5.2-pass1", Name: "build: bash-5.2", Status: "ok", Tries: 2, Boot: 2, Start: time.Hour, Duration: 100 * time.Second, LogSize: -1},
		{Number: 6, ID: "006-build-bash-5.2-pass2", Name: "build: bash-5.2", Status: "failed", Exit: 2, Text: "exit status 2", Tries: 1, Boot: 2, Start: 3700 * time.Second, LogSize: -1},
	}}
	if d := cmp.Diff(want, run); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got := run.Next(); got != 6 {
		t.Errorf("next: %d", got)
	}
	run.Steps[0].LogSize, run.Steps[1].LogSize = 17, 3<<20+100<<10
	var table strings.Builder
	if err := run.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	const wantTable = `step  status   boot       start    duration       log  name
   4  ok          1   0:00:01.0   0:00:07.1      17 B  jump: move_disk
   5  ok          2   1:00:00.0   0:01:40.0   3.0 MiB  build: bash-5.2 (try 2)
   6  failed      2   1:01:40.0           -         -  build: bash-5.2: exit status 2
3 of 7 steps begun, 2 ended well, in 2 boots; the run failed: exit status 2; 1 lines of the journal cannot be read
`
	if d := cmp.Diff(wantTable, table.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// A journal may end anywhere: what is whole counts.
// A step that a person went on without keeps how it failed, and is not the next one.
func TestSkipped(t *testing.T) {
	skipped, err := event.Encode(event.Event{Kind: event.KindStep, Number: 6, Name: "build: bash-5.2", Step: "006-build-bash-5.2-pass2", Status: event.StatusSkipped})
	if err != nil {
		t.Fatal(err)
	}
	run, err := Read(context.Background(), bytes.NewReader(append(journal(t), skipped...)))
	if err != nil {
		t.Fatal(err)
	}
	if s := run.Steps[2]; s.Status != "skipped" || s.Exit != 2 || s.Text != "exit status 2" || run.Next() != 7 || run.Done() != 2 {
		t.Errorf("%+v, next %d, done %d", s, run.Next(), run.Done())
	}
}

func TestReadCut(t *testing.T) {
	whole := journal(t)
	for n := range whole {
		run, err := Read(context.Background(), bytes.NewReader(whole[:n]))
		if err != nil || run.Bad > 0 {
			t.Fatalf("cut to %d bytes: %+v, %v", n, run, err)
		}
		lines := bytes.Count(whole[:n], []byte("\n"))
		for _, tt := range []struct {
			lines  int
			status string
		}{{2, StatusRunning}, {3, "ok"}} {
			if lines == tt.lines && run.Steps[0].Status != tt.status {
				t.Fatalf("%d lines: %+v", lines, run)
			}
		}
		if lines == 6 && run.Steps[1].Status != StatusCut {
			t.Fatalf("a step that a new boot came upon: %+v", run.Steps[1])
		}
	}
}

func TestFind(t *testing.T) {
	run, err := Read(context.Background(), bytes.NewReader(journal(t)))
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{
		"5": "005-build-bash-5.2-pass1", "006-build-bash-5.2-pass2": "006-build-bash-5.2-pass2", "pass2": "006-build-bash-5.2-pass2",
		"jump: move_disk": "004-jump-move_disk", "move": "004-jump-move_disk", "bash": "", "build: bash-5.2": "", "7": "", "../../etc/passwd": "",
	} {
		got, err := run.Find(what)
		if got.ID != want || (want == "") != errors.Is(err, ErrStep) {
			t.Errorf("%s: %q, %v", what, got.ID, err)
		}
	}
	for id, want := range map[string]string{"005-a+b_c.d": "005-a+b_c.d.log", "../x": "", "..": "", "": "", strings.Repeat("x", 201): "", "a\nb": ""} {
		if got := (Step{ID: id}).LogName(); got != want {
			t.Errorf("%q: %q", id, got)
		}
	}
}

func TestCopyText(t *testing.T) {
	var out strings.Builder
	if err := CopyText(&out, strings.NewReader("one\r\n\x1b]0;title\x07two\x1b[31m\n"+strings.Repeat("x", 70000)+"\nend")); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 6 || lines[0] != "one" || lines[1] != "two" || len(lines[2])+len(lines[3]) != 70000 || lines[4] != "end" {
		t.Errorf("%d lines: %.40q", len(lines), lines)
	}
}

func FuzzRead(f *testing.F) {
	seed := journal(f)
	if run, err := Read(context.Background(), bytes.NewReader(seed)); err != nil || run.Bad > 0 || len(run.Steps) != 3 {
		f.Fatalf("the seed does not parse: %+v, %v", run, err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		run, err := Read(context.Background(), bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := run.WriteTable(&out); err != nil || strings.ContainsAny(out.String(), "\x1b\x07") {
			t.Errorf("%v: %q", err, out.String())
		}
	})
}

// A journal without an end costs a bounded time, and the first signal ends it.
func TestEndless(t *testing.T) {
	if _, err := Read(t.Context(), zeros{}); !errors.Is(err, ErrTooLong) {
		t.Errorf("zeros: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, zeros{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
