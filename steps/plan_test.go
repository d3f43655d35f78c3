// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

// treeOf is a tree with a manifest and, as name and content in turn, other files.
func treeOf(manifest string, files ...string) fstest.MapFS {
	tree := fstest.MapFS{"steps/manifest": {Data: []byte(manifest)}}
	for i := 0; i < len(files); i += 2 {
		tree[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return tree
}

func TestPlan(t *testing.T) {
	plan := newPlan(t, smallTree(t), steps.MainRoot, "CHROOT=False\nKERNEL_BOOTSTRAP=True\nINTERACTIVE=False\n")
	type row struct {
		ID     string
		Text   string
		Pass   int
		Family steps.Family
		Kernel steps.Kernel
		Script int
		Line   int
		Files  int
	}
	var got []row
	for i, s := range plan.Steps {
		if s.Number != i+1 {
			t.Errorf("step %d has number %d", i+1, s.Number)
		}
		got = append(got, row{s.ID(), s.String(), s.Pass, s.Family, s.Kernel, s.Script, s.Line, len(s.Sources)})
	}
	const (
		kaem, early, bash = steps.FamilyKaem, steps.FamilyEarlyBash, steps.FamilyBash
		hex0, fiwix       = steps.KernelBuilderHex0, steps.KernelFiwix
		initramfs, disk   = steps.KernelInitramfs, steps.KernelDisk
		manyFiles         = "/usr/bin/one /usr/bin/two /usr/bin/three /usr/bin/four /usr/bin/five /usr/bin/six"
	)
	want := []row{
		{"001-build-seed-1.0-pass1", "build: seed-1.0", 1, kaem, hex0, 0, 2, 1},
		{"002-build-kernel-1.0-pass1", "build: kernel-1.0", 1, kaem, hex0, 0, 4, 2},
		{"003-jump-fiwix", "jump: fiwix", 0, kaem, hex0, 0, 5, 0},
		{"004-improve-reconfigure", "improve: reconfigure", 0, kaem, fiwix, 1, 6, 0},
		{"005-build-make-1.0-pass1", "build: make-1.0", 1, kaem, fiwix, 1, 10, 1},
		{"006-build-bash-2.05b-pass1", "build: bash-2.05b", 1, kaem, fiwix, 1, 11, 1},
		{"007-improve-setup_repo", "improve: setup_repo", 0, early, fiwix, 2, 12, 0},
		{"008-build-make-1.0-pass2", "build: make-1.0", 2, early, fiwix, 2, 15, 1},
		{"009-build-make-1.0-pass3", "build: make-1.0", 3, early, fiwix, 2, 16, 1},
		{"010-build-tool-1.0-pass1", "build: tool-1.0", 1, early, fiwix, 2, 19, 1},
		{"011-build-linux-4.14-pass1", "build: linux-4.14", 1, early, fiwix, 2, 20, 1},
		{"012-jump-linux", "jump: linux", 0, early, fiwix, 2, 22, 0},
		{"013-jump-move_disk", "jump: move_disk", 0, early, initramfs, 3, 23, 0},
		{"014-improve-deep_inside", "improve: deep/inside", 0, early, disk, 4, 24, 0},
		{"015-build-wide-1.0-pass1", "build: wide-1.0", 1, early, disk, 4, 25, 2},
		{"016-improve-get_network", "improve: get_network", 0, early, disk, 4, 26, 0},
		{"017-build-bash-5.2.15-pass1", "build: bash-5.2.15", 1, early, disk, 4, 27, 1},
		{"018-uninstall-make-1.0", "uninstall: make-1.0", 0, bash, disk, 5, 28, 0},
		{"019-build-make-1.0-pass5", "build: make-1.0", 5, bash, disk, 5, 29, 1}, // the uninstall counts as well
		{"020-uninstall-_usr_bin_one", "uninstall: " + manyFiles, 0, bash, disk, 5, 30, 0},
		{"021-build-late-1.0-pass1", "build: late-1.0", 1, bash, disk, 5, 31, 1},
		{"022-improve-after", "improve: after", 0, bash, disk, 5, 32, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestPlanKernels(t *testing.T) {
	const manifest = "build: a\njump: fiwix ( KERNEL_BOOTSTRAP == True )\nbuild: b\njump: break\nbuild: c\n" +
		"jump: linux ( CHROOT == False )\nbuild: d\njump: move_disk ( KERNEL_BOOTSTRAP == True )\nbuild: e\n"
	tests := []struct {
		name, config, want string
		root               string
	}{
		{"kernels", "KERNEL_BOOTSTRAP=True\nCHROOT=False\n", "builder-hex0 fiwix fiwix linux-initramfs linux-disk", "steps"},
		{"own kernel", "KERNEL_BOOTSTRAP=False\nCHROOT=False\n", "linux-early linux-early linux-early linux-disk linux-disk", "steps"},
		{"chroot", "CHROOT=True\n", "host host host host host", "steps"},
		{"chroot wins", "CHROOT=True\nKERNEL_BOOTSTRAP=True\n", "host host host host host", "steps"},
		{"extra root", "KERNEL_BOOTSTRAP=True\nCHROOT=False\n", "linux-disk linux-disk linux-disk linux-disk linux-disk", "steps-x"},
		{"extra root in chroot", "CHROOT=True\n", "host host host host host", "steps-x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := treeOf(manifest, "steps-x/manifest", manifest)
			var got []string
			for _, s := range newPlan(t, tree, test.root, test.config).Steps {
				if s.Kind == steps.KindBuild {
					got = append(got, string(s.Kernel))
				}
			}
			if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("kernels of the builds (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPlanKernelsWithoutFiwix is the shape of a tree whose medium begins with what others need Fiwix for.
func TestPlanKernelsWithoutFiwix(t *testing.T) {
	plan := newPlan(t, treeOf("build: a\njump: linux\njump: move_disk\nbuild: b\n"), steps.MainRoot, "KERNEL_BOOTSTRAP=True\n")
	var got []steps.Kernel
	for _, s := range plan.Steps {
		got = append(got, s.Kernel)
	}
	want := []steps.Kernel{steps.KernelBuilderHex0, steps.KernelBuilderHex0, steps.KernelInitramfs, steps.KernelDisk}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kernels (-want +got):\n%s", diff)
	}
}

func TestPlanDoesNotChangeConfig(t *testing.T) {
	cfg := parseConfig(t, "A=1\nB=2\n")
	if _, err := steps.NewPlan(treeOf("define: B = 3\n"), steps.MainRoot, cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Get("B") != "2" {
		t.Error("the caller's configuration was changed")
	}
	if _, err := steps.NewPlan(treeOf("build: a ( B == C )\n"), steps.MainRoot, nil); err != nil {
		t.Errorf("without a configuration: %v", err)
	}
}

func TestPlanErrors(t *testing.T) {
	tests := []struct {
		name, root string
		tree       fstest.MapFS
		want       string
		is         error
	}{
		{"no manifest", "steps", fstest.MapFS{}, "steps/manifest", fs.ErrNotExist},
		{"bad manifest", "steps", treeOf("build: a\nfoo: b\n"), "steps/manifest:2: unknown directive", nil},
		{"bad sources", "steps", treeOf("build: a\n", "steps/a/sources", "x\n"), "steps/a/sources:1: unknown type", nil},
		{
			"bad sources, switched off", "steps", treeOf("build: a ( False )\n", "steps/a/sources", "x\n"),
			"steps/a/sources:1: unknown type", nil,
		},
		{"sources is a folder", "steps", treeOf("build: a\n", "steps/a/sources/x", ""), "read steps/a/sources", nil},
		{"root with slash", "steps/x", treeOf(""), "root \"steps/x\"", nil},
		{"no root", "", treeOf(""), "root \"\"", nil},
		{"parent as root", "..", treeOf(""), "root \"..\"", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan, err := steps.NewPlan(test.tree, test.root, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) || plan != nil {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v is no %v", err, test.is)
			}
		})
	}
}

func TestStepIDIsAFileName(t *testing.T) {
	s := steps.Step{Number: 1234, Kind: steps.KindUninstall, Name: "/usr/" + strings.Repeat("ü$*", 100)}
	if id := s.ID(); len(id) > 100 || strings.ContainsAny(id, "/$*ü") || !strings.HasPrefix(id, "1234-uninstall-_usr_") {
		t.Errorf("ID %q", id)
	}
}
