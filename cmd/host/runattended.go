// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"os"

	"kindling/host/console"
	"kindling/host/progress"
	"kindling/host/watch"
	"kindling/internal/event"
)

// openConsole connects the user's terminal with the guest's console, in an interactive run. end ends the run.
func (r *run) openConsole(end func()) (err error) {
	if r.cmd.Boot.Interactive {
		r.console, err = console.Open(console.Options{In: r.streams.in, Out: r.streams.out, End: end})
	}
	return err
}

// closeConsole gives the terminal back.
func (r *run) closeConsole() error {
	if r.console == nil {
		return nil
	}
	return r.console.Close()
}

// display shows the run: its console where that is on the terminal, its progress otherwise.
func (r *run) display(g guest) progress.Display {
	if r.console != nil {
		return attended{r.console}
	}
	return progress.For(r.streams.out, r.cmd.JSON, os.Getenv("TERM"), r.estimate(g))
}

// attended shows nothing: the guest's console does. It tells the connection when the guest waits for a person.
type attended struct{ console *console.Console }

func (a attended) Update(v watch.View) { a.console.Waiting(v.Waiting != "") }
func (a attended) Event(event.Event)   {}
func (a attended) Close()              {}
