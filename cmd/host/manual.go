// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// manCmd is "kindling man": the manual page, made of the command line's grammar, so that it cannot be out of date.
type manCmd struct{}

// Help implements kong.HelpProvider.
func (manCmd) Help() string {
	return examples(
		"kindling man | man -l -", "read it",
		"kindling man > kindling.1", "keep it",
	)
}

// Run writes the page in mdoc(7).
func (manCmd) Run(ctx *kong.Context, out io.Writer) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	buffered := bufio.NewWriter(rawWriter(out))
	p := &printer{out: buffered}
	page{p}.write(ctx.Model, pageDate(info))
	if p.err == nil {
		p.err = buffered.Flush()
	}
	return p.err
}

// pageDate is the commit's day, so that the same source gives the same page.
func pageDate(info *debug.BuildInfo) string {
	for _, s := range info.Settings {
		if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
			return at.UTC().Format("January 2, 2006")
		}
	}
	return "January 1, 2026"
}

// page writes mdoc.
type page struct{ *printer }

func (p page) write(app *kong.Application, date string) {
	for _, line := range []string{"FileCopyrightText: 2026 The Kindling authors", "License-Identifier: GPL-3.0-or-later"} {
		p.printf(".\\\" SPDX-%s\n", line)
	}
	p.printf(".Dd %s\n.Dt KINDLING 1\n.Os\n.Sh NAME\n.Nm kindling\n.Nd harness around live-bootstrap\n", date)
	p.printf(".Sh SYNOPSIS\n")
	for _, verb := range app.Leaves(true) {
		p.printf(".Nm\n.Cm %s\n", verbPath(verb))
		if len(verb.Flags) > 0 {
			p.printf(".Op Ar options\n")
		}
		for _, arg := range verb.Positional {
			if arg.Required {
				p.printf(".Ar %s\n", arg.Name)
			} else {
				p.printf(".Op Ar %s\n", arg.Name)
			}
		}
	}
	p.printf(".Sh DESCRIPTION\n")
	p.text(app.Help)
	p.printf(".Pp\nThe verbs are:\n.Bl -tag -width Ds\n")
	for _, verb := range app.Leaves(true) {
		p.verb(verb)
	}
	p.printf(".El\n")
	p.files()
	p.printf(".Sh EXIT STATUS\n.Bl -tag -width 130 -compact\n")
	for _, s := range exitStatuses() {
		p.printf(".It %d\n", s.Status)
		p.text(s.Meaning)
	}
	p.printf(".El\n.Sh SEE ALSO\n.Xr qemu-system-x86_64 1\n")
}

// verb is one verb with its arguments, options and examples.
func (p page) verb(n *kong.Node) {
	p.printf(".It Nm Cm %s\n", verbPath(n))
	p.text(n.Help)
	if len(n.Positional)+len(n.Flags) > 0 {
		p.printf(".Bl -tag -width Ds\n")
		for _, arg := range n.Positional {
			p.printf(".It Ar %s\n", arg.Name)
			p.text(arg.Help)
		}
		for _, f := range n.Flags {
			if f.Hidden {
				continue
			}
			p.flag(f)
		}
		p.printf(".El\n")
	}
	if _, text, ok := strings.Cut(n.Detail, examplesTitle); ok {
		p.printf(".Pp\n%s\n.Bd -literal -offset indent\n", strings.TrimSpace(examplesTitle))
		for line := range strings.Lines(strings.Trim(text, "\n")) {
			p.printf("%s\n", roff(strings.TrimRight(strings.TrimPrefix(line, "  "), "\n")))
		}
		p.printf(".Ed\n")
	}
}

func (p page) flag(f *kong.Flag) {
	p.printf(".It ")
	if f.Short != 0 {
		p.printf("Fl %s , ", string(f.Short))
	}
	p.printf("Fl \\-%s", roff(f.Name))
	if !f.IsBool() {
		p.printf(" Ns = Ns Ar %s", roff(strings.Trim(f.FormatPlaceHolder(), `"`)))
	}
	p.printf("\n")
	p.text(f.Help)
	for _, env := range f.Envs {
		p.printf(".Ev %s\nin the environment is the same.\n", env)
	}
}

func (p page) files() {
	p.printf(".Sh FILES\n.Bl -tag -width Ds\n")
	for _, f := range [][2]string{
		{"kindling-runs/latest", "the newest run in this folder: console.log, events.jsonl, qemu.log, a log for each step in " +
			"steps, and report.json"},
		{"~/.cache/kindling", "Debian's packages for the embedded default"},
	} {
		p.printf(".It Pa %s\n", f[0])
		p.text(f[1])
	}
	p.printf(".El\n")
}

// sourceWidth is how long a line of a page's source may be.
const sourceWidth = 78

// text is running text: each sentence on lines of its own, as mdoc wants it.
func (p page) text(s string) {
	sentences := strings.Split(strings.TrimSpace(s), ". ")
	for i, sentence := range sentences {
		if i < len(sentences)-1 {
			sentence += "."
		}
		line := ""
		for word := range strings.FieldsSeq(sentence) {
			if line != "" && len(line)+len(word) >= sourceWidth {
				p.printf("%s\n", roff(line))
				line = ""
			}
			line = strings.TrimSpace(line + " " + word)
		}
		p.printf("%s\n", roff(line))
	}
}

// roff makes text that roff shows as it is: no escapes, no requests, no hyphens where a minus sign is meant.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

// verbPath is what the user types for a verb: "payload create".
func verbPath(n *kong.Node) string {
	path := n.Name
	for n = n.Parent; n != nil && n.Type == kong.CommandNode; n = n.Parent {
		path = n.Name + " " + path
	}
	return path
}

// examplesTitle stands above the examples of a verb.
const examplesTitle = "Examples:\n"

// examples is the help of a verb: pairs of a command line and what it does.
func examples(pairs ...string) string {
	var b strings.Builder
	b.WriteString(examplesTitle)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&b, "\n  %s\n      %s\n", pairs[i], pairs[i+1])
	}
	return b.String()
}
