// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package estimate

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kindling/host/report"
	"kindling/host/watch"
)

// past is a run of n minutes: a kernel for one minute, then two steps of equal length.
func past(n int) report.Report {
	const minute = report.Seconds(time.Minute)
	steps := report.Seconds(n-1) * minute / 2
	return report.Report{
		Label: "demo", Accel: "tcg", Result: report.ResultOK, Duration: report.Seconds(n) * minute,
		Phases: []report.Phase{{Name: "kernel", Duration: minute}, {Name: "disk", Start: minute, Duration: 2 * steps}},
		Steps:  []report.Step{{ID: "1-a", Start: minute, Duration: steps}, {ID: "2-b", Start: minute + steps, Duration: steps}},
	}
}

func TestLeft(t *testing.T) {
	three := []report.Report{past(21), past(11), past(61)}
	for _, tc := range []struct {
		name string
		runs []report.Report
		view watch.View
		want time.Duration
		ok   bool
	}{
		{"nothing known", nil, watch.View{Phase: "kernel"}, 0, false},
		{"never been there", three, watch.View{Phase: "elsewhere"}, 0, false},
		{"at the start", three, watch.View{Phase: "kernel"}, 21 * time.Minute, true},
		{"half the kernel", three, watch.View{Phase: "kernel", PhaseElapsed: 30 * time.Second}, 20*time.Minute + 30*time.Second, true},
		{"longer than ever", three, watch.View{Phase: "kernel", PhaseElapsed: time.Hour}, 20 * time.Minute, true},
		{"in a step", three, watch.View{Phase: "disk", Step: "2-b", StepElapsed: 4 * time.Minute}, 6 * time.Minute, true},
		{"unknown step of a known phase", three, watch.View{Phase: "disk", PhaseElapsed: 5 * time.Minute, Step: "3-c"}, 15 * time.Minute, true},
		{"a run that says it took no time", []report.Report{{Phases: []report.Phase{{Name: "kernel", Start: report.Seconds(time.Hour)}}}},
			watch.View{Phase: "kernel"}, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, ok := New(tc.runs).Left(tc.view); got != tc.want || ok != tc.ok {
				t.Errorf("%s, %t; want %s, %t", got, ok, tc.want, tc.ok)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	base := t.TempDir()
	put := func(name string, change func(*report.Report)) {
		r := past(11)
		change(&r)
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
		data, err := report.Encode(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(base, name, "report.json"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 7 {
		put(fmt.Sprintf("2026010%d", i), func(r *report.Report) { r.Duration = report.Seconds(time.Duration(i+2) * time.Minute) })
	}
	put("20260201-failed", func(r *report.Report) { r.Result = report.ResultStep })
	put("20260202-other", func(r *report.Report) { r.Label = "another" })
	put("20260203-kvm", func(r *report.Report) { r.Accel = "kvm" })
	for name, text := range map[string]string{"20260204-broken": "{", "20260205-none": ""} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(base, name, "report.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := Load(base, "demo", "tcg")
	if e.Runs() != maxRuns {
		t.Errorf("%d runs, want %d", e.Runs(), maxRuns)
	}
	if left, ok := e.Left(watch.View{Phase: "kernel"}); !ok || left != 6*time.Minute { // of 8, 7, 6, 5, 4
		t.Errorf("left %s, %t", left, ok)
	}
	if n := Load(filepath.Join(base, "none"), "demo", "tcg").Runs(); n != 0 {
		t.Errorf("%d runs where there are none", n)
	}
}
