// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// DefaultGrace is how long Stop leaves QEMU to write out its disks and end after SIGTERM.
const DefaultGrace = 10 * time.Second

// Exit is how QEMU ended. It is no evidence of how the run in it ended.
type Exit struct {
	Code   int            // exit status, -1 when a signal ended it
	Signal syscall.Signal // 0 when it ended by itself
	Err    error          // waiting itself failed; Code and Signal mean nothing then
}

// String gives "exit status 1", "signal killed" or the error.
func (e Exit) String() string {
	switch {
	case e.Err != nil:
		return e.Err.Error()
	case e.Signal != 0:
		return "signal " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Process is a running QEMU. Its methods may be called from several goroutines.
type Process struct {
	proc *os.Process
	done chan struct{}
	exit Exit // written before done is closed
}

// Start validates o, looks whether its files can be opened, and runs QEMU in a process group of its own, so that a
// terminal's Ctrl-C reaches Kindling and not the machine. Standard output and error of QEMU go to log, which Start does
// not close. QEMU gets SIGTERM from the kernel if Kindling dies.
//
// The end of ctx before QEMU runs is an error; afterwards it means nothing: ending QEMU is Stop's work.
func Start(ctx context.Context, o Options, log *os.File) (*Process, error) {
	return StartWith(ctx, o, log, nil, log)
}

// StartWith is Start with files of the caller's for QEMU's standard input and output: those of the serial port that has
// them (Serial.Stdio). They may be closed when it returns.
func StartWith(ctx context.Context, o Options, log, stdin, stdout *os.File) (*Process, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := o.checkFiles(); err != nil {
		return nil, err
	}
	argv := o.Argv()
	binary, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w: install qemu-system-x86 or name the program's path", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	cmd := &exec.Cmd{
		Path: binary, Args: argv, Stdout: stdout, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM},
	}
	if stdin != nil {
		cmd.Stdin = stdin
	}
	p := &Process{done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return p, nil
}

// run starts and waits on one locked thread: the kernel sends Pdeathsig when the thread that started the child ends,
// and the Go runtime may end any other thread at any time.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.proc = cmd.Process
	started <- nil
	p.exit = exitOf(cmd.Wait(), cmd.ProcessState)
	close(p.done)
}

func exitOf(err error, state *os.ProcessState) Exit {
	if state == nil {
		return Exit{Code: -1, Err: fmt.Errorf("wait for QEMU: %w", err)}
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return Exit{Code: -1, Signal: status.Signal()}
	}
	return Exit{Code: state.ExitCode()}
}

// PID is QEMU's process ID, which is its process group's as well.
func (p *Process) PID() int { return p.proc.Pid }

// Done is closed when QEMU has ended and has been waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how QEMU ended. Call it after Done is closed.
func (p *Process) Exit() Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return Exit{Code: -1, Err: errors.New("QEMU is still running")}
	}
}

// ExitText is Exit as text, for a judge who has no use for the rest.
func (p *Process) ExitText() string { return p.Exit().String() }

// Wait waits for the end of QEMU or of ctx, whichever comes first.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("wait for QEMU: %w", ctx.Err())
	}
}

// Stop ends QEMU: SIGTERM, on which QEMU flushes its disks and quits, then SIGKILL when ctx ends or DefaultGrace is
// over. It returns when QEMU has been waited for; a process that has ended already is no error. Only the child that
// Start made is ever signalled, through its handle, so that a reused process ID cannot be hit.
func (p *Process) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, DefaultGrace)
	defer cancel()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

func (p *Process) signal(sig syscall.Signal) error {
	if err := p.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to QEMU (process %d): %w", sig, p.proc.Pid, err)
	}
	return nil
}

// checkFiles opens what QEMU will have to open, for an error that names the file and comes before anything runs.
func (o Options) checkFiles() error {
	type file struct{ what, path string }
	files := []file{{"kernel", o.Kernel}, {"initrd", o.Initrd}}
	for i, d := range o.Drives {
		files = append(files, file{fmt.Sprintf("drive %d", i+1), d.Path})
	}
	for _, f := range files {
		if f.path == "" {
			continue
		}
		info, err := os.Stat(f.path)
		if err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
		if t := info.Mode().Type(); t&^os.ModeDevice != 0 || t&os.ModeCharDevice != 0 {
			return fmt.Errorf("%s %s: is neither a file nor a block device", f.what, f.path)
		}
		if err := readable(f.path); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	return nil
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}
