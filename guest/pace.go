// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"fmt"
	"sync/atomic"
	"time"

	"kindling/internal/event"
)

const (
	paceEvery   = 10 * time.Second // between two looks at a step's output; its rate is taken over as long
	floodRate   = 1 << 20          // bytes a second from which a step is said to flood its log
	floodRepeat = time.Minute      // until that is said again, doubled each time
	silentAfter = 10 * time.Minute // without output until a step is said to be silent, doubled each time
)

// pace watches how much a step prints. It decides only: times and counts come in.
type pace struct {
	last      time.Time // the last look
	bytes     int64     // at the last look
	output    time.Time // when there was output last, as far as a look can tell
	silentAt  time.Duration
	floodAt   time.Time
	floodWait time.Duration
}

func newPace(now time.Time) *pace {
	return &pace{last: now, output: now, silentAt: silentAfter, floodWait: floodRepeat}
}

// look takes how many bytes the step has printed since its beginning. It gives what is to be said, "" for nothing, and
// for how long the step has been silent when it is about that.
func (p *pace) look(now time.Time, total int64) (text string, silent time.Duration) {
	took, grown := now.Sub(p.last), total-p.bytes
	p.last, p.bytes = now, total
	if grown > 0 {
		p.output, p.silentAt = now, silentAfter
	}
	if took <= 0 {
		return "", 0
	}
	if rate := float64(grown) / took.Seconds(); rate >= floodRate && !now.Before(p.floodAt) {
		p.floodAt, p.floodWait = now.Add(p.floodWait), 2*p.floodWait
		return fmt.Sprintf("prints %.1f MiB a second, %d MiB so far", rate/(1<<20), total>>20), 0
	}
	if quiet := now.Sub(p.output); quiet >= p.silentAt {
		p.silentAt *= 2
		return fmt.Sprintf("has printed nothing for %d minutes", int(quiet.Minutes())), quiet
	}
	return "", 0
}

// watchPace looks at a step's output until done is closed.
func (j *job) watchPace(printed *atomic.Int64, done <-chan struct{}) {
	p := newPace(time.Now())
	ticker := time.NewTicker(paceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			if text, silent := p.look(now, printed.Load()); text != "" {
				j.tellPace(text, silent)
			}
		}
	}
}

// tellPace tells it. Silence is told to the host by an event that is no sign of life, and not on the console that the
// host reads: a hang must not look alive because the agent says that it hangs.
func (j *job) tellPace(text string, silent time.Duration) {
	a := j.agent
	text = fmt.Sprintf("step %d (%s) %s", j.step.Number, j.step, text)
	if silent == 0 || !a.heard {
		a.say("%s", text)
	}
	a.port.Send(event.Event{Kind: event.KindPace, Step: j.step.ID(), Text: text, DurationMS: silent.Milliseconds()})
}
