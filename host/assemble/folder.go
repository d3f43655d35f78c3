// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ErrOccupied says that a target folder has something in it.
var ErrOccupied = errors.New("target folder is not empty")

// tempName is what a file is called in an earlier target folder while it is incomplete.
const tempName = ".kindling-new"

// writeFolder makes the root of a chroot. It is built beside its place and gets its name when it is complete; in a
// folder that is a mount point of its own, such as a tmpfs, it is built inside and moved up, folder by folder.
func (w *writer) writeFolder(ctx context.Context, m *Medium) (err error) {
	if m.merge {
		return w.mergeFolder(ctx, m)
	}
	names, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%s: %w: there is %q: name another folder or empty this one", w.dir, ErrOccupied, names[0].Name())
	}
	mounted, err := isMountPoint(w.dir)
	if err != nil {
		return err
	}
	where := filepath.Dir(w.dir)
	if mounted {
		where = w.dir
	}
	dir, err := os.MkdirTemp(where, ".kindling-root-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := w.fillFolder(ctx, m, dir); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if !mounted {
		// The system call replaces an empty folder; os.Rename refuses to.
		if err := unix.Rename(dir, w.dir); err != nil {
			return &os.LinkError{Op: "rename", Old: dir, New: w.dir, Err: err}
		}
		return nil
	}
	for i := range m.Entries {
		if name := filepath.FromSlash(m.Entries[i].Path); filepath.Dir(name) == "." {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(w.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillFolder writes the entries into the folder dir, which is empty, and cannot be led out of it by a link.
func (w *writer) fillFolder(ctx context.Context, m *Medium, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for i := range m.Entries { // folders first: files need them, and are written several at a time
		if e := &m.Entries[i]; e.Dir {
			if err := errors.Join(root.Mkdir(e.Path, 0o755), root.Chmod(e.Path, 0o755)); err != nil {
				return err
			}
		}
	}
	return w.eachFile(ctx, m, func(c *copier, e *Entry) error {
		if e.Link != "" {
			return root.Symlink(e.Link, e.Path)
		}
		return writeIn(root, e.Path, c, e)
	})
}

// writeIn writes one new file below root.
func writeIn(root *os.Root, name string, c *copier, e *Entry) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.mode())
	if err != nil {
		return err
	}
	err = c.copy(f, e)
	if err == nil {
		err = f.Chmod(e.mode()) // whatever the umask is
	}
	return errors.Join(err, f.Close())
}

// mergeFolder puts files into an earlier target folder, each of them complete or not at all.
func (w *writer) mergeFolder(ctx context.Context, m *Medium) error {
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	c := newCopier(ctx, &w.count)
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Dir {
			if err := root.Mkdir(e.Path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			continue
		}
		temp := filepath.Join(filepath.Dir(e.Path), tempName)
		if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err := writeIn(root, temp, c, e)
		if err == nil {
			err = root.Rename(temp, e.Path)
		}
		if err != nil {
			return errors.Join(err, root.Remove(temp))
		}
	}
	return nil
}

// eachFile calls do for every entry that is no folder, several at a time.
func (w *writer) eachFile(ctx context.Context, m *Medium, do func(*copier, *Entry) error) error {
	var next counter
	group, ctx := errgroup.WithContext(ctx)
	for range w.workers {
		group.Go(func() error {
			c := newCopier(ctx, &w.count)
			for i := next.Add(1) - 1; i < int64(len(m.Entries)); i = next.Add(1) - 1 {
				if e := &m.Entries[i]; !e.Dir {
					if err := do(c, e); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// isMountPoint reports whether dir is on another filesystem than the folder that it is in.
func isMountPoint(dir string) (bool, error) {
	var own, parent unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &own), unix.Stat(filepath.Join(dir, ".."), &parent)); err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	return own.Dev != parent.Dev, nil
}
