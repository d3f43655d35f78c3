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

	"golang.org/x/sys/unix"

	"kindling/host/programs"
)

// DefaultGrace is how long Stop leaves QEMU to write out its disks and end after SIGTERM.
const DefaultGrace = 10 * time.Second

// Exit is how QEMU ended. It does not show how the run in it ended.
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
	*Sockets
	proc *os.Process
	done chan struct{}
	exit Exit // written before done is closed
}

// Start validates o, looks whether its files can be opened, and runs QEMU in a process group of its own, so that a
// terminal's Ctrl-C reaches Kindling and not the machine. QEMU gets SIGTERM from the kernel if Kindling dies. The caller
// reads the sockets while the machine runs, and closes them.
//
// The end of ctx before QEMU runs is an error; afterwards it means nothing: ending QEMU is Stop's work.
func Start(ctx context.Context, o Options) (*Process, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := o.checkFiles(); err != nil {
		return nil, err
	}
	argv := o.Argv()
	binary, err := programs.Find(argv[0])
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w: install qemu-system-x86 or name the program's path", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	sockets, theirs, err := o.connect()
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start QEMU: %w", err), sockets.Close(), closeAll(theirs))
	}
	sockets.Output = out
	cmd := &exec.Cmd{
		Path: binary, Args: argv, Stdout: in, Stderr: in, ExtraFiles: theirs,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM},
	}
	p := &Process{Sockets: sockets, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(cmd, started)
	err = <-started
	if err = errors.Join(err, closeAll(append(theirs, in))); err != nil {
		return nil, errors.Join(fmt.Errorf("start QEMU: %w", err), sockets.Close())
	}
	return p, nil
}

// run starts and waits on one locked thread: the kernel sends Pdeathsig when the thread that started the child ends,
// and the Go runtime may end any other thread at any time. The thread has a umask of its own, so that images which QEMU
// makes are their owner's alone, and ends with this goroutine.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	if unix.Unshare(unix.CLONE_FS) == nil {
		unix.Umask(0o077)
	}
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

// checkFiles opens what QEMU will have to open, for an error that names the file and comes before anything runs. Images
// must be what was recorded of them.
func (o Options) checkFiles() error {
	for what, path := range map[string]string{"kernel": o.Kernel, "initrd": o.Initrd} {
		if path == "" {
			continue
		}
		if err := readable(path); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	for i, d := range o.Drives {
		for _, layer := range d.Chain {
			if err := readable(layer.Path); err != nil {
				return fmt.Errorf("drive %d: %w", i+1, err)
			}
		}
		if err := d.Chain.Check(); err != nil {
			return fmt.Errorf("drive %d: %w", i+1, err)
		}
	}
	return nil
}

func readable(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO does not block
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		if t := info.Mode().Type(); t&^os.ModeDevice != 0 || t&os.ModeCharDevice != 0 {
			err = fmt.Errorf("%s: neither a file nor a block device", path)
		}
	}
	return errors.Join(err, f.Close())
}
