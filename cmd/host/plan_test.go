// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/budget"
	"kindling/host/planview"
)

// planJSON runs "kindling plan --json" and parses what it prints.
func planJSON(t *testing.T, args ...string) planview.View {
	t.Helper()
	out, err := runVerb(t.Context(), t, append([]string{"plan", "--json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var view planview.View
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		t.Fatalf("parse %s: %v", out, err)
	}
	return view
}

func TestPlanMedia(t *testing.T) {
	tree := smallTree(t)
	tests := []struct {
		args    string
		media   string // as "medium files", joined
		payload *planview.Payload
		imports int // steps that import a payload
	}{
		{
			"--qemu --external-sources", "init 3, payload-early 5, payload 4",
			&planview.Payload{Stage: "auto", EarlyFiles: 5, Files: 9}, 2,
		},
		{
			"-b --external-sources --payload-stage=fiwix", "init 3, payload-early 8",
			&planview.Payload{Stage: "fiwix", EarlyFiles: 8, Files: 8}, 2,
		},
		{"-q --external-sources --payload=off", "init 9, external 2", nil, 0},
		{"-q", "init 9, network 2", nil, 0},
		{"-bw --external-sources", "init 11", nil, 0},
		{"-q -qk plan_test.go --external-sources", "init 11", nil, 0},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			view := planJSON(t, append([]string{"--tree", tree}, strings.Fields(test.args)...)...)
			if diff := cmp.Diff(test.media, mediaText(view.Media)); diff != "" {
				t.Errorf("media (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.payload, view.Payload); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
			imports := 0
			for _, s := range view.Steps {
				if strings.HasPrefix(s.Name, "import_payload") {
					imports++
				}
			}
			if imports != test.imports {
				t.Errorf("%d steps import a payload, want %d", imports, test.imports)
			}
		})
	}
}

// mediaText is "init 3, payload 8".
func mediaText(totals []planview.Total) string {
	var parts []string
	for _, m := range totals {
		parts = append(parts, fmt.Sprint(m.Medium, " ", m.Files))
	}
	return strings.Join(parts, ", ")
}

// The plan says what becomes of the base tarball, and counts it where it is made.
func TestPlanBaseTarball(t *testing.T) {
	tree := smallTree(t)
	for _, test := range []struct {
		args string
		made bool
		why  string
	}{
		{"-q --external-sources", false, "too many for the kexec window"},
		{"-q --external-sources --base-tarball=on", true, "left out before the jump"},
		{"-q -qk plan_test.go", true, "there is room"},
		{"-q -qk plan_test.go --base-tarball=off", false, "switched off"},
		{"-c", true, "have the tree's own steps instead"},
		{"-c --base-tarball=on", true, "asked for"},
	} {
		view := planJSON(t, append([]string{"--tree", tree}, strings.Fields(test.args)...)...)
		if b := view.BaseTarball; b == nil || b.Made != test.made || !strings.Contains(b.Why, test.why) {
			t.Errorf("%s: %+v, want %t: %q", test.args, b, test.made, test.why)
		}
	}
	with := planJSON(t, "--tree", tree, "-q", "--base-tarball=on")
	without := planJSON(t, "--tree", tree, "-q", "--base-tarball=off")
	if got := window(t, with) - window(t, without); got != budget.BaseTarball {
		t.Errorf("it takes %d bytes of the kexec window, want %d", got, budget.BaseTarball)
	}
}

// The first console opens in the first bash, before Linux, where there is somebody at a machine of its own.
func TestPlanConsole(t *testing.T) {
	tree := smallTree(t)
	for args, want := range map[string]string{
		"-q -i": "early-bash on fiwix", "-b -i": "early-bash on fiwix", "-q -i -qk plan_test.go": "early-bash on linux-early",
		"-q": "", "-b": "", "-q -qk plan_test.go": "", "-c -i": "", "-bw -i": "", "-c": "",
	} {
		var got []string
		for _, s := range planJSON(t, append([]string{"--tree", tree}, strings.Fields(args)...)...).Steps {
			if s.Name == "open_console" {
				got = append(got, s.Family+" on "+s.Kernel)
			}
		}
		if first := append(got, "")[0]; first != want {
			t.Errorf("%s: consoles %q, want %q first", args, got, want)
		}
	}
}

// window is what of the kexec window is used.
func window(t *testing.T, v planview.View) int64 {
	t.Helper()
	for _, row := range v.Budgets.Rows {
		if row.ID == budget.RowKexecWindow {
			return *row.Used
		}
	}
	t.Fatal("no kexec window")
	return 0
}

func TestPlanText(t *testing.T) {
	out, err := runVerb(t.Context(), t, "plan", "--tree", smallTree(t), "--chroot", "--root", "/steps-extra")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host, steps-extra: steps 1 to 4, 1 builds", "build: extra-1.0", "extra-1.0.tar.gz  network", "root steps-extra"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// An extra root of a folder of its own is planned behind the main steps, and its distfiles are late ones.
func TestPlanExtra(t *testing.T) {
	tree, other := smallTree(t), filepath.Join(t.TempDir(), "steps-other")
	writeTestFile(t, filepath.Join(other, "manifest"), "build: other-1\n")
	writeTestFile(t, filepath.Join(other, "other-1", "pass1.sh"), "")
	writeTestFile(t, filepath.Join(other, "other-1", "sources"), "f https://example.org/other.tar "+strings.Repeat("5", 64)+"\n")
	args := []string{"--tree", tree, "-q", "--external-sources"}
	without := planJSON(t, args...)
	args = append(args, "--extra-root", other, "--extra-build", "other", "--extra-build", "extra")
	view := planJSON(t, args...)
	if diff := cmp.Diff([]string{"steps-other", "steps-extra"}, view.Extra); diff != "" {
		t.Errorf("extra roots (-want +got)\n%s", diff)
	}
	if got := mediaText(view.Media); got != "init 3, payload-early 5, payload 6" {
		t.Errorf("media: %s", got)
	}
	if n := len(view.Steps) - len(without.Steps); n != 5 {
		t.Errorf("%d steps more, want 5", n)
	}
	if last := view.Steps[len(view.Steps)-1]; last.Name != "after" || last.Number != len(view.Steps) {
		t.Errorf("the last step is %+v", last)
	}
	if len(without.Extra) != 0 || without.Steps[len(without.Steps)-1].ID != view.Steps[len(view.Steps)-1].ID {
		t.Error("extra roots change the names of the main steps")
	}
	files := func(v planview.View) int64 {
		for _, row := range v.Budgets.Rows {
			if row.ID == "builder-hex0.files" {
				return *row.Known
			}
		}
		t.Fatal("no budget for builder-hex0's files")
		return 0
	}
	if files(view) <= files(without) {
		t.Errorf("builder-hex0 holds %d files with extra roots, %d without", files(view), files(without))
	}
	out, err := runVerb(t.Context(), t, append([]string{"plan"}, args...)...)
	if err != nil || !strings.Contains(out, "then steps-other, steps-extra, payload stage auto") {
		t.Errorf("text: %v\n%s", err, out)
	}
	for args, want := range map[string]string{
		"--extra-build=gone": "the tree has no steps-gone: name its folder with --extra-root",
		"--extra-root=" + other + "/gone --extra-build=gone":    "extra root gone: open",
		"--extra-root=extra=" + other + " --extra-build=extra":  "the tree has steps-extra already",
		"--extra-root=" + other + " --extra-root=other=" + tree: "is the extra root other already",
		"--build-guix-also": "the tree has no steps-guix",
	} {
		_, err := runVerb(t.Context(), t, append([]string{"plan", "--tree", tree, "-q"}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", args, err, want)
		}
	}
}

// emptyFolder leaves nothing in dir, as a submodule has it that was not fetched.
func emptyFolder(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
}

func TestPlanErrors(t *testing.T) {
	tree := smallTree(t)
	bad := smallTree(t)
	writeTestFile(t, filepath.Join(bad, "steps", "manifest"), "build: a ( B = C )\n")
	flat := smallTree(t)
	writeTestFile(t, filepath.Join(flat, "steps", "manifest"), "build: a\n")
	nested, noSeeds, noScript, noFolder := smallTree(t), smallTree(t), smallTree(t), smallTree(t)
	emptyFolder(t, filepath.Join(noScript, "steps/improve"))
	emptyFolder(t, filepath.Join(noFolder, "steps/late-1.0"))
	emptyFolder(t, filepath.Join(nested, "seed/stage0-posix/M2libc"))
	emptyFolder(t, filepath.Join(noSeeds, "builder-hex0"))
	tests := []struct {
		name, args, want string
	}{
		{"empty nested submodule", "--tree " + nested + " -c", "M2libc is empty: fetch the submodules (git submodule update --init --recursive)"},
		{"missing script", "--tree " + noScript + " -c", "improve: reconfigure: the tree has no steps/improve/reconfigure.sh"},
		{"missing pass", "--tree " + noFolder + " -c", "build: late-1.0: the tree has no steps/late-1.0/pass1.sh"},
		{"empty builder-hex0", "--tree " + noSeeds + " -q", "builder-hex0 is empty: fetch the submodules"},
		{"no tree", "--qemu", "--tree"},
		{"no mode", "--tree " + tree, "no mode"},
		{"two modes", "--tree " + tree + " -q -c", "exclude each other"},
		{"payload in chroot", "--tree " + tree + " -c --payload=on", "needs a kernel bootstrap"},
		{"missing tree", "--tree /does/not/exist -q", "no such file"},
		{"bad manifest", "--tree " + bad + " -q", "steps/manifest:1: expected == or != after \"B\""},
		{"no place for a payload", "--tree " + flat + " -q --external-sources", "steps/manifest: no jump: fiwix"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out, err := runVerb(t.Context(), t, append([]string{"plan"}, strings.Fields(test.args)...)...)
			checkUsage(t, err, test.want)
			if out != "" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// TestPlanRealTree holds the numbers of live-bootstrap 984b8322.
func TestPlanRealTree(t *testing.T) {
	tree := os.Getenv("KINDLING_TREE")
	if tree == "" {
		t.Log("set KINDLING_TREE=DIR (a live-bootstrap checkout) to run this test")
		t.Skip("KINDLING_TREE is not set")
	}
	view := planJSON(t, "--tree", tree, "--qemu", "--external-sources")
	want := planview.Counts{
		All:           planview.Count{Lines: 312, Files: 310},
		BeforeNetwork: &planview.Count{Lines: 73, Files: 71},
		BeforeLinux:   &planview.Count{Lines: 72, Files: 70},
		BeforeFiwix:   &planview.Count{Lines: 8, Files: 6},
	}
	if diff := cmp.Diff(want, view.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("init 6, payload-early 64, payload 240", mediaText(view.Media)); diff != "" {
		t.Errorf("media (-want +got):\n%s", diff)
	}
}

// budgetTree is the small tree with what the budgets read, and a folder of distfiles with one real size.
func budgetTree(t *testing.T) (tree, distfiles string) {
	t.Helper()
	tree, distfiles = smallTree(t), t.TempDir()
	writeTestFile(t, filepath.Join(tree, "steps", "jump", "fiwix.sh"), "make_fiwix_initrd -s 204800 /boot/fiwix.ext2\n"+
		`kexec-fiwix /boot/fiwix -c "fiwix kexec_size=10240 kexec_cmdline=\"init=/init\""`+"\n")
	writeTestFile(t, filepath.Join(tree, "steps", "jump", "linux.sh"), "#!/bin/bash\n")
	for _, f := range planJSON(t, "--tree", tree, "-q", "--external-sources").Distfiles {
		if f.Medium == "init" {
			writeTestFile(t, filepath.Join(distfiles, f.Name), "0123456789")
		}
	}
	return tree, distfiles
}

// budgetRow is the row of a plan's budgets with that ID.
func budgetRow(t *testing.T, view planview.View, id string) budget.Row {
	t.Helper()
	if view.Budgets == nil {
		t.Fatal("no budgets")
	}
	for _, row := range view.Budgets.Rows {
		if row.ID == id {
			return row
		}
	}
	t.Fatalf("no row %s", id)
	return budget.Row{}
}

func TestPlanBudgets(t *testing.T) {
	tree, distfiles := budgetTree(t)
	args := []string{"--tree", tree, "-q", "--external-sources", "--agent=off"}
	without := planJSON(t, args...)
	with := planJSON(t, append(args, "--distfiles", distfiles)...)
	if grown := *budgetRow(t, with, "builder-hex0.bytes").Known - *budgetRow(t, without, "builder-hex0.bytes").Known; grown != 30 {
		t.Errorf("three distfiles of 10 bytes add %d bytes", grown)
	}
	if a, b := len(without.Budgets.Unknown), len(with.Budgets.Unknown); a-b != 3 {
		t.Errorf("%d sizes unknown without distfiles, %d with them", a, b)
	}
	row := budgetRow(t, with, "fiwix.ramdisk-end")
	if *row.Known != 0x1C6000+204800*1024 || row.LimitBasis != budget.Measured {
		t.Errorf("ramdisk's end: %+v", row)
	}
	// The host adds a panic= to Linux' command line, which counts.
	const line = `fiwix kexec_size=10240 kexec_cmdline="init=/init panic=10"`
	if row := budgetRow(t, with, "fiwix.command-line"); *row.Known != int64(len(line)+1) {
		t.Errorf("command line of %d bytes, want %d", *row.Known, len(line)+1)
	}
	for _, mode := range []string{"-c", "-bw", "-q --kernel plan_test.go"} {
		if view := planJSON(t, append([]string{"--tree", tree}, strings.Fields(mode)...)...); view.Budgets != nil {
			t.Errorf("%s: budgets without an early kernel", mode)
		}
	}
}

// TestPlanOverBudget wants the whole plan, and then the error.
func TestPlanOverBudget(t *testing.T) {
	tree, distfiles := budgetTree(t)
	writeTestFile(t, filepath.Join(tree, "steps", strings.Repeat("d", 200), strings.Repeat("e", 200), strings.Repeat("f", 200),
		strings.Repeat("g", 200), strings.Repeat("h", 250), "file"), "")
	for _, format := range []string{"--json", "--tree=" + tree} {
		out, err := runVerb(t.Context(), t, "plan", format, "--tree", tree, "-q", "--distfiles", distfiles)
		checkUsage(t, err, "builder-hex0: longest path, with NUL: 1,0")
		if !strings.Contains(out, "kexec window") {
			t.Errorf("%s: the plan is not printed", format)
		}
	}
}

func TestPlanAgent(t *testing.T) {
	tree, distfiles := budgetTree(t)
	agent := filepath.Join(t.TempDir(), "agent")
	writeTestFile(t, agent, strings.Repeat("a", 12345))
	args := []string{"--tree", tree, "-q", "--external-sources", "--distfiles", distfiles}
	end := func(more ...string) int64 {
		return *budgetRow(t, planJSON(t, append(args, more...)...), "fiwix.reach").Known
	}
	if with, without := end("--agent", agent), end("--agent=off"); with <= without+12345-1000 {
		t.Errorf("early part ends at %d with an agent of 12,345 bytes, at %d without", with, without)
	}
	_, err := runVerb(t.Context(), t, append([]string{"plan", "--agent", agent + "-not"}, args...)...)
	checkUsage(t, err, "agent: stat")
}
