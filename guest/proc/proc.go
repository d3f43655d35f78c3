// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package proc starts processes and waits for them inside a PID 1.
//
// A PID 1 must reap every orphan of the machine, so exactly one goroutine here, the one of Reaper.Run, calls wait4(-1);
// os/exec's Wait beside it would lose its children ("waitid: no child processes"). Start registers a child before the
// reaper can see it. Nothing else in the agent may wait for a child. Called by package guest only.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Status is how a process ended.
type Status struct {
	Exit   int            // exit status, or 128+signal as shells say it
	Signal syscall.Signal // the signal that ended it, 0 if none
}

// OK reports a zero exit status.
func (s Status) OK() bool { return s.Exit == 0 }

// String says "exit status 3" or "killed by signal 9 (killed)".
func (s Status) String() string {
	if s.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%s)", int(s.Signal), s.Signal)
	}
	return fmt.Sprintf("exit status %d", s.Exit)
}

// Spec is one process to start. Path is absolute; Files become the descriptors 0, 1, 2. The process leads a process
// group of its own, so that its whole family can be signalled. It leads no session: a session leader would make the
// first terminal that it opens its controlling one, and its end would hang up what it has left in the background.
type Spec struct {
	Path  string
	Args  []string // with argv[0]
	Env   []string
	Dir   string
	Files []*os.File
}

// Process is a started process.
type Process struct {
	pid    int
	status chan Status
}

// Pid is the process ID, which is also the ID of its process group.
func (p *Process) Pid() int { return p.pid }

// Signal sends a signal to the whole process group. A group that is gone already is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := syscall.Kill(-p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %d to process group %d: %w", int(sig), p.pid, err)
	}
	return nil
}

// ErrUnkillable says that a process has not ended after SIGKILL: it hangs in the kernel, on a disk that has died.
var ErrUnkillable = errors.New("the process does not end after SIGKILL")

// Wait waits for the end of the process. When ctx ends first, the process group gets SIGTERM, after grace SIGKILL, and
// Wait returns ctx's error together with the status; after another grace, it returns ErrUnkillable.
func (p *Process) Wait(ctx context.Context, grace time.Duration) (Status, error) {
	select {
	case s := <-p.status:
		return s, nil
	case <-ctx.Done():
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.Signal(sig); err != nil {
			return Status{}, err
		}
		timer := time.NewTimer(grace)
		select {
		case s := <-p.status:
			timer.Stop()
			_ = p.Signal(syscall.SIGKILL) // what is left of its group
			return s, ctx.Err()
		case <-timer.C:
		}
	}
	return Status{}, fmt.Errorf("process %d: %w", p.pid, ErrUnkillable)
}

// Reaper owns wait4(-1). Make one with NewReaper and give Run a goroutine before anything is started.
type Reaper struct {
	mu      sync.Mutex
	waiting map[int]*Process
	kick    chan os.Signal
}

// NewReaper makes a Reaper that listens for SIGCHLD.
func NewReaper() *Reaper {
	r := &Reaper{waiting: make(map[int]*Process), kick: make(chan os.Signal, 1)}
	signal.Notify(r.kick, unix.SIGCHLD)
	return r
}

// Run reaps until ctx ends. It is the only place of the program that waits for children.
func (r *Reaper) Run(ctx context.Context) {
	for {
		r.reap()
		select {
		case <-r.kick:
		case <-ctx.Done():
			signal.Stop(r.kick)
			return
		}
	}
}

// reap collects everything that has ended. The lock spans wait4 and the look-up, as it spans fork and registration in
// Start: a child that ends at once is never taken for an orphan.
func (r *Reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		p, ours := r.waiting[pid]
		if !ours {
			continue // an orphan
		}
		delete(r.waiting, pid)
		p.status <- statusOf(ws)
	}
}

func statusOf(ws syscall.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Exit: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	return Status{Exit: ws.ExitStatus()}
}

// Start starts a process.
func (r *Reaper) Start(s Spec) (*Process, error) {
	files := make([]uintptr, len(s.Files))
	for i, f := range s.Files {
		files[i] = f.Fd()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(s.Path, s.Args, &syscall.ProcAttr{
		Dir: s.Dir, Env: s.Env, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Path, err)
	}
	p := &Process{pid: pid, status: make(chan Status, 1)}
	r.waiting[pid] = p
	return p, nil
}
