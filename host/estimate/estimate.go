// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package estimate says how long a run will still take, from how long earlier runs took from the same point on.
//
// It reads the reports of runs beside the present one, which may be anybody's files: what cannot be read, or did not
// succeed, or ran something else or on another accelerator, is passed over. It is called by cmd/host.
package estimate

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"kindling/host/report"
	"kindling/host/watch"
)

// maxRuns is how many earlier runs are enough, the newest of them.
const maxRuns = 5

// maxLooked is how many folders are looked into at most: who has thousands of runs gets an estimate from the newest.
const maxLooked = 200

// Estimator knows earlier runs.
type Estimator struct{ runs []timeline }

// timeline is when everything began and ended in an earlier run, from its start.
type timeline struct {
	steps  map[string]span // by the step's ID
	phases map[string]span // by the phase's name, its first occurrence
	total  time.Duration
}

type span struct{ start, duration time.Duration }

// New makes an estimator from reports of successful runs.
func New(reports []report.Report) *Estimator {
	e := &Estimator{}
	for _, r := range reports {
		t := timeline{steps: make(map[string]span), phases: make(map[string]span), total: time.Duration(r.Duration)}
		for _, p := range r.Phases {
			if _, ok := t.phases[p.Name]; !ok {
				t.phases[p.Name] = span{time.Duration(p.Start), time.Duration(p.Duration)}
			}
		}
		for _, s := range r.Steps {
			t.steps[s.ID] = span{time.Duration(s.Start), time.Duration(s.Duration)}
		}
		e.runs = append(e.runs, t)
	}
	return e
}

// Load makes an estimator from the newest runs below base that ran what is called label with the accelerator accel, and
// succeeded. Without any it is one that never knows.
func Load(base, label, accel string) *Estimator {
	entries, err := os.ReadDir(base)
	if err != nil {
		return New(nil)
	}
	slices.Reverse(entries) // names of runs begin with their time
	var reports []report.Report
	looked := 0
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if looked++; looked > maxLooked || len(reports) == maxRuns {
			break
		}
		r, err := report.Read(filepath.Join(base, entry.Name(), "report.json"))
		if err == nil && r.Result == report.ResultOK && r.Label == label && r.Accel == accel {
			reports = append(reports, r)
		}
	}
	return New(reports)
}

// Runs is how many earlier runs the estimates come from.
func (e *Estimator) Runs() int { return len(e.runs) }

// Left is how long the run will still take: the median of what the earlier ones took from the same point on. The second
// result is false when none of them has been there.
func (e *Estimator) Left(v watch.View) (time.Duration, bool) {
	var all []time.Duration
	for _, t := range e.runs {
		s, ok := t.steps[v.Step]
		gone := v.StepElapsed
		if !ok || v.Step == "" {
			s, ok = t.phases[v.Phase]
			gone = v.PhaseElapsed
		}
		if !ok {
			continue
		}
		all = append(all, max(0, t.total-s.start-min(gone, s.duration)))
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	return all[len(all)/2], true
}
