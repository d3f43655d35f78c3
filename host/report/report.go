// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package report is the machine-readable account of one run, report.json in the run folder.
//
// It defines the document and reads and writes it; it decides nothing: package watch says how a run ended, cmd/host
// says what was put together for it. Documents are written whole or not at all. It is called by cmd/host and package
// watch.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Schema is the version of the document that this package writes. A field may be added without a new version; one that
// is renamed, removed or changes its meaning makes a new one.
const Schema = 1

// MaxSize is the largest document, in bytes, that Read accepts.
const MaxSize = 64 << 20

// ErrSchema is a document of another version.
var ErrSchema = errors.New("unknown report schema")

// Result names how a run ended. The values are part of the schema.
type Result string

// The results, with the exit status of kindling that belongs to each.
const (
	ResultOK       Result = "ok"       // 0: the guest's final event says so, and nothing contradicts it
	ResultInternal Result = "internal" // 1: Kindling itself failed, on the host or in the guest
	ResultStep     Result = "step"     // 10: a step failed
	ResultAfter    Result = "after"    // 11: an after script failed
	ResultPayload  Result = "payload"  // 12: the payload is missing, cut, corrupt or the wrong one
	ResultPanic    Result = "panic"    // 13: the guest's kernel panicked
	ResultHang     Result = "hang"     // 14: no sign of life for longer than the phase may take
	ResultQEMU     Result = "qemu"     // 15: QEMU ended without a final event
	// ResultInconsistent is 16: the guest's final event is a success, and the ends of its steps, or its journal, are not.
	ResultInconsistent Result = "inconsistent"
	ResultInterrupted  Result = "interrupted" // 130: the user (or a signal) ended the run
)

// ExitStatus is the exit status of kindling for a result; 1 for a value that is none.
func (r Result) ExitStatus() int {
	switch r {
	case ResultOK:
		return 0
	case ResultStep:
		return 10
	case ResultAfter:
		return 11
	case ResultPayload:
		return 12
	case ResultPanic:
		return 13
	case ResultHang:
		return 14
	case ResultQEMU:
		return 15
	case ResultInconsistent:
		return 16
	case ResultInterrupted:
		return 130
	case ResultInternal:
	}
	return 1
}

// Seconds is a span of time, written as a number of seconds with three decimals.
type Seconds time.Duration

// MarshalJSON writes milliseconds as decimals: 1.5 s is 1.500.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Round(time.Millisecond).Seconds(), 'f', 3, 64), nil
}

// UnmarshalJSON reads a number of seconds, to the millisecond.
func (s *Seconds) UnmarshalJSON(data []byte) error {
	const limit = 1e9 // 31 years
	v, err := strconv.ParseFloat(string(data), 64)
	if err != nil || v < -limit || v > limit {
		return fmt.Errorf("%.40q is no number of seconds", data)
	}
	*s = Seconds(time.Duration(v * float64(time.Second)).Round(time.Millisecond))
	return nil
}

// Phase is a part of the run, such as "kernel" or "network". A phase may occur more than once.
type Phase struct {
	Name     string  `json:"name"`
	Start    Seconds `json:"start"` // since the start of the run, by the host's clock
	Duration Seconds `json:"duration"`
}

// Step is one step of the plan, or one after script.
type Step struct {
	Number   int     `json:"number"`
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	Status   string  `json:"status"`        // "ok", "failed", "skipped" (by hand, after it had failed), or "start": it began and never ended
	Exit     int     `json:"exit"`          // its exit status
	Start    Seconds `json:"start"`         // since the start of the run, by the host's clock
	Duration Seconds `json:"duration"`      // by the guest's clock
	Log      string  `json:"log,omitempty"` // relative to the run folder
}

// Medium is one image or file that went into the machine.
type Medium struct {
	Name   string `json:"name"`             // what it is: "kernel", "initramfs", "payload", "target"
	Path   string `json:"path"`             // relative to the run folder where it lies in it
	Size   int64  `json:"size"`             // bytes
	SHA256 string `json:"sha256,omitempty"` // lower-case hex; empty for a disk that the guest writes
}

// Package is one Debian package that the guest's userland was made of.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	SHA256       string `json:"sha256,omitempty"`
}

// Budget is one limit of an early kernel with what the media use of it; "kindling plan --json" explains the words.
type Budget struct {
	ID        string `json:"id"`     // such as "builder-hex0.files"
	Kernel    string `json:"kernel"` // "builder-hex0", "fiwix" or "linux"
	What      string `json:"what"`
	Unit      string `json:"unit"` // "bytes" or "files"
	Limit     int64  `json:"limit"`
	Used      *int64 `json:"used"` // null: cannot be known before it runs
	Certainty string `json:"certainty"`
	Verdict   string `json:"verdict"`
}

// Events counts the event lines.
type Events struct {
	Read       int64 `json:"read"`      // well-formed ones
	Malformed  int64 `json:"malformed"` // lines that were no event
	Missing    int64 `json:"missing"`   // sequence numbers that never came
	Duplicate  int64 `json:"duplicate"` // sequence numbers that came twice, or late
	BadStepIDs int64 `json:"bad_step_ids"`
}

// The values of Audit.Steps besides "unchecked: REASON".
const (
	StepsComplete   = "complete"   // every step that is owed has ended well, or was skipped by hand
	StepsIncomplete = "incomplete" // at least one has not: the result is ResultInconsistent
	StepsUnreported = "unreported" // no agent: steps have no events, and the last script's marker alone decides
)

// The values of Audit.Journal besides "unchecked: REASON".
const (
	JournalChecked = "checked" // it says the same as the events
	JournalDiffers = "differs" // it does not: the result is ResultInconsistent
)

// Audit is what came of comparing a success that the guest reports with the steps that it owes.
type Audit struct {
	Steps   string   `json:"steps"`             // StepsComplete and so on, or "unchecked: REASON"
	Owed    int      `json:"owed"`              // how many steps the agent owes: those of the plan after it has taken over
	Skipped []string `json:"skipped,omitempty"` // IDs of those that were skipped by hand
	Failed  []string `json:"failed,omitempty"`  // IDs of those that failed
	Missing []string `json:"missing,omitempty"` // IDs of those that have no end
	Config  string   `json:"config,omitempty"`  // whose bootstrap.cfg the plan was evaluated with: "guest", or "host: REASON"
	Journal string   `json:"journal"`           // JournalChecked or JournalDiffers, or "unchecked: REASON"
}

// Report is the document. Times of the host's clock are RFC 3339 in UTC, to the millisecond.
type Report struct {
	Schema     int               `json:"schema"`
	Label      string            `json:"label,omitempty"`
	Result     Result            `json:"result"`
	ExitStatus int               `json:"exit_status"`
	Reason     string            `json:"reason,omitempty"` // what the guest, the kernel or QEMU said, in its own words
	Line       string            `json:"line"`             // the one line that the user saw
	Phase      string            `json:"phase,omitempty"`  // where it ended
	Step       string            `json:"step,omitempty"`   // ID of the step where it ended
	Log        string            `json:"log,omitempty"`    // relative to the run folder
	Started    time.Time         `json:"started"`
	Ended      time.Time         `json:"ended"`
	Duration   Seconds           `json:"duration"`
	Phases     []Phase           `json:"phases"`
	Steps      []Step            `json:"steps"`
	Planned    int               `json:"steps_planned"` // what the guest's plan has; 0 when it never said
	Media      []Medium          `json:"media"`
	Budgets    []Budget          `json:"budgets"` // empty without a kernel bootstrap
	Packages   []Package         `json:"packages"`
	Versions   map[string]string `json:"versions"` // "kindling", "go", "qemu", "kernel", ...
	Accel      string            `json:"accel,omitempty"`
	Command    []string          `json:"command"` // Kindling's own
	Argv       []string          `json:"argv"`    // the machine's
	Events     Events            `json:"events"`
	Notes      []string          `json:"notes"` // what a person should know and no other field says
	// Audit is what the host has checked of a success; nil for a run that did not report one.
	Audit *Audit `json:"audit,omitempty"`
	// Earlier are the accounts of the same run's machines before this one, the oldest first: a run that was resumed.
	Earlier []Report `json:"earlier,omitempty"`
}

// Encode gives the document as indented JSON with a newline. Lists are never null.
func Encode(r Report) ([]byte, error) {
	r.Schema = Schema
	r.Started, r.Ended = round(r.Started), round(r.Ended)
	r.Phases, r.Steps, r.Media = orEmpty(r.Phases), orEmpty(r.Steps), orEmpty(r.Media)
	r.Packages, r.Argv, r.Notes = orEmpty(r.Packages), orEmpty(r.Argv), orEmpty(r.Notes)
	r.Budgets, r.Command = orEmpty(r.Budgets), orEmpty(r.Command)
	if r.Versions == nil {
		r.Versions = map[string]string{}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return buf.Bytes(), nil
}

// Read reads a document of this schema from a regular file, which no link leads to.
func Read(path string) (Report, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Report{}, fmt.Errorf("read report: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return Report{}, fmt.Errorf("read report %s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Report{}, fmt.Errorf("read report: %w", err)
	}
	r, err := Decode(data)
	if err != nil {
		return Report{}, fmt.Errorf("read report %s: %w", path, err)
	}
	return r, nil
}

// Decode reads a document of this schema. Unknown fields are skipped: a later Kindling may have added them.
func Decode(data []byte) (Report, error) {
	if len(data) > MaxSize {
		return Report{}, fmt.Errorf("larger than %d bytes", MaxSize)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return Report{}, err
	}
	if r.Schema != Schema {
		return Report{}, fmt.Errorf("%w: %d, this Kindling reads %d", ErrSchema, r.Schema, Schema)
	}
	return r, nil
}

func round(t time.Time) time.Time { return t.UTC().Round(time.Millisecond) }

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
