// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

// What a step can see of the process that it runs in is the same with the agent, in memory and on a disk, and in scripts as
// the tree's generator writes them, below a bash that is PID 1; with a person at the run and without one. KINDLING_BASH
// names another bash for both machines, such as the first one of a tree (for 32 bits, statically linked).
func TestProbe(t *testing.T) {
	t.Parallel()
	files, shell := folder(t, "testdata/probe"), folder(t, "testdata/shell")
	if name := os.Getenv("KINDLING_BASH"); name != "" {
		for _, machine := range []map[string]string{files, shell} {
			machine["usr/bin/bash"] = readFile(t, name)
			machine["steps/manifest"] = strings.Replace(machine["steps/manifest"], "build: bash-debian\n", "", 1)
		}
	}
	shell["steps/improve/probe.sh"] = files["steps/improve/probe.sh"]
	for _, name := range []string{"9-order-first.sh", "10-order-second.sh", "50-sign.sh", "51-upload.sh"} {
		files["steps/after/"+name] = ":\n"
	}
	f := boot(t, "--keep", "--qemu-cmd", twist{files: files, args: "panic=10"}.qemu(t))
	if f.status != 0 {
		t.Fatalf("status %d: %s\n%s", f.status, f.report.Line, tail(f.file("console.log"), 60))
	}
	var got []string
	for _, s := range f.report.Steps {
		if s.Name == "improve: probe" {
			got = append(got, f.file(s.Log))
		}
	}
	want := shellRecords(t, f, shell)
	if len(got) != 4 || len(want) != 2 {
		t.Fatalf("%d records with the agent, want 4; %d without, want 2", len(got), len(want))
	}
	for i, with := range []int{0, 1, 1, 0} {
		if d := cmp.Diff(record(t, want[with]), record(t, got[i])); d != "" {
			t.Errorf("probe %d (-without the agent +with it)\n%s", i+1, d)
		}
	}
	for _, mode := range []struct{ name, text string }{{"without the agent", want[1]}, {"with it", got[1]}} {
		if strings.Count(mode.text, "\ntrap -- '") != 1 || !strings.Contains(mode.text, "set -o errexit") {
			t.Errorf("%s, the options and traps of an interactive run are not there:\n%s", mode.name, mode.text)
		}
	}
}

// shellRecords runs the probe without the agent, first as in a run that is not interactive, then as in one that is. It
// gives what the machine printed about each.
func shellRecords(t *testing.T, f *finished, files map[string]string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience/3)
	defer cancel()
	tree := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(tree, name), text)
	}
	files["usr/bin/stub"] = stub(t)
	files["init"] = "#!/bin/bash\n"
	for _, interactive := range []string{"False", "True"} {
		cfg := &steps.Config{}
		cfg.Set("KERNEL_BOOTSTRAP", "True")
		cfg.Set("INTERACTIVE", interactive)
		plan, err := steps.NewPlan(os.DirFS(tree), steps.MainRoot, cfg)
		if err != nil {
			t.Fatal(err)
		}
		scripts, err := plan.Scripts(nil)
		if err != nil {
			t.Fatal(err)
		}
		last := scripts[len(scripts)-2] // behind it is the configuration
		files["scripts/"+interactive] = string(last.Data)
		files["init"] += fmt.Sprintf("cp -p /scripts/%s %s\nbash %[2]s\n", interactive, last.Path)
	}
	g := start(ctx, t, f, files, "loglevel=1 panic=10")
	if err := g.cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	const begin = "== exports"
	parts := strings.Split(g.seen.String(), begin)
	for i := range parts {
		parts[i] = begin + parts[i]
	}
	return slices.Clone(parts[1:])
}

// record takes the probe's record out of a console or a log, as lines, without what cannot be equal.
func record(t *testing.T, text string) []string {
	t.Helper()
	_, rest, found := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "== exports\n")
	body, _, end := strings.Cut(rest, "== end\n")
	if !found || !end {
		t.Fatalf("no record in:\n%s", tail(text, 100))
	}
	body = regexp.MustCompile("[ \t]+").ReplaceAllString(body, " ") // the host makes tabs of a log blanks
	for _, n := range normalisations() {
		body = regexp.MustCompile("(?m)"+n.pattern).ReplaceAllString(body, n.by)
	}
	return strings.Split(body, "\n")
}

// normalisation is one thing that differs and cannot be equal; docs/agent.md says what a package can see of it.
type normalisation struct{ pattern, by string }

func normalisations() []normalisation {
	return []normalisation{
		// The script: the agent's has one step, the tree's has all up to the next jump.
		{`/(steps/[23]|kindling/step)\.sh`, "SCRIPT"},
		// The trap of an interactive run: the tree's asks what to do, the agent does that itself and keeps where the shell stood.
		{`^trap -- '.*' (ERR|EXIT)$`, "TRAP"},
		// The terminal: its name and its node. The tree's is the console itself, which nothing could keep a log of.
		{`^([012]) /dev/(console|pts/0) character special file (5:1|88:0) 6[02]0 0 `, "$1 TERMINAL "},
		{`^(not a tty|/dev/pts/0)$`, "TERMINAL"},
		// The process group: the tree's is that of PID 1, which the agent keeps to itself.
		{`^[0-9]+ 0 0 -1 `, "GROUP 0 0 -1 "},
		// What the kernel reckons from the memory that was free when it started, which the size of an initramfs changes.
		{`^(pending signals \(-i\)|max user processes \(-u\)|Max processes|Max pending signals|SigQ:) [0-9/ ]+`, "$1 MEMORY "},
		// Where a shell without a PATH has found the step's: the tests have one folder under both names.
		{`^_=(/usr)?/bin/bash$`, "_=BASH"},
		// The probe's own pipe.
		{`pipe:\[[0-9]+\]`, "pipe"},
	}
}
