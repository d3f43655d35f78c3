// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kindling/internal/event"
	"kindling/steps"
)

const (
	remindEvery = 10 * time.Minute // while nobody answers
	tailLines   = 12               // of a failed step's log that are shown
	tailBytes   = 2 << 10
)

// answer is what a person wants done about a step that has failed.
type answer int

const (
	answerStop answer = iota
	answerRetry
	answerSkip
	answerShell
)

// answers are their names.
func answers() []string { return []string{"stop", "retry", "skip", "shell"} }

func (a answer) String() string { return answers()[a] }

// parseAnswer reads an answer: a name, or a beginning of one that no other has.
func parseAnswer(line string) (answer, bool) {
	found, matches := answerStop, 0
	for i, name := range answers() {
		if line != "" && strings.HasPrefix(name, strings.ToLower(line)) {
			found = answer(i)
			matches++
		}
	}
	return found, matches == 1
}

// lines gives what a person types.
type lines interface {
	// Line gives the next line without its end, cut and cleaned. It returns os.ErrDeadlineExceeded when none has come
	// for so long, io.EOF for an end of input or a hang-up, which a person can go beyond, and ctx's error.
	Line(ctx context.Context, patience time.Duration) (string, error)
}

// dialog is a talk with a person. It only reads and writes lines.
type dialog struct {
	in     lines
	say    func(format string, args ...any) // a whole line
	prompt func(text string)                // an unfinished one
	remind func(waited time.Duration)       // nobody has answered
}

// line asks for a line, as long as it takes. Two ends of input in a row are the end: a person who has typed Ctrl-D once
// too often is asked again, a terminal that is gone ends at once.
func (d *dialog) line(ctx context.Context, question string) (string, error) {
	ended, waited := false, time.Duration(0)
	for {
		d.prompt(question)
		line, err := d.in.Line(ctx, remindEvery)
		for errors.Is(err, os.ErrDeadlineExceeded) {
			waited += remindEvery
			d.remind(waited)
			d.prompt(question)
			line, err = d.in.Line(ctx, remindEvery)
		}
		if errors.Is(err, io.EOF) && !ended {
			ended = true
			d.say("end of input; once more stops the run")
			continue
		}
		return line, err
	}
}

// ask asks what to do about a failed step until there is an answer that is meant. Without anybody there it is to stop.
func (d *dialog) ask(ctx context.Context) answer {
	for {
		line, err := d.line(ctx, "retry, skip, shell or stop? ")
		switch {
		case errors.Is(err, io.EOF):
			d.say("nobody is there to ask: stopping")
			return answerStop
		case err != nil:
			d.say("no answer: %v", err)
			return answerStop
		case line == "":
			continue
		}
		a, ok := parseAnswer(line)
		switch {
		case !ok:
			d.say("%.40q is none of them: retry runs the step again, skip goes on without it, shell gives a shell, stop ends the run as failed", line)
		case a != answerSkip:
			return a
		default:
			line, err := d.line(ctx, "go on without what this step makes? Later steps may need it. yes or no? ")
			if err == nil && strings.EqualFold(line, "yes") {
				return answerSkip
			}
			d.say("not skipped")
		}
	}
}

// interactive reports that the run is one that a person sits at, as bootstrap.cfg says now.
func (a *agent) interactive() bool {
	cfg, err := readConfig()
	return err == nil && isInteractive(cfg)
}

func isInteractive(cfg *steps.Config) bool {
	return cfg.Get("INTERACTIVE") == "True" && cfg.Get("CHROOT") != "True"
}

// offer asks the person at the console what to do about a failed step. A shell is given as often as it is wanted.
func (a *agent) offer(ctx context.Context, s steps.Step, failed error) (chosen answer) {
	if inner, ok := errors.AsType[*runError](failed); ok {
		failed = inner.err // without the step's name
	}
	what := fmt.Sprintf("step %d (%s) failed: %v", s.Number, s, failed)
	what = strings.ReplaceAll(what, "\n", "; ")
	a.prompting(event.StatusStart, s, what)
	defer func() { a.prompting(event.StatusOK, s, chosen.String()) }()
	path := filepath.Join(logDir, s.ID()+".log")
	for first := true; ; first = false {
		in, err := openLines(a.consolePath, first)
		if err != nil {
			a.say("%s; nobody can be asked: %v", what, err)
			return answerStop
		}
		a.say("%s", what)
		if first {
			a.showTail(path)
		}
		d := &dialog{in: in, say: a.say, prompt: func(text string) { fmt.Fprint(a.console, "kindling: "+text) }}
		d.remind = func(waited time.Duration) {
			fmt.Fprintln(a.console)
			a.say("waiting for %d minutes: %s", int(waited.Minutes()), what)
			a.prompting(event.StatusStart, s, what)
		}
		chosen = d.ask(ctx)
		if err := in.Close(); err != nil {
			a.say("%v", err)
		}
		if chosen != answerShell {
			return chosen
		}
		a.say("leave the shell (exit, or Ctrl-D) to be asked again; the step's log: %s", path)
		if err := a.shell(ctx, whereStep); err != nil {
			a.say("%v", err)
		}
	}
}

// prompting tells the host that a person is waited for, or no longer.
func (a *agent) prompting(status event.Status, s steps.Step, text string) {
	e := event.Event{Kind: event.KindPrompt, Status: status, Text: text}
	if s.Number > 0 {
		e.Step, e.Name = s.ID(), s.String()
	}
	a.port.Send(e)
}

// showTail shows the end of a step's log.
func (a *agent) showTail(path string) {
	tail, err := tailOf(path)
	if err != nil {
		a.say("log: %v", err)
		return
	}
	a.say("log: %s; its end:", path)
	for _, line := range tail {
		fmt.Fprintf(a.console, "  | %s\n", line)
	}
}

// tailOf gives the last lines of a file, cleaned.
func tailOf(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(info.Size()-tailBytes, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, from, tailBytes))
	if err != nil {
		return nil, err
	}
	var tail []string
	for line := range strings.Lines(string(data)) {
		tail = append(tail, event.Clean(line))
	}
	if from > 0 && len(tail) > 1 {
		tail = tail[1:] // it has lost its beginning
	}
	return tail[max(len(tail)-tailLines, 0):], nil
}

// skip makes a failed step one that the run goes on without.
func (a *agent) skip(s steps.Step) error {
	e := endEvent(s, sinceBoot(), event.StatusSkipped)
	if err := a.journal.Append(e); err != nil {
		return err
	}
	a.state.Done[s.ID()], a.state.Failed = true, ""
	a.port.Send(e)
	a.say("step %d (%s) is skipped", s.Number, s)
	return nil
}

// farewell gives the person at an interactive run a shell on the finished system, before the machine ends.
func (a *agent) farewell(ctx context.Context, result error) {
	defer func() {
		if r := recover(); r != nil {
			a.say("shell: panic: %v", r)
		}
	}()
	if result != nil || !a.interactive() {
		return
	}
	const text = "the run is done; when this shell ends, the machine powers off (kill -INT 1 reboots it)"
	a.say("%s", text)
	a.prompting(event.StatusStart, steps.Step{}, text)
	if err := a.shell(ctx, whereSteps); err != nil {
		a.say("%v", err)
	}
	a.prompting(event.StatusOK, steps.Step{}, "")
}
