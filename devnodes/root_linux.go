// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package devnodes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// Root is the FS below an os.Root: no symbolic link leads out of it. Making device nodes needs CAP_MKNOD.
type Root struct {
	Dir *os.Root
}

// State implements FS.
func (r Root) State(name string) (State, error) {
	info, err := r.Dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	s := State{Mode: info.Mode(), Size: info.Size(), Exists: true}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && s.Mode&fs.ModeDevice != 0 {
		s.Major, s.Minor = unix.Major(sys.Rdev), unix.Minor(sys.Rdev)
	}
	return s, nil
}

// Mkdir implements FS.
func (r Root) Mkdir(name string) error {
	if err := r.Dir.Mkdir(name, 0o755); err != nil {
		return err
	}
	return r.Dir.Chmod(name, 0o755) // whatever the umask
}

// Remove implements FS.
func (r Root) Remove(name string) error { return r.Dir.Remove(name) }

// Symlink implements FS.
func (r Root) Symlink(target, name string) error { return r.Dir.Symlink(target, name) }

// Rename implements FS.
func (r Root) Rename(from, to string) error { return r.Dir.Rename(from, to) }

// Mknod implements FS.
func (r Root) Mknod(name string, n Node) error {
	mode := uint32(unix.S_IFCHR)
	if n.Type == Block {
		mode = unix.S_IFBLK
	}
	// os.Root has no call for it: open the directory inside the root, and name only the last part.
	dir, err := r.Dir.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // nothing was written to it
	err = unix.Mknodat(int(dir.Fd()), path.Base(name), mode|n.Mode, int(unix.Mkdev(n.Major, n.Minor)))
	if err != nil {
		return fmt.Errorf("mknod %s %d:%d: %w", name, n.Major, n.Minor, err)
	}
	if err := r.Dir.Chmod(name, fs.FileMode(n.Mode)); err != nil { // whatever the umask
		return errors.Join(err, r.Dir.Remove(name))
	}
	return nil
}
