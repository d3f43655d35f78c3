// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package progress

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"kindling/host/watch"
	"kindling/internal/event"
)

const snapshotSchema = 1

// Snapshot is how a run stands, for who looks at it from another process.
type Snapshot struct {
	Schema int        `json:"schema"`
	View   watch.View `json:"view"`
	// Left is how long the run will still take, if anybody knows.
	Left *time.Duration `json:"left,omitempty"`
}

// DecodeSnapshot reads a document of a Recorder. Its text is clean: another process may have written anything.
func DecodeSnapshot(data []byte) (Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return Snapshot{}, fmt.Errorf("read how the run stands: %w", err)
	}
	if s.Schema != snapshotSchema {
		return Snapshot{}, fmt.Errorf("read how the run stands: schema %d, this Kindling reads %d", s.Schema, snapshotSchema)
	}
	v := &s.View
	for _, text := range []*string{&v.Phase, &v.Step, &v.StepName, &v.Import.Name, &v.Waiting} {
		*text = event.Clean(*text)
	}
	for i := range v.LogTail {
		v.LogTail[i] = event.Clean(v.LogTail[i])
	}
	for i := range v.Marks {
		v.Marks[i].Name, v.Marks[i].Text = event.Clean(v.Marks[i].Name), event.Clean(v.Marks[i].Text)
	}
	return s, nil
}

// Recorder is a Display in front of another one: it also keeps how the run stands, for other processes.
type Recorder struct {
	Display
	left   Estimate
	newest atomic.Pointer[watch.View]
}

// NewRecorder makes one; left may be nil.
func NewRecorder(d Display, left Estimate) *Recorder { return &Recorder{Display: d, left: left} }

// Update implements watch.Sink.
func (r *Recorder) Update(v watch.View) {
	r.newest.Store(&v)
	r.Display.Update(v)
}

// Document is how the run stands as JSON on one line, nil when it is as it was in the state seen.
func (r *Recorder) Document(seen any) (line []byte, state any) {
	v := r.newest.Load()
	if v == nil || v == seen {
		return nil, seen
	}
	s := Snapshot{Schema: snapshotSchema, View: *v}
	if r.left != nil {
		if left, ok := r.left(*v); ok {
			s.Left = &left
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, v // a View is plain data: it always has a JSON form
	}
	return data, v
}
