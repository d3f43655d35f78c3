// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// listing describes every file below dir: type and mode, owner, time, links, content.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := stat(info)
		text := fmt.Sprintf("%v uid=%d gid=%d links=%d", info.Mode(), st.Uid, st.Gid, st.Nlink)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + info.ModTime().UTC().String() + " " + string(data)
		case info.IsDir():
			text += " " + info.ModTime().UTC().String()
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + to
		}
		rel, err := filepath.Rel(dir, path)
		got[rel] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCopyTree(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to run this test as root")
		}
		t.Skip("needs root: owners and device nodes are part of what is copied")
	}
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "new")
	old := time.Unix(1000, 0)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(src, "a b", "empty"), 0o755))
	must(os.WriteFile(filepath.Join(src, "a b", "file"), []byte("content"), 0o640))
	must(os.Chown(filepath.Join(src, "a b", "file"), 7, 8))
	must(os.Chmod(filepath.Join(src, "a b", "file"), 0o640|fs.ModeSetuid))
	must(os.Chtimes(filepath.Join(src, "a b", "file"), old, old))
	must(os.Link(filepath.Join(src, "a b", "file"), filepath.Join(src, "hard")))
	must(os.Symlink("nowhere", filepath.Join(src, "link")))
	must(unix.Mknod(filepath.Join(src, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mkfifo(filepath.Join(src, "fifo"), 0o600))
	must(os.Mkdir(filepath.Join(src, "mounted"), 0o755))
	must(unix.Mount("tmpfs", filepath.Join(src, "mounted"), "tmpfs", 0, ""))
	defer func() { must(unix.Unmount(filepath.Join(src, "mounted"), 0)) }()
	must(os.WriteFile(filepath.Join(src, "mounted", "not-copied"), nil, 0o644))
	must(os.Chtimes(filepath.Join(src, "a b"), old, old))

	calls := 0
	for range 2 { // a second copy over the first is the same
		if _, err := CopyTree(context.Background(), src, dst, func(Copied) { calls++ }); err != nil {
			t.Fatal(err)
		}
	}
	want, got := listing(t, src), listing(t, dst)
	delete(want, filepath.Join("mounted", "not-copied"))
	for _, moving := range []string{"mounted", "."} { // the mount point itself and the test's own folder differ
		delete(want, moving)
		delete(got, moving)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-source +copy)\n%s", d)
	}
	if calls == 0 {
		t.Error("no progress was told")
	}
}

func TestCopyTreeStops(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := CopyTree(ctx, src, filepath.Join(t.TempDir(), "new"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
