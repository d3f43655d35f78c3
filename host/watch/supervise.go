// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

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
	// maxChunks bounds how many pieces (see Tail.Poll) of a file are read before anything else has its turn.
	maxChunks = 64
	// qemuLogTail is how much of QEMU's own output is searched for its last line.
	qemuLogTail = 4096
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
	Audit func(ctx context.Context) Finding
	From  Offsets
}

// Finding is what an audit has found.
type Finding struct {
	Audit report.Audit
	Doubt string // one line that says why the success is not one; "" when nothing contradicts it
	Step  string // ID of the first step that contradicts it
}

// Offsets are where the files of a run's machine begin, in bytes: 0 unless the run goes on, and they hold what an
// earlier machine has written.
type Offsets struct {
	Console, Events int64
}

// Ends gives the offsets of what is in a run folder now.
func Ends(dir *rundir.Dir) (Offsets, error) {
	console, err := os.Stat(dir.ConsoleLog())
	if err != nil {
		return Offsets{}, err
	}
	events, err := os.Stat(dir.Events())
	if err != nil {
		return Offsets{}, err
	}
	return Offsets{console.Size(), events.Size()}, nil
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
	console  *Tail
	events   *Tail
	logs     *StepLogs
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
		console: NewTail(r.Dir.ConsoleLog(), maxConsoleLine),
		events:  NewTail(r.Dir.Events(), event.MaxLine+1), // one more, so that a longer line is seen to be longer
		stopped: make(chan error, 1),
		faults:  make(map[string]bool),
	}
	s.console.Start(r.From.Console)
	s.events.Start(r.From.Events)
	logs, err := NewStepLogs(r.Dir.Steps(), r.Options.MaxSteps, r.Options.MaxStepLog)
	s.logs = logs
	return s, err
}

// giveUp ends a run that cannot be watched.
func (s *supervisor) giveUp(ctx context.Context, err error) Verdict {
	err = errors.Join(err, s.Process.Stop(context.WithoutCancel(ctx)))
	v := Verdict{Result: report.ResultInternal, Phase: PhaseStart,
		Line: event.Clean(fmt.Sprintf("the run cannot be watched: %v", err))}
	doc := s.Report
	s.judge.Account(&doc, v)
	if err := report.Write(s.Dir.Report(), doc); err != nil {
		v.Line += "; " + err.Error()
	}
	return v
}

// watch is the loop: it ends with the process.
func (s *supervisor) watch(ctx context.Context) {
	ticker, rooms := time.NewTicker(pollEvery), time.NewTicker(roomEvery)
	defer ticker.Stop()
	defer rooms.Stop()
	interrupted := ctx.Done()
	var lost <-chan time.Time
	for {
		select {
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

// poll reads what is new in both files and reports whether there was anything.
//
// The order matters to the judge, who takes an event after a panic message as proof that the kernel lives: the console
// is read first and given to the judge last, so that an event which comes after the panic in the judge's eyes was also
// written after it.
func (s *supervisor) poll() bool {
	now := time.Now()
	var lines []string
	read, err := s.console.Poll(func(line []byte, _ bool) { lines = append(lines, string(line)) })
	s.fault("read the console", err)
	got := s.pollEvents()
	for _, line := range lines {
		s.judge.Console(now, line)
	}
	if read > 0 && len(lines) == 0 {
		s.judge.Alive(now)
	}
	s.fault("write", s.logs.Flush())
	if s.console.Offset() > s.Options.MaxFileSize {
		s.judge.Flood(now, "console log")
	}
	if s.events.Offset() > s.Options.MaxFileSize {
		s.judge.Flood(now, "event log")
	}
	return read+got > 0
}

// pollEvents reads all events there are, within reason.
func (s *supervisor) pollEvents() int {
	total := 0
	for range maxChunks {
		n, err := s.events.Poll(s.eventLine)
		s.fault("read the events", err)
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

// finish reads the rest of the files, gives the verdict and writes the report.
func (s *supervisor) finish(ctx context.Context) Verdict {
	s.room() // it may have got full since it was last asked for, and that may be the end
	for more := true; more && max(s.console.Offset(), s.events.Offset()) <= s.Options.MaxFileSize; {
		more = s.poll()
	}
	s.events.Flush(s.eventLine)
	s.console.Flush(func(line []byte, _ bool) { s.judge.Console(time.Now(), string(line)) })
	exit := "still running"
	select {
	case <-s.Process.Done():
		exit = s.Process.ExitText()
	default:
	}
	if n := s.logs.Refused(); n > 0 {
		s.judge.Note(time.Now(), fmt.Sprintf("%d log lines are in no step log: too long, or of no known step", n))
	}
	v := s.audit(ctx, s.judge.Finish(time.Now(), exit, lastLine(s.Dir.QEMULog())))
	v.Log = s.logOf(v)
	s.fault("close the logs", errors.Join(s.logs.Close(), s.console.Close(), s.events.Close()))
	s.Sink.Update(s.judge.View())
	return s.report(v)
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
		if path, err := s.Dir.StepLog(st.ID); err == nil && s.logs.Has(st.ID) {
			doc.Steps[i].Log = s.Dir.Rel(path)
		}
	}
	if err := report.Write(s.Dir.Report(), doc); err != nil {
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
	if path, err := s.Dir.StepLog(v.Step); err == nil && s.logs.Has(v.Step) {
		return path
	}
	if v.Result == report.ResultQEMU && s.console.Offset() == 0 {
		return s.Dir.QEMULog()
	}
	return s.Dir.ConsoleLog()
}

// lastLine is the last line of a file that is not empty, or nothing: it is for a hint only.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > qemuLogTail {
		if _, err := f.Seek(-qemuLogTail, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, qemuLogTail))
	if err != nil {
		return ""
	}
	data = bytes.TrimSpace(data)
	return string(data[bytes.LastIndexByte(data, '\n')+1:])
}

type noSink struct{}

func (noSink) Update(View)       {}
func (noSink) Event(event.Event) {}
