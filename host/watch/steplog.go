// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"kindling/host/rundir"
)

// StepLogs writes the lines of steps to one file each. It keeps one file open, the newest, and writes it out on Flush.
// It is not safe for use by several goroutines.
type StepLogs struct {
	dir      *rundir.Dir
	maxFiles int
	maxSize  int64
	quota    *quota
	sizes    map[string]int64 // -1: full
	id       string           // whose file is open
	file     *os.File
	out      *bufio.Writer
	refused  int64
}

// NewStepLogs writes into the folder of a run's step logs, which nothing in a step's ID can leave: at most maxFiles files
// of at most maxSize bytes (and one line that says so), and all of them as much as q has.
func NewStepLogs(dir *rundir.Dir, maxFiles int, maxSize int64, q *quota) (*StepLogs, error) {
	if err := dir.Check(rundir.Steps, os.ModeDir); err != nil {
		return nil, fmt.Errorf("step logs: %w", err)
	}
	return &StepLogs{dir: dir, maxFiles: maxFiles, maxSize: maxSize, quota: q, sizes: make(map[string]int64)}, nil
}

// Write adds a line to the log of the step id. What is refused (an invalid ID, too many files, too much text) is
// counted and no error.
func (l *StepLogs) Write(id, line string) error {
	size, known := l.sizes[id]
	switch {
	case !rundir.ValidStepID(id), !known && len(l.sizes) >= l.maxFiles, size < 0:
		l.refused++
		return nil
	}
	if err := l.open(id); err != nil {
		return err
	}
	size = l.sizes[id]
	n := int64(len(line)) + 1
	if size+n > l.maxSize || l.quota.left < n {
		l.refused++
		l.sizes[id] = -1
		line = fmt.Sprintf("[the log is longer than %d bytes: the rest is left out]", size)
	} else {
		l.quota.take(n)
		l.sizes[id] = size + n
	}
	if _, err := l.out.WriteString(line + "\n"); err != nil {
		return fmt.Errorf("step log %s: %w", id, err)
	}
	return nil
}

// Has reports whether a log of the step was written.
func (l *StepLogs) Has(id string) bool {
	_, ok := l.sizes[id]
	return ok
}

// Refused is how many lines were not written.
func (l *StepLogs) Refused() int64 { return l.refused }

// Flush writes out what is buffered.
func (l *StepLogs) Flush() error {
	if l.out == nil {
		return nil
	}
	if err := l.out.Flush(); err != nil {
		return fmt.Errorf("step log %s: %w", l.id, err)
	}
	return nil
}

// Close writes out what is buffered and closes all.
func (l *StepLogs) Close() error { return l.closeFile() }

func (l *StepLogs) open(id string) error {
	if l.file != nil && l.id == id {
		return nil
	}
	if err := l.closeFile(); err != nil {
		return err
	}
	name, err := rundir.StepLog(id)
	if err != nil {
		return err
	}
	f, err := l.dir.Append(name)
	if err != nil {
		return fmt.Errorf("step log: %w", err)
	}
	if _, known := l.sizes[id]; !known {
		l.sizes[id] = l.dir.Size(name) // of an earlier life
	}
	l.id, l.file, l.out = id, f, bufio.NewWriter(f)
	return nil
}

func (l *StepLogs) closeFile() error {
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.Flush(), l.file.Close())
	l.file, l.out = nil, nil
	return err
}
