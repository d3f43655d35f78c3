// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A node that the agent has removed comes back with its number, whatever stands in its place by then.
func TestRestoreNode(t *testing.T) {
	probe := filepath.Join(t.TempDir(), "probe")
	if err := unix.Mknod(probe, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("mknod: %v (needs root)", err)
	}
	sys := t.TempDir()
	number := filepath.Join(sys, "class/tty/ttyX1/dev")
	if err := os.MkdirAll(filepath.Dir(number), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(number, []byte("4:65\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, before := range map[string]func(path string) error{
		"nothing":      func(string) error { return nil },
		"a file":       func(path string) error { return os.WriteFile(path, []byte("{}\n"), 0o644) },
		"a link":       func(path string) error { return os.Symlink("/dev/null", path) },
		"another node": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		"the node":     func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(4, 65))) },
	} {
		path := filepath.Join(t.TempDir(), "ttyX1")
		if err := errors.Join(before(path), restoreNode(sys, path)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode != unix.S_IFCHR|0o600 || st.Rdev != unix.Mkdev(4, 65) {
			t.Errorf("%s: %v, mode %o, device %x", name, err, st.Mode, st.Rdev)
		}
	}
	path := filepath.Join(t.TempDir(), "ttyX2")
	if err := restoreNode(sys, path); err != nil {
		t.Errorf("no such terminal: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such terminal: %v", err)
	}
}

func TestTerminalNumber(t *testing.T) {
	sys := t.TempDir()
	dir := filepath.Join(sys, "class/tty/tty9")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]uint64{"4:65\n": unix.Mkdev(4, 65), "204:64\n": unix.Mkdev(204, 64), "": 0, "4": 0, "4:": 0, ":1": 0, "a:b": 0} {
		if err := os.WriteFile(filepath.Join(dir, "dev"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := terminalNumber(sys, "tty9"); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %x, %v; want %x", text, got, err, want)
		}
	}
}
