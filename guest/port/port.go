// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package port sends events to the host over a slow line without ever making anybody wait for it.
//
// Log and progress events are dropped when the queue is full, because a step that floods its log must not be slowed
// down by a serial port; how many is told as soon as there is room. All other events are few, and have a queue's worth
// of room of their own. Called by package guest; it knows nothing of what the events mean.
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
	droppableLen = 512  // events that may wait before log and progress events are dropped
	queueLen     = 4096 // events that may wait at all
)

// Clock gives the time since the kernel started.
type Clock func() time.Duration

// Port numbers, stamps and queues events. The zero value is not usable; call New.
type Port struct {
	clock Clock
	wake  chan struct{} // has room for one: there is something in the queue

	mu      sync.Mutex
	queue   [][]byte
	writing bool
	idle    chan struct{} // closed when the queue gets empty; nil while nobody waits for that
	seq     uint64
	dropped int64 // log and progress events that found no room
	lost    int64 // others
}

// New makes a Port whose first event has the number 1.
func New(clock Clock) *Port { return &Port{clock: clock, wake: make(chan struct{}, 1)} }

// SetSeq makes seq the number of the last event, for a life of the agent that goes on where another one has ended.
func (p *Port) SetSeq(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq = seq
}

// Seq is the number of the last event.
func (p *Port) Seq() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// Run writes to w until ctx ends. After a write has failed it goes on emptying the queue and gives that error at the
// end; failed, if not nil, hears of it at once.
func (p *Port) Run(ctx context.Context, w io.Writer, failed func(error)) {
	broken := false
	for {
		lines := p.take()
		if lines == nil {
			select {
			case <-ctx.Done():
				return
			case <-p.wake:
			}
			continue
		}
		for _, line := range lines {
			if broken {
				break
			}
			if _, err := w.Write(line); err != nil {
				broken = true
				if failed != nil {
					failed(fmt.Errorf("write event port: %w", err))
				}
			}
		}
	}
}

// take takes the whole queue, nil if it is empty; then whoever waits for that hears of it.
func (p *Port) take() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.queue
	p.queue = nil
	p.writing = len(lines) > 0
	if !p.writing && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
	return lines
}

// Send stamps and queues an event and returns it as it was sent. It never waits; an event that found no room is returned
// with Seq 0.
func (p *Port) Send(e event.Event) event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit, count := queueLen, &p.lost
	if e.Kind == event.KindLog || e.Kind == event.KindPayload {
		limit, count = droppableLen, &p.dropped
		if len(p.queue) >= limit { // at once: a step that floods drops millions
			p.dropped++
			return e
		}
	}
	e.TimeMS = p.clock().Milliseconds()
	p.tellLosses(e.TimeMS)
	if !p.put(&e, limit) {
		*count++
	}
	return e
}

// tellLosses queues a note about what was dropped, once there is room again. The caller holds the lock.
func (p *Port) tellLosses(ms int64) {
	if p.dropped+p.lost == 0 || len(p.queue) >= droppableLen/2 {
		return
	}
	text := fmt.Sprintf("the event port was too slow: %d log and progress lines", p.dropped)
	if p.lost > 0 {
		text += fmt.Sprintf(" and %d other events", p.lost)
	}
	note := event.Event{TimeMS: ms, Kind: event.KindNote, Total: p.dropped + p.lost, Text: text + " are missing here; the guest's logs are complete"}
	if p.put(&note, queueLen) {
		p.dropped, p.lost = 0, 0
	}
}

// put numbers and queues one event. The caller holds the lock.
func (p *Port) put(e *event.Event, limit int) bool {
	if len(p.queue) >= limit {
		return false
	}
	e.Seq = p.seq + 1
	line, err := event.Encode(*e)
	if err != nil {
		e.Seq = 0
		return false
	}
	p.seq++
	p.queue = append(p.queue, line)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return true
}

// Flush waits until all that was sent before it is written, or until ctx ends.
func (p *Port) Flush(ctx context.Context) error {
	p.mu.Lock()
	if len(p.queue) == 0 && !p.writing {
		p.mu.Unlock()
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush event port: %w", ctx.Err())
	}
}
