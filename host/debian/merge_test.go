// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMergedPath(t *testing.T) {
	for in, want := range map[string]string{
		"bin/bash":                  "usr/bin/bash",
		"sbin/mke2fs":               "usr/sbin/mke2fs",
		"lib/i386-linux-gnu/libc.a": "usr/lib/i386-linux-gnu/libc.a",
		"lib64/ld.so":               "usr/lib64/ld.so",
		"usr/bin/tcc":               "usr/bin/tcc",
		"etc/bin/x":                 "etc/bin/x",
		"library/x":                 "library/x",
	} {
		if got := mergedPath(in); got != want {
			t.Errorf("mergedPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMergedLink(t *testing.T) {
	tests := []struct{ name, target, want string }{
		{"bin/rbash", "bash", "bash"},
		{"lib/ld-linux.so.2", "i386-linux-gnu/ld-linux.so.2", "i386-linux-gnu/ld-linux.so.2"},
		{"lib/i386-linux-gnu/liba.so", "../../usr/lib/i386-linux-gnu/liba.so.1", "liba.so.1"},
		{"usr/lib/i386-linux-gnu/libb.so", "../../../lib/i386-linux-gnu/libb.so.1", "libb.so.1"},
		{"usr/bin/x", "../../bin/y", "y"},
		{"sbin/x", "../bin/y", "../bin/y"},
		{"etc/x", "../bin/y", "../usr/bin/y"},
		{"usr/bin/x", "../share/y", "../share/y"},
		{"usr/lib/libm.so", "/lib/i386-linux-gnu/libm.so.6", "/lib/i386-linux-gnu/libm.so.6"},
		{"etc/self", ".", "."},
		{"bin/x", "../../outside", ""},
		{"x", "..", ""},
	}
	for _, tt := range tests {
		got, err := mergedLink(tt.name, tt.target)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("mergedLink(%q, %q) = %q, %v; want %q", tt.name, tt.target, got, err, tt.want)
		}
	}
}

// pkgFiles maps paths of a package to contents; "-> target" is a symbolic link.
type pkgFiles map[string]string

func (files pkgFiles) write(t *testing.T, dir string) {
	t.Helper()
	for name, data := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(full, []byte(data), 0o755)
		if target, isLink := strings.CutPrefix(data, "-> "); isLink {
			err = errors.Join(os.Remove(full), os.Symlink(target, full))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readTree gives a tree in the form of pkgFiles.
func readTree(t *testing.T, dir string) pkgFiles {
	t.Helper()
	got := make(pkgFiles)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			got[rel] = "-> " + target
			return err
		}
		data, err := os.ReadFile(name)
		got[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// mergeAll merges packages, named "a", "b", ... in order, by the recipe, and gives the tree's folder.
func mergeAll(t *testing.T, r recipe, packages ...pkgFiles) (string, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	m, err := newMerger(root, rootName, r)
	if err != nil {
		t.Fatal(err)
	}
	for i, files := range packages {
		name := string(rune('a' + i))
		files.write(t, filepath.Join(dir, unpackedDir, name))
		if err := m.add(name, path.Join(unpackedDir, name)); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, rootName), m.addLinks()
}

func TestMerge(t *testing.T) {
	r := recipe{
		Drop:  []string{"usr/share"},
		Links: map[string]string{"usr/bin/sh": "bash", "etc/mtab": "/proc/self/mounts"},
	}
	dir, err := mergeAll(t, r,
		pkgFiles{"bin/bash": "bash", "usr/share/doc/bash": "doc", "bin/rbash": "-> bash"},
		pkgFiles{"lib/x86/libc.so.6": "libc", "usr/lib/x86/libm.so": "-> ../../../lib/x86/libm.so.6", "etc/conf": "c"},
		pkgFiles{"lib64/ld.so": "-> ../lib/x86/ld.so", "usr/sbin/tool": "tool"},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := pkgFiles{
		"bin": "-> usr/bin", "lib": "-> usr/lib", "sbin": "-> usr/sbin", "lib64": "-> usr/lib64",
		"usr/bin/bash": "bash", "usr/bin/rbash": "-> bash", "usr/bin/sh": "-> bash",
		"usr/lib/x86/libc.so.6": "libc", "usr/lib/x86/libm.so": "-> libm.so.6",
		"usr/lib64/ld.so": "-> ../lib/x86/ld.so", "usr/sbin/tool": "tool",
		"etc/conf": "c", "etc/mtab": "-> /proc/self/mounts",
	}
	if diff := cmp.Diff(want, readTree(t, dir)); diff != "" {
		t.Errorf("merged tree (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(dir, "usr/bin/bash")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode of bash: %v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "usr/share")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder of dropped files is there: %v", err)
	}
}

func TestMergeErrors(t *testing.T) {
	tests := []struct {
		name     string
		recipe   recipe
		packages []pkgFiles
		want     string
	}{
		{"one file in two packages", recipe{}, []pkgFiles{{"bin/x": "1"}, {"bin/x": "1"}}, "usr/bin/x is in a as well"},
		{"both sides of the merge", recipe{}, []pkgFiles{{"bin/x": "1"}, {"usr/bin/x": "1"}}, "usr/bin/x is in a as well"},
		{"link over the merged folder", recipe{}, []pkgFiles{{"bin": "-> etc"}}, "usr/bin"},
		{"link out of the tree", recipe{}, []pkgFiles{{"usr/x": "-> ../../out"}}, "leaves the tree"},
		{"file below a link", recipe{}, []pkgFiles{{"etc/d": "-> ../usr"}, {"etc/d/x": "1"}}, "below etc/d"},
		{"file below a file", recipe{}, []pkgFiles{{"etc/d": "1"}, {"etc/d/x": "1"}}, "below etc/d"},
		{"file over a folder", recipe{}, []pkgFiles{{"etc/d/x": "1"}, {"etc/d": "1"}}, "etc/d"},
		{"link of the recipe to nothing", recipe{Links: map[string]string{"usr/bin/sh": "bash"}}, nil, "brings bash"},
		{"link of the recipe over a file", recipe{Links: map[string]string{"usr/bin/sh": "bash"}},
			[]pkgFiles{{"bin/sh": "1", "bin/bash": "2"}}, "usr/bin/sh is in a as well"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := mergeAll(t, tt.recipe, tt.packages...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want something about %q", err, tt.want)
			}
		})
	}
}

func TestMergeRefusesSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	pkg := filepath.Join(dir, unpackedDir, "a")
	if err := os.MkdirAll(pkg, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(pkg, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	m, err := newMerger(root, rootName, recipe{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.add("a", unpackedDir+"/a"); !errors.Is(err, ErrPackage) {
		t.Errorf("named pipe: %v, want %v", err, ErrPackage)
	}
}
