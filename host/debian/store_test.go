// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// makeDeb builds a real package with dpkg-deb and gives its file.
func makeDeb(t *testing.T, dir, name, version, depends string, files pkgFiles) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), name)
	files.write(t, tree)
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: i386\nMaintainer: T <t@example.org>\n"+
		"Description: test\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	if err := os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN", "control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, fmt.Sprintf("%s_%s_i386.deb", name, version))
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, file).
		CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg-deb -b %s: %v\n%s", name, err, out)
	}
	return file
}

// shelf is a source with a folder of packages instead of apt and a network.
type shelf struct {
	dir       string
	downloads atomic.Int32
	// before, if set, is called before anything is handed out.
	before func(ctx context.Context) error
}

func (s *shelf) dependency(context.Context, string, string, string, *regexp.Regexp, Progress) (string, error) {
	return "linux-image-6.1.0-9-686", nil
}

func (s *shelf) download(ctx context.Context, _, _ string, names []string, dir string, _ Progress) error {
	s.downloads.Add(1)
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return err
		}
	}
	for _, name := range names {
		files, err := filepath.Glob(filepath.Join(s.dir, name+"_*.deb"))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := os.Link(file, filepath.Join(dir, filepath.Base(file))); err != nil {
				return err
			}
		}
	}
	return nil
}

func testShelf(t *testing.T) (*shelf, recipe) {
	t.Helper()
	s := &shelf{dir: t.TempDir()}
	makeDeb(t, s.dir, "shell", "1:2.0-1", "", pkgFiles{"bin/bash": "bash", "usr/share/doc/shell": "doc"})
	makeDeb(t, s.dir, "library", "3", "",
		pkgFiles{"lib/x86/lib.so.1": "library", "usr/lib/lib.so": "-> /lib/x86/lib.so.1"})
	return s, recipe{Arch: "i386", Packages: []string{"shell", "library"}, Drop: []string{"usr/share"},
		Links: map[string]string{"usr/bin/sh": "bash"}}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	return got
}

func TestTreeIsMadeOnce(t *testing.T) {
	s, r := testShelf(t)
	c := &Cache{dir: filepath.Join(t.TempDir(), "deep", "cache"), source: s}
	first, err := c.tree(t.Context(), "test", r, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := pkgFiles{"bin": "-> usr/bin", "lib": "-> usr/lib", "sbin": "-> usr/sbin", "usr/bin/bash": "bash",
		"usr/bin/sh": "-> bash", "usr/lib/x86/lib.so.1": "library", "usr/lib/lib.so": "-> /lib/x86/lib.so.1"}
	if diff := cmp.Diff(want, readTree(t, first.Dir)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	var shown []string
	for _, p := range first.Packages {
		shown = append(shown, p.String())
		if len(p.SHA256) != 64 || p.Size == 0 {
			t.Errorf("package %s: sha256 %q, %d bytes", p, p.SHA256, p.Size)
		}
	}
	if diff := cmp.Diff([]string{"shell:i386=1:2.0-1", "library:i386=3"}, shown); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if first.Files != 7 || first.Size != int64(len("bash")+len("library")) {
		t.Errorf("%d files, %d bytes", first.Files, first.Size)
	}
	second, err := c.tree(t.Context(), "test", r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.Cached || !second.Cached {
		t.Errorf("cached: first %t, second %t", first.Cached, second.Cached)
	}
	first.Cached = true
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("second use (-first +second):\n%s", diff)
	}
	if n := s.downloads.Load(); n != 1 {
		t.Errorf("%d downloads", n)
	}
	if diff := cmp.Diff([]string{lockName, entryName("test", "i386", r)}, names(t, c.dir)); diff != "" {
		t.Errorf("cache folder (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{manifestName, rootName}, names(t, filepath.Dir(first.Dir))); diff != "" {
		t.Errorf("entry folder (-want +got):\n%s", diff)
	}
}

func TestTreeNeedsNoWriteAccessOnceMade(t *testing.T) {
	s, r := testShelf(t)
	c := &Cache{dir: t.TempDir(), source: s}
	if _, err := c.tree(t.Context(), "test", r, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(c.dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.tree(t.Context(), "test", r, nil); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(names(t, c.dir), lockName) {
		t.Error("a cache hit took the lock")
	}
}

func TestDamagedTreeIsMadeAnew(t *testing.T) {
	damages := map[string]func(dir string) error{
		"cut file":     func(dir string) error { return os.Truncate(filepath.Join(dir, "root/usr/bin/bash"), 1) },
		"missing file": func(dir string) error { return os.Remove(filepath.Join(dir, "root/usr/bin/bash")) },
		"added file":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "root/x"), nil, 0o644) },
		"mode":         func(dir string) error { return os.Chmod(filepath.Join(dir, "root/usr/bin/bash"), 0o600) },
		"other link": func(dir string) error {
			name := filepath.Join(dir, "root/usr/bin/sh")
			return errors.Join(os.Remove(name), os.Symlink("dash", name))
		},
		"no manifest":  func(dir string) error { return os.Remove(filepath.Join(dir, manifestName)) },
		"cut manifest": func(dir string) error { return os.Truncate(filepath.Join(dir, manifestName), 20) },
		"huge manifest": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifestName), make([]byte, maxManifest+1), 0o644)
		},
		"file for a folder": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, []byte("x"), 0o644))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s, r := testShelf(t)
			c := &Cache{dir: t.TempDir(), source: s}
			first, err := c.tree(t.Context(), "test", r, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := readTree(t, first.Dir)
			if err := damage(filepath.Dir(first.Dir)); err != nil {
				t.Fatal(err)
			}
			var lines []string
			second, err := c.tree(t.Context(), "test", r, func(line string) { lines = append(lines, line) })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, readTree(t, second.Dir)); diff != "" {
				t.Errorf("tree made anew (-want +got):\n%s", diff)
			}
			if len(lines) == 0 || !strings.Contains(lines[0], "damaged") || strings.Contains(lines[0], "\n") {
				t.Errorf("progress %q", lines)
			}
			if diff := cmp.Diff([]string{lockName, entryName("test", "i386", r)}, names(t, c.dir)); diff != "" {
				t.Errorf("cache folder (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	s, r := testShelf(t)
	broken := errors.New("mirror down")
	if err := os.WriteFile(filepath.Join(s.dir, "broken_1_i386.deb"), []byte("no package"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		before func(context.Context) error
		edit   func(*recipe)
		is     error
		text   string
	}{
		{"download fails", func(context.Context) error { return broken }, nil, broken, "mirror down"},
		{"package missing", nil, func(r *recipe) { r.Packages = append(r.Packages, "absent") }, ErrFetch, "absent"},
		{"not a package", nil, func(r *recipe) { r.Packages = append(r.Packages, "broken") }, ErrFetch,
			"broken_1_i386.deb"},
		{"overlap with a link", nil, func(r *recipe) { r.Links["usr/bin/bash"] = "sh" }, ErrPackage, "usr/bin/bash"},
		{"bad name", nil, func(r *recipe) { r.Packages[0] = "../x" }, ErrFetch, "../x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, r := testShelf(t)
			if tt.edit != nil {
				tt.edit(&r)
			}
			s := &shelf{dir: s.dir, before: tt.before}
			c := &Cache{dir: t.TempDir(), source: s}
			tree, err := c.tree(t.Context(), "test", r, nil)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want %v with %q, in one line", err, tt.is, tt.text)
			}
			if diff := cmp.Diff(Tree{}, tree); diff != "" {
				t.Errorf("result beside an error (-want +got):\n%s", diff)
			}
			for _, name := range names(t, c.dir) {
				if name != lockName {
					t.Errorf("left behind: %s", name)
				}
			}
		})
	}
	// What an interrupted process could not remove goes with the next build; what has another name stays.
	c := &Cache{dir: t.TempDir(), source: s}
	for _, dir := range []string{tempPrefix + "123/entry/root", "apt/i386"} {
		if err := os.MkdirAll(filepath.Join(c.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.tree(t.Context(), "test", r, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"apt", lockName, entryName("test", "i386", r)}, names(t, c.dir)); diff != "" {
		t.Errorf("cache folder (-want +got):\n%s", diff)
	}
}

func TestConcurrentUsersBuildOnce(t *testing.T) {
	s, r := testShelf(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wg.Go(func() {
			// A Cache of its own for each, as separate programs have.
			_, err := (&Cache{dir: dir, source: s}).tree(t.Context(), "test", r, nil)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if n := s.downloads.Load(); n != 1 {
		t.Errorf("%d downloads", n)
	}
}

func TestWaitForTheLockCanBeCancelled(t *testing.T) {
	s, r := testShelf(t)
	started, release := make(chan struct{}), make(chan struct{})
	s.before = func(context.Context) error {
		close(started)
		<-release
		return nil
	}
	dir := t.TempDir()
	finished := make(chan error, 1)
	go func() {
		_, err := (&Cache{dir: dir, source: s}).tree(context.Background(), "test", r, nil)
		finished <- err
	}()
	<-started
	told := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(lockNotice+200*time.Millisecond, cancel)
	other := &Cache{dir: dir, source: &shelf{dir: s.dir}}
	if _, err := other.tree(ctx, "test", r, func(line string) { told <- line }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled wait: %v", err)
	}
	if line := <-told; !strings.Contains(line, "waiting") {
		t.Errorf("told %q", line)
	}
	close(release)
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	// The wait that was given up must not keep the lock.
	if _, err := other.tree(t.Context(), "other", r, nil); err != nil {
		t.Error(err)
	}
}

func TestKernelFromPackage(t *testing.T) {
	s := &shelf{dir: t.TempDir()}
	makeDeb(t, s.dir, "linux-image-6.1.0-9-686", "6.1.9-1", "", pkgFiles{
		"boot/vmlinuz-6.1.0-9-686":                  "kernel",
		"lib/modules/6.1.0-9-686/modules.order":     "",
		"lib/modules/6.1.0-9-686/modules.builtin":   "kernel/drivers/ata/ata_piix.ko\n",
		"usr/share/doc/linux-image-6.1.0-9-686/doc": "doc",
	})
	c := &Cache{dir: t.TempDir(), source: s}
	for range 2 {
		k, err := c.Kernel(t.Context(), "i386", nil)
		if err != nil {
			t.Fatal(err)
		}
		if k.Arch != "i386" || k.Release != "6.1.0-9-686" || len(k.Packages) != 1 {
			t.Errorf("kernel %+v", k)
		}
		if data, err := os.ReadFile(k.Image); err != nil || string(data) != "kernel" {
			t.Errorf("image %q, %v", data, err)
		}
		if set, err := k.Modules([]string{"ata-piix"}); err != nil || len(set.Modules) != 0 {
			t.Errorf("built-in module: %+v, %v", set, err)
		}
	}
	if n := s.downloads.Load(); n != 1 {
		t.Errorf("%d downloads", n)
	}
	if _, err := c.Kernel(t.Context(), "arm64", nil); !errors.Is(err, ErrArch) {
		t.Errorf("arm64: %v", err)
	}
}

func TestKernelPackageContent(t *testing.T) {
	tests := []struct {
		name  string
		files pkgFiles
		want  string
	}{
		{"no image", pkgFiles{"boot/config": ""}, "vmlinuz"},
		{"two images", pkgFiles{"boot/vmlinuz-1": "", "boot/vmlinuz-2": ""}, "2 found"},
		{"hostile release", pkgFiles{"boot/vmlinuz-..": ""}, "release"},
		{"no modules", pkgFiles{"boot/vmlinuz-6.1": ""}, "lib/modules/6.1"},
		{"link as the image", pkgFiles{"boot/vmlinuz-6.1": "-> /etc/passwd"}, "regular"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.files.write(t, dir)
			if _, err := findKernel(dir); !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want something about %q", err, tt.want)
			}
		})
	}
}
