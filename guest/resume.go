// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"kindling/guest/disk"
	"kindling/guest/journal"
)

// resume goes on with the run on a disk of this machine when the kernel command line asks for it: a run that was moved
// to disk and then cut short cannot be booted from that disk before a boot loader is on it. It returns at once when it
// is not asked for, or when this already is the disk.
func (a *agent) resume(ctx context.Context) error {
	inMemory, err := rootInMemory()
	if err != nil || !a.cmdline.resume || !inMemory {
		return err
	}
	began := time.Now()
	for {
		part, err := findRun()
		if err != nil {
			return err
		}
		if part.Part != 0 {
			a.note("going on with the run on %s", part)
			if _, err := mount.Mount(part.Path(), newRoot, "ext4", rootOptions, 0); err != nil {
				return err
			}
			a.switchTo = newRoot
			return a.switchRoot(ctx)
		}
		if time.Since(began) > wrongPatience {
			return fmt.Errorf("%s: no disk holds a run to go on with", paramResume)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(diskPoll):
		}
	}
}

// rootInMemory reports whether the root filesystem is an initramfs: a tmpfs, or a ramfs, which the kernel takes when its
// command line has a root=. (mount.IsTmpRamfs does not know the latter on 386, where the type is a negative number.)
func rootInMemory() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil {
		return false, fmt.Errorf("statfs /: %w", err)
	}
	magic := uint32(st.Type)
	return magic == unix.TMPFS_MAGIC || magic == unix.RAMFS_MAGIC, nil
}

// findRun looks for a partition with a run on it; the zero Name if there is none yet.
func findRun() (disk.Name, error) {
	if err := makeDir(newRoot); err != nil {
		return disk.Name{}, err
	}
	names, err := listDisks()
	if err != nil {
		return disk.Name{}, err
	}
	for _, n := range names {
		if n.Part == 0 {
			continue
		}
		if holds, err := holdsRun(n); err == nil && holds {
			return n, nil
		}
	}
	return disk.Name{}, nil
}

// movedTo reports whether a run has arrived on the disk that has this journal. The move copies the journal like every
// other file, and writes its own end there last: without that end the disk holds a part of a system.
func movedTo(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	state, err := journal.Read(f)
	const move = "-jump-move_disk"
	return err == nil && !strings.HasSuffix(state.Started, move) && !strings.HasSuffix(state.Failed, move), err
}

// holdsRun reports whether a partition has an ext4 filesystem with a journal of ours. It is mounted for that, read-only
// and without its own journal being replayed.
func holdsRun(part disk.Name) (holds bool, err error) {
	if kind, _, err := mount.FSFromBlock(part.Path()); err != nil || kind != "ext4" {
		return false, nil // what cannot be read, or is no filesystem, holds no run
	}
	at := home + "/look"
	if err := makeDir(at); err != nil {
		return false, err
	}
	if _, err := mount.Mount(part.Path(), at, "ext4", "noload", unix.MS_RDONLY); err != nil {
		return false, nil // what cannot be mounted is nothing to go on with
	}
	defer func() { err = errors.Join(err, mount.Unmount(at, false, false)) }()
	if moved, err := movedTo(filepath.Join(at, journalPath)); err != nil || !moved {
		return false, err
	}
	for _, name := range []string{journalPath, planConfig, selfPath} {
		if _, err := os.Stat(filepath.Join(at, name)); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}
