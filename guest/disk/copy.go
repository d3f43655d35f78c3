// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Copied counts what a copy has done so far.
type Copied struct {
	Files int
	Bytes int64
}

// CopyTree copies everything below src to dst, as `cp -ax` does: one filesystem only (what is mounted below src is left
// out, its mount point is made), owners, modes, times, symbolic and hard links, devices and FIFOs; sockets are passed
// over. Existing files are replaced. It needs root. progress, if not nil, is called after every file.
func CopyTree(ctx context.Context, src, dst string, progress func(Copied)) (Copied, error) {
	c := copier{ctx: ctx, src: src, dst: dst, progress: progress, links: make(map[inode]string)}
	info, err := os.Lstat(src)
	if err != nil {
		return c.done, fmt.Errorf("copy root: %w", err)
	}
	c.dev = stat(info).Dev
	err = filepath.WalkDir(src, c.visit)
	if err == nil {
		err = c.restoreDirTimes()
	}
	if err != nil {
		return c.done, fmt.Errorf("copy root: %w", err)
	}
	return c.done, nil
}

type inode struct {
	dev uint64
	ino uint64
}

type dirTime struct {
	path string
	time time.Time
}

type copier struct {
	ctx      context.Context
	src, dst string
	dev      uint64
	progress func(Copied)
	links    map[inode]string // first copy of every file with several names
	dirs     []dirTime
	done     Copied
}

func stat(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }

func (c *copier) visit(path string, d fs.DirEntry, err error) error {
	if err == nil {
		err = c.ctx.Err()
	}
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(c.src, path)
	if err != nil {
		return err
	}
	target := filepath.Join(c.dst, rel)
	if stat(info).Dev != c.dev {
		if !d.IsDir() {
			return nil
		}
		if err := mkdir(target, 0o755); err != nil {
			return err
		}
		return fs.SkipDir
	}
	if err := c.copy(path, target, info); err != nil {
		return err
	}
	c.done.Files++
	if c.progress != nil {
		c.progress(c.done)
	}
	return nil
}

// copy copies one file of any type.
func (c *copier) copy(path, target string, info fs.FileInfo) error {
	st := stat(info)
	if !info.IsDir() {
		if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if st.Nlink > 1 {
			id := inode{st.Dev, st.Ino}
			if first, ok := c.links[id]; ok {
				return os.Link(first, target)
			}
			c.links[id] = target
		}
	}
	switch mode := info.Mode(); mode.Type() {
	case 0:
		n, err := copyFile(path, target)
		c.done.Bytes += n
		if err != nil {
			return err
		}
	case fs.ModeDir:
		if err := mkdir(target, 0o700); err != nil {
			return err
		}
		c.dirs = append(c.dirs, dirTime{target, info.ModTime()})
	case fs.ModeSymlink:
		to, err := os.Readlink(path)
		if err == nil {
			err = os.Symlink(to, target)
		}
		if err == nil {
			err = os.Lchown(target, int(st.Uid), int(st.Gid))
		}
		return err
	case fs.ModeSocket:
		return nil
	default:
		if err := unix.Mknod(target, st.Mode, int(st.Rdev)); err != nil {
			return &os.PathError{Op: "mknod", Path: target, Err: err}
		}
	}
	return setAttributes(target, info)
}

// setAttributes gives a copy owner, mode and time, in this order: changing the owner clears set-user-ID bits.
func setAttributes(target string, info fs.FileInfo) error {
	st := stat(info)
	if err := os.Lchown(target, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(target, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: target, Err: err}
	}
	return os.Chtimes(target, info.ModTime(), info.ModTime())
}

func (c *copier) restoreDirTimes() error {
	for i := len(c.dirs) - 1; i >= 0; i-- {
		if err := os.Chtimes(c.dirs[i].path, c.dirs[i].time, c.dirs[i].time); err != nil {
			return err
		}
	}
	return nil
}

func mkdir(path string, mode fs.FileMode) error {
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrExist) {
		if info, serr := os.Lstat(path); serr == nil && info.IsDir() {
			return nil
		}
	}
	return err
}

// copyFile copies the bytes of a regular file; the kernel does it where it can (copy_file_range).
func copyFile(path, target string) (n int64, err error) {
	in, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}
