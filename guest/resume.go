// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"kindling/guest/disk"
	"kindling/guest/journal"
	"kindling/internal/ext4"
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
		part, err := findRun(ctx)
		if err != nil {
			return err
		}
		if part.Part != 0 {
			a.note("going on with the run on %s", part)
			torn, err := mountRun(ctx, part.Path(), newRoot)
			if err != nil {
				return err
			}
			if torn != "" {
				a.note("a power cut has torn %s on %s: mended", torn, part)
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
func findRun(ctx context.Context) (disk.Name, error) {
	names, err := listDisks()
	if err != nil {
		return disk.Name{}, err
	}
	for _, n := range names {
		if n.Part == 0 {
			continue
		}
		if holds, err := holdsRun(ctx, n.Path()); err == nil && holds {
			return n, nil
		}
	}
	return disk.Name{}, nil
}

// mountRun mounts the root of a run. If the kernel refuses it for something that a power cut has torn, that is mended, and
// it says what it was.
func mountRun(ctx context.Context, path, at string) (torn string, err error) {
	if err := makeDir(at); err != nil {
		return "", err
	}
	_, refused := mount.Mount(path, at, "ext4", rootOptions, 0)
	if refused == nil {
		return "", nil
	}
	if torn, err = mend(ctx, path); err != nil {
		return "", fmt.Errorf("%w: %w", refused, err)
	}
	if torn == "" {
		return "", refused
	}
	_, err = mount.Mount(path, at, "ext4", rootOptions, 0)
	return torn, err
}

// mend mends the filesystem on a partition and says what was torn, "" if nothing was.
func mend(ctx context.Context, path string) (torn string, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fsys, err := ext4.Open(f)
	if err == nil {
		fsys, err = fsys.Recovered(ctx)
	}
	if err != nil {
		return "", err
	}
	return fsys.Torn(), errors.Join(fsys.Mend(f), f.Sync())
}

// movedTo reports whether a run has arrived on the disk that has this journal. The move copies the journal like every
// other file, and writes its own end there last: without that end the disk holds a part of a system.
func movedTo(r io.Reader) (bool, error) {
	state, err := journal.Read(r)
	const move = "-jump-move_disk"
	return err == nil && !strings.HasSuffix(state.Started, move) && !strings.HasSuffix(state.Failed, move), err
}

// holdsRun reports whether a partition has an ext4 filesystem with a run of ours. The partition is read only, with what is
// in the filesystem's own journal taken into account: as they stand, folders can be torn, and the run's journal be old. An
// error means that there may be one.
func holdsRun(ctx context.Context, path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, nil // what cannot be read holds no run
	}
	defer f.Close()
	fsys, err := ext4.Open(f)
	if errors.Is(err, ext4.ErrUnsupported) {
		return false, err
	}
	if err != nil {
		return false, nil // nor does what is no filesystem
	}
	if now, err := fsys.Recovered(ctx); err == nil {
		fsys = now // otherwise it is damaged, and may hold a run all the same
	} else if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	var own io.Reader
	for _, name := range []string{planConfig, selfPath, journalPath} {
		in, err := fsys.Content(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		own = in
	}
	return movedTo(own)
}
