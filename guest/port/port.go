// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package port sends events to the host over a slow line without ever making a step wait for it.
//
// A step that floods its log must not be slowed down by a serial port: log and progress events are dropped when the
// queue is full, and the number of dropped lines is told as soon as there is room. All other events wait for room, with
// an end. Called by package guest; it knows nothing of what the events mean.
package port

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"kindling/internal/event"
)

const (
	queueLen = 512             // events that may wait
	patience = 5 * time.Second // how long an event that must not be lost waits for room
)

// Clock gives the time since the kernel started.
type Clock func() time.Duration

// Port numbers, stamps and queues events. The zero value is not usable; call New.
type Port struct {
	clock Clock
	queue chan item

	mu      sync.Mutex
	seq     uint64
	dropped int64
}

// item is a line to write, or, with flushed, a place in the queue to report.
type item struct {
	line    []byte
	flushed chan struct{}
}

// New makes a Port whose first event gets the number after seq.
func New(clock Clock, seq uint64) *Port {
	return &Port{clock: clock, queue: make(chan item, queueLen), seq: seq}
}

// Seq is the number of the last event.
func (p *Port) Seq() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// Run writes to w until ctx ends or a write fails. After a failed write it goes on emptying the queue, so that nobody
// waits for a dead line.
func (p *Port) Run(ctx context.Context, w io.Writer) error {
	var failed error
	for {
		select {
		case <-ctx.Done():
			return failed
		case it := <-p.queue:
			if it.flushed != nil {
				close(it.flushed)
				continue
			}
			if failed != nil {
				continue
			}
			if _, err := w.Write(it.line); err != nil {
				failed = fmt.Errorf("write event port: %w", err)
			}
		}
	}
}

// Send stamps and queues an event and returns it as it was sent. An event that found no room is returned with Seq 0.
func (p *Port) Send(e event.Event) event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.TimeMS = p.clock().Milliseconds()
	droppable := e.Kind == event.KindLog || e.Kind == event.KindPayload
	if p.dropped > 0 && len(p.queue) < queueLen/2 {
		note := event.Event{TimeMS: e.TimeMS, Kind: event.KindNote, Total: p.dropped,
			Text: fmt.Sprintf("the event port was too slow: %d log lines are only in the guest's log", p.dropped)}
		if p.put(&note, 0) {
			p.dropped = 0
		}
	}
	wait := patience
	if droppable {
		wait = 0
	}
	if !p.put(&e, wait) {
		p.dropped++
	}
	return e
}

// put numbers and queues one event. The caller holds the lock.
func (p *Port) put(e *event.Event, wait time.Duration) bool {
	e.Seq = p.seq + 1
	line, err := event.Encode(*e)
	if err != nil {
		e.Seq = 0
		return false
	}
	select {
	case p.queue <- item{line: line}:
		p.seq++
		return true
	default:
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case p.queue <- item{line: line}:
			p.seq++
			return true
		case <-timer.C:
		}
	}
	e.Seq = 0
	return false
}

// Flush waits until all that was sent before it is written, or until ctx ends.
func (p *Port) Flush(ctx context.Context) error {
	mark := item{flushed: make(chan struct{})}
	select {
	case p.queue <- mark:
	case <-ctx.Done():
		return fmt.Errorf("flush event port: %w", ctx.Err())
	}
	select {
	case <-mark.flushed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush event port: %w", ctx.Err())
	}
}
