// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package tree_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"kindling/host/tree"
)

// swap puts something else in the place of a file.
type swap struct {
	what string
	do   func(name string) error
}

// swaps are the ways in which another user of the folder can change what was planned.
func swaps(outside string) []swap {
	return []swap{
		{"a link out", func(name string) error { return errors.Join(os.Remove(name), os.Symlink(outside, name)) }},
		{"a link inside", func(name string) error { return errors.Join(os.Remove(name), os.Symlink("manifest", name)) }},
		{"a hard link", func(name string) error { return errors.Join(os.Remove(name), os.Link(outside, name)) }},
		{"a pipe", func(name string) error { return errors.Join(os.Remove(name), syscall.Mkfifo(name, 0o600)) }},
		{"a folder", func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o700)) }},
		{"a socket", func(name string) error {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			return errors.Join(os.Remove(name), syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}), syscall.Close(fd))
		}},
		{"another file", func(name string) error {
			return errors.Join(os.WriteFile(name+".new", []byte("steps/x"), 0o600), os.Rename(name+".new", name))
		}},
		{"more bytes", func(name string) error { return os.WriteFile(name, []byte("steps/x and more"), 0o600) }},
		{"other bytes", func(name string) error { return os.WriteFile(name, []byte("steps/y"), 0o600) }},
		{"nothing", os.Remove},
	}
}

// soon fails the test if do does not return: a pipe without a writer blocks for ever.
func soon(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: still waiting after 10 s", what)
	}
}

// The file that was found is the file that is read.
func TestSourceSwapped(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret!"), 0o600); err != nil { // of the size of what it replaces
		t.Fatal(err)
	}
	for _, s := range swaps(outside) {
		dir := checkout(t, "steps/manifest", "steps/x")
		folder, err := tree.OpenFolder(filepath.Join(dir, "steps"))
		if err != nil {
			t.Fatal(err)
		}
		defer folder.Close()
		source, err := tree.Find(folder, "x", filepath.Join(dir, "steps/x"))
		if err != nil {
			t.Fatal(err)
		}
		f, err := source.Open()
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(f); string(text) != "steps/x" || err != nil {
			t.Fatalf("unchanged: %q, %v", text, err)
		}
		f.Close()
		if err := s.do(source.Path); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
		soon(t, s.what, func() {
			if f, err := source.Open(); err == nil {
				text, _ := io.ReadAll(f)
				t.Errorf("%s is read: %q", s.what, text)
				f.Close()
			}
		})
	}
}

// Reading a tree never waits, and never leads outside, whatever is in it.
func TestFolderOpensFilesOnly(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret!"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := checkout(t, "steps/manifest", "steps-own/manifest", "steps/x")
	for name, create := range map[string]func(string) error{
		"pipe":      func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"link-pipe": func(name string) error { return os.Symlink("pipe", name) },
		"out":       func(name string) error { return os.Symlink(outside, name) },
		"up":        func(name string) error { return os.Symlink("../../../../../../../../etc/passwd", name) },
		"null":      func(name string) error { return os.Symlink("/dev/null", name) },
	} {
		if err := create(filepath.Join(dir, "steps", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("x", filepath.Join(dir, "steps/link")); err != nil {
		t.Fatal(err)
	}
	open, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if text, err := fs.ReadFile(open.FS(), "steps/link"); string(text) != "steps/x" || err != nil {
		t.Errorf("a link inside: %q, %v", text, err)
	}
	mounted := tree.Mount(open.FS(), map[string]fs.FS{"at": open.FS()})
	for _, name := range []string{"pipe", "link-pipe", "out", "up", "null"} {
		soon(t, name, func() {
			for _, read := range []func() ([]byte, error){
				func() ([]byte, error) { return fs.ReadFile(open.FS(), "steps/"+name) },
				func() ([]byte, error) { return fs.ReadFile(mounted, "at/steps/"+name) },
			} {
				if text, err := read(); err == nil {
					t.Errorf("%s is read: %q", name, text)
				}
			}
			if _, err := tree.Find(open.FS(), "steps/"+name, name); err == nil {
				t.Errorf("%s is found", name)
			}
		})
	}
}
