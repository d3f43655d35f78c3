// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// maxLogLine is where a line without an end is cut for the event stream, in bytes.
const maxLogLine = 400

// stepLog takes everything that a step prints: the whole of it to a file, each line to emit, and what there is room
// for to the console. A write never fails: when the file cannot be written any more, the step goes on, and Close says
// what was wrong. Text of a process that a step left behind goes to the console only.
type stepLog struct {
	console io.Writer
	emit    func(line string)

	mu      sync.Mutex
	file    *os.File
	failed  error // the first failure of the file
	closed  bool
	partial []byte
}

// openLog creates the log of a step; an earlier log of the same step, from a run that was cut short, is kept by
// appending to it.
func openLog(dir, id string, console io.Writer, emit func(string)) (*stepLog, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("log of %s: %w", id, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, id+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", id, err)
	}
	return &stepLog{file: f, console: console, emit: emit}, nil
}

// Write implements io.Writer.
func (l *stepLog) Write(b []byte) (int, error) {
	_, _ = l.console.Write(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(b), nil
	}
	l.lines(b)
	if l.failed == nil {
		_, l.failed = l.file.Write(b)
	}
	return len(b), nil
}

// lines hands whole lines to emit.
func (l *stepLog) lines(b []byte) {
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		l.partial = append(l.partial, line...)
		if whole || len(l.partial) >= maxLogLine {
			l.flush()
		}
		b = rest
	}
}

func (l *stepLog) flush() {
	for len(l.partial) > maxLogLine {
		l.emit(string(l.partial[:maxLogLine]))
		l.partial = l.partial[maxLogLine:]
	}
	if len(l.partial) > 0 {
		l.emit(string(l.partial))
	}
	l.partial = l.partial[:0]
}

// Close hands out what is left of the last line, closes the file, and says whether all of the output is in it.
func (l *stepLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	l.closed = true
	if l.failed != nil {
		l.failed = fmt.Errorf("the step's log is not complete: %w", l.failed)
	}
	return errors.Join(l.failed, l.file.Close())
}

// uncook undoes what a terminal does to output: it puts a carriage return before every newline (ONLCR).
type uncook struct {
	w    io.Writer
	held bool // a carriage return was seen and not passed on yet
}

// Write implements io.Writer.
func (u *uncook) Write(b []byte) (int, error) {
	out := make([]byte, 0, len(b)+1)
	for _, c := range b {
		if u.held && c != '\n' {
			out = append(out, '\r')
		}
		u.held = c == '\r'
		if !u.held {
			out = append(out, c)
		}
	}
	if _, err := u.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}
