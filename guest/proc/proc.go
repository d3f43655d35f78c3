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
// group of its own, so that its whole family can be signalled. It leads no session, unless it is to be somebody's shell:
// a session leader would make the first terminal that it opens its controlling one, and its end would hang up what it
// has left in the background.
type Spec struct {
	Path    string
	Args    []string // with argv[0]
	Env     []string
	Dir     string
	Files   []*os.File
	Session bool // lead a session, whose controlling terminal is Files[0], whoever had it before
}

// Process is a started process.
type Process struct {
	reaper *Reaper
	pid    int
	start  uint64 // clock ticks since the kernel started: nothing of its family is older
	status chan Status
}

// Pid is the process ID, which is also the ID of its process group.
func (p *Process) Pid() int { return p.pid }

// ErrUnkillable says that a process has not ended after SIGKILL: it hangs in the kernel, on a disk that has died.
var ErrUnkillable = errors.New("the process does not end after SIGKILL")

// familyPoll is how often End looks who is left.
const familyPoll = 20 * time.Millisecond

// Wait waits for the end of the process. When ctx ends first, its whole family is ended (see End), and Wait returns
// ctx's error together with the status; ErrUnkillable if there is none.
func (p *Process) Wait(ctx context.Context, grace time.Duration) (Status, error) {
	select {
	case s := <-p.status:
		return s, nil
	case <-ctx.Done():
	}
	endErr := p.End(grace)
	select {
	case s := <-p.status:
		return s, ctx.Err()
	case <-time.After(grace):
	}
	if endErr == nil {
		endErr = fmt.Errorf("process %d: %w", p.pid, ErrUnkillable)
	}
	return Status{}, endErr
}

// End ends the process and everything it has started, in groups and sessions of their own as well: SIGTERM and
// SIGHUP (an interactive shell ignores the first), and SIGKILL for what is left after grace. A stopped process is
// continued, so that it hears of it. After another grace with somebody left, it returns ErrUnkillable. A process that has ended already may still have a family.
func (p *Process) End(grace time.Duration) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		deadline := time.Now().Add(grace)
		for first := true; ; first = false {
			left, err := p.signalKin(sig, first)
			if err != nil || left == 0 {
				return err
			}
			if time.Now().After(deadline) {
				break
			}
			time.Sleep(familyPoll)
		}
	}
	return fmt.Errorf("the family of process %d: %w", p.pid, ErrUnkillable)
}

// signalKin signals the family and says how many there are. SIGTERM is sent once: whoever has its own idea of it needs
// time for that. SIGKILL is sent to whoever is there, again and again: they may still be forking.
func (p *Process) signalKin(sig syscall.Signal, first bool) (int, error) {
	if !first && sig != syscall.SIGKILL {
		left, err := p.reaper.kin(p)
		return len(left), err
	}
	left, err := p.reaper.signalKin(p, sig)
	if left == 0 || sig != syscall.SIGTERM {
		return left, err
	}
	for _, more := range []syscall.Signal{syscall.SIGHUP, syscall.SIGCONT} {
		if err == nil {
			_, err = p.reaper.signalKin(p, more)
		}
	}
	return left, err
}

// Reaper owns wait4(-1). Make one with NewReaper and give Run a goroutine before anything is started.
type Reaper struct {
	mu      sync.Mutex
	waiting map[int]*Process
	orphans int64
	kick    chan os.Signal
}

// Orphans is how many processes have been reaped that somebody else had started.
func (r *Reaper) Orphans() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.orphans
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
			r.orphans++
			continue
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
	attr := &syscall.SysProcAttr{Setpgid: true}
	if s.Session {
		attr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	}
	start := ticks()
	pid, err := syscall.ForkExec(s.Path, s.Args, &syscall.ProcAttr{Dir: s.Dir, Env: s.Env, Files: files, Sys: attr})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Path, err)
	}
	p := &Process{reaper: r, pid: pid, start: start, status: make(chan Status, 1)}
	r.waiting[pid] = p
	return p, nil
}

// ticks is the time since the kernel started in the unit of /proc/PID/stat, 10 ms on every Linux (USER_HZ). A clock that
// cannot be read gives 0: everything since the boot is then family.
func ticks() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano()) / 1e7
}
