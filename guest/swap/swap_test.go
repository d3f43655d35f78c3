// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package swap

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": MiB, "4096": 4 << 30, "1048576": 1 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "4G", "-1", "1048577", "99999999999999999999", "1 ", "0x10"} {
		if got, err := ParseSize(bad); !errors.Is(err, ErrSize) {
			t.Errorf("%q: got %d, %v", bad, got, err)
		}
	}
}

// The header is mkswap's own, UUID apart.
func TestHeader(t *testing.T) {
	const size = 3 * MiB
	path := filepath.Join(t.TempDir(), "area")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/mkswap", "-U", "clear", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := header(size, os.Getpagesize())
	if !bytes.Equal(got, want[:os.Getpagesize()]) {
		t.Errorf("got % x\nwant % x", got[1024:1060], want[1024:1060])
	}
	for _, bad := range []int64{0, MiB / 64, 1 << 50} {
		if header(bad, 4096) != nil {
			t.Errorf("%d bytes: there is a header", bad)
		}
		if err := Make(t.Context(), path, bad, nil); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes: %v", bad, err)
		}
	}
}

func TestMake(t *testing.T) {
	const size = 2 * MiB
	path := filepath.Join(t.TempDir(), "swapfile")
	if ready, err := Ready(path, size); ready || err != nil {
		t.Errorf("nothing there: %t, %v", ready, err)
	}
	if err := os.WriteFile(path+".new", []byte("cut short"), 0o600); err != nil {
		t.Fatal(err)
	}
	var last int64
	if err := Make(t.Context(), path, size, func(done int64) { last = done }); err != nil {
		t.Fatal(err)
	}
	if ready, err := Ready(path, size); !ready || err != nil || last != size {
		t.Errorf("%t, %v; %d bytes told", ready, err, last)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file: %v", err)
	}
	if ready, err := Ready(path, size*2); ready || err != nil {
		t.Errorf("another size: %t, %v", ready, err)
	}
}

// What a cut or somebody else has left is no swap file.
func TestReadyRefuses(t *testing.T) {
	const size = MiB
	good := header(size, os.Getpagesize())
	whole := append(good, bytes.Repeat([]byte{0}, size-len(good))...)
	for name, make := range map[string]func(path string) error{
		"a hole": func(path string) error {
			return errors.Join(os.WriteFile(path, good, 0o600), os.Truncate(path, size))
		},
		"cut short":    func(path string) error { return os.WriteFile(path, whole[:size/2], 0o600) },
		"no header":    func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{0}, size), 0o600) },
		"another size": func(path string) error { return os.WriteFile(path, bytes.Repeat(good, size/len(good)*2), 0o600) },
		"a folder":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a link": func(path string) error {
			return errors.Join(os.WriteFile(path+".file", whole, 0o600), os.Symlink(path+".file", path))
		},
	} {
		path := filepath.Join(t.TempDir(), "swapfile")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if ready, err := Ready(path, size); ready || err != nil {
			t.Errorf("%s: %t, %v", name, ready, err)
		}
	}
}

// Too little room is said in MiB, and nothing is left of the attempt.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("mount: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, 0) }()
	err := Make(t.Context(), filepath.Join(dir, "swapfile"), 8*MiB, func(int64) {})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "8 MiB of swap do not fit: 1 MiB are free") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestStopped(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	err := Make(ctx, filepath.Join(dir, "swapfile"), 8*MiB, func(int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// What is no swap file is refused by the kernel, and the error names it.
func TestOnRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no swap file")
	if err := On(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func FuzzIsHeader(f *testing.F) {
	f.Add(header(MiB, 4096), int64(MiB))
	f.Add([]byte("SWAPSPACE2"), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		if ok, err := isHeader(bytes.NewReader(data), size, 4096); ok && (err != nil || len(data) < 4096) {
			t.Errorf("%d bytes are taken for a header: %v", len(data), err)
		}
	})
}
