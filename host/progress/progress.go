// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package progress shows a run while it goes on: live on a terminal, in plain lines elsewhere, or as JSON lines for
// programs.
//
// A Display takes what package watch gives and never makes it wait: a terminal that is slow, stopped (Ctrl-S) or closed
// costs the user a picture, never the run its verdict. It decides nothing and reads nothing. It is called by cmd/host,
// and through watch.Sink by package watch.
package progress

import (
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"kindling/host/watch"
	"kindling/internal/event"
)

// closePatience is how long Close waits for a reader that does not read.
const closePatience = time.Second

// Display is a watch.Sink with an end.
type Display interface {
	watch.Sink
	// Close shows what is left and gives the terminal back. It waits at most a second for a slow reader, so that what
	// follows on the same file comes after.
	Close()
}

// Estimate says how long a run will still take, if anybody knows.
type Estimate func(watch.View) (left time.Duration, ok bool)

// For chooses the display for a file: JSON lines if asked for, live if it is a terminal that can be steered, plain
// lines otherwise. termName is the value of TERM; left may be nil.
func For(out *os.File, asJSON bool, termName string, left Estimate) Display {
	switch {
	case asJSON:
		return NewJSON(out)
	case term.IsTerminal(int(out.Fd())) && termName != "dumb" && termName != "":
		return NewTerminal(out, left)
	}
	return NewPlain(out)
}

// pump is the one goroutine that writes; what it is given is never waited for.
type pump struct {
	views  chan watch.View // holds the newest view only
	events chan event.Event
	stop   chan struct{}
	done   chan struct{}
}

// startPump runs show for views, and event for events, one after another. finish, the last call, gets what was lost.
func startPump(queue int, show func(watch.View), each func(event.Event), finish func()) *pump {
	p := &pump{
		views:  make(chan watch.View, 1),
		events: make(chan event.Event, queue),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	go p.run(show, each, finish)
	return p
}

func (p *pump) run(show func(watch.View), each func(event.Event), finish func()) {
	defer close(p.done)
	for {
		select {
		case v := <-p.views:
			show(v)
		case e := <-p.events:
			each(e)
		case <-p.stop:
			p.drain(show, each)
			finish()
			return
		}
	}
}

func (p *pump) drain(show func(watch.View), each func(event.Event)) {
	for {
		select {
		case e := <-p.events:
			each(e)
		case v := <-p.views:
			show(v)
		default:
			return
		}
	}
}

// update replaces the view that waits. Only one goroutine may call it.
func (p *pump) update(v watch.View) {
	select {
	case <-p.views:
	default:
	}
	select {
	case p.views <- v:
	default:
	}
}

// event queues an event and reports whether there was room for it.
func (p *pump) event(e event.Event) bool {
	select {
	case p.events <- e:
		return true
	default:
		return false
	}
}

func (p *pump) close() {
	close(p.stop)
	select {
	case <-p.done:
	case <-time.After(closePatience):
	}
}

// printer writes until writing fails, and then no more: the reader has gone.
type printer struct {
	out    io.Writer
	failed bool
}

func (p *printer) print(text string) {
	if p.failed {
		return
	}
	_, err := io.WriteString(p.out, text)
	p.failed = err != nil
}
