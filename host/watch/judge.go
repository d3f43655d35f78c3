// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kindling/host/rundir"
	"kindling/internal/event"
)

// Bounds of what a Judge remembers. Together with Options.MaxSteps they bound its memory, whatever the guest sends.
const (
	maxText   = 240 // bytes of a name or a line
	maxPhases = 500
	maxNotes  = 100
	maxPlan   = 1_000_000 // steps a plan may claim to have
	maxTail   = 5         // lines of output in a View
)

// clockSlack is how much longer than by the host's clock a step may have taken by the guest's before the guest's is not
// believed.
const clockSlack = 2 * time.Second

// minRateTime is how long something must have gone on before its speed is worth telling.
const minRateTime = 2 * time.Second

// cause is why a run is over, or nearly so.
type cause int

const (
	causeNone cause = iota
	causeDone
	causePanic
	causeHang
	causeLimit
	causeFlood
	causeInterrupt
	causeSign // of Options.Signs
	causeFull // no room on the host's disk
)

// phase and step are what the guest has told of one, by the host's clock.
type phase struct {
	name     string
	start    time.Time
	duration time.Duration
}

type step struct {
	id, name, phase string
	number, exit    int
	status          event.Status
	start           time.Time
	duration        time.Duration
}

// Judge decides how a run ends. Feed it from one goroutine, with times that never go back.
type Judge struct {
	o          Options
	start      time.Time
	now        time.Time
	lastSign   time.Time // the newest sign of life
	milestones []Rule    // those still to come
	waiting    string    // for what the guest waits for a person; "" when it does not
	asked      time.Time // since when

	phases     []phase
	steps      map[string]*step
	order      []*step
	current    *step // running, or nil
	failed     *step // the last one that failed and was not repeated since
	planned    int
	before     int // steps finished before this boot
	imports    Import
	quarter    int64
	importStep string    // ID of the step that imports
	logTail    []string  // at most maxTail lines, each clipped
	began      time.Time // of the import: when it was first heard of,
	hadThen    int64     // and how many bytes it had by then

	cause      cause
	final      event.Event // the done event, when there was one
	finalPhase string
	decided    time.Time
	said       string // what ran out, or the final event's text
	panicAt    time.Time
	panicSaid  string // the kernel's words
	stamps     bool   // the kernel writes time stamps on the console
	suspect    string // a console line that would explain a silent end
	failPhase  string
	words      lastWords // before the first event
	signSeen   Sign      // with causeSign
	signMore   string    // the line behind it
	fullAt     time.Time // when the host's disk was found full, unless the guest lived on

	seq     uint64
	counts  Counts
	notes   []string
	dropped int
	marks   []Mark
}

// Counts says what kind of event lines came.
type Counts struct {
	Read, Malformed, Missing, Duplicate, BadStepIDs int64
}

// NewJudge makes a judge for a run whose QEMU started at start.
func NewJudge(o Options, start time.Time) *Judge {
	j := &Judge{o: o, start: start, now: start, lastSign: start, steps: make(map[string]*step)}
	for _, r := range o.Rules {
		if r.Milestone != "" {
			j.milestones = append(j.milestones, r)
		}
	}
	j.enterPhase(PhaseStart)
	return j
}

// Event takes one well-formed event.
func (j *Judge) Event(now time.Time, e event.Event) {
	// A guest that says that it hangs may hang, and its network lives on beside whatever the steps do.
	if j.now = now; e.Kind != event.KindPace && (e.Kind != event.KindNet || e.Step != "") {
		j.sign(now)
	}
	j.counts.Read++
	j.sequence(e.Seq)
	j.milestones = nil
	j.doubtPanic()
	e.Name, e.Text = clip(e.Name), clip(e.Text)
	if j.cause == causeDone && e.Kind != event.KindDone {
		j.note(fmt.Sprintf("a %s event came after the final one", e.Kind))
		return
	}
	switch e.Kind {
	case event.KindPhase, event.KindStep, event.KindDone:
		j.waiting = ""
	}
	switch e.Kind {
	case event.KindPhase:
		j.phaseEvent(e)
	case event.KindPlan:
		j.planned, j.before = int(min(e.Total, maxPlan)), max(0, int(min(e.Done, maxPlan))-j.succeeded())
	case event.KindStep:
		j.stepEvent(e)
	case event.KindPayload:
		j.payloadEvent(e)
	case event.KindNet:
		j.netEvent(e)
	case event.KindLog:
		j.logLine(e.Text)
	case event.KindNote, event.KindPace:
		j.note(e.Text)
	case event.KindPrompt:
		j.promptEvent(e)
	case event.KindDone:
		j.doneEvent(e)
	}
}

// BadEvent takes what was wrong with a line that is no event. It is no sign of life.
func (j *Judge) BadEvent(now time.Time, err error) {
	j.now = now
	j.counts.Malformed++
	if j.counts.Malformed <= 3 {
		j.note(fmt.Sprintf("event line %d: %v", j.counts.Read+j.counts.Malformed, err))
	}
}

// Console takes one line of the console, without its newline.
func (j *Judge) Console(now time.Time, line string) {
	j.sign(now)
	line = clip(event.Clean(line))
	if strings.TrimSpace(line) == "" {
		return
	}
	if j.current == nil {
		j.logLine(line)
	}
	j.milestone(line)
	j.early(line)
	j.stamps = j.stamps || stamped(line)
	switch said := kernelSays(line, j.stamps); {
	case said.panic != "" && j.panicAt.IsZero():
		j.panicAt, j.panicSaid = now, said.panic
		if j.cause != causeNone {
			j.note("the kernel panicked: " + said.panic)
		}
	case said.oops != "":
		j.suspect = said.oops
		j.note("the kernel said: " + said.oops)
	case said.quoted && j.suspect == "":
		j.suspect = line
	}
}

// Alive takes bytes of the console that do not make a line yet: they show that the guest lives, no more.
func (j *Judge) Alive(now time.Time) { j.sign(now) }

// Flood takes the news that the run has written Options.MaxOutput.
func (j *Judge) Flood(now time.Time) {
	j.now = now
	if j.cause == causeNone {
		j.decide(causeFlood, fmt.Sprintf("console, events and step logs have reached the run's limit of %d bytes (--max-output)", j.o.MaxOutput))
	}
}

// Interrupt takes the user's wish to end the run. It counts unless the run's fate is known already: a failure that the
// guest has reported stays one, a success is none before the machine is off.
func (j *Judge) Interrupt(now time.Time) {
	j.now = now
	switch {
	case j.cause == causeNone && !j.panicAt.IsZero():
	case j.cause == causeNone, j.cause == causeDone && j.final.Status == event.StatusOK:
		j.decide(causeInterrupt, "")
	}
}

// Note adds something that a person should know to the report and to the marks.
func (j *Judge) Note(now time.Time, text string) {
	j.now = now
	j.note(text)
}

// Tick takes the passing of time: patience runs out here.
func (j *Judge) Tick(now time.Time) {
	j.now = now
	if j.cause == causeNone && !j.panicAt.IsZero() && now.Sub(j.panicAt) >= j.o.PanicGrace {
		j.decide(causePanic, j.panicSaid)
	}
	if j.cause != causeNone || !j.panicAt.IsZero() || j.o.Attended && (j.waiting != "" || j.counts.Read == 0) {
		return
	}
	silent, patience := now.Sub(j.lastSign), j.o.patience(j.phase().name)
	switch {
	case j.noRoom():
		j.decide(causeFull, "")
	case j.waiting != "" && now.Sub(j.asked) > patience: // however often it says so
		j.decide(causeHang, "the guest waits for a person, and nobody is there (--interactive): "+j.waiting)
	case silent > patience:
		j.decide(causeHang, fmt.Sprintf("no sign of life for %s", round(silent)))
	case j.o.Limit > 0 && now.Sub(j.start) > j.o.Limit:
		j.decide(causeLimit, fmt.Sprintf("the run's limit of %s is over", round(j.o.Limit)))
	}
}

// StopWanted reports that QEMU shall be stopped: the run is decided, and the time it had to end by itself is over.
func (j *Judge) StopWanted() bool {
	switch j.cause {
	case causeNone:
		return false
	case causeDone:
		if !j.panicAt.IsZero() {
			return j.now.Sub(j.panicAt) >= j.o.PanicGrace
		}
		return j.now.Sub(j.decided) >= j.o.PowerOff
	case causeSign:
		return j.now.Sub(j.decided) >= j.o.PanicGrace
	}
	return true
}

// View is how the run stands.
func (j *Judge) View() View {
	p := j.phase()
	v := View{
		Elapsed: j.now.Sub(j.start), Phase: p.name, PhaseElapsed: j.now.Sub(p.start),
		Steps: j.planned, StepsDone: j.before + j.succeeded(), Import: j.imports, LogTail: slices.Clone(j.logTail),
		Silent: j.now.Sub(j.lastSign), Waiting: j.waiting, Marks: j.marks[:len(j.marks):len(j.marks)],
	}
	if s := j.current; s != nil {
		v.Step, v.StepName, v.StepNumber, v.StepElapsed = s.id, s.name, s.number, j.now.Sub(s.start)
	}
	return v
}

// succeeded counts the steps that this run has seen succeed, or be skipped.
func (j *Judge) succeeded() int {
	n := 0
	for _, s := range j.order {
		if s.status == event.StatusOK || s.status == event.StatusSkipped {
			n++
		}
	}
	return n
}

func (j *Judge) sign(now time.Time) { j.now, j.lastSign = now, now }

// sequence counts gaps and repetitions. A 1 after other numbers is the first event of another boot (a kexec); 0 is an
// event of a writer that does not count, such as a shell script.
func (j *Judge) sequence(seq uint64) {
	switch {
	case seq == 0:
		return
	case seq == 1 && j.seq > 1:
	case seq <= j.seq:
		j.counts.Duplicate++
		return
	case seq > j.seq+1:
		j.counts.Missing = int64(min(uint64(math.MaxInt64), uint64(j.counts.Missing)+min(seq-j.seq-1, math.MaxInt32)))
	}
	j.seq = seq
}

// doubtPanic takes an event as proof that the kernel lives: a panic on the console was somebody else's text, and an
// oops does not explain what comes now.
func (j *Judge) doubtPanic() {
	j.suspect = ""
	if j.panicAt.IsZero() || j.cause != causeNone {
		return
	}
	j.note("the console shows a kernel panic, but the guest went on: " + j.panicSaid)
	j.panicAt, j.panicSaid = time.Time{}, ""
}

func (j *Judge) milestone(line string) {
	line = withoutStamp(withoutBIOS(line))
	for i, r := range j.milestones {
		if strings.HasPrefix(line, r.Milestone) {
			j.milestones = j.milestones[i+1:]
			j.enterPhase(r.Phase)
			return
		}
	}
}

func (j *Judge) phase() *phase { return &j.phases[len(j.phases)-1] }

func (j *Judge) enterPhase(name string) {
	if len(j.phases) > 0 && j.phase().name == name {
		return
	}
	mark := Mark{Kind: MarkPhase, Name: name}
	if len(j.phases) > 0 {
		p := j.phase()
		if p.duration == 0 {
			p.duration = j.now.Sub(p.start)
		}
		mark.Text, mark.Duration = p.name, p.duration
	}
	if len(j.phases) >= maxPhases {
		j.dropped++
		*j.phase() = phase{name: name, start: j.now}
		return
	}
	j.phases = append(j.phases, phase{name: name, start: j.now})
	j.mark(mark)
}

func (j *Judge) phaseEvent(e event.Event) {
	if e.Name == "" {
		return
	}
	if e.Status == "" || e.Status == event.StatusStart || e.Name != j.phase().name {
		j.enterPhase(e.Name)
		j.imports = Import{}
	}
	switch e.Status {
	case event.StatusOK, event.StatusFailed:
		j.phase().duration = j.believe(e.Duration(), j.phase().start)
	}
	if e.Status == event.StatusFailed {
		j.failPhase = e.Name
	}
}

func (j *Judge) stepEvent(e event.Event) {
	s := j.stepOf(e)
	if s == nil {
		return
	}
	switch e.Status {
	case event.StatusOK, event.StatusFailed, event.StatusSkipped:
		s.status, s.exit, s.duration = e.Status, e.Exit, j.believe(e.Duration(), s.start)
		j.current, j.imports = nil, Import{}
		if e.Status == event.StatusFailed {
			j.failed, j.failPhase = s, s.phase
		} else if j.failed == s {
			j.failed = nil
		}
		j.mark(Mark{Kind: MarkStep, Name: s.name, Number: s.number, Total: j.planned, Status: s.status, Exit: s.exit,
			Duration: s.duration, Text: e.Text})
	default:
		s.status, s.exit, s.duration = event.StatusStart, 0, 0
		s.start, s.phase = j.now, j.phase().name
		j.current, j.logTail = s, nil
	}
}

// promptEvent takes that the guest waits for a person, or does so no longer. Where there is one, no patience runs out
// meanwhile. Every event of work says that somebody has answered.
func (j *Judge) promptEvent(e event.Event) {
	was := j.waiting
	j.waiting = ""
	if e.Status == event.StatusStart {
		j.waiting = orElse(e.Text, "something")
	}
	if j.waiting != "" && j.waiting != was {
		j.asked = j.now
		j.note("waiting for a person: " + j.waiting)
	}
}

// stepOf finds or makes the step of an event; nil when its ID is not valid or there are too many steps.
func (j *Judge) stepOf(e event.Event) *step {
	if !rundir.ValidStepID(e.Step) {
		j.counts.BadStepIDs++
		return nil
	}
	s := j.steps[e.Step]
	if s == nil {
		if len(j.order) >= j.o.MaxSteps {
			j.dropped++
			return nil
		}
		s = &step{id: e.Step, name: e.Step, start: j.now, phase: j.phase().name}
		j.steps[e.Step] = s
		j.order = append(j.order, s)
	}
	if e.Name != "" {
		s.name = e.Name
	}
	if e.Number > 0 {
		s.number = min(e.Number, maxPlan)
	}
	return s
}

// payloadEvent takes how far a step's import (or the copy of a filesystem, whose size may be unknown) is. The name is
// that of the file just now; the numbers are those of the whole.
func (j *Judge) payloadEvent(e event.Event) {
	if j.importStep != e.Step || e.Done < j.imports.Done {
		j.importStep, j.quarter = clip(e.Step), 0
	}
	j.moves(orElse(e.Name, "payload"), e)
	if e.Status == event.StatusFailed {
		j.failPhase = j.phase().name
	}
	if e.Total <= 0 || e.Done > e.Total {
		return
	}
	if quarter := int64(float64(e.Done) / float64(e.Total) * 4); quarter > j.quarter {
		j.quarter = quarter
		j.mark(Mark{Kind: MarkImport, Name: j.imports.Name, Bytes: e.Done, Size: e.Total, Text: e.Text})
	}
	if e.Done == e.Total {
		j.imports = Import{}
	}
}

// netEvent takes news of the network: how far a download is, which is no line of its own, or anything else.
func (j *Judge) netEvent(e event.Event) {
	if e.Total > 0 && e.Done < e.Total && e.Status == event.StatusStart {
		j.importStep = clip(e.Step)
		j.moves("downloading "+e.Name, e)
		return
	}
	j.imports = Import{}
	j.mark(Mark{Kind: MarkNet, Name: e.Name, Text: e.Text, Status: e.Status})
}

// moves takes how many bytes have been moved, and how fast that is.
func (j *Judge) moves(name string, e event.Event) {
	if j.imports.Name == "" || e.Done < j.imports.Done {
		j.began, j.hadThen = j.now, e.Done
	}
	j.imports = Import{Name: clip(name), Done: e.Done, Total: e.Total}
	if took := j.now.Sub(j.began); took >= minRateTime {
		j.imports.Rate = int64(float64(max(e.Done-j.hadThen, 0)) / took.Seconds())
	}
}

// logLine takes a line of output, of the step or of the console.
func (j *Judge) logLine(text string) {
	if len(j.logTail) == maxTail {
		j.logTail = j.logTail[1:]
	}
	j.logTail = append(j.logTail, text)
}

func (j *Judge) doneEvent(e event.Event) {
	switch j.cause {
	case causeNone:
		j.final, j.finalPhase = e, j.lastWork()
		j.decide(causeDone, e.Text)
	case causeDone:
		j.note("the guest sent more than one final event")
		if j.final.Status == event.StatusOK && e.Status != event.StatusOK {
			j.final = e
		}
	default: // the run was decided before: too late
	}
}

// lastWork is the phase before the agent shut the machine down.
func (j *Judge) lastWork() string {
	if n := len(j.phases); n > 1 && j.phases[n-1].name == PhaseShutdown {
		return j.phases[n-2].name
	}
	return j.phase().name
}

func (j *Judge) decide(c cause, said string) {
	j.cause, j.decided = c, j.now
	if said != "" {
		j.said = said
	}
}

// believe gives the guest's own measure of something that began at start, unless it cannot be true or is missing.
func (j *Judge) believe(d time.Duration, start time.Time) time.Duration {
	seen := j.now.Sub(start)
	if d <= 0 || d > j.now.Sub(j.start)+clockSlack {
		return seen
	}
	return d
}

func (j *Judge) note(text string) {
	text = clip(event.Clean(text))
	if len(j.notes) >= maxNotes {
		j.dropped++
		return
	}
	j.notes = append(j.notes, text)
	j.mark(Mark{Kind: MarkNote, Text: text})
}

func (j *Judge) mark(m Mark) {
	if len(j.marks) >= 4*j.o.MaxSteps+maxPhases+maxNotes {
		j.dropped++
		return
	}
	m.At = j.now.Sub(j.start)
	j.marks = append(j.marks, m)
}

// clip cuts text to at most maxText bytes at a rune boundary.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// round makes a time readable.
func round(d time.Duration) time.Duration {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
