// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"kindling/internal/event"
)

// textWriter is standard output or standard error for text. Whatever a folder, an image, a server or a guest has put
// into a line, no terminal obeys it: each line goes through event.Clean. What is not text for people goes to the file
// itself: JSON, pages, generated scripts, the live display (which cleans what it shows), and an interactive console.
type textWriter struct {
	file io.Writer
	rest []byte // the beginning of a character whose end is still to be written
}

// Write implements io.Writer.
func (t *textWriter) Write(b []byte) (int, error) {
	text := slices.Concat(t.rest, b)
	cut := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if tail := text[len(text)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				cut -= i
			}
			break
		}
	}
	t.rest = bytes.Clone(text[cut:])
	var clean []byte
	for line := range bytes.SplitAfterSeq(text[:cut], []byte("\n")) {
		body, ended := bytes.CutSuffix(line, []byte("\n"))
		clean = append(clean, event.Clean(string(body))...)
		if ended {
			clean = append(clean, '\n')
		}
	}
	if _, err := t.file.Write(clean); err != nil {
		return 0, err
	}
	return len(b), nil
}

// jsonWriter writes JSON to a terminal or a pipe. What an encoder leaves as it is and a terminal obeys, controls beyond
// ASCII and bidirectional overrides, is escaped: the values stay the same.
type jsonWriter struct{ file io.Writer }

// Write implements io.Writer; an encoder gives whole documents.
func (j jsonWriter) Write(b []byte) (int, error) {
	var out []byte
	for _, r := range string(b) {
		switch {
		case r >= 0x7f && r < 0xa0, r >= 0x200e && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	if _, err := j.file.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// rawWriter is what is below a textWriter, or out itself.
func rawWriter(out io.Writer) io.Writer {
	if t, ok := out.(*textWriter); ok {
		return t.file
	}
	return out
}

// text is standard output for people.
func (s streams) text() io.Writer { return &textWriter{file: s.out} }

// notes is standard error for people.
func (s streams) notes() io.Writer { return &textWriter{file: s.err} }

// notef writes to standard error and ignores write errors: the reader may be gone.
func (s streams) notef(format string, args ...any) { fmt.Fprintf(s.notes(), format, args...) }
