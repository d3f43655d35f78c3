// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kindling/guest/proc"
	"kindling/internal/event"
)

const (
	maxAnswer = 256 // bytes of a line that a person types; more is left out

	stoppedPath = home + "/stopped" // where a failed step's shell stood: a script that goes there
)

// ttyLines reads lines from a terminal.
type ttyLines struct {
	f       *os.File
	pending []byte // an unfinished line, at most maxAnswer bytes
	rest    []byte // read, and not looked at
}

// openLines opens a terminal for lines, and brings it into the state that a fresh one has: whatever has used it may have
// left it otherwise. fresh drops what was typed before anything was asked.
func openLines(path string, fresh bool) (*ttyLines, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := makeSane(f, fresh); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &ttyLines{f: f}, nil
}

// Close closes the terminal.
func (t *ttyLines) Close() error { return t.f.Close() }

// Line implements lines.
func (t *ttyLines) Line(ctx context.Context, patience time.Duration) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = t.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := t.f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return "", err
		}
		if i := bytes.IndexAny(t.rest, "\r\n"); i >= 0 {
			t.keep(t.rest[:i])
			t.rest = t.rest[i+1:]
			line := event.Clean(string(t.pending))
			t.pending = t.pending[:0]
			return strings.TrimSpace(line), nil
		}
		t.keep(t.rest)
		buf := make([]byte, maxAnswer)
		n, err := t.f.Read(buf)
		t.rest = buf[:max(n, 0)]
		if cause := context.Cause(ctx); cause != nil {
			return "", cause
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "", err
		}
		if err != nil || n == 0 { // EIO is a hang-up
			return "", io.EOF
		}
	}
}

func (t *ttyLines) keep(b []byte) {
	t.pending = append(t.pending, b[:min(len(b), maxAnswer-len(t.pending))]...)
}

// makeSane gives a terminal the settings of a fresh one (drivers/tty/tty_io.c, tty_std_termios), its speed apart. flush
// drops what was typed and not read.
func makeSane(f *os.File, flush bool) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, failed = unix.IoctlGetTermios(int(fd), unix.TCGETS); failed != nil {
			return
		}
		t.Iflag, t.Oflag = unix.ICRNL|unix.IXON, unix.OPOST|unix.ONLCR
		t.Lflag = unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN
		t.Cc[unix.VINTR], t.Cc[unix.VQUIT], t.Cc[unix.VERASE], t.Cc[unix.VKILL], t.Cc[unix.VEOF] = 3, 28, 127, 21, 4
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		if failed = unix.IoctlSetTermios(int(fd), unix.TCSETS, t); failed == nil && flush {
			failed = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH)
		}
	})
	return errors.Join(err, failed)
}

// consoleDevice finds the terminal behind /dev/console, which itself can control no session: the last one that the
// kernel prints to, and if that is "the present virtual terminal", the one that it is.
func consoleDevice(sys string) string {
	name := "console"
	for range 2 { // ttyS0, or tty0 and then tty1
		data, err := os.ReadFile(filepath.Join(sys, "class/tty", name, "active"))
		fields := strings.Fields(string(data))
		if err != nil || len(fields) == 0 || strings.ContainsAny(fields[len(fields)-1], "/.") {
			break
		}
		name = fields[len(fields)-1]
	}
	return "/dev/" + name
}

// shell runs a shell on the console and waits for its end. where is a piece of its script.
func (a *agent) shell(ctx context.Context, where string) error {
	for begun := time.Now(); !a.console.flushed() && time.Since(begun) < time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	p, err := a.startShell(ctx, a.shellPath, where)
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx, stopGrace)
	return err
}

// startShell starts a shell in a session of its own, whose controlling terminal is the one at path.
func (a *agent) startShell(ctx context.Context, path, where string) (*proc.Process, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0) // a line without a carrier does not open otherwise
	if err != nil {
		return nil, fmt.Errorf("no shell: %w", err)
	}
	err = makeSane(f, false)
	if err == nil {
		err = unix.SetNonblock(int(f.Fd()), false)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no shell on %s: %w", path, err), f.Close())
	}
	program, args, err := a.shellCommand(ctx, where)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no shell: %w", err), f.Close())
	}
	p, err := a.reaper.Start(proc.Spec{Path: program, Args: args, Env: a.environ, Dir: "/", Files: []*os.File{f, f, f}, Session: true})
	return p, errors.Join(err, f.Close())
}

// Where a shell begins: where the step stood that has failed, or, if nobody knows or no step has failed, where steps begin.
const (
	whereSteps = `cd ` + stepsDir + ` && . ./bootstrap.cfg && . ./env; export PATH; `
	whereStep  = `if test -r ` + stoppedPath + `; then . ` + stoppedPath + `; else ` + whereSteps + `fi; `
)

// The shells. The first bash has no line editing and no job control, so its prompt is emulated: what is typed up to
// Ctrl-D is run. It ends with its terminal.
const (
	fullShell  = `export TERM="${TERM:-linux}" PS1='\w # '; exec "$0" -i`
	earlyShell = `while test -t 0; do printf '[early bash: Ctrl-D runs what was typed] %s # ' "$PWD"; eval "$(cat)"; done`
)

// shellCommand chooses a shell: the tree's bash as a full one or, if it is the first one, emulated; without a bash, sh.
func (a *agent) shellCommand(ctx context.Context, where string) (path string, args []string, err error) {
	if path, err = lookup("bash"); err != nil {
		path, err = lookup("sh")
		return path, []string{"sh", "-i"}, err
	}
	script := earlyShell
	if text, err := a.output(ctx, path, "bash", "--version"); err == nil && strings.Contains(text, "GPLv3") {
		script = fullShell // as the tree itself tells them apart
	}
	return path, []string{"bash", "-c", where + script, path}, nil
}

// maxOutput bounds what output takes, in bytes.
const maxOutput = 4 << 10

// output gives what a program prints first.
func (a *agent) output(ctx context.Context, path string, args ...string) (string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return "", errors.Join(err, w.Close())
	}
	p, err := a.reaper.Start(proc.Spec{Path: path, Args: args, Env: a.environ, Dir: "/", Files: []*os.File{null, w, null}})
	if err = errors.Join(err, w.Close(), null.Close()); err != nil {
		return "", err
	}
	if err := r.SetReadDeadline(time.Now().Add(stopGrace)); err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxOutput))
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	_, waitErr := p.Wait(ctx, stopGrace)
	return string(data), errors.Join(err, waitErr)
}
