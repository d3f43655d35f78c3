// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package repair

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeep(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "kindling/before/keep")
	bin := filepath.Join(root, "usr/bin")
	write(t, root, "usr/bin/bash", "old bash")
	write(t, root, "usr/bin/tar", "old tar")
	write(t, root, "usr/bin/bzip2", "old bzip2")
	if err := errors.Join(os.Chmod(filepath.Join(bin, "bash"), 0o755), os.Symlink("bash", filepath.Join(bin, "sh")), Keep(root, dir)); err != nil {
		t.Fatal(err)
	}
	// What a build does that is cut: one removed, one half written anew, one removed by its way elsewhere, a link kept.
	if err := errors.Join(os.Remove(filepath.Join(bin, "bash")), os.Remove(filepath.Join(bin, "tar")),
		os.Rename(filepath.Join(bin, "bzip2"), filepath.Join(root, "bzip2"))); err != nil {
		t.Fatal(err)
	}
	write(t, root, "usr/bin/tar", "")
	got, err := Restore(root, dir)
	if d := cmp.Diff([]string{"usr/bin/bash", "usr/bin/tar", "usr/bin/bzip2"}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
	if again, err := Restore(root, dir); len(again) > 0 || err != nil {
		t.Errorf("again: %v, %v", again, err)
	}
	files := tree(t, root)
	for name, want := range map[string]string{"usr/bin/bash": "old bash", "usr/bin/sh": "-> bash", "usr/bin/tar": "old tar", "usr/bin/bzip2": "old bzip2"} {
		if files[name] != want {
			t.Errorf("%s: %q, want %q", name, files[name], want)
		}
	}
	if info, err := os.Stat(filepath.Join(bin, "bash")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode: %v, %v", info, err)
	}
	if got, err := Restore(root, filepath.Join(root, "none")); len(got) > 0 || err != nil {
		t.Errorf("nothing kept: %v, %v", got, err)
	}
}
