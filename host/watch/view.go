// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"time"

	"kindling/internal/event"
)

// View is how a run stands at one moment. It is a value: it may be kept and read by another goroutine. All text in it
// is clean and short.
type View struct {
	Elapsed      time.Duration // since the start of QEMU
	Phase        string
	PhaseElapsed time.Duration
	Step         string // ID of the running step; empty between steps
	StepName     string
	StepNumber   int
	StepElapsed  time.Duration
	Steps        int      // in the guest's plan; 0 before it is known
	StepsDone    int      // finished, those of earlier boots included
	Import       Import   // zero when no import is running
	LogTail      []string // the newest lines of the step's log, or of the console, oldest first
	Silent       time.Duration
	Waiting      string // for what the guest waits for a person; empty when it does not
	Marks        []Mark // grows only: what was at index i stays there
}

// Import is how far the import of a payload or a download is, in bytes.
type Import struct {
	Name        string
	Done, Total int64 // Total is 0 when nobody knows
	Rate        int64 // bytes a second since it was first heard of; 0: not known yet
}

// MarkKind says what a Mark marks.
type MarkKind string

// The kinds of marks.
const (
	MarkPhase  MarkKind = "phase"  // a phase began; Duration and Text are those of the phase before
	MarkStep   MarkKind = "step"   // a step ended
	MarkImport MarkKind = "import" // an import reached another quarter
	MarkNet    MarkKind = "net"    // something about the network
	MarkNote   MarkKind = "note"   // something a person should know
)

// Mark is something that deserves a line of its own in a plain log of the run.
type Mark struct {
	Kind        MarkKind
	At          time.Duration // since the start of QEMU
	Name        string
	Number      int // of a step
	Total       int // steps in the plan
	Status      event.Status
	Exit        int
	Duration    time.Duration
	Bytes, Size int64 // of an import
	Text        string
}
