// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"fmt"
	"strings"
	"time"

	"kindling/host/report"
	"kindling/internal/event"
)

// Verdict is how a run ended. Its text is clean: it may go to a terminal.
type Verdict struct {
	Result report.Result
	Phase  string // where it ended
	Step   string // ID of the step where it ended; empty outside of steps
	Reason string // what the guest, its kernel or QEMU said, in its own words
	Line   string // one line for the user: what happened, in which phase and step
	Log    string // path of the log to read; empty after a success
}

// ExitStatus is the exit status of kindling.
func (v Verdict) ExitStatus() int { return v.Result.ExitStatus() }

// String is the line for the user with the log's path.
func (v Verdict) String() string {
	if v.Log == "" {
		return v.Line
	}
	return v.Line + "; log: " + v.Log
}

// Finish takes the end of QEMU and gives the verdict. exit is how QEMU ended, in words; said is the last line that QEMU
// itself wrote, if any. Nothing may be fed after it but Note.
func (j *Judge) Finish(now time.Time, exit, said string) Verdict {
	j.now = now
	j.closeRun()
	said = clip(event.Clean(said))
	v := Verdict{Phase: j.phase().name, Reason: j.said}
	if j.current != nil {
		v.Step = j.current.id
	}
	switch {
	case j.cause == causeNone && !j.panicAt.IsZero(), j.cause == causePanic:
		j.panicVerdict(&v, j.panicSaid)
	case j.cause == causeDone && j.final.Status == event.StatusOK && !j.panicAt.IsZero():
		j.panicVerdict(&v, j.panicSaid)
		v.Line += "; the guest had reported success before"
	case j.cause == causeDone:
		j.doneVerdict(&v, exit)
	case j.cause == causeSign:
		j.signVerdict(&v)
	case j.cause == causeInterrupt:
		v.Result = report.ResultInterrupted
		v.Line = "interrupted" + j.where()
	case j.cause == causeFlood:
		v.Result = report.ResultInternal
		v.Line = "stopped: " + j.said + j.where()
	case j.suspect != "" && (j.cause == causeNone || j.cause == causeHang):
		j.panicVerdict(&v, j.suspect)
	case !j.fullAt.IsZero(): // whatever it looked like: the end may have been written and found no room
		v.Result = report.ResultInternal
		v.Reason = "no space left on the host's disk"
		v.Line = "the disk of the run folder is full" + j.where()
	case j.cause == causeHang, j.cause == causeLimit:
		v.Result = report.ResultHang
		v.Line = "hang: " + j.said + j.where()
		if why := j.o.rule(v.Phase).Cause; why != "" && j.cause == causeHang {
			v.Line += "; usual cause: " + why
		}
	default:
		j.qemuVerdict(&v, exit, said)
	}
	return v
}

// closeRun ends what has no end of its own.
func (j *Judge) closeRun() {
	if p := j.phase(); p.duration == 0 {
		p.duration = j.now.Sub(p.start)
	}
	if j.current != nil {
		j.current.duration = j.now.Sub(j.current.start)
	}
	if j.dropped > 0 {
		j.notes = append(j.notes, fmt.Sprintf("%d steps, phases or notes beyond the limits were left out", j.dropped))
	}
}

func (j *Judge) panicVerdict(v *Verdict, said string) {
	v.Result, v.Reason = report.ResultPanic, said
	v.Line = "kernel panic" + j.where() + ": " + said
}

func (j *Judge) qemuVerdict(v *Verdict, exit, said string) {
	v.Result, v.Reason = report.ResultQEMU, exit
	v.Line = fmt.Sprintf("QEMU ended (%s) without a final event%s", exit, j.where())
	if j.failed != nil {
		v.Step = j.failed.id
		v.Line += fmt.Sprintf(", after %s had failed with exit status %d", j.describe(j.failed), j.failed.exit)
	}
	if said != "" {
		v.Reason += ": " + said
		v.Line += ": " + said
	}
}

// doneVerdict is what the guest's final event says.
func (j *Judge) doneVerdict(v *Verdict, exit string) {
	text := j.final.Text
	v.Reason, v.Step, v.Phase = text, "", j.finalPhase
	if j.final.Status == event.StatusOK {
		v.Result, v.Line = report.ResultOK, "the run ended successfully"+j.without()
		j.doubtSuccess(exit)
		return
	}
	s := j.blamed()
	if s != nil {
		v.Step, v.Phase = s.id, s.phase
	} else if j.failPhase != "" {
		v.Phase = j.failPhase
	}
	what, how, step := j.final.Name, j.failedWith(s), ""
	if s != nil {
		what, step = j.describe(s), ", "+j.describe(s)
	}
	where := " in phase " + v.Phase
	switch j.final.Reason {
	case event.ReasonStep:
		v.Result, v.Line = report.ResultStep, orElse(what, "a step")+how+where
	case event.ReasonAfter:
		v.Result, v.Line = report.ResultAfter, orElse(what, "one of them")+how+where
		if !strings.Contains(text, "after script") {
			v.Line = "after script: " + v.Line
		}
	case event.ReasonPayload:
		v.Result, v.Line = report.ResultPayload, "payload import failed"+where+step
	default:
		v.Result, v.Line = report.ResultInternal, "the agent in the guest failed"+where+step
	}
	if text != "" && !strings.HasSuffix(how, text) { // not "failed with exit status 2: exit status 2"
		v.Line += ": " + text
	}
}

// without names the steps that were skipped by hand: without them a success is another one.
func (j *Judge) without() string {
	var names []string
	for _, s := range j.order {
		if s.status == event.StatusSkipped {
			names = append(names, j.describe(s))
		}
	}
	const most = 3
	switch n := len(names); {
	case n == 0:
		return ""
	case n > most:
		return fmt.Sprintf(", without %d steps that were skipped by hand, %s first", n, names[0])
	}
	return ", without what was skipped by hand: " + strings.Join(names, ", ")
}

// doubtSuccess notes what does not fit a success.
func (j *Judge) doubtSuccess(exit string) {
	if j.StopWanted() {
		j.note(fmt.Sprintf("the machine did not power off within %s after the final event and was stopped",
			round(j.o.PowerOff)))
	} else if exit != "exit status 0" {
		j.note("QEMU did not end cleanly after the final event: " + exit)
	}
	if j.failed != nil {
		j.note(fmt.Sprintf("the guest reports success although %s failed", j.describe(j.failed)))
	}
	if j.current != nil {
		j.note(fmt.Sprintf("the guest reports success although %s has not ended", j.describe(j.current)))
	}
	if n := j.View().StepsDone; n < j.planned {
		j.note(fmt.Sprintf("the guest reports success with %d of %d steps", n, j.planned))
	}
}

// blamed is the step that the final event means: the one it names, or the last that failed, or the running one.
func (j *Judge) blamed() *step {
	if s := j.steps[j.final.Step]; s != nil {
		return s
	}
	if j.failed != nil {
		return j.failed
	}
	return j.current
}

// failedWith is the end of the sentence: how a step, or with nil the run, failed.
func (j *Judge) failedWith(s *step) string {
	exit := j.final.Exit
	if s != nil && s.exit != 0 {
		exit = s.exit
	}
	if exit == 0 {
		return " failed"
	}
	return fmt.Sprintf(" failed with exit status %d", exit)
}

// where names the phase, and the step if one is running.
func (j *Judge) where() string {
	text := " in phase " + j.phase().name
	if j.current != nil {
		text += ", " + j.describe(j.current)
	}
	return text
}

// describe names a step: "step 3 of 7 (build: hello-1.0)".
func (j *Judge) describe(s *step) string {
	switch {
	case s.number > 0 && j.planned > 0:
		return fmt.Sprintf("step %d of %d (%s)", s.number, j.planned, s.name)
	case s.number > 0:
		return fmt.Sprintf("step %d (%s)", s.number, s.name)
	}
	return fmt.Sprintf("step %s", s.name)
}

// Account adds all that the judge knows to a report.
func (j *Judge) Account(r *report.Report, v Verdict) {
	r.Result, r.ExitStatus = v.Result, v.ExitStatus()
	r.Reason, r.Line, r.Phase, r.Step = v.Reason, v.Line, v.Phase, v.Step
	r.Started, r.Ended, r.Duration = j.start, j.now, report.Seconds(j.now.Sub(j.start))
	r.Planned = j.planned
	for _, p := range j.phases {
		r.Phases = append(r.Phases, report.Phase{
			Name: p.name, Start: report.Seconds(p.start.Sub(j.start)), Duration: report.Seconds(p.duration),
		})
	}
	for _, s := range j.order {
		r.Steps = append(r.Steps, report.Step{
			Number: s.number, ID: s.id, Name: s.name, Status: string(s.status), Exit: s.exit,
			Start: report.Seconds(s.start.Sub(j.start)), Duration: report.Seconds(s.duration),
		})
	}
	r.Events = report.Events(j.counts)
	r.Notes = append(r.Notes, j.notes...)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
