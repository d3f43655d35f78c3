// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package stage0_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/stage0"
	"kindling/internal/event"
	"kindling/steps"
)

const (
	agentInit  = "\x7fELF..." + steps.HandoffMarker + "..."
	scriptInit = "#!/bin/bash\n# " + steps.HandoffMarker + "\n"
	treeInit   = "#!/usr/bin/bash\nrun_steps_guix_if_requested() { :; }\n"
	config     = "ARCH=x86\nDISK=sda\nexport ODD\nDISK=sda1\n"
)

// guest makes a disk with these files, and opens it for changes.
func guest(t *testing.T, files map[string]string) *diskimage.Image {
	t.Helper()
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "disk.img")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", dir, image, "16M")
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v (the Makefile installs e2fsprogs)\n%s", err, out)
	}
	g, err := diskimage.Open(t.Context(), imagefile.Chain{{Path: image, Format: imagefile.Raw}}, diskimage.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func read(g *diskimage.Image, name string) string {
	text, err := g.ReadFile(name, 1<<20)
	if err != nil {
		return "(none)"
	}
	return string(text)
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		init string
		want stage0.Handoff
		err  string
	}{
		{agentInit, stage0.HandoffAgent, ""},
		{scriptInit, stage0.HandoffScript, ""},
		{treeInit, stage0.HandoffTree, ""},
		{"\x7fELF run_steps_guix_if_requested", "", "has no marker"},
		{"#!/bin/sh\nexec bash\n", "", "has no marker"},
		{"", "", "has no marker"},
	} {
		got, err := stage0.Check(guest(t, map[string]string{"init": tt.init}))
		if got != tt.want || errors.Is(err, stage0.ErrNoHandoff) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %q, %v", tt.init, got, err)
		}
	}
	line := map[string]string{"init": "#!/kindling/init\n", "kindling/init": agentInit}
	if got, err := stage0.Check(guest(t, line)); got != stage0.HandoffAgent || err != nil {
		t.Errorf("a line that starts the agent: %q, %v", got, err)
	}
	delete(line, "kindling/init")
	if _, err := stage0.Check(guest(t, line)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a line that starts nothing: %v", err)
	}
	if _, err := stage0.Check(guest(t, map[string]string{"etc/x": ""})); !errors.Is(err, stage0.ErrNoHandoff) || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("no /init: %v", err)
	}
}

// journal is a journal in which steps have ended with a status, or have none.
func journal(t *testing.T, steps ...string) string {
	t.Helper()
	var out []byte
	for _, s := range steps {
		id, status, ended := strings.Cut(s, " ")
		for _, e := range []event.Event{
			{Kind: event.KindStep, Name: id, Step: id, Number: 1, Status: event.StatusStart},
			{Kind: event.KindStep, Name: id, Step: id, Number: 1, Status: event.Status(status)},
		} {
			line, err := event.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			if e.Status == event.StatusStart || ended {
				out = append(out, line...)
			}
		}
	}
	return string(out)
}

func tree(changed string) fstest.MapFS {
	return fstest.MapFS{
		"steps-lfs/manifest":      {Data: []byte("define: L = ( 1 )\nbuild: a-1\nbuild: b-1 ( DISK == sda )\n")},
		"steps-lfs/a-1/pass1.sh":  {Data: []byte("a" + changed), Mode: 0o755},
		"steps-lfs/b-1/sources":   {Data: []byte("f https://x.example/b.tar " + strings.Repeat("b", 64) + "\n")},
		"steps-guix/manifest":     {Data: []byte("build: g-1\n")},
		"steps-guix/g-1/pass1.sh": {Data: []byte("g")},
	}
}

// A request comes onto the disk with everything it needs, and what the disk has begun is taken up, begun anew or left.
func TestPrepare(t *testing.T) {
	begun := func(more map[string]string) map[string]string {
		files := map[string]string{
			"init": agentInit, "steps/bootstrap.cfg": config + "EXTRA_BUILD=old\nBUILD_GUIX_ALSO=True\n",
			"kindling/journal":   journal(t, "012-build-bash-2.05b-pass1 ok", "lfs.001-build-a-1-pass1 ok", "lfs.002-build-b-1-pass1"),
			"steps-lfs/manifest": string(tree("")["steps-lfs/manifest"].Data), "steps-lfs/a-1/pass1.sh": "a",
			"steps-lfs/b-1/sources": string(tree("")["steps-lfs/b-1/sources"].Data), "steps-lfs/a-1/build/left": "over",
			"external/repo-lfs/a-1_0.tar.bz2": "x", "kindling/plan.steps-lfs.cfg": "x",
		}
		for name, text := range more {
			files[name] = text
		}
		return files
	}
	done := journal(t, "012-build-bash-2.05b-pass1 ok", "lfs.001-build-a-1-pass1 ok", "lfs.002-build-b-1-pass1 ok")
	fresh := map[string]string{"init": agentInit, "steps/bootstrap.cfg": config, "kindling/journal": journal(t, "012-build-bash-2.05b-pass1 ok")}
	for _, tt := range []struct {
		name    string
		files   map[string]string
		handoff stage0.Handoff
		names   []string
		changed string
		notes   string
		missing int
		want    map[string]string // files afterwards
		err     error
	}{
		{"fresh", fresh, stage0.HandoffAgent, []string{"lfs", "guix"}, "", "lfs: 2 steps;guix: 1 steps", 1, map[string]string{
			"steps/bootstrap.cfg": config + "BUILD_GUIX_ALSO=True\nEXTRA_BUILD=lfs,guix\n", "steps-lfs/a-1/pass1.sh": "a", "steps-guix/g-1/pass1.sh": "g",
			"steps-lfs/0.sh": "(none)", "kindling/journal": fresh["kindling/journal"],
		}, nil},
		{"goes on", begun(nil), stage0.HandoffAgent, []string{"lfs"}, "", "lfs: goes on behind 2 of 2 steps", 1, map[string]string{
			"steps/bootstrap.cfg": config + "EXTRA_BUILD=lfs\n", "external/repo-lfs/a-1_0.tar.bz2": "x", "steps-lfs/a-1/build/left": "over",
			"kindling/plan.steps-lfs.cfg": "x",
		}, nil},
		{"begins anew", begun(nil), stage0.HandoffAgent, []string{"lfs"}, "!", "lfs: its files are others now: it begins anew", 1, map[string]string{
			"steps-lfs/a-1/pass1.sh": "a!", "external/repo-lfs/a-1_0.tar.bz2": "(none)", "steps-lfs/a-1/build/left": "(none)",
			"kindling/plan.steps-lfs.cfg": "(none)", "kindling/journal": journal(t, "012-build-bash-2.05b-pass1 ok"),
		}, nil},
		{"done", begun(map[string]string{"kindling/journal": done}), stage0.HandoffAgent, []string{"lfs"}, "", "", 0, nil, stage0.ErrDone},
		{"done, and another one", begun(map[string]string{"kindling/journal": done}), stage0.HandoffAgent, []string{"lfs", "guix"}, "",
			"lfs: is done;guix: 1 steps", 1, map[string]string{"external/repo-lfs/a-1_0.tar.bz2": "x", "steps-guix/g-1/pass1.sh": "g"}, nil},
		{"distfile is there", begun(map[string]string{"external/distfiles/b.tar": "b"}), stage0.HandoffAgent, []string{"lfs"}, "",
			"lfs: goes on behind 2 of 2 steps", 0, nil, nil},
		{"script", map[string]string{"init": scriptInit, "steps/bootstrap.cfg": config}, stage0.HandoffScript, []string{"lfs"}, "", "lfs: 2 steps", 1,
			map[string]string{"steps/bootstrap.cfg": config + "EXTRA_BUILD=lfs\nL=1\n", "steps-lfs/a-1/pass1.sh": "a"}, nil},
		{"script, done", map[string]string{"init": scriptInit, "steps/bootstrap.cfg": config, "kindling/extra-done/guix": "",
			"steps-guix/manifest": "build: g-1\n", "steps-guix/g-1/pass1.sh": "g"}, stage0.HandoffScript, []string{"guix"}, "", "", 0, nil, stage0.ErrDone},
		{"script, begins anew", map[string]string{"init": scriptInit, "steps/bootstrap.cfg": config, "kindling/extra-done/guix": "",
			"steps-guix/manifest": "build: old-1\n"}, stage0.HandoffScript, []string{"guix"}, "", "guix: its files are others now: it begins anew", 0,
			map[string]string{"kindling/extra-done/guix": "(none)", "kindling/journal": "(none)"}, nil},
		{"tree", map[string]string{"init": treeInit, "steps/bootstrap.cfg": config}, stage0.HandoffTree, []string{"guix"}, "", "guix: 1 steps", 0,
			map[string]string{"steps/bootstrap.cfg": config + "BUILD_GUIX_ALSO=True\nEXTRA_BUILD=guix\n"}, nil},
		{"tree with another root", map[string]string{"init": treeInit, "steps/bootstrap.cfg": config}, stage0.HandoffTree, []string{"lfs"}, "", "", 0,
			nil, stage0.ErrNoHandoff},
		{"no configuration", map[string]string{"init": agentInit}, stage0.HandoffAgent, []string{"lfs"}, "", "", 0, nil, fs.ErrNotExist},
		{"no journal", map[string]string{"init": agentInit, "steps/bootstrap.cfg": config}, stage0.HandoffAgent, []string{"lfs"}, "", "", 0, nil, fs.ErrNotExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := guest(t, tt.files)
			work, err := stage0.Prepare(g, tt.handoff, stage0.Request{Names: tt.names, Tree: tree(tt.changed)})
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if tt.err != nil {
				return
			}
			if got := strings.ReplaceAll(strings.Join(work.Notes, ";"), "extra root ", ""); got != tt.notes {
				t.Errorf("notes: %q, want %q", got, tt.notes)
			}
			if len(work.Missing) != tt.missing {
				t.Errorf("missing: %v, want %d", work.Missing, tt.missing)
			}
			if err := g.Apply(t.Context(), work.Changes); err != nil {
				t.Fatal(err)
			}
			for name, want := range tt.want {
				if diff := cmp.Diff(want, read(g, name)); diff != "" {
					t.Errorf("%s (-want +got)\n%s", name, diff)
				}
			}
			if script := read(g, "steps-"+tt.names[0]+"/0.sh"); (tt.handoff != stage0.HandoffAgent) != strings.Contains(script, "SRCDIR=/steps-"+tt.names[0]+"\n") {
				t.Errorf("0.sh: %s", script)
			}
			if got := read(g, "init"); got != tt.files["init"] {
				t.Errorf("/init has become %q", got)
			}
		})
	}
}

func TestAddDistfile(t *testing.T) {
	g := guest(t, map[string]string{"etc/x": ""})
	for _, text := range []string{"first", "second"} {
		if err := g.Apply(t.Context(), stage0.AddDistfile(g, "a.tar", []byte(text))); err != nil {
			t.Fatal(err)
		}
		if got := read(g, "external/distfiles/a.tar"); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
}

// A value of the guest's bootstrap.cfg that a shell would run is not used, and named.
func TestPrepareRefusesValues(t *testing.T) {
	bad := "X=${DISK@P}\nY=\"$[a[$(reboot)]]\"\n# a comment\n"
	g := guest(t, map[string]string{"init": agentInit, "steps/bootstrap.cfg": config + bad,
		"kindling/journal": journal(t, "012-build-bash-2.05b-pass1 ok")})
	work, err := stage0.Prepare(g, stage0.HandoffAgent, stage0.Request{Names: []string{"lfs"}, Tree: tree("")})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(work.Notes, "\n")
	if !strings.Contains(notes, `the value of "X" has a "$"`) || !strings.Contains(notes, `the value of "Y" has a "$"`) ||
		strings.Contains(notes, "comment") {
		t.Errorf("notes:\n%s", notes)
	}
}
