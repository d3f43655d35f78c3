// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"encoding/binary"
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
	inMemory, err := rootInMemory()
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
	} else if err := refuseRun(ctx, target); err != nil {
		return err
	}
	if err := j.orderWrites(ctx, target); err != nil {
		return err
	}
	if err := j.mountNewRoot(target); err != nil {
		return err
	}
	if err := j.copyRoot(ctx); err != nil {
		return err
	}
	if err := setConfig(newRoot, "DISK", target.String()); err != nil { // in memory it stays what was asked for
		return err
	}
	return j.agent.adopt(newRoot)
}

// waitTarget waits for the disk to move to. A kernel may name disks in the order in which their drivers got ready, so the
// payload disk can have the name that was meant for the target: then the one blank disk is taken, and that is said.
func (j *job) waitTarget(ctx context.Context, configured disk.Name) (disk.Name, error) {
	if taken, ok := j.agent.instead[configured]; ok { // by a move that has failed; it is blank no more
		configured = taken
	}
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
				disks = append(disks, look(n))
			}
		}
		target, err := pickTarget(configured, disks)
		if err == nil && target != configured {
			j.agent.note("DISK=%s carries the payload on this boot; moving to %s, the only disk that is free", configured, target)
			j.agent.instead[configured] = target
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

// foundDisk is a whole disk and what is on it.
type foundDisk struct {
	name    disk.Name
	content disk.Content
	text    string // why a foreign one cannot be taken
	payload bool
}

// pickTarget decides which whole disk to move to: the configured one if it is free. If it carries a payload, it cannot be
// meant: then it is the disk that the machine was booted from, or the blank one, if there is exactly one.
func pickTarget(configured disk.Name, disks []foundDisk) (disk.Name, error) {
	var free, boot []disk.Name
	seen := "it is not there: attach it"
	isPayload := false
	for _, d := range disks {
		switch {
		case d.name == configured && d.content.MayPartition():
			return configured, nil
		case d.name == configured:
			seen, isPayload = d.text, d.payload
		case d.content == disk.BuilderHex0:
			boot = append(boot, d.name)
		case d.content == disk.Blank:
			free = append(free, d.name)
		}
	}
	switch {
	case isPayload && len(boot) == 1:
		return boot[0], nil
	case isPayload && len(boot) == 0 && len(free) == 1:
		return free[0], nil
	}
	return configured, fmt.Errorf("%w: %s: %s; or set DISK to another disk", disk.ErrInUse, configured, seen)
}

// look looks at a disk; one that cannot be read or written, or is too small, is as good as foreign.
func look(n disk.Name) foundDisk {
	found := foundDisk{name: n}
	f, err := os.Open(n.Path())
	if err != nil {
		found.text = "it cannot be read: " + err.Error()
		return found
	}
	defer f.Close()
	head, tail, err := ends(f)
	if err != nil {
		found.text = "it cannot be read: " + err.Error()
		return found
	}
	found.content, found.text = disk.Recognize(head, tail)
	found.payload = bytes.HasPrefix(head, []byte(payload.Magic))
	if found.content == disk.Foreign {
		found.text = "it holds " + found.text + ": wipe its first and last MiB"
	} else if err := writable(f); err != nil {
		found.content, found.text = disk.Foreign, err.Error()
	}
	return found
}

// writable reports why a disk cannot take our partition.
func writable(f *os.File) error {
	if readOnly, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET); err == nil && readOnly != 0 {
		return errors.New("it is read-only: make it writable")
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = disk.WithPartition(make([]byte, disk.SectorSize), uint64(size)/disk.SectorSize, 0)
	}
	return err
}

// ends reads the start and the end of a disk.
func ends(f *os.File) (head, tail []byte, err error) {
	head, tail = make([]byte, disk.HeadSize), make([]byte, disk.TailSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size < disk.TailSize {
		return head[:n], nil, err
	}
	_, err = f.ReadAt(tail, size-disk.TailSize)
	return head[:n], tail, err
}

// waitDisk waits until the kernel has found the disk.
func (j *job) waitDisk(ctx context.Context, target disk.Name) error {
	began := time.Now()
	tick := j.waiting()
	for {
		f, err := os.Open(target.Path())
		if err == nil {
			return f.Close()
		}
		tick.say("waiting up to %s for disk %s", diskPatience, target)
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
	part := target.Partition(1)
	if err := refuseRun(ctx, part); err != nil {
		return target, err
	}
	if err := writeTable(target, size/disk.SectorSize); err != nil {
		return target, err
	}
	if err := dev.ReadPartitionTable(); err != nil {
		return target, fmt.Errorf("make the kernel read the partition table of %s: %w", target, err)
	}
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

// refuseRun refuses a partition that holds a run of Kindling: somebody's hours.
func refuseRun(ctx context.Context, part disk.Name) error {
	holds, err := holdsRun(ctx, part.Path())
	if err != nil {
		return fmt.Errorf("look for a run of Kindling on %s: %w", part, err)
	}
	if !holds {
		return nil
	}
	return fmt.Errorf("%w: %s holds a run of Kindling; go on with it (kernel parameter %s), or wipe the disk's first MiB",
		disk.ErrInUse, part, paramResume)
}

// writeTable puts our partition table on a disk. What is on it is looked at once more, with the disk held exclusively.
func writeTable(target disk.Name, sectors uint64) (err error) {
	f, err := os.OpenFile(target.Path(), os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("open disk %s for itself: %w", target, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head, tail, err := ends(f)
	if err != nil {
		return fmt.Errorf("read disk %s: %w", target, err)
	}
	if content, text := disk.Recognize(head, tail); !content.MayPartition() {
		return fmt.Errorf("%w: %s holds %s", disk.ErrInUse, target, text)
	}
	id, err := randomID()
	if err != nil {
		return fmt.Errorf("a number for disk %s: %w", target, err)
	}
	sector, err := disk.WithPartition(head[:disk.SectorSize], sectors, id)
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

// randomID is a number that is not 0. The random pool was waited for, with an end, so this does not wait.
func randomID() (uint32, error) {
	f, err := os.Open("/dev/urandom")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [4]byte
	_, err = io.ReadFull(f, b[:])
	return binary.LittleEndian.Uint32(b[:]) | 1, err
}

// rootOptions are how the root on a disk is mounted. With ext4's ordered data, without delayed allocation, and without
// extents that count as unwritten until their data is there (Linux' default from 5.6 on), what a loss of power leaves is
// what some moment before it had: when a program is seen to be gone, the package that was packed before it was removed is
// there in full. Otherwise a step that replaces bash could leave neither.
const rootOptions = "nodelalloc,dioread_lock"

// orderWrites makes rootOptions the default of the filesystem, for boots on which the kernel mounts it.
func (j *job) orderWrites(ctx context.Context, part disk.Name) error {
	tune2fs, err := lookup("tune2fs")
	if err != nil {
		j.agent.note("%v: a loss of power while bash, tar or bzip2 are replaced may leave a system without them", err)
		return nil
	}
	return j.run(ctx, tune2fs, "tune2fs", "-o", "nodelalloc", "-E", "mount_opts=dioread_lock", part.Path())
}

// mountNewRoot mounts the partition and makes room on it.
func (j *job) mountNewRoot(part disk.Name) error {
	if err := makeDir(newRoot); err != nil {
		return err
	}
	if _, err := mount.Mount(part.Path(), newRoot, "ext4", rootOptions, 0); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(newRoot, &st); err != nil {
		return fmt.Errorf("what %s holds: %w", part, err)
	}
	if st.Fsid != (unix.Fsid{}) && st.Fsid == j.agent.cleared {
		j.say("removing what the move that failed has left on %s", part)
		return aside(newRoot, os.RemoveAll)
	}
	if err := moveToExternal(newRoot); err != nil {
		return fmt.Errorf("move what is on %s to external: %w", part, err)
	}
	j.agent.cleared = st.Fsid
	return nil
}

// moveToExternal moves what is in a root to its external/.
func moveToExternal(root string) error {
	external := filepath.Join(root, "external")
	if err := os.MkdirAll(external, 0o755); err != nil {
		return err
	}
	return aside(root, func(path string) error { return os.Rename(path, filepath.Join(external, filepath.Base(path))) })
}

// aside does something with everything in a root that a move to it must not find there.
func aside(root string, do func(path string) error) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "external" || e.Name() == "lost+found" {
			continue
		}
		if err := do(filepath.Join(root, e.Name())); err != nil {
			return err
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
	log := filepath.Join(logDir, j.step.ID()+".log") // it has grown since it was copied
	return replaceFile(filepath.Join(newRoot, log), log, 0o644)
}

// adopt makes the copy of the journal on a new root the journal: from here on the disk has the truth. The one in memory
// stays open, for a move that fails at its very end.
func (a *agent) adopt(root string) error {
	j, _, err := journal.Open(filepath.Join(root, journalPath))
	if err != nil {
		return err
	}
	a.inMemory = a.journal
	a.journal, a.root, a.switchTo = j, root, root
	return nil
}

// forsake takes back what adopt has done: the step has failed, and the run goes on in memory. The disk's journal says so as
// well, if it can be written: a good end of the step that stands there and could not be synced is overwritten by that.
func (a *agent) forsake(end event.Event) {
	_ = errors.Join(a.journal.Append(end), a.journal.Close()) // the disk has failed, and has been told of
	a.journal, a.inMemory = a.inMemory, nil
	a.root, a.switchTo = "/", ""
}

// switchRoot goes on in the new root: everything of the old one is deleted, and the agent on the disk takes over. It
// returns only with an error.
func (a *agent) switchRoot(ctx context.Context) error {
	flushCtx, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	if err := a.port.Flush(flushCtx); err != nil {
		a.say("%v (going on without)", err)
	}
	if err := writeFile(filepath.Join(a.switchTo, seqPath), life{a.boot, a.port.Seq(), a.environ}.bytes()); err != nil {
		return err
	}
	if err := mount.Unmount("/tmp", false, true); err != nil {
		a.say("%v", err)
	}
	return mount.SwitchRoot(a.switchTo, selfPath)
}
