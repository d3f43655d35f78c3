// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kindling/host/control"
	"kindling/host/progress"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/host/watch"
	"kindling/internal/event"
	"kindling/internal/shell"
)

const (
	attachPoll   = 200 * time.Millisecond
	stopPatience = time.Minute // for a run to end in order
	readyFD      = 3           // of a detached run: where it says that it goes on alone
)

// attachCmd is "kindling attach".
type attachCmd struct {
	RunFolder pathName `arg:"" help:"The run's folder."`
	JSON      bool     `help:"Print the guest's events, from the first on, as JSON lines." name:"json"`
}

// Help implements kong.HelpProvider.
func (attachCmd) Help() string {
	return examples(
		"kindling attach kindling-runs/latest", "watch it to its end; Ctrl-C ends the watching, never the run",
		"kindling attach kindling-runs/latest --json", "its events as JSON lines",
	)
}

// Run implements the verb.
func (c *attachCmd) Run(ctx context.Context, s streams) error {
	dir, err := rundir.Open(string(c.RunFolder))
	if err != nil {
		return inputError(err)
	}
	defer dir.Close()
	events := func() (*os.File, error) { return dir.Open(rundir.Events) }
	v := &viewer{dir: dir, events: watch.NewTail(events, event.MaxLine+1)}
	defer v.events.Close()
	v.display = progress.For(s.out, c.JSON, os.Getenv("TERM"), v.remaining)
	err = v.follow(ctx)
	v.display.Close()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return &exitError{report.ResultInterrupted.ExitStatus(), "detached; the run goes on"}
	}
	return ended(dir, s)
}

// ended is the result of a run that is over.
func ended(dir *rundir.Dir, s streams) error {
	r, err := readReport(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the process that drove %s has ended without a report: it was killed, or the machine went down", dir.Path())
	}
	if err != nil {
		return err
	}
	if r.ExitStatus == statusOK {
		_, err := fmt.Fprintf(s.notes(), "%s\nreport: %s\n", r.Line, dir.At(rundir.Report))
		return err
	}
	return &exitError{r.ExitStatus, r.Line + "; report: " + dir.At(rundir.Report)}
}

// readReport reads a run's report.
func readReport(dir *rundir.Dir) (report.Report, error) {
	data, err := dir.Read(rundir.Report, report.MaxSize)
	if err != nil {
		return report.Report{}, err
	}
	r, err := report.Decode(data)
	if err != nil {
		return r, fmt.Errorf("read report %s: %w", dir.At(rundir.Report), err)
	}
	return r, nil
}

// viewer shows a run that another process drives.
type viewer struct {
	dir     *rundir.Dir
	events  *watch.Tail
	display progress.Display
	left    atomic.Pointer[time.Duration]
}

// remaining implements progress.Estimate with what the run's own process thinks.
func (v *viewer) remaining(watch.View) (time.Duration, bool) {
	if left := v.left.Load(); left != nil {
		return *left, true
	}
	return 0, false
}

// follow shows the run until it is over or ctx ends.
func (v *viewer) follow(ctx context.Context) error {
	for {
		busy, err := v.dir.Busy()
		if err != nil {
			return err
		}
		err = control.Attach(ctx, v.dir.Path(), rundir.Control, func(document []byte) error { return v.show(ctx, document) })
		if errors.Is(err, control.ErrNoRun) && busy { // its media are being made
			err = nil
		}
		if errors.Is(err, control.ErrNoRun) || ctx.Err() != nil || err == nil && !busy {
			return v.showEvents(ctx)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(attachPoll):
		}
	}
}

// show shows what is new.
func (v *viewer) show(ctx context.Context, document []byte) error {
	if err := v.showEvents(ctx); err != nil {
		return err
	}
	s, err := progress.DecodeSnapshot(document)
	if err != nil {
		return err
	}
	v.left.Store(s.Left)
	v.display.Update(s.View)
	return nil
}

func (v *viewer) showEvents(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := v.events.Poll(func(line []byte, cut bool) {
			if e, err := event.Decode(line); err == nil && !cut {
				v.display.Event(e)
			}
		})
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// stopCmd is "kindling stop".
type stopCmd struct {
	RunFolder pathName `arg:"" help:"The run's folder."`
}

// Help implements kong.HelpProvider.
func (stopCmd) Help() string {
	return examples("kindling stop kindling-runs/latest", "end it as Ctrl-C would have where it was started")
}

// Run implements the verb.
func (c *stopCmd) Run(ctx context.Context, s streams) error {
	dir, err := rundir.Open(string(c.RunFolder))
	if err != nil {
		return inputError(err)
	}
	defer dir.Close()
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	err = control.Stop(ctx, dir.Path(), rundir.Control)
	if errors.Is(err, control.ErrNoRun) {
		return usageError("%s: no machine of it is running: it is over, or has not begun", dir.Path())
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", dir.Path(), err)
	}
	s.notef("stopped; report: %s\n", dir.At(rundir.Report))
	return nil
}

// detach starts the same command in a session of its own and waits until its machine runs. What it has to say before
// that, it says here.
func (c *runCmd) detach(ctx context.Context, s streams) error {
	if c.Boot.Interactive || c.DryRun || c.JSON {
		return usageError("--detach: nobody is there for --interactive, --dry-run or --json")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("where this program is: %w", err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	var args []string
	for _, a := range s.args {
		if a != "--detach" && a != "-d" {
			args = append(args, a)
		}
	}
	child := exec.Command(self, append(args, fmt.Sprintf("--ready-fd=%d", readyFD))...) //nolint:noctx // it outlives us
	child.Stdout, child.Stderr, child.ExtraFiles = s.err, s.err, []*os.File{theirs}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(child.Start(), theirs.Close()); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGINT) })
	defer stop()
	folder, err := bufio.NewReader(ready).ReadString('\n')
	if err == nil {
		folder = strings.TrimSuffix(folder, "\n")
		_, err = fmt.Fprintf(s.text(), "%s\n", folder)
		s.notef("it goes on in the background: %s\n", shell.Line([]string{"kindling", "attach", folder}))
		return errors.Join(err, child.Process.Release())
	}
	// It has ended before its machine ran, and has said why.
	_ = child.Wait()
	return &exitError{status: child.ProcessState.ExitCode()}
}

// goOnAlone is where a run stops needing its terminal: one that closes (SIGHUP) costs the picture, not the run. A
// detached one tells who waits for that, and says everything that follows in a file.
func (r *run) goOnAlone() error {
	signal.Ignore(syscall.SIGHUP)
	if r.cmd.ReadyFD == 0 {
		return nil
	}
	log, err := r.dir.Append(rundir.OwnLog)
	if err != nil {
		return err
	}
	ready := os.NewFile(uintptr(r.cmd.ReadyFD), "ready")
	if ready == nil {
		return errors.Join(usageError("--ready-fd: no such descriptor"), log.Close())
	}
	_, err = fmt.Fprintln(ready, r.dir.Path())
	for _, f := range []*os.File{r.streams.out, r.streams.err} {
		err = errors.Join(err, unix.Dup3(int(log.Fd()), int(f.Fd()), 0))
	}
	return errors.Join(err, ready.Close(), log.Close())
}
