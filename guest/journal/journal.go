// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package journal is the agent's memory across reboots: the same lines as the event stream (package event), one JSON
// object each, in an append-only file.
//
// Append returns only after fsync, so a line that was written is there after a power cut; a last line that was cut
// short is ignored and overwritten. A line that cannot be read tells nothing and is passed over: at worst a step is run
// once more. The journal says what has happened and decides nothing: State is a plain value.
// Called by package guest; the host reads a journal with Read.
package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kindling/internal/event"
)

// State is what a journal says about the steps of a plan.
type State struct {
	Done    map[string]bool // IDs of the steps that are behind the run: they ended well, or were skipped by hand
	Started string          // ID of a step that was started and has no end: it was cut short
	Failed  string          // ID of the step whose last end was a failure
	Result  event.Status    // StatusOK or StatusFailed once a run is over, otherwise ""
	Bad     int             // lines that could not be read
	Size    int64           // bytes of whole lines
}

// Read reads a journal. A cut last line is left out.
func Read(r io.Reader) (State, error) {
	s := State{Done: make(map[string]bool)}
	in := bufio.NewReaderSize(r, event.MaxLine+2)
	var long int64 // bytes so far of a line that is too long
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return s, nil
		case errors.Is(err, bufio.ErrBufferFull):
			long += int64(len(line))
			continue
		case err != nil:
			return s, fmt.Errorf("read journal: %w", err)
		}
		s.Size += long + int64(len(line))
		e, err := event.Decode(line)
		if err != nil || long > 0 {
			s.Bad++
		} else {
			s.add(e)
		}
		long = 0
	}
}

func (s *State) add(e event.Event) {
	switch e.Kind {
	case event.KindStep:
		switch e.Status {
		case event.StatusStart:
			s.Started, s.Failed = e.Step, ""
			delete(s.Done, e.Step)
		case event.StatusOK:
			s.Done[e.Step] = true
			s.Started = ""
		case event.StatusSkipped:
			s.Done[e.Step] = true
			s.Started, s.Failed = "", ""
		case event.StatusFailed:
			s.Started, s.Failed = "", e.Step
		}
	case event.KindDone:
		s.Result = e.Status
	case event.KindPlan:
		s.Result = "" // a new run, or the same one going on
	}
}

// Journal is an open journal.
type Journal struct {
	file *os.File
	size int64 // bytes of whole lines
}

// Open opens or creates the journal at path, with the directories above it, and reads its state.
func Open(path string) (*Journal, State, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, State{}, fmt.Errorf("make the journal's folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, State{}, fmt.Errorf("open journal: %w", err)
	}
	state, err := Read(f)
	if err == nil {
		err = f.Truncate(state.Size)
	}
	if err != nil {
		return nil, State{}, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &Journal{file: f, size: state.Size}, state, nil
}

// Append adds an event and returns when it is on stable storage.
func (j *Journal) Append(e event.Event) error {
	line, err := event.Encode(e)
	if err != nil {
		return err
	}
	if bytes.Count(line, []byte{'\n'}) != 1 {
		return fmt.Errorf("journal %s event: more than one line", e.Kind)
	}
	if _, err := j.file.WriteAt(line, j.size); err != nil { // no part of it may stand before the next line
		return errors.Join(fmt.Errorf("append to journal: %w", err), j.file.Truncate(j.size))
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	j.size += int64(len(line))
	return nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }
