// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package repair

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// kept are the programs that a build may remove for its own replacement before its package is safe on the disk, and
// without which nothing can be built again.
func kept() []string { return []string{"usr/bin/bash", "usr/bin/sh", "usr/bin/tar", "usr/bin/bzip2"} }

// Keep gives the programs that a build cannot do without a second name in dir, before the build begins: what it removes
// is still there then, whatever the disk has of its replacement. dir is on the same filesystem, and empty or not there.
func Keep(root, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range kept() {
		err := os.Link(filepath.Join(root, name), filepath.Join(dir, filepath.Base(name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Restore puts back what Keep has kept and is no longer in its place, for a build that has left no package. It may be
// repeated.
func Restore(root, dir string) (restored []string, err error) {
	for _, name := range kept() {
		from, to := filepath.Join(dir, filepath.Base(name)), filepath.Join(root, name)
		old, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return restored, err
		}
		now, err := os.Lstat(to)
		if err == nil && os.SameFile(old, now) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return restored, err
		}
		if err := place(to, func(tmp string) error { return os.Link(from, tmp) }); err != nil {
			return restored, err
		}
		restored = append(restored, name)
	}
	return restored, nil
}
