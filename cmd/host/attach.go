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

	"kindling/host/progress"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/host/watch"
	"kindling/internal/event"
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
		return usageError("%s", err)
	}
	v := &viewer{dir: dir, events: watch.NewTail(dir.Events(), event.MaxLine+1)}
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
	r, err := report.Read(dir.Report())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the process that drove %s has ended without a report: it was killed, or the machine went down", dir.Path())
	}
	if err != nil {
		return err
	}
	if r.ExitStatus == statusOK {
		_, err := fmt.Fprintf(s.notes(), "%s\nreport: %s\n", r.Line, dir.Report())
		return err
	}
	return &exitError{r.ExitStatus, r.Line + "; report: " + dir.Report()}
}

// viewer shows a run from the files in its folder.
type viewer struct {
	dir     *rundir.Dir
	events  *watch.Tail
	display progress.Display
	seen    time.Time // when view.json was written that was read last
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
	ticker := time.NewTicker(attachPoll)
	defer ticker.Stop()
	for {
		busy, err := v.dir.Busy()
		if err != nil {
			return err
		}
		if err := v.look(); err != nil || !busy {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look shows what is new.
func (v *viewer) look() error {
	for {
		n, err := v.events.Poll(func(line []byte, cut bool) {
			if e, err := event.Decode(line); err == nil && !cut {
				v.display.Event(e)
			}
		})
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	info, err := os.Stat(v.dir.View())
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.ModTime().Equal(v.seen) {
		return nil // its media are being made, or nothing has happened
	}
	if err != nil {
		return err
	}
	s, err := progress.ReadSnapshot(v.dir.View())
	if err != nil {
		return err
	}
	v.seen = info.ModTime()
	v.left.Store(s.Left)
	v.display.Update(cleanView(s.View))
	return nil
}

// cleanView is a view from a file, which anybody may have written.
func cleanView(v watch.View) watch.View {
	for _, text := range []*string{&v.Phase, &v.Step, &v.StepName, &v.Import.Name, &v.Waiting} {
		*text = event.Clean(*text)
	}
	for i := range v.LogTail {
		v.LogTail[i] = event.Clean(v.LogTail[i])
	}
	for i := range v.Marks {
		v.Marks[i].Name, v.Marks[i].Text = event.Clean(v.Marks[i].Name), event.Clean(v.Marks[i].Text)
	}
	return v
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
		return usageError("%s", err)
	}
	busy, err := dir.Busy()
	if err != nil {
		return err
	}
	if !busy {
		return usageError("%s: no process drives it: it is over", dir.Path())
	}
	pid, err := dir.PID()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		return fmt.Errorf("stop %s (process %d): %w", dir.Path(), pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	for {
		if busy, err := dir.Busy(); err != nil || !busy {
			s.notef("stopped; report: %s\n", dir.Report())
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop %s: process %d has not ended: %w", dir.Path(), pid, context.Cause(ctx))
		case <-time.After(attachPoll):
		}
	}
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
		s.notef("it goes on in the background: kindling attach %s\n", folder)
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
	log, err := os.Create(r.dir.OwnLog())
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
