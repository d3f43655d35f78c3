// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/assemble"
	"kindling/host/options"
	"kindling/host/tree"
)

// put writes a file of a test, with the folders above it.
func put(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// otherRoot is an extra root in a folder of its own, with a distfile that no other root has.
func otherRoot(t *testing.T, s small) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "steps-other")
	put(t, filepath.Join(s.distfiles, "other.tar"), "an extra root's sources\n")
	put(t, filepath.Join(dir, "manifest"), "build: other-1.0 ( OWN == True )\n")
	put(t, filepath.Join(dir, "other-1.0", "pass1.sh"), "#!/bin/bash\n")
	put(t, filepath.Join(dir, "other-1.0", "sources"),
		fmt.Sprintf("f https://example.org/other.tar %x\n", sha256.Sum256([]byte("an extra root's sources\n"))))
	return dir
}

// difference lists the lines that only one of two texts has.
func difference(before, after string) string {
	old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out strings.Builder
	for _, line := range old {
		if !slices.Contains(now, line) {
			out.WriteString("-" + line + "\n")
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			out.WriteString("+" + line + "\n")
		}
	}
	return out.String()
}

// What extra roots change on the media: a root of the tree and one of a folder, in the order in which they are asked for.
// That nothing changes without a request, TestPlan shows: the tree that it plans has a steps-own.
func TestExtra(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	put(t, filepath.Join(s.tree, "steps/improve/clean_sources.sh"), "true\n")
	other := otherRoot(t, s)
	all := func(o *options.Rootfs) { o.ExternalSources = true }
	auto, fiwix := options.Payload{Payload: "auto", PayloadStage: "auto"}, options.Payload{Payload: "auto", PayloadStage: "fiwix"}
	for _, c := range []modeCase{
		{name: "payload-agent", boot: bare(all), payload: auto, agent: true},
		{name: "payload-off", boot: bare(all), payload: auto},
		{name: "payload-fiwix-agent", boot: bare(all), payload: fiwix, agent: true},
		{name: "network-agent", boot: bare(nil), payload: auto, agent: true},
		{name: "second-disk-off", boot: bare(all), payload: options.Payload{Payload: "off"}},
		{name: "kernel-agent", boot: bare(func(o *options.Rootfs) { all(o); o.Kernel = os.DevNull }), payload: auto, agent: true},
		{name: "chroot", boot: bare(func(o *options.Rootfs) { all(o); o.BareMetal, o.Chroot = false, true }), payload: auto},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.options(t, s)
			o.Payload.BaseTarball = options.BaseTarballOff // which says how much room there is
			without := describeOptions(t, o)
			o.Extra = options.Extra{ExtraRoot: []string{other}, ExtraBuild: []string{"own", "other"}}
			golden(t, filepath.Join("extra", c.name+".txt"), difference(without, describeOptions(t, o)))
		})
	}
}

// describeOptions is describe without the sum of a payload, which depends on everything in it.
func describeOptions(t *testing.T, o assemble.Options) string {
	t.Helper()
	a, err := assemble.Plan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return describe(a)
}

// The scripts that run the roots where no agent does it.
func TestExtraScripts(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	c := modeCase{boot: bare(func(o *options.Rootfs) { o.BareMetal, o.Chroot, o.ExternalSources = false, true, true })}
	o := c.options(t, s)
	o.Extra = options.Extra{ExtraRoot: []string{otherRoot(t, s)}, ExtraBuild: []string{"other", "own"}}
	a, err := assemble.Plan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"steps/extra-roots.sh": "#!/bin/bash\n#\n# Written by kindling: the extra roots that were asked for, in their order.\n\nset -e\n" +
			"bash /steps-other/0.sh\nmkdir -p /kindling/extra-done\n: > /kindling/extra-done/other\n" +
			"echo 'OWN=True' >> /steps/bootstrap.cfg\nbash /steps-own/0.sh\nmkdir -p /kindling/extra-done\n: > /kindling/extra-done/own\n",
		"steps/improve/after-tree.sh": "true\n",
		"steps-own/0.sh": "#!/bin/bash\nset -e\ncd /steps-own\n. /steps/bootstrap.cfg\n. /steps/env\nSRCDIR=/steps-own\n" +
			"mkdir -p /external/repo-own\neval \"$(sed 's,/external/repo,/external/repo-own,g' /steps/helpers.sh)\"\n" +
			"build own-1.0 pass1.sh\nbuild own-1.0 pass2.sh\n. /steps-own/improve/sign.sh\n",
	}
	got := map[string]string{}
	for _, e := range a.Medium("root").Entries {
		if _, wanted := want[e.Path]; !wanted {
			continue
		}
		if e.Source != nil {
			t.Errorf("%s is a copy of %s", e.Path, e.Source.Path)
		}
		got[e.Path] = string(e.Data)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scripts (-want +got)\n%s", diff)
	}
}

func TestExtraRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(t *testing.T, s *small, o *assemble.Options)
		is     error
		within string
	}{
		{"not there", extra("gone"), tree.ErrShape, "the tree has no steps-gone"},
		{"no name", extra("../own"), nil, "lower-case"},
		{"twice", extra("own", "own"), nil, "asked for twice"},
		{"no manifest", remove("steps-own/manifest"), tree.ErrShape, "no file steps-own/manifest"},
		{"broken manifest", replace("steps-own/manifest", "fetch: x\n"), nil, "steps-own/manifest:1"},
		{"missing script", remove("steps-own/improve/sign.sh"), nil, "steps-own/manifest:5: improve: sign: the tree has no steps-own/improve/sign.sh"},
		{"missing package", replace("steps-own/manifest", "build: x-1\n"), nil, "steps-own/manifest:1: build: x-1: the tree has no steps-own/x-1"},
		{"its own script", replace("steps-own/0.sh", "true\n"), tree.ErrShape, "name of a generated script"},
		{"another sum", replace("steps-own/own-1.0/sources", "f https://example.org/make-1.0.tar.bz2 "+strings.Repeat("0", 64)+"\n"), nil,
			"has another sha256 than in steps/make-1.0/sources"},
		{"collision", func(_ *testing.T, s *small, o *assemble.Options) { o.Extra.ExtraRoot = []string{"own=" + s.distfiles} }, nil,
			"the tree has steps-own already"},
		{"jump without the agent", func(t *testing.T, s *small, o *assemble.Options) {
			o.Agent = ""
			replace("steps-own/manifest", "jump: again\n")(t, s, o)
			put(t, filepath.Join(s.tree, "steps-own/jump/again.sh"), "true\n")
		}, nil, "a jump in an extra root needs the agent"},
		{"no after without the agent", func(t *testing.T, s *small, o *assemble.Options) {
			o.Agent = ""
			replace("steps/manifest", "build: seed-1.0\njump: fiwix\njump: linux\n")(t, s, o)
		}, nil, "no improve: after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := makeTree(t, t.TempDir(), usualShape())
			c := modeCase{boot: bare(nil), payload: options.Payload{Payload: "auto", PayloadStage: "auto"}, agent: true}
			o := c.options(t, s)
			o.Extra.ExtraBuild = []string{"own"}
			tt.spoil(t, &s, &o)
			_, err := assemble.Plan(t.Context(), o)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.within) {
				t.Errorf("error %v, want one with %q that is %v", err, tt.within, tt.is)
			}
		})
	}
}

func extra(names ...string) spoiler {
	return func(_ *testing.T, _ *small, o *assemble.Options) { o.Extra.ExtraBuild = names }
}
