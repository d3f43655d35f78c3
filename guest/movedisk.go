// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"github.com/u-root/u-root/pkg/mount/block"
	"golang.org/x/sys/unix"

	"kindling/guest/disk"
	"kindling/guest/journal"
	"kindling/internal/event"
	"kindling/internal/payload"
)

const (
	newRoot  = "/newroot"
	copyTick = time.Second // between two progress events of the copy
)

// moveDisk moves the root filesystem from memory to the configured disk. A whole disk gets a partition from 1 GiB on
// and an ext4 filesystem; on a partition the filesystem stays, and what is in it moves to external/, as the tree does.
// The machine goes on there: when this returns, journal and root are those of the disk, and the executor switches.
func moveDisk(ctx context.Context, j *job) error {
	inMemory, err := mount.IsTmpRamfs("/")
	if err != nil {
		return fmt.Errorf("what the root filesystem is: %w", err)
	}
	if !inMemory {
		return errors.New("the root filesystem is on a disk already")
	}
	target, err := disk.ParseName(j.config.Get("DISK"))
	if err != nil {
		return fmt.Errorf("DISK in %s: %w", configPath, err)
	}
	if target, err = j.waitTarget(ctx, target); err != nil {
		return err
	}
	if target.Part == 0 {
		if target, err = j.partition(ctx, target); err != nil {
			return err
		}
		if err := setConfig("DISK", target.String()); err != nil {
			return err
		}
	}
	if err := j.mountNewRoot(target); err != nil {
		return err
	}
	if err := j.copyRoot(ctx); err != nil {
		return err
	}
	return j.agent.adopt(newRoot)
}

// waitTarget waits for the disk to move to. A kernel may name disks in the order in which their drivers got ready, so the
// payload disk can have the name that was meant for the target: then the one blank disk is taken, and that is said.
func (j *job) waitTarget(ctx context.Context, configured disk.Name) (disk.Name, error) {
	if err := j.waitDisk(ctx, configured); err != nil || configured.Part != 0 {
		return configured, err
	}
	began := time.Now()
	for {
		names, err := listDisks()
		if err != nil {
			return configured, err
		}
		var disks []foundDisk
		for _, n := range names {
			if n.Part == 0 {
				disks = append(disks, foundDisk{n, diskContent(n.Path())})
			}
		}
		target, err := pickTarget(configured, disks)
		if err == nil && target != configured {
			j.agent.note("DISK=%s carries the payload on this boot; moving to %s, the only blank disk", configured, target)
		}
		if err == nil || time.Since(began) > wrongPatience {
			return target, err
		}
		select {
		case <-ctx.Done():
			return configured, ctx.Err()
		case <-time.After(diskPoll):
		}
	}
}

// content is what a disk was found to hold.
type content int

const (
	contentOther content = iota
	contentBlank
	contentPayload
)

type foundDisk struct {
	name    disk.Name
	content content
}

// pickTarget decides which whole disk to move to: the configured one, unless it carries a payload; then the blank one,
// if there is exactly one.
func pickTarget(configured disk.Name, disks []foundDisk) (disk.Name, error) {
	var blank []disk.Name
	for _, d := range disks {
		if d.name == configured && d.content != contentPayload {
			return configured, nil
		}
		if d.content == contentBlank {
			blank = append(blank, d.name)
		}
	}
	if len(blank) != 1 {
		return configured, fmt.Errorf("%w: %s carries a payload, and there are %d blank disks to take in its place: set DISK to another disk",
			disk.ErrInUse, configured, len(blank))
	}
	return blank[0], nil
}

// blankSize is how much of a disk must be zero for it to count as blank: where partition tables, boot loaders and
// filesystems have their first marks.
const blankSize = 1 << 20

// diskContent looks at the start of a disk; what cannot be read is not blank.
func diskContent(path string) content {
	f, err := os.Open(path)
	if err != nil {
		return contentOther
	}
	defer f.Close()
	head := make([]byte, blankSize)
	n, err := io.ReadFull(f, head)
	switch {
	case n >= len(payload.Magic) && string(head[:len(payload.Magic)]) == payload.Magic:
		return contentPayload
	case err == nil && bytes.Equal(head, make([]byte, blankSize)):
		return contentBlank
	}
	return contentOther
}

// waitDisk waits until the kernel has found the disk.
func (j *job) waitDisk(ctx context.Context, target disk.Name) error {
	began := time.Now()
	for {
		f, err := os.Open(target.Path())
		if err == nil {
			return f.Close()
		}
		if time.Since(began) > diskPatience {
			return fmt.Errorf("disk %s has not shown up in %s: %w", target, diskPatience, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(diskPoll):
		}
	}
}

// partition makes the partition and its filesystem on a whole disk.
func (j *job) partition(ctx context.Context, target disk.Name) (disk.Name, error) {
	dev, err := block.Device(target.String())
	if err != nil {
		return target, fmt.Errorf("disk %s: %w", target, err)
	}
	size, err := dev.Size()
	if err != nil {
		return target, fmt.Errorf("size of disk %s: %w", target, err)
	}
	if err := writeTable(target, size/disk.SectorSize); err != nil {
		return target, err
	}
	if err := dev.ReadPartitionTable(); err != nil {
		return target, fmt.Errorf("make the kernel read the partition table of %s: %w", target, err)
	}
	part := target.Partition(1)
	if err := j.waitDisk(ctx, part); err != nil {
		return target, err
	}
	mkfs, err := lookup("mkfs.ext4")
	if err != nil {
		return target, err
	}
	j.say("making ext4 on %s", part)
	return part, j.run(ctx, mkfs, "mkfs.ext4", "-q", "-F", "-F", part.Path())
}

// writeTable puts our partition table on a disk that may have one.
func writeTable(target disk.Name, sectors uint64) (err error) {
	f, err := os.OpenFile(target.Path(), os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("open disk %s for itself: %w", target, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, 4096)
	if _, err := io.ReadFull(f, head); err != nil {
		return fmt.Errorf("read disk %s: %w", target, err)
	}
	if err := mayWrite(head, target, sectors); err != nil {
		return err
	}
	sector, err := disk.WithPartition(head[:disk.SectorSize], sectors)
	if err != nil {
		return fmt.Errorf("disk %s: %w", target, err)
	}
	if _, err := f.WriteAt(sector, 0); err != nil {
		return fmt.Errorf("write partition table of %s: %w", target, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write partition table of %s: %w", target, err)
	}
	return nil
}

// mayWrite decides from the first bytes of a disk whether it may get a partition table.
func mayWrite(head []byte, target disk.Name, sectors uint64) error {
	if string(head[:len(payload.Magic)]) == payload.Magic {
		return fmt.Errorf("%w: %s carries a payload; set DISK to another disk", disk.ErrInUse, target)
	}
	if len(mount.FindMagics(head)) > 0 {
		return fmt.Errorf("%w: %s carries a filesystem on the whole disk; wipe it first, or set DISK to another disk",
			disk.ErrInUse, target)
	}
	if disk.ReadTable(head[:disk.SectorSize], sectors) == disk.TableOthers {
		return fmt.Errorf("%w: %s has partitions; wipe its table first, or set DISK to another disk or to one of them",
			disk.ErrInUse, target)
	}
	return nil
}

// mountNewRoot mounts the partition and moves what is in it to external/.
func (j *job) mountNewRoot(part disk.Name) error {
	if err := makeDir(newRoot); err != nil {
		return err
	}
	if _, err := mount.Mount(part.Path(), newRoot, "ext4", "", 0); err != nil {
		return err
	}
	external := filepath.Join(newRoot, "external")
	if err := os.MkdirAll(external, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(newRoot)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "external" || e.Name() == "lost+found" {
			continue
		}
		if err := os.Rename(filepath.Join(newRoot, e.Name()), filepath.Join(external, e.Name())); err != nil {
			return fmt.Errorf("move what is on %s to external: %w", part, err)
		}
	}
	return nil
}

func (j *job) copyRoot(ctx context.Context) error {
	var last time.Time
	began := time.Now()
	done, err := disk.CopyTree(ctx, "/", newRoot, func(c disk.Copied) {
		if time.Since(last) >= copyTick {
			last = time.Now()
			j.agent.port.Send(event.Event{Kind: event.KindPayload, Step: j.step.ID(), Name: "root filesystem", Done: c.Bytes})
		}
	})
	if err != nil {
		return err
	}
	j.say("copied %d files, %d bytes in %.1f s", done.Files, done.Bytes, time.Since(began).Seconds())
	return nil
}

// adopt makes the copy of the journal on a new root the journal: from here on the disk has the truth.
func (a *agent) adopt(root string) error {
	j, _, err := journal.Open(filepath.Join(root, journalPath))
	if err != nil {
		return err
	}
	old := a.journal
	a.journal, a.root, a.switchTo = j, root, root
	return old.Close()
}

// switchRoot goes on in the new root: everything of the old one is deleted, and the agent on the disk takes over. It
// returns only with an error.
func (a *agent) switchRoot(ctx context.Context) error {
	flushCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := a.port.Flush(flushCtx); err != nil {
		return err
	}
	if err := mount.Unmount("/tmp", false, true); err != nil {
		a.say("%v", err)
	}
	return mount.SwitchRoot(a.switchTo, selfPath)
}
