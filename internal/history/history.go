// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package history turns a run's journal into what a person asks of it: which step ran when, for how long, with which
// end. It reads the lines of package event and decides nothing about what is to be done next (guest/journal does).
// The agent and `kindling log` call it, so that both show the same table.
package history

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"kindling/internal/event"
)

// The statuses of a step besides those of package event.
const (
	StatusCut     = "cut"     // begun, and then the machine began a new life
	StatusRunning = "running" // begun, and nothing came after it
)

// maxSteps bounds a history; a plan has a few hundred steps.
const maxSteps = 20000

// ErrStep is a step that is not in the history, or not the only one of that name.
var ErrStep = errors.New("no such step")

// Step is one step of a run, as it stood the last time that it was begun.
type Step struct {
	Number   int           `json:"number"`
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Status   string        `json:"status"` // "ok", "failed", "skipped" (by hand, after it had failed), StatusCut or StatusRunning
	Exit     int           `json:"exit"`
	Text     string        `json:"text,omitempty"` // why it failed
	Tries    int           `json:"tries"`          // how often it was begun
	Boot     int           `json:"boot"`           // in which boot of the machine, from 1
	Start    time.Duration `json:"-"`              // since the start of that boot's kernel
	Duration time.Duration `json:"-"`              // 0 unless it has ended
	LogSize  int64         `json:"log_bytes"`      // of its log, -1 if there is none; Read does not know it
}

// Run is a run's history.
type Run struct {
	Steps  []Step // in the order in which they were first begun
	Boots  int
	Total  int    // steps of the plan, 0 if it is not known
	Status string // "ok" or "failed" once the run is over
	Reason string // why it failed
	Bad    int    // lines that could not be read
}

// MaxJournal is the longest journal that Read takes, in bytes; one of a few hundred steps has some ten thousand.
const MaxJournal = 256 << 20

// ErrTooLong is a journal without an end.
var ErrTooLong = errors.New("journal is too long")

// reader ends with a context, and with MaxJournal.
type reader struct {
	ctx  context.Context //nolint:containedctx // io.Reader has none
	in   io.Reader
	left int64
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left <= 0 {
		return 0, ErrTooLong
	}
	n, err := r.in.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	return n, err
}

// Read reads a journal, until ctx ends. A line that cannot be read, or is cut, is left out.
func Read(ctx context.Context, journal io.Reader) (Run, error) {
	run := Run{}
	r := &reader{ctx, journal, MaxJournal}
	boots := make(map[string]int)
	in := bufio.NewReaderSize(r, event.MaxLine+2)
	long := false
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return run, nil
		case errors.Is(err, bufio.ErrBufferFull):
			long = true
			continue
		case err != nil:
			return run, fmt.Errorf("read journal: %w", err)
		}
		if len(bytes.TrimSpace(line)) == 0 && !long {
			continue // an agent ends a line that an earlier life may have left unfinished
		}
		e, err := event.Decode(line)
		if err != nil || long || len(run.Steps) >= maxSteps {
			run.Bad++
		} else {
			run.add(e, boots)
		}
		long = false
	}
}

func (r *Run) add(e event.Event, boots map[string]int) {
	switch e.Kind {
	case event.KindPlan:
		if e.Name == "" || boots[e.Name] == 0 { // a switch of the root is no new boot
			boots[e.Name] = r.Boots + 1
			r.Boots++
			r.endRunning()
		}
		r.Total, r.Status, r.Reason = int(e.Total), "", ""
	case event.KindStep:
		r.step(e)
	case event.KindDone:
		r.Status, r.Reason = string(e.Status), e.Text
	}
}

// endRunning marks what was under way when the machine began anew.
func (r *Run) endRunning() {
	for i := range r.Steps {
		if r.Steps[i].Status == StatusRunning {
			r.Steps[i].Status = StatusCut
		}
	}
}

func (r *Run) step(e event.Event) {
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.ID == e.Step })
	if i < 0 {
		i = len(r.Steps)
		r.Steps = append(r.Steps, Step{ID: e.Step, LogSize: -1})
	}
	s := &r.Steps[i]
	s.Name, s.Number = e.Name, e.Number
	if e.Status == event.StatusStart {
		s.Status, s.Boot, s.Start, s.Duration, s.Exit, s.Text = StatusRunning, r.Boots, e.Time(), 0, 0, ""
		s.Tries++
		return
	}
	if s.Status = string(e.Status); e.Status == event.StatusSkipped { // how it failed stays
		return
	}
	s.Duration, s.Exit, s.Text = e.Duration(), e.Exit, e.Text
}

// Next is the number of the first step that a resumed run does, 0 if all of them are done.
func (r *Run) Next() int {
	done, last := make(map[int]bool), 0
	for _, s := range r.Steps {
		done[s.Number] = s.Status == string(event.StatusOK) || s.Status == string(event.StatusSkipped)
		last = max(last, s.Number)
	}
	for _, s := range r.Steps {
		if !done[s.Number] {
			return s.Number
		}
	}
	if last < r.Total {
		return last + 1
	}
	return 0
}

// Done is how many steps have ended well.
func (r *Run) Done() int {
	n := 0
	for _, s := range r.Steps {
		if s.Status == string(event.StatusOK) {
			n++
		}
	}
	return n
}

// Find finds a step by its number, its ID, its name ("build: bash-5.2.15"), or a part of one that no other step has.
func (r *Run) Find(what string) (Step, error) {
	number, _ := strconv.Atoi(what)
	var parts []Step
	for _, s := range r.Steps {
		if s.ID == what || s.Number == number && number > 0 {
			return s, nil
		}
		if strings.Contains(s.Name, what) || strings.Contains(s.ID, what) {
			parts = append(parts, s)
		}
	}
	exact := slices.DeleteFunc(slices.Clone(parts), func(s Step) bool { return s.Name != what })
	switch {
	case len(exact) == 1:
		return exact[0], nil
	case len(parts) == 1:
		return parts[0], nil
	case len(parts) == 0:
		return Step{}, fmt.Errorf("%w: %s is no number, ID or name of a step that was begun", ErrStep, event.Clean(what))
	}
	return Step{}, fmt.Errorf("%w: %s: that could be %s or %s; give its number", ErrStep, event.Clean(what), parts[0].ID, parts[1].ID)
}

// LogName is the file name of a step's log, "" for an ID, which the guest has chosen, that must not become one.
func (s Step) LogName() string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._+-", r)
	}
	if len(s.ID) > 200 || strings.ContainsFunc(s.ID, odd) || strings.Trim(s.ID, ".") == "" {
		return ""
	}
	return s.ID + ".log"
}

// WriteTable writes the history as a table, for people.
func (r *Run) WriteTable(w io.Writer) error {
	var out strings.Builder
	const row = "%4s  %-7s  %4s  %10s  %10s  %8s  %s\n"
	fmt.Fprintf(&out, row, "step", "status", "boot", "start", "duration", "log", "name")
	for _, s := range r.Steps {
		size, took := "-", "-"
		if s.LogSize >= 0 {
			size = sizeText(s.LogSize)
		}
		if s.Duration > 0 || s.Status == string(event.StatusOK) {
			took = clock(s.Duration)
		}
		name := s.Name
		if s.Tries > 1 {
			name += fmt.Sprintf(" (try %d)", s.Tries)
		}
		if s.Text != "" {
			name += ": " + s.Text
		}
		fmt.Fprintf(&out, row, strconv.Itoa(s.Number), s.Status, strconv.Itoa(s.Boot), clock(s.Start), took, size, name)
	}
	out.WriteString(r.Summary() + "\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// Summary is one line about the whole.
func (r *Run) Summary() string {
	text := fmt.Sprintf("%d of %d steps begun, %d ended well, in %d boots", len(r.Steps), max(r.Total, len(r.Steps)), r.Done(), r.Boots)
	switch {
	case r.Status == string(event.StatusOK):
		text += "; the run is over, successfully"
	case r.Status != "":
		text += "; the run failed: " + r.Reason
	default:
		text += "; the run is not over"
	}
	if r.Bad > 0 {
		text += fmt.Sprintf("; %d lines of the journal cannot be read", r.Bad)
	}
	return text
}

// clock is a duration as H:MM:SS.T.
func clock(d time.Duration) string {
	tenths := d.Milliseconds() / 100
	return fmt.Sprintf("%d:%02d:%02d.%d", tenths/36000, tenths/600%60, tenths/10%60, tenths%10)
}

// sizeText is a size in bytes, or in a larger unit.
func sizeText(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	units := "KMGTPE"
	i := -1
	for f := n; f >= unit && i < len(units)-1; f /= unit {
		n, i = f, i+1
	}
	return fmt.Sprintf("%d.%d %ciB", n/unit, n%unit*10/unit, units[i])
}

// CopyText copies a log to a terminal or a file, line by line without what could harm the reader: escape sequences and
// control characters are left out, lines are cut to 64 KiB.
func CopyText(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if _, err := io.WriteString(w, event.Clean(strings.TrimRight(string(line), "\r\n"))+"\n"); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read log: %w", err)
		}
	}
}
