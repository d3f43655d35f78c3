// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kindling/guest/disk"
)

// runWith runs commands behind functions, with programs that say how they were called.
func runWith(t *testing.T, functions, commands string) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"kexec", "grub-install"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/bash\nprintf '"+name+"'; printf ' [%s]' \"$@\"; echo\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -e\n"+functions+"\n"+commands)
	cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "dir=" + bin}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// The boot loader belongs on the disk, whatever a script makes of the partition's name; nothing else changes.
func TestGrubInstall(t *testing.T) {
	for _, tt := range []struct{ part, script, want string }{
		{"sda1", "grub-install /dev/sda", "grub-install [/dev/sda]\n"},
		{"sda1", "grub-install --force '/dev/sda1' 'a b'", "grub-install [--force] [/dev/sda] [a b]\n"},
		{"sdaa1", "grub-install /dev/sdaa1", "grub-install [/dev/sdaa]\n"},
		{"xvda1", "grub-install /dev/xvda1", "grub-install [/dev/xvda]\n"},
		{"nvme0n1p1", "grub-install /dev/nvme0n1p1", "grub-install [/dev/nvme0n1]\n"},
		{"nvme0n1p1", "grub-install /dev/nvme0n1", "grub-install [/dev/nvme0n1]\n"},
		{"mmcblk0p1", "grub-install /dev/mmcblk0p1", "grub-install [/dev/mmcblk0]\n"},
	} {
		part, err := disk.ParseName(tt.part)
		if err != nil {
			t.Fatal(err)
		}
		if got := runWith(t, grubInstall(part), tt.script); got != tt.want {
			t.Errorf("%s, %s: %q, want %q", tt.part, tt.script, got, tt.want)
		}
	}
}

// /init starts the agent again after a step that has written one, and what was written is kept.
func TestKeepInit(t *testing.T) {
	const script = "#!/usr/bin/bash\n"
	start := string(startLine(selfPath))
	for _, tt := range []struct {
		name, init string // "" for none
		kept       string
	}{
		{"the tree's own", script, script}, {"none", "", ""}, {"as it was", start, ""}, {"of the same length", strings.Repeat("x", len(start)), strings.Repeat("x", len(start))},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, home), 0o755); err != nil {
			t.Fatal(err)
		}
		if tt.init != "" {
			if err := os.WriteFile(filepath.Join(root, initPath), []byte(tt.init), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := keepInit(root); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if is, err := isProgram(filepath.Join(root, initPath), []byte(start)); !is || err != nil {
				t.Errorf("%s: /init does not start the agent: %v", tt.name, err)
			}
			if kept, _ := os.ReadFile(filepath.Join(root, treeInit)); string(kept) != tt.kept { // "" if it is not there
				t.Errorf("%s: kept is %q", tt.name, kept)
			}
		}
	}
}

// What looks like the agent's and cannot be run as such is replaced: a link, through which a step would write to the
// program that is running, and a file without the right to be executed.
func TestKeepInitReplaces(t *testing.T) {
	start := startLine(selfPath)
	for name, make := range map[string]func(path string) error{
		"a link": func(path string) error {
			return errors.Join(os.WriteFile(path+".sh", start, 0o755), os.Symlink("init.sh", path))
		},
		"no program": func(path string) error { return os.WriteFile(path, start, 0o644) },
	} {
		root := t.TempDir()
		init := filepath.Join(root, initPath)
		if err := errors.Join(os.Mkdir(filepath.Join(root, home), 0o755), make(init), keepInit(root)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(init); err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
