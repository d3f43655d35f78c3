// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kindling/steps"
)

// What cannot be booted is said before anything is made, in one line, and nothing of the image changes.
func TestStage0Refused(t *testing.T) {
	files := func(init string) string {
		dir := t.TempDir()
		for name, text := range map[string]string{"init": init, "steps/bootstrap.cfg": "A=1\n", "kindling/journal": ""} {
			writeTestFile(t, filepath.Join(dir, name), text)
		}
		return guestDisk(t, dir, 1<<20)
	}
	marked, plain := files("#!/bin/bash\n# "+steps.HandoffMarker+"\n"), files("#!/bin/bash\n")
	blank := filepath.Join(t.TempDir(), "blank.img")
	writeTestFile(t, blank, strings.Repeat("\x00", 1<<20))
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no mode", []string{"--stage0-image", marked}, "give --qemu"},
		{"another mode", []string{"--stage0-image", marked, "--qemu", "--chroot"}, "give --qemu"},
		{"agent", []string{"--stage0-image", marked, "--qemu", "--agent=off"}, "for other runs"},
		{"copy of nothing", []string{"--stage0-copy"}, "--stage0-copy and --stage0-format go with --stage0-image"},
		{"format of nothing", []string{"--stage0-format", "raw"}, "--stage0-copy and --stage0-format go with --stage0-image"},
		{"no image", []string{"--stage0-image", marked + "x", "--qemu"}, "no such file"},
		{"no filesystem", []string{"--stage0-image", blank, "--qemu"}, "no filesystem of a bootstrap"},
		{"no marker", []string{"--stage0-image", plain, "--qemu", "--extra-build", "spark"}, "its /init does not enter extra roots"},
		{"unknown root", []string{"--stage0-image", marked, "--qemu", "--kernel", plain, "--extra-build", "gone"}, "the tree has no steps-gone"},
		{"no kernel", []string{"--stage0-image", marked, "--qemu"}, "neither GRUB nor /boot/vmlinuz"},
	} {
		image, err := os.ReadFile(plain)
		if err != nil {
			t.Fatal(err)
		}
		run := filepath.Join(t.TempDir(), "run")
		status, _, stderr := runMain(t, append([]string{"run", "--accel", "tcg", "--run", run}, tt.args...)...)
		if status != 2 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: status %d: %s", tt.name, status, stderr)
		}
		if after, err := os.ReadFile(plain); err != nil || string(after) != string(image) {
			t.Errorf("%s: the image has changed (%v)", tt.name, err)
		}
		if _, err := os.Stat(run); err == nil {
			t.Errorf("%s: %s is left", tt.name, run)
		}
	}
}
