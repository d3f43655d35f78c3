// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A cache that another user can write to, or owns, is refused before anything is read from it.
func TestCacheOfOthers(t *testing.T) {
	for what, tt := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"group writes":  {func(dir string) error { return os.Chmod(dir, 0o770) }, "chmod go-w "},
		"others write":  {func(dir string) error { return os.Chmod(dir, 0o707) }, "chmod go-w "},
		"sticky folder": {func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }, "chmod go-w "},
		"another owner": {func(dir string) error { return os.Chown(dir, 12345, -1) }, "rm -r "},
	} {
		if what == "another owner" && os.Geteuid() != 0 {
			continue // only root can give a folder away
		}
		dir := filepath.Join(t.TempDir(), "cache")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		opened, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.spoil(dir); err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir)
		_, later := opened.Kernel(t.Context(), "i386", nil)
		for _, err := range []error{err, later} {
			if !errors.Is(err, ErrOwner) || !strings.Contains(err.Error(), tt.want+dir) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// Nothing in the cache is apt's configuration, and files that another user has left in it are not used.
func TestPlantedInCache(t *testing.T) {
	s, r := testShelf(t)
	ran := filepath.Join(t.TempDir(), "ran")
	hook := "APT::Update::Pre-Invoke { \"touch " + ran + "\"; };\nDir::Bin::methods \"/nonexistent\";\n"
	list := repository(t, s.dir, "copy:"+s.dir)
	dir := filepath.Join(t.TempDir(), "cache")
	for _, name := range []string{"apt/i386/apt.conf", "apt.conf", "apt/apt.conf", "etc/apt/apt.conf.d/hook", "apt/i386/state/hook"} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(hook), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Open(dir, WithSourceList(list))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := c.tree(t.Context(), "test", r, nil)
	if err != nil || tree.Cached {
		t.Fatalf("cached: %t, %v", tree.Cached, err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a hook ran")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "apt/i386/apt.conf")); string(text) != hook || err != nil {
		t.Errorf("apt's state is where another user could have left it: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(tree.Dir), "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left beside the files: %v, %v", left, err)
	}
	if tree, err = c.tree(t.Context(), "test", r, nil); err != nil || !tree.Cached {
		t.Errorf("cached: %t, %v", tree.Cached, err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(filepath.Join(tree.Dir, "usr/bin/bash"), 12345, -1); err != nil {
		t.Fatal(err)
	}
	if tree, err = c.tree(t.Context(), "test", r, nil); err != nil || tree.Cached {
		t.Errorf("with a file of another user: cached: %t, %v", tree.Cached, err)
	}
}

// A new cache is its user's alone.
func TestCacheMode(t *testing.T) {
	s, r := testShelf(t)
	c := &Cache{dir: filepath.Join(t.TempDir(), "deep", "cache"), source: s}
	if _, err := c.tree(t.Context(), "test", r, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(c.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
