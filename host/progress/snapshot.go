// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package progress

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"kindling/host/watch"
	"kindling/internal/event"
)

const (
	snapshotSchema = 1
	snapshotEvery  = time.Second
	maxSnapshot    = 64 << 20 // bytes of a file that is read
)

// Snapshot is how a run stands, for who looks at it from another process.
type Snapshot struct {
	Schema int        `json:"schema"`
	View   watch.View `json:"view"`
	// Left is how long the run will still take, if anybody knows.
	Left *time.Duration `json:"left,omitempty"`
}

// ReadSnapshot reads what a Recorder has written.
func ReadSnapshot(path string) (Snapshot, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read how the run stands: %w", err)
	}
	if info.Size() > maxSnapshot {
		return Snapshot{}, fmt.Errorf("%s: larger than %d bytes", path, maxSnapshot)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read how the run stands: %w", err)
	}
	var s Snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return Snapshot{}, fmt.Errorf("%s: %w", path, err)
	}
	if s.Schema != snapshotSchema {
		return Snapshot{}, fmt.Errorf("%s: schema %d, this Kindling reads %d", path, s.Schema, snapshotSchema)
	}
	return s, nil
}

// Recorder is a Display in front of another one: it also writes, about once a second, how the run stands into a file.
// A file that cannot be written is no reason to end a run.
type Recorder struct {
	Display
	path string
	left Estimate

	mu     sync.Mutex
	newest *watch.View
	stop   chan struct{}
	done   chan struct{}
}

// NewRecorder starts one; left may be nil.
func NewRecorder(d Display, path string, left Estimate) *Recorder {
	r := &Recorder{Display: d, path: path, left: left, stop: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

// Update implements watch.Sink.
func (r *Recorder) Update(v watch.View) {
	r.mu.Lock()
	r.newest = &v
	r.mu.Unlock()
	r.Display.Update(v)
}

// Event implements watch.Sink.
func (r *Recorder) Event(e event.Event) { r.Display.Event(e) }

// Close writes the last state, then closes the other display.
func (r *Recorder) Close() {
	close(r.stop)
	<-r.done
	r.Display.Close()
}

func (r *Recorder) run() {
	defer close(r.done)
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.write()
		case <-r.stop:
			r.write()
			return
		}
	}
}

func (r *Recorder) write() {
	r.mu.Lock()
	v := r.newest
	r.newest = nil
	r.mu.Unlock()
	if v == nil {
		return
	}
	s := Snapshot{Schema: snapshotSchema, View: *v}
	if r.left != nil {
		if left, ok := r.left(*v); ok {
			s.Left = &left
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return // a View is plain data: it always has a JSON form
	}
	_ = renameio.WriteFile(r.path, data, 0o644)
}
