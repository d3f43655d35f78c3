// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package transfer shows bytes on their way: bars on a terminal, plain lines elsewhere.
//
// A Display has rows, one for each file or disk that is at work, named by the caller; it shows what it is told and
// decides nothing. Texts are cleaned before they meet the terminal. It may wait for a terminal that is stopped; a
// closed one costs the user the picture and nothing else. It is called by the verbs of cmd/host that move files.
package transfer

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"kindling/internal/event"
)

// Display shows rows. Its methods may be called from several goroutines.
type Display interface {
	// Row shows how far a row is, which is made if it is new. A total of 0 is unknown.
	Row(name, doing string, done, total int64)
	// Drop takes a row away; it does not mind if there is none.
	Drop(name string)
	// Count shows how many of all are done.
	Count(done, all int)
	// Line is a line that stays.
	Line(text string)
	// Close takes all rows away and gives the terminal back.
	Close()
}

// For chooses the display for a file: bars if it is a terminal that can be steered, lines otherwise. termName is the
// value of TERM.
func For(out *os.File, termName string) Display {
	if term.IsTerminal(int(out.Fd())) && termName != "" && termName != "dumb" {
		return NewBars(out)
	}
	return NewLines(out, time.Now)
}

// linesEvery is how often a row that is at work for long gets a plain line.
const linesEvery = 10 * time.Second

// lines is the display for pipes and files.
type lines struct {
	mu     sync.Mutex
	out    io.Writer
	now    func() time.Time
	rows   map[string]time.Time // when a row was last told about
	failed bool                 // the reader has gone
}

// NewLines makes the display for a pipe or a file: what stays, and a line every ten seconds for a row that goes on.
func NewLines(out io.Writer, now func() time.Time) Display {
	return &lines{out: out, now: now, rows: map[string]time.Time{}}
}

func (l *lines) Row(name, doing string, done, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	last, known := l.rows[name]
	if !known {
		l.rows[name] = now
		return
	}
	if now.Sub(last) < linesEvery {
		return
	}
	l.rows[name] = now
	l.print(strings.Join(strings.Fields(name+" "+doing+" "+Amount(done, total)), " "))
}

func (l *lines) Drop(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.rows, name)
}

func (l *lines) Count(int, int) {}

func (l *lines) Line(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.print(text)
}

func (l *lines) print(text string) {
	if l.failed {
		return
	}
	_, err := fmt.Fprintln(l.out, event.Clean(text))
	l.failed = err != nil
}

func (l *lines) Close() {}

// Amount is "1.5 of 3.0 MB (50%)", or "1.5 MB" if the total is not known.
func Amount(done, total int64) string {
	if total <= 0 {
		return Size(done)
	}
	percent := int(float64(min(max(done, 0), total)) / float64(total) * 100)
	return fmt.Sprintf("%s of %s (%d%%)", Size(done), Size(total), percent)
}

// Size is a number of bytes in the largest decimal unit that makes it at least one, as disks are labelled.
func Size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if value /= 1000; value < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
