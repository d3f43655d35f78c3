// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package overlay_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
	"kindling/steps/overlay"
)

const ownAfter = "#!/bin/sh\necho after\n"

// withExtra is the tree with two extra roots and the scripts that are wrapped for them.
func withExtra() fstest.MapFS {
	t := tree()
	for name, text := range map[string]string{
		"steps/improve/after.sh": ownAfter, "steps/improve/clean_sources.sh": "rm -f x\n",
		"steps-lfs/manifest":  "define: MOOD = ( 'quiet' )\nbuild: a-1\n",
		"steps-guix/manifest": "improve: b\n",
	} {
		t[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return t
}

func extraPlans(t *testing.T, tree fstest.MapFS, names ...string) []*steps.Plan {
	t.Helper()
	plans, err := steps.NewExtraPlans(tree, names, &steps.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return plans
}

func TestExtraParts(t *testing.T) {
	wrapped := []string{"steps/extra-roots.sh", "steps/improve/after-tree.sh", "steps/improve/after.sh"}
	kept := []string{"steps/extra-distfiles", "steps/improve/clean_sources-tree.sh", "steps/improve/clean_sources.sh"}
	plans := extraPlans(t, withExtra(), "lfs", "guix")
	for _, tt := range []struct {
		name string
		in   overlay.Input
		want []string
	}{
		{"agent", overlay.Input{Agent: true, Extra: plans}, []string{"steps/jump/linux-tree.sh", "steps/jump/linux.sh"}},
		{"agent, kept", overlay.Input{Agent: true, Extra: plans, Keep: []string{"a"}},
			append([]string{"steps/jump/linux-tree.sh", "steps/jump/linux.sh"}, kept...)},
		{"scripts", overlay.Input{Extra: plans}, append([]string{"steps-lfs/0.sh", "steps-guix/0.sh"}, wrapped...)},
		{"scripts, kept", overlay.Input{Extra: plans[1:], Keep: []string{"a", "b"}},
			append(append([]string{"steps-guix/0.sh"}, wrapped...), kept...)},
	} {
		tt.in.Tree = withExtra()
		files := apply(t, tt.in)
		var got []string
		for name := range files {
			got = append(got, name)
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if own, found := files["steps/improve/after-tree.sh"]; found && own != ownAfter {
			t.Errorf("%s: the tree's own after.sh has become %q", tt.name, own)
		}
	}
}

// A root that the tree runs itself is left to it, as in a fork that knows BUILD_GUIX_ALSO.
func TestExtraOfTheTree(t *testing.T) {
	tree := withExtra()
	tree["steps/improve/after.sh"].Data = []byte("if [ x = x ]; then\n    bash /steps-guix/0.sh\nfi\n")
	result, err := overlay.Apply(overlay.Input{Tree: tree, Extra: extraPlans(t, tree, "lfs", "guix")})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "/steps-guix/0.sh") {
		t.Errorf("warnings: %q", result.Warnings)
	}
	for _, f := range result.Files {
		if f.Path == "steps/extra-roots.sh" && (strings.Contains(string(f.Data), "guix") || !strings.Contains(string(f.Data), "bash /steps-lfs/0.sh")) {
			t.Errorf("extra-roots.sh:\n%s", f.Data)
		}
	}
}

func TestExtraErrors(t *testing.T) {
	tree := withExtra()
	plans := extraPlans(t, tree, "lfs")
	delete(tree, "steps/improve/after.sh")
	if _, err := overlay.Apply(overlay.Input{Tree: tree, Extra: plans}); err == nil || !strings.Contains(err.Error(), "after.sh") {
		t.Errorf("no after.sh: %v", err)
	}
	tree = withExtra()
	tree["steps-lfs/manifest"].Data = []byte("build: a-1\njump: again\n")
	_, err := overlay.Apply(overlay.Input{Tree: tree, Extra: extraPlans(t, tree, "lfs")})
	if !errors.Is(err, overlay.ErrTree) || !strings.Contains(err.Error(), "steps-lfs/manifest:2: lfs: jump: again") {
		t.Errorf("a jump: %v", err)
	}
	if overlay.Provides(steps.Step{Kind: steps.KindImprove, Name: "after"}) {
		t.Error("after.sh is wrapped, so the tree has to have it")
	}
}

// The roots run in order, with their defines in the configuration, then the tree's own after.sh; the first that fails
// ends everything.
func TestAfter(t *testing.T) {
	tree := withExtra()
	runner := apply(t, overlay.Input{Tree: tree, Extra: extraPlans(t, tree, "lfs", "guix")})["steps/extra-roots.sh"]
	runner = strings.ReplaceAll(runner, "bash /steps", "bash /external/steps") // newGuest moves this below its folder
	for _, tt := range []struct {
		name, guix, want string
		fails            bool
	}{
		{"sound", "echo guix $MOOD\n", "lfs\nguix\nafter\n", false},
		{"fails", "echo guix\nexit 3\n", "lfs\nguix\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuest(t)
			g.write("steps/extra-roots.sh", absolute.ReplaceAllString(runner, "${1}"+g.root+"/$2"))
			g.write("steps/improve/after-tree.sh", ownAfter)
			g.write("external/steps-lfs/0.sh", "echo lfs\n")
			g.write("external/steps-guix/0.sh", tt.guix)
			out, err := g.run("steps/improve/after.sh", "")
			if out != tt.want || (err != nil) != tt.fails {
				t.Errorf("%v\n%s", err, out)
			}
			if got := g.read("steps/bootstrap.cfg"); got != "MOOD='quiet'\n" {
				t.Errorf("bootstrap.cfg: %q", got)
			}
		})
	}
}

// The tree's /init enters what is asked for and not done, once, before it opens a shell; what fails is not done.
func TestHandoff(t *testing.T) {
	const init = "#!/usr/bin/bash\nset -e\nMOUNTED=1\nenv - setsid openvt -fec1 -- bash -i\n"
	tree := withExtra()
	tree["steps/improve/make_bootable.sh"] = &fstest.MapFile{Data: []byte("own\n")}
	files := apply(t, overlay.Input{Tree: tree, DoneEvent: true})
	if files["steps/improve/make_bootable-tree.sh"] != "own\n" || !strings.Contains(files["steps/improve/make_bootable.sh"], steps.HandoffMarker) {
		t.Errorf("make_bootable.sh is not wrapped: %q", files)
	}
	for _, in := range []overlay.Input{{Agent: true, Tree: tree}, {Tree: tree}} {
		if _, found := apply(t, in)["steps/improve/make_bootable.sh"]; found {
			t.Errorf("make_bootable.sh is wrapped for %+v", in)
		}
	}
	g := newGuest(t)
	g.write("steps/improve/make_bootable-tree.sh", "cat > "+g.path("init")+" <<'EOF'\n"+init+"EOF\n")
	want := strings.Replace(init, "env -", "bash "+g.path("steps/extra-handoff.sh")+" # "+steps.HandoffMarker+"\nenv -", 1)
	for range 2 { // it may be run again
		if out, err := g.run("steps/improve/make_bootable.sh", ""); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if diff := cmp.Diff(want, g.read("init")); diff != "" {
			t.Errorf("/init (-want +got)\n%s", diff)
		}
	}
	g.write("steps/bootstrap.cfg", "INTERACTIVE=True\nEXTRA_BUILD=lfs,guix\n") // which does not power off
	g.write("steps-lfs/0.sh", "echo lfs\n")
	g.write("steps-guix/0.sh", "echo guix\nexit 3\n")
	g.write("steps/after/999999999-kindling-done.sh", "echo told\n")
	g.write("external/repo-guix/left_0.tar.bz2", "of a boot that was cut short")
	g.write("external/repo-lfs-preseeded/x", "stays")
	for i, want := range []string{"lfs\nguix\nkindling: extra root guix: exit 3 failed with exit status 3\n", "guix\ntold\n", ""} {
		out, err := g.run("steps/extra-handoff.sh", "")
		if out != want || (err != nil) != (i == 0) {
			t.Errorf("boot %d: %v\n%s", i+1, err, out)
		}
		if got := g.read("external/repo-guix/left_0.tar.bz2"); i == 0 && got != "(none)" {
			t.Errorf("the repository has %q", got)
		}
		g.write("steps-guix/0.sh", "echo guix\n")
	}
	if g.read("external/repo-lfs-preseeded/x") != "stays" {
		t.Error("prebuilt packages are gone")
	}
}

// What extra roots need survives the tree's own clean_sources.sh, which fails when there is nothing to delete.
func TestCleanSources(t *testing.T) {
	const own = "for source in \"${DISTFILES}/\"*; do rm \"${source}\"; done\n"
	for _, tt := range []struct {
		name, keep string
		want       []string
	}{
		{"some", "a.tar\nnot-here.tar\n", []string{"a.tar"}},
		{"all", "a.tar\nleft-over.tar.gz\n", []string{"a.tar", "left-over.tar.gz"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuest(t)
			g.write("external/distfiles/a.tar", "a")
			g.write("steps/extra-distfiles", tt.keep)
			g.write("steps/improve/clean_sources-tree.sh", own)
			for range 2 { // it may be run again
				if out, err := g.run("steps/improve/clean_sources.sh", ""); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			entries, err := os.ReadDir(g.path("external/distfiles"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("distfiles (-want +got)\n%s", diff)
			}
			if _, err := os.Stat(g.path("external/distfiles.kept")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the other folder stays: %v", err)
			}
		})
	}
}
