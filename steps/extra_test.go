// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

func TestExtraRoot(t *testing.T) {
	for _, tt := range []struct{ name, want, err string }{
		{"guix", "steps-guix", ""},
		{"lfs-12_2", "steps-lfs-12_2", ""},
		{strings.Repeat("x", 32), "steps-" + strings.Repeat("x", 32), ""},
		{strings.Repeat("x", 33), "", "up to 32"},
		{"", "", "a letter first"},
		{"1st", "", "a letter first"},
		{"-x", "", "a letter first"},
		{"Guix", "", "lower-case"},
		{"a.b", "", "lower-case"},
		{"a/b", "", "lower-case"},
		{"a b", "", "lower-case"},
		{"a,b", "", "lower-case"},
		{"preseeded", "", "take another name"},
		{"guix-preseeded", "", "take another name"},
		{"guix-preseeded2", "steps-guix-preseeded2", ""},
	} {
		got, err := steps.ExtraRoot(tt.name)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %q, %v; want %q, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
}

// What is asked for goes through bootstrap.cfg, and without a request nothing of it changes.
func TestExtraNames(t *testing.T) {
	for _, tt := range []struct {
		names  []string
		config string // what it makes of "A=1"
		err    string
	}{
		{nil, "A=1\n", ""},
		{[]string{"lfs"}, "A=1\nEXTRA_BUILD=lfs\n", ""},
		{[]string{"guix"}, "A=1\nBUILD_GUIX_ALSO=True\nEXTRA_BUILD=guix\n", ""},
		{[]string{"lfs", "guix"}, "A=1\nBUILD_GUIX_ALSO=True\nEXTRA_BUILD=lfs,guix\n", ""},
		{[]string{"lfs", "guix", "lfs"}, "A=1\n", "asked for twice"},
		{[]string{"lfs", "../x"}, "A=1\n", "lower-case"},
		{strings.Split(strings.Repeat(strings.Repeat("x", 31)+" ", 5), " ")[:5], "A=1\n", "159 bytes"},
	} {
		c := parseConfig(t, "A=1\n")
		err := steps.SetExtraNames(c, tt.names)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: error %v, want %q", tt.names, err, tt.err)
		}
		if diff := cmp.Diff(tt.config, string(c.Bytes())); diff != "" {
			t.Errorf("%q (-want +got)\n%s", tt.names, diff)
		}
		if got, err := steps.ExtraNames(c); err != nil || tt.err == "" && !cmp.Equal(got, tt.names) {
			t.Errorf("read back: %q, %v; want %q", got, err, tt.names)
		}
	}
	for _, tt := range []struct {
		config string
		want   []string
		err    string
	}{
		{"BUILD_GUIX_ALSO=True\n", []string{"guix"}, ""},
		{"BUILD_GUIX_ALSO=False\n", nil, ""},
		{"EXTRA_BUILD=a,b\nBUILD_GUIX_ALSO=True\n", []string{"a", "b", "guix"}, ""},
		{"EXTRA_BUILD=a,guix,b\nBUILD_GUIX_ALSO=True\n", []string{"a", "guix", "b"}, ""},
		{"EXTRA_BUILD=a,,b\n", []string{"a", "", "b"}, "a letter first"},
		{"EXTRA_BUILD=a,a\n", []string{"a", "a"}, "twice"},
	} {
		got, err := steps.ExtraNames(parseConfig(t, tt.config))
		if !cmp.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %q, %v; want %q, %q", tt.config, got, err, tt.want, tt.err)
		}
	}
}

// extraTree has a main root and two extra ones.
func extraTree() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	sum := func(digit string) string { return strings.Repeat(digit, 64) }
	return fstest.MapFS{
		"steps/manifest": file("define: MODE = plain\nbuild: early-1\njump: linux ( CHROOT == False )\nimprove: get_network\n" +
			"build: zlib-1\nimprove: after\n"),
		"steps/early-1/sources":     file("f https://a.example/early.tar " + sum("1") + "\n"),
		"steps/zlib-1/sources":      file("f https://a.example/zlib.tar " + sum("2") + "\n"),
		"steps-one/manifest":        file("define: ONE = True\nbuild: zlib-1 ( MODE == plain )\nbuild: zlib-1\nimprove: sign\n"),
		"steps-one/zlib-1/sources":  file("f https://b.example/zlib.tar " + sum("2") + "\nf https://b.example/patch " + sum("3") + "\n"),
		"steps-two/manifest":        file("build: guile-1 ( ONE == True )\nimprove: after\n"),
		"steps-two/guile-1/sources": file("f https://b.example/early.tar " + sum("1") + "\n"),
	}
}

// The roots run in the order given, between the main steps and the after scripts, and one sees what those before it have
// defined; no step has the ID of another.
func TestInOrder(t *testing.T) {
	main := newPlan(t, extraTree(), steps.MainRoot, "CHROOT=False\nKERNEL_BOOTSTRAP=True\n")
	plans, err := steps.NewExtraPlans(extraTree(), []string{"one", "two"}, main.Config)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, s := range steps.InOrder(main, plans, nil) {
		if s.At != i+1 {
			t.Errorf("%s is at %d, want %d", s.ID(), s.At, i+1)
		}
		got = append(got, s.ID()+" "+string(s.Kernel)+" "+string(s.Family))
	}
	want := []string{
		"001-build-early-1-pass1 builder-hex0 kaem", "002-jump-linux builder-hex0 kaem", "003-improve-get_network linux-initramfs kaem",
		"004-build-zlib-1-pass1 linux-initramfs kaem",
		"one.001-build-zlib-1-pass1 linux-disk bash", "one.002-build-zlib-1-pass2 linux-disk bash", "one.003-improve-sign linux-disk bash",
		"two.001-build-guile-1-pass1 linux-disk bash", "two.002-improve-after linux-disk bash",
		"005-improve-after linux-initramfs kaem",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got)\n%s", diff)
	}
	order := steps.InOrder(main, plans, map[string]bool{"005-improve-after": true})
	if got := order[len(order)-1].ID(); got != "two.002-improve-after" || len(order) != len(want) || order[4].ID() != "005-improve-after" {
		t.Errorf("behind a run that is over: the last step is %s", got)
	}
	if got := plans[0].Steps[0].String(); got != "one: build: zlib-1" {
		t.Errorf("a step of an extra root is called %q", got)
	}
	if last := main.Steps[len(main.Steps)-1]; last.At != last.Number {
		t.Errorf("ordering has changed the plan: %d at %d", last.Number, last.At)
	}
	if diff := cmp.Diff([]steps.Variable{{Name: "ONE", Value: "True"}}, plans[0].Defined); diff != "" {
		t.Errorf("defined (-want +got)\n%s", diff)
	}
	if !main.RunsAfter() || plans[0].RunsAfter() {
		t.Error("after: in the main plan, and not in the first root's")
	}
	if plans, err = steps.NewExtraPlans(extraTree(), []string{"two", "one"}, main.Config); err != nil || len(plans[0].Steps) != 1 {
		t.Errorf("the other way round: %v, %d steps in the first, want 1", err, len(plans[0].Steps))
	}
	if _, err := steps.NewExtraPlans(extraTree(), []string{"three"}, main.Config); err == nil || !strings.Contains(err.Error(), "steps-three/manifest") {
		t.Errorf("a root that is not there: %v", err)
	}
}

// Distfiles of an extra root are late ones; one that the main steps have as well travels once, where they need it, and
// again where it would be gone.
func TestExtraDistfiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  steps.MediaOptions
		want []string
	}{
		{"payload", steps.MediaOptions{ExternalSources: true, Payload: true}, []string{
			"early.tar init payload late extra steps", "zlib.tar payload late extra steps", "patch payload late extra steps-one",
		}},
		{"second disk", steps.MediaOptions{ExternalSources: true}, []string{
			"early.tar init extra steps", "zlib.tar external extra steps", "patch external extra steps-one",
		}},
		{"network", steps.MediaOptions{}, []string{
			"early.tar init extra steps", "zlib.tar network extra steps", "patch network extra steps-one",
		}},
	} {
		tree := extraTree()
		main := newPlan(t, tree, steps.MainRoot, "CHROOT=False\nKERNEL_BOOTSTRAP=True\n")
		plans, err := steps.NewExtraPlans(tree, []string{"one", "two"}, main.Config)
		if err != nil {
			t.Fatal(err)
		}
		files, err := steps.Distfiles(append([]*steps.Plan{main}, plans...), tt.opt)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range files {
			line := f.Name + " " + string(f.Medium)
			if f.Again != "" {
				line += " " + string(f.Again)
			}
			if f.Late {
				line += " late"
			}
			if f.Extra {
				line += " extra"
			}
			got = append(got, line+" "+f.Root)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}

// One name is one file in all roots.
func TestExtraDistfilesConflict(t *testing.T) {
	tree := extraTree()
	tree["steps-two/guile-1/sources"].Data = []byte("f https://b.example/early.tar " + strings.Repeat("9", 64) + "\n")
	main := newPlan(t, tree, steps.MainRoot, "")
	plans, err := steps.NewExtraPlans(tree, []string{"two"}, main.Config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = steps.Distfiles(append([]*steps.Plan{main}, plans...), steps.MediaOptions{})
	if err == nil || !strings.HasPrefix(err.Error(), "steps-two/guile-1/sources:1: ") || !strings.Contains(err.Error(), "steps/early-1/sources") {
		t.Errorf("error %v, want one that names both", err)
	}
}
