// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"kindling/host/programs"
	"kindling/internal/event"
)

// doneMarker is what the overlay's last after script leaves in a root that has no event port.
const doneMarker = "kindling/done"

// stopGrace is how long a chroot's processes get between SIGTERM and SIGKILL.
const stopGrace = 5 * time.Second

// maxMarker bounds the marker, in bytes.
const maxMarker = 64

// rootProcess is a bootstrap in a chroot or bubblewrap, as package watch wants it. Such a guest has no event port: when
// the process has ended, its exit status and the marker of the last step make the final event.
type rootProcess struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // written before done is closed
}

// startRoot starts argv in a session of its own, without a terminal that it could type into; its output is the run's
// console.
func startRoot(ctx context.Context, argv []string, dir string) (*started, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	program, err := programs.Find(argv[0])
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	if err := root.Remove(doneMarker); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, root.Close())
	}
	console, theirs, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	cmd := exec.Command(program, argv[1:]...) //nolint:noctx // Stop ends it: gently, and with all its children
	cmd.Stdout, cmd.Stderr = theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if err := errors.Join(cmd.Start(), theirs.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", argv[0], err), console.Close(), root.Close())
	}
	p := &rootProcess{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return &started{
		Process: p, console: console,
		final: func(said string) event.Event { return finalEvent(p.err, root, said) },
		close: func() error { return errors.Join(console.Close(), root.Close()) },
	}, nil
}

// reachedEnd reports whether the last step has left its marker: a regular file in the guest's own root.
func reachedEnd(root *os.Root) bool {
	f, err := root.OpenFile(doneMarker, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	marker, err := io.ReadAll(io.LimitReader(f, maxMarker))
	return err == nil && strings.TrimSpace(string(marker)) == "ok"
}

// finalEvent is the guest's word on how it ended; said is the last line of its console.
func finalEvent(ended error, root *os.Root, said string) event.Event {
	e := event.Event{Seq: 1, Kind: event.KindDone, Status: event.StatusOK}
	switch {
	case ended != nil:
		e.Status, e.Reason, e.Text = event.StatusFailed, event.ReasonStep, ended.Error()
		if exit, ok := errors.AsType[*exec.ExitError](ended); ok {
			e.Exit = exit.ExitCode()
		}
	case !reachedEnd(root):
		e.Status, e.Reason, e.Text = event.StatusFailed, event.ReasonStep, "it ended without having reached its last step"
	}
	if e.Status == event.StatusFailed && said != "" {
		e.Text += ": " + said
	}
	return e
}

// Done implements watch.Process.
func (p *rootProcess) Done() <-chan struct{} { return p.done }

// ExitText implements watch.Process.
func (p *rootProcess) ExitText() string {
	if p.err != nil {
		return p.err.Error()
	}
	return "exit status 0"
}

// Stop implements watch.Process: the whole process group ends.
func (p *rootProcess) Stop(ctx context.Context) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop process group %d: %w", p.cmd.Process.Pid, err)
		}
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stopGrace):
		}
	}
	return fmt.Errorf("process group %d does not end", p.cmd.Process.Pid)
}
