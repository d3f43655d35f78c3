// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
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

// The agent is /init again after a step that has written one, and what was written is kept.
func TestKeepInit(t *testing.T) {
	const agent, script = "the agent", "#!/usr/bin/bash\n"
	for _, tt := range []struct {
		name, init string // "" for none
		kept       string
	}{
		{"the tree's own", script, script}, {"none", "", ""}, {"the agent's", agent, ""}, {"of the same length", "not agent", "not agent"},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, home), 0o755); err != nil {
			t.Fatal(err)
		}
		write := func(name, data string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(root, name), []byte(data), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		read := func(name string) string {
			data, _ := os.ReadFile(filepath.Join(root, name)) // "" if it is not there
			return string(data)
		}
		write(selfPath, agent)
		if tt.init != "" {
			write(initPath, tt.init)
		}
		for range 2 {
			if err := keepInit(root); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if read(initPath) != agent || read(treeInit) != tt.kept {
				t.Errorf("%s: /init is %q, kept is %q", tt.name, read(initPath), read(treeInit))
			}
		}
	}
}

// A link in the place of /init is replaced: through it a step would write to the program that is running.
func TestKeepInitLink(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, home), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, selfPath), []byte("agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("kindling/init", filepath.Join(root, initPath)); err != nil {
		t.Fatal(err)
	}
	if err := keepInit(root); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(filepath.Join(root, initPath)); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
}
