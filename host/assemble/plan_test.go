// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/assemble"
	"kindling/host/budget"
	"kindling/host/options"
	"kindling/host/tree"
	"kindling/steps"
)

// TestPlan has one golden file for each way to assemble: every medium with every entry, the configuration, the
// instructions.
func TestPlan(t *testing.T) {
	s, repo := makeTree(t, t.TempDir(), usualShape()), makeRepo(t)
	before := readFolder(t, s.tree, true)
	for _, c := range modeCases(repo) {
		t.Run(c.name, func(t *testing.T) {
			golden(t, filepath.Join("plan", c.name+".txt"), describe(c.plan(t, s)))
		})
	}
	if diff := cmp.Diff(before, readFolder(t, s.tree, true)); diff != "" {
		t.Errorf("planning changed the tree (-before +after):\n%s", diff)
	}
}

// Commands in the instructions can be pasted, whatever the folder is called.
func TestInstructionsQuoted(t *testing.T) {
	s, repo := makeTree(t, t.TempDir(), usualShape()), makeRepo(t)
	for _, c := range modeCases(repo) {
		for _, line := range c.plan(t, s).Instructions("/my media, two") {
			if strings.Contains(line, "kindling write") && !strings.Contains(line, "(kindling write '/my media, two/") ||
				strings.HasPrefix(line, "-drive") && !strings.HasPrefix(line, "-drive 'file=/my media,, two/") {
				t.Errorf("%s: %s", c.name, line)
			}
		}
	}
}

// describe writes an assembly as text without anything of this host.
func describe(a *assemble.Assembly) string {
	var out strings.Builder
	for i := range a.Media {
		m := &a.Media[i]
		fmt.Fprintf(&out, "medium %s: %s in %q, %d bytes\n", m.Name, m.Format, m.File, m.Size)
		for _, e := range m.Entries {
			kind := "  "
			switch {
			case e.Dir:
				kind = "d "
			case e.Exec:
				kind = "x "
			}
			checked := ""
			if e.SHA256 != "" {
				checked = " checked"
			}
			fmt.Fprintf(&out, "  %s%s %d%s\n", kind, e.Path, e.Size, checked)
		}
	}
	fmt.Fprintf(&out, "bootstrap.cfg:\n%s", a.Config.Bytes())
	if a.Payload != nil {
		fmt.Fprintf(&out, "payload: %d files, early %d (%d bytes, end %d), rest %d from %d\n", a.Payload.Files,
			a.Payload.Early, a.Payload.EarlyBytes, a.Payload.EarlyEnd, a.Payload.Rest, a.Payload.RestSkip)
	}
	fmt.Fprintf(&out, "base tarball: %t: %s\n", a.BaseTarball.Made, a.BaseTarball.Why)
	for _, line := range a.Instructions("/out") {
		fmt.Fprintln(&out, line)
	}
	for _, w := range a.Warnings {
		fmt.Fprintln(&out, "warning:", w)
	}
	return out.String()
}

func TestRefused(t *testing.T) {
	repo := makeRepo(t)
	all := bare(func(o *options.Rootfs) { o.ExternalSources = true })
	tests := []struct {
		name   string
		spoil  func(t *testing.T, s *small, o *assemble.Options)
		is     error
		within string
	}{
		{"no mode", func(_ *testing.T, _ *small, o *assemble.Options) { o.Boot.BareMetal = false }, nil, "no mode"},
		{"preseed with a payload", func(_ *testing.T, _ *small, o *assemble.Options) { o.Boot.EarlyPreseed = "x.tar" }, nil,
			"--early-preseed and a payload exclude each other"},
		{"no importer", func(_ *testing.T, _ *small, o *assemble.Options) { o.Importer = nil }, nil, "source of payload-import"},
		{"initramfs", func(_ *testing.T, _ *small, o *assemble.Options) { o.Initramfs = true }, nil, "--initramfs"},
		{"static without an agent", func(_ *testing.T, _ *small, o *assemble.Options) {
			o.Agent, o.Net.NetStatic = "", []string{"eth0,192.0.2.2/24"}
		}, nil, "--net-static: only the agent reads it"},
		{"bad static address", func(_ *testing.T, _ *small, o *assemble.Options) { o.Net.NetStatic = []string{"eth0,192.0.2.0/24"} },
			nil, "--net-static: eth0: 192.0.2.0/24 is the address of the network itself"},
		{"no tree", func(_ *testing.T, _ *small, o *assemble.Options) { o.Tree += "x" }, os.ErrNotExist, "open tree"},
		{"no agent", func(_ *testing.T, _ *small, o *assemble.Options) { o.Agent = "/nonexistent" }, os.ErrNotExist, "--agent=off"},
		{"agent is a folder", func(_ *testing.T, _ *small, o *assemble.Options) { o.Agent = repo }, tree.ErrEntry, "agent"},
		{"no manifest", remove("steps/manifest"), tree.ErrShape, "steps/manifest"},
		{"empty submodule", empty("seed/stage0-posix"), tree.ErrShape, "submodules"},
		{"empty nested submodule", emptyNested, tree.ErrShape, "seed/stage0-posix/M2libc is empty"},
		{"no command's source", remove("seed/stage0-posix/x86/kaem-minimal.hex0"), tree.ErrShape, "x86/kaem-minimal.hex0"},
		{"empty builder-hex0", empty("builder-hex0"), tree.ErrShape, "builder-hex0 is empty"},
		{"no folder of a step", remove("steps/late-1.0"), nil, "build: late-1.0: the tree has no steps/late-1.0"},
		{"no script of a pass", remove("steps/twice-1.0/pass2.sh"), nil, "build: twice-1.0: the tree has no steps/twice-1.0/pass2.sh"},
		{"no script of a jump", remove("steps/jump/move_disk.sh"), nil, "jump: move_disk: the tree has no steps/jump/move_disk.sh"},
		{"no builder-hex0", remove("builder-hex0"), tree.ErrShape, "builder-hex0"},
		{"missing distfiles", remove("distfiles/make-1.0.tar.bz2"), assemble.ErrMissing, "1 distfiles are missing (make-1.0.tar.bz2)"},
		{"stage1 is no hex0", replace("builder-hex0/builder-hex0-x86-stage1.hex0", "zz\n"), assemble.ErrHex0, "line 1"},
		{"stage1 is no sector", replace("builder-hex0/builder-hex0-x86-stage1.hex0", "55 aa\n"), assemble.ErrHex0, "boot sector"},
		{"dangling link", link("steps/gone", "nowhere"), os.ErrNotExist, "steps/gone"},
		{"link out of the tree", link("steps/out", "../../../../../etc/passwd"), nil, "steps/out"},
		{"link in a circle", link("steps/round", "."), nil, "steps/round"},
		{"line break in a name", replace("steps/a\nb", "x"), tree.ErrEntry, "control character"},
		{"manifest without a jump", replace("steps/manifest", "build: seed-1.0\n"), nil, "no place to be imported"},
		{"broken manifest", replace("steps/manifest", "fetch: x\n"), nil, "steps/manifest:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := makeTree(t, t.TempDir(), usualShape())
			c := modeCase{boot: all, payload: options.Payload{Payload: "auto", PayloadStage: "auto"}, agent: true}
			o := c.options(t, s)
			tt.spoil(t, &s, &o)
			_, err := assemble.Plan(t.Context(), o)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.within) {
				t.Errorf("error %v, want one with %q that is %v", err, tt.within, tt.is)
			}
		})
	}
}

// A tree of before October 2025 is read as it is: sources without types, and the variables of its own rootfs.py.
func TestOldTree(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	c := modeCase{boot: bare(nil), payload: options.Payload{Payload: "off"}}
	o := c.options(t, s)
	name := filepath.Join(s.tree, "steps/make-1.0/sources")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	untyped := strings.TrimPrefix(strings.ReplaceAll("\n"+string(text), "\nf ", "\n"), "\n")
	replace("steps/make-1.0/sources", untyped)(t, &s, &o)
	replace("rootfs.py", `config.write(f"ARCH={args.arch}\n")`)(t, &s, &o)
	a := c.plan(t, s)
	for _, v := range a.Config.Variables() {
		if v.Name == "QEMU" || strings.HasPrefix(v.Name, "MIRRORS") {
			t.Errorf("%s=%s is in bootstrap.cfg", v.Name, v.Value)
		}
	}
	if !slices.ContainsFunc(a.Distfiles, func(f steps.Distfile) bool { return f.Name == "make-1.0.tar.bz2" }) {
		t.Error("a distfile of the untyped file is not planned")
	}
}

// The same commit as a clone and as a worktree gives the same media: what is called ".git" is on none of them.
func TestNoGit(t *testing.T) {
	for _, c := range modeCases(makeRepo(t)) {
		clone, worktree := makeTree(t, t.TempDir(), usualShape()), makeTree(t, t.TempDir(), usualShape())
		var o assemble.Options
		for _, dir := range []string{"", "seed/", "seed/stage0-posix/", "seed/stage0-posix/x86/", "steps/", "steps-own/"} {
			if err := os.Mkdir(filepath.Join(clone.tree, dir+".git"), 0o755); err != nil {
				t.Fatal(err)
			}
			replace(dir+".git/HEAD", "ref: refs/heads/master\n")(t, &clone, &o)
			replace(dir+".git", "gitdir: /home/user/.git/worktrees/x\n")(t, &worktree, &o)
		}
		if diff := cmp.Diff(describe(c.plan(t, clone)), describe(c.plan(t, worktree))); diff != "" {
			t.Errorf("%s (-clone +worktree):\n%s", c.name, diff)
		}
		for _, m := range c.plan(t, worktree).Media {
			for _, e := range m.Entries {
				if filepath.Base(e.Path) == ".git" {
					t.Errorf("%s: %s has %s", c.name, m.Name, e.Path)
				}
			}
		}
	}
}

type spoiler = func(t *testing.T, s *small, o *assemble.Options)

func remove(name string) spoiler {
	return func(t *testing.T, s *small, _ *assemble.Options) {
		if err := os.RemoveAll(filepath.Join(s.tree, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func empty(name string) spoiler {
	return func(t *testing.T, s *small, o *assemble.Options) {
		remove(name)(t, s, o)
		if err := os.Mkdir(filepath.Join(s.tree, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// emptyNested is a submodule of stage0-posix that its first script names and that was not fetched.
func emptyNested(t *testing.T, s *small, o *assemble.Options) {
	replace("seed/stage0-posix/kaem.x86", "./x86/artifact/hex0 ./M2libc/x86.c\n")(t, s, o)
	empty("seed/stage0-posix/M2libc")(t, s, o)
}

func replace(name, text string) spoiler {
	return func(t *testing.T, s *small, _ *assemble.Options) {
		if err := os.WriteFile(filepath.Join(s.tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func link(name, target string) spoiler {
	return func(t *testing.T, s *small, _ *assemble.Options) {
		if err := os.Symlink(target, filepath.Join(s.tree, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// The baseline of the program that starts Fiwix is checked where it counts, and a difference is named.
func TestKexecFiwix(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	named := func(c modeCase) bool {
		return slices.ContainsFunc(c.plan(t, s).Warnings, func(w string) bool {
			return strings.Contains(w, tree.KexecFiwix) && strings.Contains(w, tree.KexecFiwixSHA256)
		})
	}
	if !named(modeCase{boot: bare(nil), payload: options.Payload{Payload: "off"}}) {
		t.Error("a changed kexec-fiwix.c is not named")
	}
	if named(modeCase{boot: bare(func(o *options.Rootfs) { o.Kernel = "k" }), payload: options.Payload{Payload: "off"}}) {
		t.Error("kexec-fiwix.c is named where it is not used")
	}
}

// A base tarball is made where there is room for it and the steps are not the tree's alone, unless the user says what he
// wants.
func TestDecideBaseTarball(t *testing.T) {
	plan := &steps.Plan{Steps: []steps.Step{{Kind: steps.KindBuild, Name: "bash"}, {Kind: steps.KindImprove, Name: "setup_repo"}}}
	room := func(ramdisk, window int64) *budget.Report {
		return &budget.Report{Rows: []budget.Row{
			{ID: "fiwix.import", Left: new(int64(-1))}, {ID: budget.RowRamdisk, What: "ramdisk", Left: &ramdisk},
			{ID: budget.RowKexecWindow, What: "window", Left: &window},
		}}
	}
	const enough = budget.BaseTarball
	for _, tt := range []struct {
		name  string
		facts assemble.BaseTarballFacts
		made  bool
		why   string
	}{
		{"no early kernel", assemble.BaseTarballFacts{Plan: plan, Overlay: true}, true, "there is room"},
		{"auto by name", assemble.BaseTarballFacts{Wish: "auto", Plan: plan, Overlay: true}, true, "there is room"},
		{"the tree's own steps", assemble.BaseTarballFacts{Plan: plan}, false, "the tree's own"},
		{"asked for", assemble.BaseTarballFacts{Wish: "on", Plan: plan}, true, "asked for"},
		{"switched off", assemble.BaseTarballFacts{Wish: "off", Plan: plan, Overlay: true}, false, "switched off"},
		{"no repository", assemble.BaseTarballFacts{Wish: "on", Plan: &steps.Plan{}, Overlay: true}, false, "no improve: setup_repo"},
		{"just enough", assemble.BaseTarballFacts{Plan: plan, Overlay: true, Budget: room(enough, enough)}, true, "there is room"},
		{"window too small", assemble.BaseTarballFacts{Plan: plan, Overlay: true, Budget: room(enough, enough-1)}, false,
			"no room: by estimate 1 bytes too many for the window"},
		{"ramdisk too small", assemble.BaseTarballFacts{Plan: plan, Overlay: true, Budget: room(-5, enough-1)}, false,
			"too many for the ramdisk"},
		{"too small and asked for", assemble.BaseTarballFacts{Wish: "on", Plan: plan, Budget: room(enough, 0)}, true,
			"left out before the jump"},
		{"limits that nobody knows", assemble.BaseTarballFacts{Plan: plan, Overlay: true,
			Budget: &budget.Report{Rows: []budget.Row{{ID: budget.RowRamdisk}, {ID: budget.RowKexecWindow, Left: new(int64(enough))}}}},
			true, "there is room"},
	} {
		if got := assemble.DecideBaseTarball(tt.facts); got.Made != tt.made || !strings.Contains(got.Why, tt.why) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// What configures the guest's network stands in bootstrap.cfg, and the configurator does not drop it.
func TestNet(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	for _, payload := range []string{"auto", "off"} {
		c := modeCase{boot: bare(func(o *options.Rootfs) { o.ExternalSources, o.Configurator = true, true }),
			payload: options.Payload{Payload: payload, PayloadStage: "auto"}, agent: true}
		o := c.options(t, s)
		o.Net = options.Net{NetMode: "static", NetStatic: []string{"eth0,192.0.2.2/24,192.0.2.1", "eth1,2001:db8::2/64"}, NetDNS: []string{"192.0.2.53"}}
		a, err := assemble.Plan(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var configurator string
		for _, e := range a.Medium("init").Entries {
			if e.Path == "steps/configurator" {
				configurator = string(e.Data)
			}
		}
		for _, want := range []string{"NET_MODE=static\n", "NET_STATIC=eth0,192.0.2.2/24,192.0.2.1,eth1,2001:db8::2/64\n", "NET_DNS=192.0.2.53\n"} {
			if !strings.Contains(string(a.Config.Bytes()), want) {
				t.Errorf("payload %s: %q is not in bootstrap.cfg:\n%s", payload, want, a.Config.Bytes())
			}
			name, value, _ := strings.Cut(strings.TrimSpace(want), "=")
			if option := "o /kindling/" + strings.ToLower(name) + " " + name + ` "" ` + value + " "; !strings.Contains(configurator, option) {
				t.Errorf("payload %s: %q is not in the configurator's list:\n%s", payload, option, configurator)
			}
		}
	}
}
