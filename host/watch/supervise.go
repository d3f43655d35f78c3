// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"kindling/host/audit"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/internal/event"
)

const (
	// pollEvery is how often the files are looked at: quick for an eye, cheap for a processor.
	pollEvery = 50 * time.Millisecond
	// maxConsoleLine bounds a console line, which has no format that would bound it.
	maxConsoleLine = 4096
	// stopPatience is how long a process that was told to stop may take before it is given up; it covers the grace time
	// that Stop itself allows.
	stopPatience = 45 * time.Second
	// maxChunks bounds how many pieces (chunkSize) of a stream are read before anything else has its turn.
	maxChunks = 64
	// maxQEMULog bounds what is kept of QEMU's own output, in bytes.
	maxQEMULog = 1 << 20
)

// Process is what Supervise needs of a running machine; package qemu's Process is one.
type Process interface {
	// Done is closed when the process has ended and was waited for.
	Done() <-chan struct{}
	// ExitText is how it ended, "exit status 0" for a clean end. Called after Done only.
	ExitText() string
	// Stop ends it and returns when it has ended.
	Stop(ctx context.Context) error
}

// Sink shows a run. Its methods are called from one goroutine and must not wait for a slow reader.
type Sink interface {
	Update(v View)
	Event(e event.Event)
}

// Run is what Supervise supervises.
type Run struct {
	Process Process
	Dir     *rundir.Dir
	Options Options
	Sink    Sink          // may be nil
	Report  report.Report // what is known beforehand: label, media, packages, versions, accel, argv, notes
	Started time.Time     // when the process was started
	// Free is how many bytes there still are for what the machine writes; nil: on the filesystem of Dir.
	Free func() (uint64, error)
	// Held says whether the host itself holds the machine at the moment, so that its silence means nothing. May be nil.
	Held func() bool
	// Notes are what the host has to say about the run while it goes on. May be nil.
	Notes <-chan string

	// Audit compares a success that the guest reports with what the run owes. It is called once, when the machine has
	// ended, and only after such a success. Nil: the final event decides.
	Audit func(ctx context.Context) audit.Finding

	// Console, Events and Output are what the machine's first two serial ports and QEMU itself write; nil: nothing. All
	// of it goes into bounded files of the folder, and Tee sees the console as it comes.
	Console, Events, Output Source
	Tee                     func([]byte)
	// Replay says that the machine goes on from a kept state: what the folder's logs hold was written before it.
	Replay bool
	// Flush takes requests to write all that has come into the logs; what it is given is closed when that is done. May be nil.
	Flush chan chan<- struct{}
	// Final gives the final event of a guest that has no event port, when it has ended; said is the last line of its
	// console. May be nil.
	Final func(said string) event.Event
}

// Supervise watches a machine until it has ended, stops it when the run is decided or ctx ends, writes the step logs
// and the report, and gives the verdict. It returns only when the process is gone (or cannot be killed, which is
// noted). A fault of the host on the way, such as a full disk, is noted in the report; if the report cannot be
// written, a success becomes report.ResultInternal, because the run has not left what it promised.
func Supervise(ctx context.Context, r Run) Verdict {
	s, err := newSupervisor(r)
	if err != nil {
		return s.giveUp(ctx, err)
	}
	s.watch(ctx)
	return s.finish(ctx)
}

type supervisor struct {
	Run
	judge    *Judge
	quota    *quota
	console  *stream
	events   *stream
	output   *stream
	files    []*os.File
	logs     *StepLogs
	last     string // line of the console
	said     string // last line of QEMU's own
	stopping bool
	stopped  chan error // what Stop said
	faults   map[string]bool
}

func newSupervisor(r Run) (*supervisor, error) {
	if r.Started.IsZero() {
		r.Started = time.Now()
	}
	if r.Sink == nil {
		r.Sink = noSink{}
	}
	if r.Free == nil {
		r.Free = func() (uint64, error) { return freeBytes(r.Dir.Path()) }
	}
	s := &supervisor{
		Run:     r,
		judge:   NewJudge(r.Options, r.Started),
		quota:   &quota{max(0, r.Options.MaxOutput-written(r.Dir))},
		stopped: make(chan error, 1),
		faults:  make(map[string]bool),
	}
	logs, err := NewStepLogs(r.Dir, r.Options.MaxSteps, r.Options.MaxStepLog, s.quota)
	if s.logs = logs; err != nil {
		return s, err
	}
	for _, open := range []struct {
		stream **stream
		src    Source
		name   string
		quota  *quota
		line   int
	}{
		{&s.console, r.Console, rundir.ConsoleLog, s.quota, maxConsoleLine},
		{&s.events, r.Events, rundir.Events, s.quota, event.MaxLine + 1}, // one more, so that a longer line is seen to be longer
		{&s.output, r.Output, rundir.QEMULog, &quota{maxQEMULog}, maxConsoleLine},
	} {
		f, err := r.Dir.Append(open.name)
		if err != nil {
			return s, err
		}
		s.files = append(s.files, f)
		if *open.stream, err = newStream(open.src, f, open.quota, open.line); err != nil {
			return s, err
		}
	}
	s.console.tee, s.output.drop = r.Tee, true
	return s, s.replay()
}

// written is what earlier lives of a run have left in its logs, in bytes.
func written(dir *rundir.Dir) int64 {
	total := dir.Size(rundir.ConsoleLog) + dir.Size(rundir.Events)
	entries, err := fs.ReadDir(dir.FS(), rundir.Steps)
	if err != nil {
		return total
	}
	for _, e := range entries {
		total += dir.Size(rundir.Steps + "/" + e.Name())
	}
	return total
}

// replay gives the judge what the logs hold already.
func (s *supervisor) replay() error {
	if !s.Replay {
		return nil
	}
	for _, log := range []struct {
		stream *stream
		name   string
		emit   Emit
	}{{s.events, rundir.Events, s.eventLine}, {s.console, rundir.ConsoleLog, s.consoleLine}} {
		f, err := s.Dir.Open(log.name)
		if err != nil {
			return err
		}
		if err := errors.Join(log.stream.replay(f, log.emit), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// giveUp ends a run that cannot be watched.
func (s *supervisor) giveUp(ctx context.Context, err error) Verdict {
	err = errors.Join(err, s.Process.Stop(context.WithoutCancel(ctx)))
	v := Verdict{Result: report.ResultInternal, Phase: PhaseStart,
		Line: event.Clean(fmt.Sprintf("the run cannot be watched: %v", err))}
	doc := s.Report
	s.judge.Account(&doc, v)
	if err := writeReport(s.Dir, doc); err != nil {
		v.Line += "; " + err.Error()
	}
	return v
}

func writeReport(dir *rundir.Dir, doc report.Report) error {
	data, err := report.Encode(doc)
	if err != nil {
		return err
	}
	return dir.Write(rundir.Report, data)
}

// watch is the loop: it ends with the process.
func (s *supervisor) watch(ctx context.Context) {
	ticker, rooms := time.NewTicker(pollEvery), time.NewTicker(roomEvery)
	defer ticker.Stop()
	defer rooms.Stop()
	interrupted := ctx.Done()
	wake := s.await(ctx)
	var lost <-chan time.Time
	for {
		select {
		case <-wake:
			s.pollSome()
		case <-s.Process.Done():
			return
		case <-lost:
			s.judge.Note(time.Now(), "the machine's process could not be ended")
			return
		case err := <-s.stopped:
			s.fault("stop the machine", err)
		case <-interrupted:
			interrupted = nil
			select {
			case <-s.Process.Done(): // it ended by itself before
			default:
				s.judge.Interrupt(time.Now())
			}
		case done := <-s.Flush:
			s.pollSome()
			close(done)
		case <-rooms.C:
			s.room()
		case text := <-s.Notes:
			s.judge.Note(time.Now(), text)
		case <-ticker.C:
			s.pollSome()
			if s.Held != nil && s.Held() {
				s.judge.Alive(time.Now())
			}
			s.judge.Tick(time.Now())
			s.Sink.Update(s.judge.View())
		}
		if s.judge.StopWanted() && !s.stopping {
			s.stopping = true
			lost = time.After(stopPatience)
			go func() { s.stopped <- s.Process.Stop(context.WithoutCancel(ctx)) }()
		}
	}
}

// await gives a channel on which something comes whenever the machine has written something.
func (s *supervisor) await(ctx context.Context) <-chan struct{} {
	wake := make(chan struct{})
	ctx = context.WithoutCancel(ctx) // an interrupted machine still says how it ends
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		<-s.Process.Done()
		cancel()
	}()
	for _, stream := range []*stream{s.console, s.events, s.output} {
		if stream.raw != nil {
			go stream.await(ctx, wake)
		}
	}
	return wake
}

// room asks for the room on the disk.
func (s *supervisor) room() {
	free, err := s.Free()
	s.fault("see how much room there is", err)
	if err == nil {
		s.judge.Room(time.Now(), free)
	}
}

// pollSome reads all that is new, within reason.
func (s *supervisor) pollSome() {
	for range maxChunks {
		if !s.poll() {
			return
		}
	}
}

// poll reads what is new on both ports and reports whether there was anything.
//
// The order matters to the judge, who takes an event after a panic message as proof that the kernel lives: the console
// is read first and given to the judge last, so that an event which comes after the panic in the judge's eyes was also
// written after it.
func (s *supervisor) poll() bool {
	now := time.Now()
	var lines []string
	read, err := s.console.poll(func(line []byte, _ bool) { lines = append(lines, string(line)) })
	s.trouble(now, "keep the console", err)
	got := s.pollEvents()
	for _, line := range lines {
		s.consoleLine([]byte(line), false)
	}
	if read > 0 && len(lines) == 0 {
		s.judge.Alive(now)
	}
	s.fault("write", s.logs.Flush())
	_, err = s.output.poll(func(line []byte, _ bool) { s.said = string(line) })
	s.fault("keep what QEMU says", err)
	return read+got > 0
}

// trouble notes a fault of the host; a run that has written as much as it may is over.
func (s *supervisor) trouble(now time.Time, what string, err error) {
	if errors.Is(err, errQuota) {
		s.judge.Flood(now)
		return
	}
	s.fault(what, err)
}

func (s *supervisor) consoleLine(line []byte, _ bool) {
	if s.last = string(line); s.last != "" {
		s.judge.Console(time.Now(), s.last)
	}
}

// pollEvents reads all events there are, within reason.
func (s *supervisor) pollEvents() int {
	total := 0
	for range maxChunks {
		n, err := s.events.poll(s.eventLine)
		s.trouble(time.Now(), "keep the events", err)
		total += n
		if n == 0 {
			break
		}
	}
	return total
}

func (s *supervisor) eventLine(line []byte, cut bool) {
	now := time.Now()
	e, err := event.Decode(line)
	if cut {
		err = event.ErrTooLong
	}
	if err != nil {
		s.judge.BadEvent(now, err)
		return
	}
	if e.Kind == event.KindLog {
		s.fault("write", s.logs.Write(e.Step, e.Text))
	}
	s.judge.Event(now, e)
	s.Sink.Event(e)
}

// fault notes a fault of the host, each once.
func (s *supervisor) fault(what string, err error) {
	if err == nil || s.faults[what] {
		return
	}
	s.faults[what] = true
	s.judge.Note(time.Now(), fmt.Sprintf("the host could not %s: %v", what, err))
}

// finish reads the rest, gives the verdict and writes the report.
func (s *supervisor) finish(ctx context.Context) Verdict {
	s.room() // it may have got full since it was last asked for, and that may be the end
	for s.poll() {
		continue
	}
	s.events.lines.flush(s.eventLine)
	s.console.lines.flush(s.consoleLine)
	s.output.lines.flush(func(line []byte, _ bool) { s.said = string(line) })
	exit := "still running"
	select {
	case <-s.Process.Done():
		exit = s.Process.ExitText()
		if s.Final != nil {
			s.finalEvent()
		}
	default:
	}
	if n := s.logs.Refused(); n > 0 {
		s.judge.Note(time.Now(), fmt.Sprintf("%d log lines are in no step log: too long, or of no known step", n))
	}
	v := s.audit(ctx, s.judge.Finish(time.Now(), exit, s.said))
	v.Log = s.logOf(v)
	err := s.logs.Close()
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	s.fault("close the logs", err)
	s.Sink.Update(s.judge.View())
	return s.report(v)
}

// finalEvent takes the final event of a guest that has no event port.
func (s *supervisor) finalEvent() {
	e := s.Final(event.Clean(s.last))
	line, err := event.Encode(e)
	if err != nil {
		return // without a final event the run is not a success
	}
	_, err = s.files[1].Write(line)
	s.fault("write", err)
	s.judge.Event(time.Now(), e)
	s.Sink.Event(e)
}

// audit has a reported success compared with what the run owes.
func (s *supervisor) audit(ctx context.Context, v Verdict) Verdict {
	if v.Result != report.ResultOK || s.Audit == nil {
		return v
	}
	found := s.Audit(ctx)
	s.Report.Audit = &found.Audit
	if found.Doubt != "" {
		v.Result, v.Line, v.Step = report.ResultInconsistent, event.Clean(found.Doubt), found.Step
	}
	return v
}

func (s *supervisor) report(v Verdict) Verdict {
	doc := s.Report
	s.judge.Account(&doc, v)
	doc.Log = s.Dir.Rel(v.Log)
	for i, st := range doc.Steps {
		if name, err := rundir.StepLog(st.ID); err == nil && s.logs.Has(st.ID) {
			doc.Steps[i].Log = name
		}
	}
	if err := writeReport(s.Dir, doc); err != nil {
		if v.Result == report.ResultOK {
			v.Result, v.Log = report.ResultInternal, ""
			v.Line = "the run ended successfully, but its report is missing"
		}
		v.Line += "; " + err.Error()
	}
	return v
}

// logOf is the log that explains a failure.
func (s *supervisor) logOf(v Verdict) string {
	if v.Result == report.ResultOK {
		return ""
	}
	if name, err := rundir.StepLog(v.Step); err == nil && s.logs.Has(v.Step) {
		return s.Dir.At(name)
	}
	if v.Result == report.ResultQEMU && s.console.total == 0 {
		return s.Dir.At(rundir.QEMULog)
	}
	return s.Dir.At(rundir.ConsoleLog)
}

type noSink struct{}

func (noSink) Update(View)       {}
func (noSink) Event(event.Event) {}
