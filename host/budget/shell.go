// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"fmt"
	"io"
	"strings"
)

// maxTextFile bounds every file of the tree that is read for a number, in bytes; the largest real one has 130 KiB.
const maxTextFile = 1 << 20

// ParseError is what is wrong with a file that was read for a limit.
type ParseError struct {
	File string // in the tree or in an archive
	Line int    // from 1; 0: the file as a whole
	Msg  string
}

// Error is "FILE:LINE: what is wrong".
func (e *ParseError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

func parseErrorf(file string, line int, format string, args ...any) error {
	return &ParseError{File: file, Line: line, Msg: fmt.Sprintf(format, args...)}
}

// at is a place in a file, as sources are named.
func at(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }

// readText reads a small text file whole.
func readText(name string, r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTextFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxTextFile {
		return "", parseErrorf(name, 0, "more than %d bytes: not the file that is meant", maxTextFile)
	}
	return string(data), nil
}

// command is one command of a script.
type command struct {
	words []string
	line  int // of its first word
}

// commands cuts a script into commands, as far as kaem and a shell agree:
//
//	words are separated by blanks, commands by newlines and ;
//	# at the start of a word begins a comment, up to the end of the line
//	"..." and '...' quote blanks and newlines; \ before a character, also between ", makes it that character
//	\ before a newline continues the line
//
// Variables stay as they are written.
func commands(name, text string) ([]command, error) {
	s := scanner{name: name, text: text, line: 1}
	for s.pos < len(s.text) {
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	s.endCommand()
	return s.all, nil
}

type scanner struct {
	name, text string
	pos, line  int
	word       strings.Builder
	inWord     bool
	cmd        command
	all        []command
}

// next takes one character or one quoted string.
func (s *scanner) next() error {
	c := s.text[s.pos]
	s.pos++
	switch {
	case c == '\n' || c == ';':
		s.endCommand()
		if c == '\n' {
			s.line++
		}
	case c == ' ' || c == '\t' || c == '\r':
		s.endWord()
	case c == '#' && !s.inWord:
		for s.pos < len(s.text) && s.text[s.pos] != '\n' {
			s.pos++
		}
	case c == '"' || c == '\'':
		return s.quoted(c)
	case c == '\\':
		s.escaped()
	default:
		s.put(c)
	}
	return nil
}

func (s *scanner) put(c byte) {
	if !s.inWord && len(s.cmd.words) == 0 {
		s.cmd.line = s.line
	}
	s.inWord = true
	s.word.WriteByte(c)
}

// escaped takes the character behind a backslash.
func (s *scanner) escaped() {
	if s.pos == len(s.text) {
		return
	}
	c := s.text[s.pos]
	s.pos++
	if c == '\n' {
		s.line++
		return
	}
	s.put(c)
}

func (s *scanner) quoted(quote byte) error {
	start := s.line
	if !s.inWord && len(s.cmd.words) == 0 {
		s.cmd.line = s.line
	}
	s.inWord = true
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == quote:
			return nil
		case c == '\\' && quote == '"':
			s.escaped()
			continue
		case c == '\n':
			s.line++
		}
		s.word.WriteByte(c)
	}
	return parseErrorf(s.name, start, "a string that begins here has no closing %c", quote)
}

func (s *scanner) endWord() {
	if s.inWord {
		s.cmd.words = append(s.cmd.words, s.word.String())
	}
	s.word.Reset()
	s.inWord = false
}

func (s *scanner) endCommand() {
	s.endWord()
	if len(s.cmd.words) > 0 {
		s.all = append(s.all, s.cmd)
	}
	s.cmd = command{}
}
