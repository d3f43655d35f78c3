// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package audit decides whether a success that a guest reports is one.
//
// It evaluates the run's plan again, with the configuration that the guest had, and compares the steps that the agent
// owes with the ends that came over the event port and with the journal on the run's disk. All three come from a guest,
// and a guest that is root can make them agree: the audit finds mistakes and half-hearted lies, it proves nothing about
// the packages. The package reads plan.json, which is its own; disks are opened by cmd/host, its only caller.
package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"

	"kindling/host/report"
	"kindling/internal/event"
	"kindling/internal/history"
	"kindling/steps"
)

// Evidence is what a run has left. What could not be read is nil, with the reason after it.
type Evidence struct {
	Record    Record
	Events    io.Reader // events.jsonl of the run folder: those of all lives of the run
	Configs   *Configs  // of the guest; nil: the host's own configuration counts
	NoConfigs string
	Journal   *history.Run // of the run's disk; without steps if no disk has one, and all of them could be read
	NoJournal string
	Attended  bool // a person was at the console, who can skip a failed step
}

// Finding is what Check has found.
type Finding struct {
	Audit report.Audit
	Doubt string // one line that says why the success is not one; "" when nothing contradicts it
	Step  string // ID of the first step that contradicts it
}

// statusNone is the status of a step that no event told of.
const statusNone event.Status = ""

// Check compares a reported success with what the run owes.
func Check(e Evidence) Finding {
	if !e.Record.Agent {
		const why = "unchecked: no agent keeps one"
		return Finding{Audit: report.Audit{Steps: report.StepsUnreported, Journal: why}}
	}
	c := &check{evidence: e}
	if err := c.plan(); err != nil {
		return c.failed(err)
	}
	heard, err := readEnds(e.Events, c.owed)
	if err != nil {
		return c.failed(err)
	}
	c.compareSteps(heard)
	c.compareJournal()
	return c.found
}

// check is one audit under way.
type check struct {
	evidence Evidence
	order    []steps.Step
	owed     []steps.Step
	ends     []event.Status // of owed
	found    Finding
}

// failed is the finding of an audit that cannot be made.
func (c *check) failed(err error) Finding {
	c.found.Audit.Steps, c.found.Audit.Journal = "unchecked: "+err.Error(), "unchecked: "+err.Error()
	c.found.Doubt = "the guest reports success, but the steps that it owes cannot be checked: " + err.Error()
	return c.found
}

// plan evaluates what is owed: with the guest's configuration, or with the host's if there is no other.
func (c *check) plan() (err error) {
	done := make(map[string]bool)
	for id := range c.evidence.Record.Done {
		done[id] = true
	}
	why := c.evidence.NoConfigs
	if guest := c.evidence.Configs; guest != nil {
		c.found.Audit.Config = "guest"
		if c.order, err = c.evidence.Record.order(*guest, done); err == nil {
			c.owed, err = owed(c.order)
			return err
		}
		why = err.Error()
	}
	c.found.Audit.Config = "host: " + why
	host, err := c.evidence.Record.host()
	if err != nil {
		return err
	}
	if c.order, err = c.evidence.Record.order(host, done); err != nil {
		return err
	}
	c.owed, err = owed(c.order)
	return err
}

// compareSteps looks for the end of each step that is owed.
func (c *check) compareSteps(heard map[string]event.Status) {
	a := &c.found.Audit
	a.Steps, a.Owed = report.StepsComplete, len(c.owed)
	before := c.before()
	bad := 0
	for _, s := range c.owed {
		id := s.ID()
		end := heard[id]
		if early := before[id]; !isEnd(end) && early != statusNone {
			end = early
		}
		c.ends = append(c.ends, end)
		switch end {
		case event.StatusOK:
			continue
		case event.StatusSkipped:
			a.Skipped = append(a.Skipped, id)
			if c.evidence.Attended || c.evidence.Record.Done[id] == event.StatusSkipped {
				continue
			}
		case event.StatusFailed:
			a.Failed = append(a.Failed, id)
		default:
			a.Missing = append(a.Missing, id)
		}
		if bad++; bad == 1 {
			c.doubt(s, "the guest reports success, but %s %s", c.describe(s), endText(end))
		}
	}
	if bad > 0 {
		a.Steps = report.StepsIncomplete
		c.found.Doubt += fmt.Sprintf("; %d of the %d steps that it owes have no good end", bad, len(c.owed))
	}
}

// before are the good ends of earlier lives that need not have been heard: those that the journal had when the machine was
// started, and those that it has of boots before the last one. A power cut takes events that were on their way, and a disk
// can bring a run that has begun on another machine.
func (c *check) before() map[string]event.Status {
	ends := make(map[string]event.Status)
	if journal := c.evidence.Journal; journal != nil {
		for _, s := range journal.Steps {
			if status := event.Status(s.Status); s.Boot < journal.Boots && isEnd(status) {
				ends[s.ID] = status
			}
		}
	}
	maps.Copy(ends, c.evidence.Record.Done)
	return ends
}

// doubt notes what contradicts the success: the first counts.
func (c *check) doubt(s steps.Step, format string, args ...any) {
	if c.found.Doubt == "" {
		c.found.Doubt, c.found.Step = fmt.Sprintf(format, args...), s.ID()
	}
}

// describe names a step as the rest of the host does: "step 3 of 7 (build: hello-1.0)".
func (c *check) describe(s steps.Step) string {
	return fmt.Sprintf("step %d of %d (%s)", s.At, len(c.order), s)
}

func endText(s event.Status) string {
	switch s {
	case event.StatusOK:
		return "ended well"
	case event.StatusSkipped:
		return "was skipped, but its console was not attended"
	case event.StatusFailed:
		return "failed"
	case statusNone:
		return "was not begun"
	}
	return "has not ended"
}

// compareJournal compares the journal with the ends of the steps.
func (c *check) compareJournal() {
	a, journal := &c.found.Audit, c.evidence.Journal
	if journal == nil {
		a.Journal = "unchecked: " + c.evidence.NoJournal
		return
	}
	a.Journal = report.JournalChecked
	if len(journal.Steps) == 0 {
		a.Journal = report.JournalDiffers
		c.doubt(c.owed[0], "the guest reports success, but no journal of its steps is on its disk")
		return
	}
	known := make(map[string]event.Status, len(journal.Steps))
	for _, s := range journal.Steps {
		known[s.ID] = event.Status(s.Status)
	}
	for i, s := range c.owed {
		if end := known[s.ID()]; end != c.ends[i] || !isEnd(end) {
			a.Journal = report.JournalDiffers
			c.doubt(s, "the guest reports success, but by its journal %s %s", c.describe(s), endText(end))
		}
	}
	if journal.Status != string(event.StatusOK) {
		a.Journal = report.JournalDiffers
		c.doubt(c.owed[len(c.owed)-1], "the guest reports success, but its journal does not have that end")
	}
}

// readEnds reads how the steps that are owed stood when the final event came: what comes after it is not the agent's.
// A later life of the run begins with a plan. Lines that are not events, or are cut, are left out.
func readEnds(r io.Reader, owed []steps.Step) (map[string]event.Status, error) {
	ends := make(map[string]event.Status, len(owed))
	for _, s := range owed {
		ends[s.ID()] = statusNone
	}
	in := bufio.NewReaderSize(r, event.MaxLine+2)
	long, over := false, false
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = true
			continue
		}
		if e, ok := eventIn(line); ok && !long {
			over = follow(ends, e, over)
		}
		switch {
		case errors.Is(err, io.EOF):
			return ends, nil
		case err != nil:
			return nil, fmt.Errorf("read events: %w", err)
		}
		long = false
	}
}

// eventIn decodes a line, unless it is one of the many that say nothing about how a step stands.
func eventIn(line []byte) (event.Event, bool) {
	if bytes.Contains(line, []byte(`"kind":"log"`)) {
		return event.Event{}, false
	}
	e, err := event.Decode(bytes.TrimSuffix(line, []byte("\n")))
	return e, err == nil
}

// follow takes one event, and reports whether the run is over then.
func follow(ends map[string]event.Status, e event.Event, over bool) bool {
	switch e.Kind {
	case event.KindPlan:
		return false
	case event.KindDone:
		return true
	case event.KindStep:
		if _, known := ends[e.Step]; known && !over {
			ends[e.Step] = e.Status
		}
	}
	return over
}
