// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package event is the language between the guest and the host: one JSON object a line, written by the agent to a
// serial port (and, the same lines, to its journal) and read by the host.
//
// The reader treats every line as untrusted: a line is bounded by MaxLine, unknown kinds and malformed objects are
// errors for that line only, and text is cleaned of everything that could steer a terminal. The package does no I/O of
// its own and knows nothing of steps or disks. It is called by guest (Encode) and host (Decode).
package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxLine is the longest line, in bytes and without its newline, that Decode accepts. Encode never writes a longer one.
const MaxLine = 8192

// maxText bounds the free text of one event so that its JSON form, where a byte can grow to six, stays below MaxLine.
const maxText = 512

// Kind says what an event tells.
type Kind string

// The kinds of events. A run has exactly one KindDone, and it is the last.
const (
	KindPhase   Kind = "phase"   // the machine entered the phase Name
	KindPlan    Kind = "plan"    // the plan has Total steps, the first Done of them are behind the machine; Name is the boot's ID
	KindStep    Kind = "step"    // the step Name (its ID in Step) started or ended
	KindPayload Kind = "payload" // progress of an import: Done of Total bytes
	KindNet     Kind = "net"     // something about the network
	KindLog     Kind = "log"     // one line of the log of the step in Step
	KindNote    Kind = "note"    // something a person should know, belonging to no step
	KindPace    Kind = "pace"    // the step in Step floods its log, or has printed nothing for Duration; no sign of life
	KindPrompt  Kind = "prompt"  // the machine waits for a person (StatusStart), or goes on (StatusOK); Text says for what
	KindDone    Kind = "done"    // the run is over; Status and Reason are the result
)

// Status is how a step or a run stands.
type Status string

// The statuses of steps and of the whole run.
const (
	StatusStart  Status = "start"
	StatusOK     Status = "ok"
	StatusFailed Status = "failed"
	// StatusSkipped is the end of a step that failed, and that a person has chosen to go on without.
	StatusSkipped Status = "skipped"
)

// Reason tells apart the ways in which a run can fail; the host turns it into its exit status.
type Reason string

// The reasons that stand in a failed KindDone event.
const (
	ReasonStep     Reason = "step"     // a step of the manifest failed
	ReasonAfter    Reason = "after"    // an after script failed
	ReasonPayload  Reason = "payload"  // the payload is missing, cut, corrupt or the wrong one
	ReasonInternal Reason = "internal" // the agent itself failed
)

// Event is one line. Seq counts from 1 within one boot of the guest, TimeMS is the guest's monotonic time in
// milliseconds since its kernel started.
type Event struct {
	Seq        uint64 `json:"seq"`
	TimeMS     int64  `json:"ms"`
	Kind       Kind   `json:"kind"`
	Name       string `json:"name,omitempty"`
	Step       string `json:"step,omitempty"`
	Number     int    `json:"n,omitempty"`
	Status     Status `json:"status,omitempty"`
	Reason     Reason `json:"reason,omitempty"`
	Exit       int    `json:"exit,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	Done       int64  `json:"done,omitempty"`
	Total      int64  `json:"total,omitempty"`
	Text       string `json:"text,omitempty"`
}

// Time is the guest's monotonic time of the event.
func (e Event) Time() time.Duration { return time.Duration(e.TimeMS) * time.Millisecond }

// Duration is how long the step or phase took; zero unless the event ends one.
func (e Event) Duration() time.Duration { return time.Duration(e.DurationMS) * time.Millisecond }

// Errors of Decode.
var (
	ErrTooLong   = errors.New("event line too long")
	ErrMalformed = errors.New("malformed event")
)

// Encode gives the event as one line with its newline. Long text is cut; the result is never longer than MaxLine+1.
func Encode(e Event) ([]byte, error) {
	e.Name, e.Step, e.Text = clip(e.Name, maxText/2), clip(e.Step, maxText/2), clip(e.Text, maxText)
	line := append(e.appendJSON(make([]byte, 0, 256)), '\n')
	if len(line) > MaxLine+1 {
		return nil, fmt.Errorf("encode %s event: %w: %d bytes", e.Kind, ErrTooLong, len(line))
	}
	return line, nil
}

// Decode reads one line, with or without its newline. All text in the result has been through Clean.
func Decode(line []byte) (Event, error) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) > MaxLine {
		return Event{}, fmt.Errorf("%w: %d bytes, %d allowed", ErrTooLong, len(line), MaxLine)
	}
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := e.check(); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	e.Name, e.Step, e.Text = Clean(e.Name), Clean(e.Step), Clean(e.Text)
	return e, nil
}

func (e Event) check() error {
	switch e.Kind {
	case KindPhase, KindPlan, KindStep, KindPayload, KindNet, KindLog, KindNote, KindPace, KindPrompt, KindDone:
	default:
		return fmt.Errorf("kind %q", clip(string(e.Kind), 32))
	}
	switch e.Status {
	case "", StatusStart, StatusOK, StatusFailed, StatusSkipped:
	default:
		return fmt.Errorf("status %q", clip(string(e.Status), 32))
	}
	switch e.Reason {
	case "", ReasonStep, ReasonAfter, ReasonPayload, ReasonInternal:
	default:
		return fmt.Errorf("reason %q", clip(string(e.Reason), 32))
	}
	if e.Kind == KindDone && e.Status != StatusOK && e.Status != StatusFailed {
		return fmt.Errorf("done without a result: status %q", string(e.Status))
	}
	if e.TimeMS < 0 || e.DurationMS < 0 || e.Done < 0 || e.Total < 0 || e.Number < 0 {
		return errors.New("negative number")
	}
	return nil
}

// Clean makes guest text safe for a terminal and for a line of a report: escape sequences, control characters and
// invalid UTF-8 are dropped, a tab becomes a space. It is what stands between a hostile guest and the user's terminal.
func Clean(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		if n := escapeLen(s[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\t':
			out.WriteByte(' ')
		case r == utf8.RuneError && n == 1, r < 0x20, r >= 0x7f && r < 0xa0, isFormat(r):
		default:
			out.WriteRune(r)
		}
		i += n
	}
	return out.String()
}

// isFormat reports characters that change how their neighbours are shown: bidirectional controls and line separators.
func isFormat(r rune) bool {
	return r == 0x2028 || r == 0x2029 || r == 0x200e || r == 0x200f || (r >= 0x202a && r <= 0x202e) ||
		(r >= 0x2066 && r <= 0x2069)
}

// escapeLen is the length of the escape sequence at the start of s (ECMA-48: CSI, OSC and other strings, two-byte
// escapes), or 0.
func escapeLen(s string) int {
	if s[0] != 0x1b {
		return 0
	}
	if len(s) == 1 {
		return 1
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']', 'P', 'X', '^', '_':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return len(s)
	}
	return 2
}

// clip cuts s to at most n bytes at a rune boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
