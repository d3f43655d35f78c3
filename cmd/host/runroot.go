// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"kindling/host/rundir"
	"kindling/internal/event"
)

// doneMarker is what the overlay's last after script leaves in a root that has no event port.
const doneMarker = "kindling/done"

// stopGrace is how long a chroot's processes get between SIGTERM and SIGKILL.
const stopGrace = 5 * time.Second

// rootProcess is a bootstrap in a chroot or bubblewrap, as package watch wants it. Such a guest has no event port: when
// the process has ended, its exit status and the marker of the last step are turned into the final event.
type rootProcess struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // written before done is closed
}

// startRoot starts argv with its output as the run's console.
func startRoot(ctx context.Context, argv []string, root string, dir *rundir.Dir, log *os.File) (*rootProcess, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(root, doneMarker)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	console, err := os.Create(dir.ConsoleLog())
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // Stop ends it: gently, and with all its children
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", argv[0], err), console.Close())
	}
	p := &rootProcess{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = errors.Join(cmd.Wait(), console.Close())
		if err := os.WriteFile(dir.Events(), finalEvent(p.err, root, lastConsoleLine(dir.ConsoleLog())), 0o644); err != nil {
			_, _ = fmt.Fprintln(log, err)
		}
	}()
	return p, nil
}

// consoleTail is how much of a console is searched for its last line, in bytes.
const consoleTail = 4096

// lastConsoleLine is what a guest, or the program that was to start it, said last; "" for nothing.
func lastConsoleLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	data := make([]byte, min(info.Size(), consoleTail))
	if _, err := f.ReadAt(data, info.Size()-int64(len(data))); err != nil {
		return ""
	}
	text := strings.TrimSpace(string(data))
	return event.Clean(text[strings.LastIndexByte(text, '\n')+1:])
}

// finalEvent is the guest's word on how it ended; said is the last line of its console.
func finalEvent(ended error, root, said string) []byte {
	e := event.Event{Seq: 1, Kind: event.KindDone, Status: event.StatusOK}
	marker, err := os.ReadFile(filepath.Join(root, doneMarker))
	switch {
	case ended != nil:
		e.Status, e.Reason, e.Text = event.StatusFailed, event.ReasonStep, ended.Error()
		if exit, ok := errors.AsType[*exec.ExitError](ended); ok {
			e.Exit = exit.ExitCode()
		}
	case err != nil || strings.TrimSpace(string(marker)) != "ok":
		e.Status, e.Reason, e.Text = event.StatusFailed, event.ReasonStep, "it ended without having reached its last step"
	}
	if e.Status == event.StatusFailed && said != "" {
		e.Text += ": " + said
	}
	line, err := event.Encode(e)
	if err != nil {
		return nil // no event is no success
	}
	return line
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
