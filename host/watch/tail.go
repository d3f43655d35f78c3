// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// tailChunk is how much one Poll reads at most: what bounds the lines that a caller has to hold at a time.
const tailChunk = 256 << 10

// Tail follows a growing file line by line, by polling. It is not safe for use by several goroutines.
type Tail struct {
	path    string
	maxLine int
	file    *os.File
	offset  int64
	line    []byte // the unfinished line, at most maxLine bytes
	long    bool   // the unfinished line has lost bytes
	buf     []byte
}

// NewTail makes a tail for the file at path, which need not exist yet. Lines are cut to maxLine bytes.
func NewTail(path string, maxLine int) *Tail {
	return &Tail{path: path, maxLine: maxLine, buf: make([]byte, tailChunk)}
}

// Start leaves out what stands before offset. It is for the time before the first Poll.
func (t *Tail) Start(offset int64) { t.offset = offset }

// Poll reads what is there now, up to 256 KiB, and gives each complete line to emit, without its end ("\n", "\r\n" or
// "\r": progress displays end lines so); empty lines are left out. cut says that the line was longer than what is
// given. The bytes are valid only during the call. n is how many bytes were read; 0 means that there is nothing new.
//
// A file that is not there yet is empty. One that has shrunk was begun anew and is read from its start.
func (t *Tail) Poll(emit func(line []byte, cut bool)) (n int, err error) {
	if err := t.open(); err != nil || t.file == nil {
		return 0, err
	}
	n, err = t.file.ReadAt(t.buf, t.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("follow %s: %w", t.path, err)
	}
	if n == 0 {
		return 0, t.rewind()
	}
	t.offset += int64(n)
	for _, c := range t.buf[:n] {
		switch {
		case c == '\n' || c == '\r':
			t.flush(emit)
		case len(t.line) < t.maxLine:
			t.line = append(t.line, c)
		default:
			t.long = true
		}
	}
	return n, nil
}

// Flush gives the unfinished last line to emit, if there is one: the file grows no more.
func (t *Tail) Flush(emit func(line []byte, cut bool)) { t.flush(emit) }

// Offset is how many bytes have been read.
func (t *Tail) Offset() int64 { return t.offset }

// Close closes the file.
func (t *Tail) Close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

func (t *Tail) open() error {
	if t.file != nil {
		return nil
	}
	f, err := os.Open(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	t.file = f
	return nil
}

func (t *Tail) rewind() error {
	info, err := t.file.Stat()
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	if info.Size() < t.offset {
		t.offset, t.line, t.long = 0, t.line[:0], false
	}
	return nil
}

func (t *Tail) flush(emit func(line []byte, cut bool)) {
	if len(t.line) > 0 {
		emit(t.line, t.long)
	}
	t.line, t.long = t.line[:0], false
}
