// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"kindling/host/programs"
	"kindling/internal/event"
)

// Bounds on what other programs may say.
const (
	maxOutputLine  = 1024    // bytes of one line that are kept
	maxOutputLines = 400     // lines that are kept, from the end
	maxOutput      = 8 << 20 // bytes of output that is read as data
)

// killDelay is how long a killed program's pipes may stay open before they are given up.
const killDelay = 5 * time.Second

// program is one external program, found and ready.
type program struct {
	path string
	args []string
	dir  string // working directory
}

// find is programs.Find with the name of the Debian package in its error.
func find(name, debianPackage string) (string, error) {
	path, err := programs.Find(name)
	if err != nil {
		return "", fmt.Errorf("program %s not found: install the package %s", name, debianPackage)
	}
	return path, nil
}

// programError is a program that ended badly. Its text is the one line of the output that tells most.
type programError struct {
	name   string
	output []string
	err    error
}

func (f *programError) Error() string {
	line := tellingLine(f.output)
	if line == "" {
		return fmt.Sprintf("%s: %v", f.name, f.err)
	}
	return fmt.Sprintf("%s: %s", f.name, line)
}

func (f *programError) Unwrap() error { return f.err }

// run runs the program to its end; each line of its output goes to p as it comes. When ctx ends, the program and all
// that it started are killed.
func (g program) run(ctx context.Context, p Progress) error {
	out := &lineWriter{each: p}
	return g.start(ctx, out, out)
}

// output runs the program and gives its standard output.
func (g program) output(ctx context.Context) ([]byte, error) {
	var data bytes.Buffer
	limited := &limitedWriter{w: &data, left: maxOutput}
	err := g.start(ctx, limited, &lineWriter{})
	if limited.exceeded {
		return nil, fmt.Errorf("%s: %w", filepath.Base(g.path), errTooMuch)
	}
	if err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}

func (g program) start(ctx context.Context, stdout io.Writer, stderr *lineWriter) error {
	cmd := exec.CommandContext(ctx, g.path, g.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = g.dir, stdout, stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANGUAGE=", "DEBIAN_FRONTEND=noninteractive")
	// A group of its own: the terminal's Ctrl-C reaches only this program, which then ends the group as a whole.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	err := cmd.Run()
	stderr.flush()
	name := filepath.Base(g.path)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case err != nil:
		return &programError{name: name, output: stderr.lines, err: err}
	}
	return nil
}

// lineWriter cuts output into clean lines, keeps the last of them and passes each one on.
type lineWriter struct {
	each    Progress
	lines   []string
	partial []byte
}

func (l *lineWriter) Write(data []byte) (int, error) {
	for _, b := range data {
		switch {
		case b == '\n' || b == '\r':
			l.flush()
		case len(l.partial) < maxOutputLine:
			l.partial = append(l.partial, b)
		}
	}
	return len(data), nil
}

func (l *lineWriter) flush() {
	line := strings.TrimRight(event.Clean(string(l.partial)), " ")
	l.partial = l.partial[:0]
	if strings.TrimSpace(line) == "" {
		return
	}
	if len(l.lines) >= maxOutputLines {
		l.lines = append(l.lines[:0], l.lines[1:]...)
	}
	l.lines = append(l.lines, line)
	if worthShowing(line) {
		l.each.printf("%s", line)
	}
}

// errTooMuch is the error of a program that says more than anything sensible would.
var errTooMuch = errors.New("too much output")

type limitedWriter struct {
	w        io.Writer
	left     int
	exceeded bool
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		l.exceeded = true
		return 0, errTooMuch
	}
	l.left -= len(p)
	return l.w.Write(p)
}
