// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package progress

import (
	"encoding/json"
	"fmt"
	"io"

	"kindling/host/watch"
	"kindling/internal/event"
)

// Plain writes one line for each mark of a run: phases, ended steps, imports, notes.
type Plain struct {
	pump    *pump
	out     printer
	printed int
}

// NewPlain starts a plain display on out.
func NewPlain(out io.Writer) *Plain {
	p := &Plain{out: printer{out: out}}
	p.pump = startPump(0, p.show, func(event.Event) {}, func() {})
	return p
}

// Update takes the newest view; marks are never lost, however slow the reader is.
func (p *Plain) Update(v watch.View) { p.pump.update(v) }

// Event is not shown: what matters of it is in the marks.
func (p *Plain) Event(event.Event) {}

// Close writes what is left, within a second.
func (p *Plain) Close() { p.pump.close() }

func (p *Plain) show(v watch.View) {
	for ; p.printed < len(v.Marks); p.printed++ {
		p.out.print(markLine(v.Marks[p.printed]))
	}
}

// jsonQueue is how many events wait for a slow reader before the newest are left out.
const jsonQueue = 8192

// JSON writes each event as one line, in the form the guest sent it but cleaned.
type JSON struct {
	pump    *pump
	out     printer
	skipped int // events since the last that had room
}

// NewJSON starts a display for programs on out.
func NewJSON(out io.Writer) *JSON {
	j := &JSON{out: printer{out: out}}
	j.pump = startPump(jsonQueue, func(watch.View) {}, j.write, func() {})
	return j
}

// Update is not shown.
func (j *JSON) Update(watch.View) {}

// Event queues an event. Where a reader is too slow for the queue, events are left out, and a note event says how many
// as soon as there is room.
func (j *JSON) Event(e event.Event) {
	if j.skipped > 0 {
		if !j.pump.event(skippedNote(j.skipped)) {
			j.skipped++
			return
		}
		j.skipped = 0
	}
	if !j.pump.event(e) {
		j.skipped++
	}
}

// Close writes what is left, within a second.
func (j *JSON) Close() {
	if j.skipped > 0 {
		j.pump.event(skippedNote(j.skipped))
	}
	j.pump.close()
}

func skippedNote(n int) event.Event {
	return event.Event{Kind: event.KindNote, Text: fmt.Sprintf("%d events were left out for a slow reader", n)}
}

func (j *JSON) write(e event.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		return // an Event is plain data: it always has a JSON form
	}
	j.out.print(string(line) + "\n")
}
