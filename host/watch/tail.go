// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// chunkSize is how much one Poll reads at most: what bounds the lines that a caller has to hold at a time.
const chunkSize = 256 << 10

// Emit takes a complete line without its end ("\n", "\r\n" or "\r": progress displays end lines so); empty lines are left
// out. cut says that the line was longer than what is given. The bytes are valid only during the call.
type Emit func(line []byte, cut bool)

// lines cuts a stream of bytes into lines.
type lines struct {
	max  int    // bytes of a line
	line []byte // the unfinished line
	long bool   // the unfinished line has lost bytes
}

func (l *lines) feed(b []byte, emit Emit) {
	for _, c := range b {
		switch {
		case c == '\n' || c == '\r':
			l.flush(emit)
		case len(l.line) < l.max:
			l.line = append(l.line, c)
		default:
			l.long = true
		}
	}
}

func (l *lines) flush(emit Emit) {
	if len(l.line) > 0 {
		emit(l.line, l.long)
	}
	l.line, l.long = l.line[:0], false
}

// Tail follows a growing file line by line, by polling. It is not safe for use by several goroutines.
type Tail struct {
	open   func() (*os.File, error)
	file   *os.File
	offset int64
	lines  lines
	buf    []byte
}

// NewTail makes a tail for the file that open opens; it need not exist yet. Lines are cut to maxLine bytes.
func NewTail(open func() (*os.File, error), maxLine int) *Tail {
	return &Tail{open: open, lines: lines{max: maxLine}, buf: make([]byte, chunkSize)}
}

// Poll reads what is there now, up to 256 KiB, and gives each complete line to emit. n is how many bytes were read; 0
// means that there is nothing new.
func (t *Tail) Poll(emit Emit) (n int, err error) {
	if t.file == nil {
		t.file, err = t.open()
		if errors.Is(err, os.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("follow: %w", err)
		}
	}
	n, err = t.file.ReadAt(t.buf, t.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("follow %s: %w", t.file.Name(), err)
	}
	t.offset += int64(n)
	t.lines.feed(t.buf[:n], emit)
	return n, nil
}

// Close closes the file.
func (t *Tail) Close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}
