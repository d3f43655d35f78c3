// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"kindling/host/report"
)

func grammar(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := newParser(&cli{}, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// needs is a program that CI has and a contributor's machine may lack.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs %s: %v", program, err)
		}
		t.Skipf("SKIPPED, not tested: %v", err)
	}
	return path
}

// TestExamples walks all verbs: each has examples, and each of these is a command line of that verb which parses.
func TestExamples(t *testing.T) {
	for _, verb := range grammar(t).Model.Leaves(true) {
		name := verbPath(verb)
		_, text, ok := strings.Cut(verb.Detail, examplesTitle)
		if !ok {
			t.Errorf("%s: no examples in its help", name)
			continue
		}
		tried := 0
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "   ") {
				continue
			}
			_, command, ok := strings.Cut(line, "kindling ")
			if !ok || !strings.HasPrefix(command, name) {
				t.Errorf("%s: example %q is one of another verb", name, line)
				continue
			}
			command, _, _ = strings.Cut(command, " |")
			command, _, _ = strings.Cut(command, " >")
			args := strings.Fields(strings.TrimSuffix(command, ")"))
			if _, err := grammar(t).Parse(expandShortFlags(args)); err != nil {
				t.Errorf("%s: example %q: %v", name, line, err)
			}
			tried++
		}
		if tried == 0 {
			t.Errorf("%s: no example in %q", name, text)
		}
	}
}

// TestExitStatuses compares what is documented with what the program does.
func TestExitStatuses(t *testing.T) {
	var table, help strings.Builder
	known := make(map[int]bool)
	for _, s := range exitStatuses() {
		fmt.Fprintf(&table, "| %d | %s |\n", s.Status, s.Meaning)
		fmt.Fprintf(&help, "  %3d  %s\n", s.Status, s.Meaning)
		if known[s.Status] {
			t.Errorf("%d stands there twice", s.Status)
		}
		known[s.Status] = true
	}
	for _, r := range []report.Result{report.ResultOK, report.ResultInternal, report.ResultStep, report.ResultAfter,
		report.ResultPayload, report.ResultPanic, report.ResultHang, report.ResultQEMU, report.ResultInconsistent,
		report.ResultInterrupted} {
		if !known[r.ExitStatus()] {
			t.Errorf("%s ends with %d, which is not in the table", r, r.ExitStatus())
		}
	}
	for _, name := range []string{"README.md", "docs/exit-status.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "| status | meaning |\n| --- | --- |\n")
		got, _, _ := strings.Cut(rest, "\n\n")
		if diff := cmp.Diff(table.String(), got+"\n"); diff != "" {
			t.Errorf("%s (-program +documented):\n%s", name, diff)
		}
	}
	if !strings.Contains(manual(), help.String()) {
		t.Errorf("help has another table:\n%s", manual())
	}
	// What they are is a promise; a change of this line breaks somebody's script.
	want := []int{0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 130, 141}
	var got []int
	for _, s := range exitStatuses() {
		got = append(got, s.Status)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-promised +got):\n%s", diff)
	}
}

// TestManualPage lints the page, and looks for every verb and option in it.
func TestManualPage(t *testing.T) {
	var source bytes.Buffer
	page{&printer{out: &source}}.write(grammar(t).Model, "January 2, 2026")
	for _, verb := range grammar(t).Model.Leaves(true) {
		if !strings.Contains(source.String(), ".It Nm Cm "+verbPath(verb)+"\n") {
			t.Errorf("verb %s is missing", verbPath(verb))
		}
		for _, f := range verb.Flags {
			if !f.Hidden && !strings.Contains(source.String(), `Fl \-`+roff(f.Name)) {
				t.Errorf("option --%s of %s is missing", f.Name, verbPath(verb))
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), needs(t, "mandoc"), "-Tlint", "-Wwarning")
	cmd.Stdin = &source
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

func TestRoff(t *testing.T) {
	for in, want := range map[string]string{
		`a\b`: `a\eb`, "--x": `\-\-x`, ".Sh X": `\&.Sh X`, "'x": `\&'x`, "~`^": `\(ti\(ga\(ha`, "plain. ": "plain. ",
	} {
		if got := roff(in); got != want {
			t.Errorf("roff(%q) = %q, want %q", in, got, want)
		}
	}
}
