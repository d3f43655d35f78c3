// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"fmt"
	"io"
	"unicode/utf8"
)

// MaxFile is the largest manifest, bootstrap.cfg, env or sources file that is read, in bytes. The largest one of
// live-bootstrap 984b8322 has 7 KiB.
const MaxFile = 4 << 20

// ParseError says where an input is wrong and what to do about it.
type ParseError struct {
	File string // as the caller named it
	Line int    // 1-based; 0 when the whole file is meant
	Msg  string // what is wrong and what to do
}

// Error is "file:line: message", in one line.
func (e *ParseError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

// parseErrorf makes a ParseError for one line of one file.
func parseErrorf(file string, line int, format string, args ...any) error {
	return &ParseError{File: file, Line: line, Msg: fmt.Sprintf(format, args...)}
}

// readLimited reads all of r, which may hold MaxFile bytes at most.
func readLimited(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > MaxFile {
		return nil, parseErrorf(name, 0, "larger than %d bytes: this cannot be the right file", MaxFile)
	}
	return data, nil
}

// badByte says what is wrong with the characters of a line, or "". Tabs are the caller's business.
//
// Beyond ASCII only valid UTF-8 passes: to the C program, whose char is signed, a byte 0xff is the end of the file.
func badByte(line string) string {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\r':
			return "a carriage return: save the file with Unix line ends"
		case c == '\t':
		case c < ' ' || c == 0x7f:
			return fmt.Sprintf("a control character (0x%02x in column %d): remove it", c, i+1)
		}
	}
	if !utf8.ValidString(line) {
		return "bytes that are not UTF-8: save the file as UTF-8"
	}
	return ""
}

// quote shortens hostile text for a message and makes it printable.
func quote(s string) string {
	const longest = 60
	if len(s) > longest {
		return fmt.Sprintf("%q...", s[:longest])
	}
	return fmt.Sprintf("%q", s)
}
