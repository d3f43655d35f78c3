// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package devnodes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openRoot returns an empty root in which device nodes can be made. Where that is not allowed the test is skipped, but
// never in CI.
func openRoot(t *testing.T) (Root, string) {
	t.Helper()
	dir := t.TempDir()
	probe := filepath.Join(dir, "probe")
	if err := unix.Mknod(probe, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mknod in %s: %v; CI has to run this test as root", dir, err)
		}
		t.Skipf("SKIPPED, device nodes were NOT tested: mknod: %v (run the tests as root)", err)
	}
	if err := os.Remove(probe); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return Root{Dir: root}, dir
}

func TestCreateForReal(t *testing.T) {
	root, dir := openRoot(t)
	// What a bootstrap leaves: an empty file where an empty directory was, later a directory with a plain /dev/null.
	if err := os.WriteFile(filepath.Join(dir, "dev"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, round := range []Action{Make, Keep} {
		done, err := Create(root, Table(false))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range done {
			if d.Action != round {
				t.Errorf("%s: got %s, want %s", d.Node.Name, d.Action, round)
			}
		}
	}
	for _, n := range Table(false) {
		checkReal(t, dir, n)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "dev")); err != nil || len(entries) != len(Table(false)) {
		t.Errorf("dev has %d entries (%v), want %d", len(entries), err, len(Table(false)))
	}
}

// checkReal compares a node on disk with its entry, by other means than the package's own.
func checkReal(t *testing.T, dir string, n Node) {
	t.Helper()
	name := filepath.Join(dir, n.Name)
	if n.Type == Symlink {
		if got, err := os.Readlink(name); err != nil || got != n.Target {
			t.Errorf("%s: link to %q (%v), want %q", n.Name, got, err, n.Target)
		}
		return
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(name, &st); err != nil {
		t.Errorf("%s: %v", n.Name, err)
		return
	}
	mode := uint32(syscall.S_IFCHR)
	if n.Type == Block {
		mode = syscall.S_IFBLK
	}
	if st.Mode != mode|n.Mode {
		t.Errorf("%s: mode %o, want %o", n.Name, st.Mode, mode|n.Mode)
	}
	if want := unix.Mkdev(n.Major, n.Minor); st.Rdev != want {
		t.Errorf("%s: device %#x, want %#x", n.Name, st.Rdev, want)
	}
}

func TestCreateReplacesForReal(t *testing.T) {
	root, dir := openRoot(t)
	if err := os.Mkdir(filepath.Join(dir, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "precious")
	files := map[string]func(string) error{
		"null":   func(name string) error { return os.WriteFile(name, []byte("noise\n"), 0o644) },
		"stdout": func(name string) error { return os.WriteFile(name, []byte("output\n"), 0o644) },
		"zero":   func(name string) error { return os.Symlink(outside, name) },
		"tty":    func(name string) error { return unix.Mkfifo(name, 0o600) },
		"sdb3":   func(name string) error { return unix.Mknod(name, unix.S_IFBLK, int(unix.Mkdev(8, 18))) },
	}
	if err := os.WriteFile(outside, []byte("stays"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, create := range files {
		if err := create(filepath.Join(dir, "dev", name)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := Create(root, Table(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range done {
		want := Make
		if files[filepath.Base(d.Node.Name)] != nil {
			want = Replace
		}
		if d.Action != want {
			t.Errorf("%s: got %s, want %s", d.Node.Name, d.Action, want)
		}
		checkReal(t, dir, d.Node)
	}
	if got, err := os.ReadFile(outside); err != nil || string(got) != "stays" {
		t.Errorf("file behind the link: %q (%v)", got, err)
	}
}

// TestCreateStaysInside makes sure that a /dev that leads out of the root is refused.
func TestCreateStaysInside(t *testing.T) {
	root, dir := openRoot(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "dev")); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(root, Table(true)); !errors.Is(err, ErrInTheWay) {
		t.Errorf("got error %v, want %v", err, ErrInTheWay)
	}
	if err := root.Mknod("dev/null", Table(true)[0]); err == nil {
		t.Error("mknod through a link out of the root: no error")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside the root: %v (%v), want nothing", entries, err)
	}
}

func TestStateOfRoot(t *testing.T) {
	dir := t.TempDir()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	root := Root{Dir: r}
	if s, err := root.State("dev/null"); err != nil || s.Exists {
		t.Errorf("below a missing directory: %+v (%v), want it missing", s, err)
	}
	if err := root.Mkdir("dev"); err != nil {
		t.Fatal(err)
	}
	if s, err := root.State("dev"); err != nil || !s.Exists || s.Mode != fs.ModeDir|0o755 {
		t.Errorf("directory: %+v (%v), want mode %v", s, err, fs.ModeDir|0o755)
	}
	if err := r.WriteFile("dev/file", []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := root.State("dev/file"); err != nil || s.Size != 3 || !s.Mode.IsRegular() {
		t.Errorf("file: %+v (%v), want 3 bytes", s, err)
	}
	if err := root.Symlink("/dev/null", "dev/link"); err != nil {
		t.Fatal(err)
	}
	if s, err := root.State("dev/link"); err != nil || s.Mode.Type() != fs.ModeSymlink {
		t.Errorf("link: %+v (%v), want a symbolic link", s, err)
	}
}
