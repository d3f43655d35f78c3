// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package tree_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/host/tree"
)

// checkout makes a folder from a list of files; a name that ends in "/" is a folder.
func checkout(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		full := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpen(t *testing.T) {
	open, err := tree.Open(checkout(t, "steps/manifest", "seed/a", "builder-hex0/"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.Require("steps", "seed/a"); err != nil {
		t.Errorf("what is there: %v", err)
	}
	for name, want := range map[string]string{"builder-hex0": "is empty", "seed/b": "there is no seed/b", "lib": "there is no lib"} {
		if err := open.Require("steps", name); !errors.Is(err, tree.ErrShape) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	const sum = "b96f8c8eb3b170d297fc9b1ff369e0b2d1c1bc1a04b09ff7e71907a95bf6eeac"
	source, err := open.Find("seed/a")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := source.SHA256(t.Context()); err != nil || got != sum {
		t.Errorf("sha256: %q, %v", got, err)
	}
	if _, err := open.Find("gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	for what, dir := range map[string]string{"no manifest": checkout(t, "seed/a"), "nothing": filepath.Join(t.TempDir(), "x")} {
		if _, err := tree.Open(dir); err == nil {
			t.Errorf("%s is opened", what)
		}
	}
}

// The folders that the first scripts name are there and have something in them, but for those that a start creates.
func TestRequireSeeds(t *testing.T) {
	files := []string{
		"steps/manifest", "seed/stage0-posix/x86/hex0_x86.hex0", "seed/stage0-posix/x86/kaem-minimal.hex0",
		"seed/stage0-posix/kaem.x86", "seed/stage0-posix/x86/mescc-tools-full-kaem.kaem", "seed/stage0-posix/M2libc/",
		"seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed", "seed/stage0-posix/riscv64/",
	}
	for _, tt := range []struct {
		name, script, modules, want string
	}{
		{"named nowhere", "./x86/artifact/hex0\n", "", ""},
		{"created", "./bin/M1 ../artifact/M2\n", "", ""},
		{"empty", "cc ./M2libc/x86.c\n", "", "seed/stage0-posix/M2libc is empty"},
		{"empty, from beside", "cc ../M2libc/x86.c\n", "", "seed/stage0-posix/M2libc is empty"},
		{"entered", "set -ex\ncd M2libc\n", "", "seed/stage0-posix/M2libc is empty"},
		{"gone", "cc ./M2-Planet/cc.c\n", "\tpath = M2-Planet\n", "there is no seed/stage0-posix/M2-Planet"},
	} {
		dir := checkout(t, files...)
		for name, text := range map[string]string{"x86/mescc-tools-full-kaem.kaem": tt.script, ".gitmodules": tt.modules} {
			if err := os.WriteFile(filepath.Join(dir, tree.Stage0, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		open, err := tree.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, kernels := range []bool{false, true} {
			err := open.RequireSeeds("x86", kernels)
			if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, tree.ErrShape) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s, kernel bootstrap %t: error %v, want %q", tt.name, kernels, err, tt.want)
			}
		}
		if err := open.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestList(t *testing.T) {
	fsys := fstest.MapFS{
		"top/b":             {Data: []byte("22"), Mode: 0o644},
		"top/a b/x":         {Data: []byte("1"), Mode: 0o744},
		"top/a":             {Mode: 0o600},
		"top/.git":          {Data: []byte("333")},
		"top/.gitx":         {Data: []byte("4444")},
		"top/a b/.git/HEAD": {},
		"beside/left":       {},
	}
	want := []tree.Entry{
		{Path: ".gitx", Size: 4}, {Path: "a"}, {Path: "a b", Dir: true}, {Path: "a b/x", Exec: true, Size: 1}, {Path: "b", Size: 2},
	}
	got, err := tree.List(fsys, "top")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if _, err := tree.List(fsys, "gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
}

// Links are followed inside of the checkout, and nowhere else.
func TestLinks(t *testing.T) {
	dir := checkout(t, "steps/manifest", "steps/real/file")
	list := func() ([]tree.Entry, error) {
		open, err := tree.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		return tree.List(open.FS(), "steps")
	}
	link := func(target string) {
		_ = os.Remove(filepath.Join(dir, "steps/link"))
		if err := os.Symlink(target, filepath.Join(dir, "steps/link")); err != nil {
			t.Fatal(err)
		}
	}
	link("real")
	want := []tree.Entry{
		{Path: "link", Dir: true}, {Path: "link/file", Size: 15}, {Path: "manifest", Size: 14}, {Path: "real", Dir: true},
		{Path: "real/file", Size: 15},
	}
	if got, err := list(); err != nil || !cmp.Equal(want, got) {
		t.Errorf("a link inside: %v\n%s", err, cmp.Diff(want, got))
	}
	for _, target := range []string{"/etc", "../../..", "nowhere", "link", "."} {
		link(target)
		if got, err := list(); err == nil || !strings.Contains(err.Error(), "steps/link") {
			t.Errorf("a link to %s: %d entries, %v", target, len(got), err)
		}
	}
}

func TestOddFiles(t *testing.T) {
	for what, spoil := range map[string]func(string) error{
		"a pipe":               func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "steps/pipe"), 0o600) },
		"a line break":         func(dir string) error { return os.WriteFile(filepath.Join(dir, "steps/a\nb"), nil, 0o600) },
		"a folder with a bell": func(dir string) error { return os.Mkdir(filepath.Join(dir, "steps/\a"), 0o700) },
		"folders without an end": func(dir string) error {
			return os.MkdirAll(filepath.Join(dir, "steps", strings.Repeat("d/", tree.MaxDepth+2)), 0o700)
		},
	} {
		dir := checkout(t, "steps/manifest")
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.List(os.DirFS(dir), "steps"); !errors.Is(err, tree.ErrEntry) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
