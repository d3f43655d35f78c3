// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"kindling/guest/disk"
	"kindling/guest/fhs"
	"kindling/guest/grub"
	"kindling/guest/swap"
	"kindling/internal/event"
	"kindling/steps"
)

const (
	swapPath = "/swapfile"
	initPath = "/init"
	treeInit = home + "/init.tree" // what the tree has put in the place of /init, for people
	grubPath = "/boot/grub/grub.cfg"
)

// Steps whose effect ends with a boot, or has to be seen to at every boot.
const (
	stepFHS     = "finalize_fhs"
	stepSwap    = "swap"
	stepNetwork = "get_network"
)

// finalizeFHS makes the folders and files that programs expect. The mounts are there since the agent runs; a step may
// have taken one away.
func finalizeFHS(_ context.Context, j *job) error {
	if err := mountAll(mountSpecs()); err != nil {
		return err
	}
	if err := fhs.Finalize("/"); err != nil {
		return err
	}
	j.say("mounts, folders, /etc/mtab, nameservers, users and groups are there")
	return nil
}

// makeSwap makes the swap file and puts it to use. A whole one from an earlier life is used as it is.
func makeSwap(ctx context.Context, j *job) error {
	size, err := swap.ParseSize(j.config.Get("SWAP_SIZE"))
	if err != nil {
		return fmt.Errorf("SWAP_SIZE in %s: %w", configPath, err)
	}
	if size == 0 {
		j.say("no swap is wanted")
		return nil
	}
	ready, err := swap.Ready(swapPath, size)
	if err != nil {
		return err
	}
	if !ready {
		j.say("making %s, %d MiB", swapPath, size/swap.MiB)
		var last time.Time
		err := swap.Make(ctx, swapPath, size, func(done int64) {
			if time.Since(last) >= copyTick {
				last = time.Now()
				j.agent.port.Send(event.Event{Kind: event.KindPayload, Step: j.step.ID(), Name: "swap file", Done: done, Total: size})
			}
		})
		if err != nil {
			return err
		}
	}
	if err := swap.On(swapPath); err != nil {
		return err
	}
	j.say("%s is in use", swapPath)
	return nil
}

// makeBootable lets the tree's own script install the boot loader, and then puts right what it cannot know: it takes the
// running kernel's command line for the next one's, and its own /init for the one that shall run. The agent stays /init:
// it is what goes on after a reboot, and what brings a finished system up.
func makeBootable(ctx context.Context, j *job) error {
	part, err := j.rootPartition()
	if err != nil {
		return err
	}
	err = j.script(ctx, grubInstall(part))
	if err == nil {
		err = j.fixGrub(part)
	}
	return errors.Join(err, keepInit("/")) // also behind a script that failed half-way
}

// rootPartition is the partition that the system is on, by the name that it has on this boot. It puts DISK right, which
// the scripts of the tree go by.
func (j *job) rootPartition() (disk.Name, error) {
	configured, configErr := disk.ParseName(j.config.Get("DISK"))
	part, err := partitionOf("/")
	if err != nil {
		j.say("%v; going by DISK=%s", err, j.config.Get("DISK"))
		return configured, configErr
	}
	if configErr == nil && part == configured {
		return part, nil
	}
	j.agent.note("the system is on %s on this boot: DISK was %s", part, j.config.Get("DISK"))
	return part, setConfig("/", "DISK", part.String())
}

// partitionOf is the disk or partition that the filesystem of a path is on.
func partitionOf(path string) (disk.Name, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return disk.Name{}, fmt.Errorf("disk of %s: %w", path, err)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	link, err := os.Readlink("/sys/dev/block/" + number)
	if err != nil {
		return disk.Name{}, fmt.Errorf("disk of %s: %w", path, err)
	}
	return disk.ParseName(filepath.Base(link))
}

// grubInstall is a shell function in the place of grub-install: a script that takes the name of a partition apart by a
// pattern may know some names only (the tree's leaves sdaa1 and xvda1 as they are), and a boot loader belongs on the disk.
func grubInstall(part disk.Name) string {
	whole := disk.Name{Disk: part.Disk}
	return fmt.Sprintf(`grub-install() {
    local arg n=$#
    while [ "${n}" -gt 0 ]; do
        arg=$1
        shift
        [ "${arg}" != %s ] || arg=%s
        set -- "$@" "${arg}"
        n=$((n - 1))
    done
    command grub-install "$@"
}`, part.Path(), whole.Path())
}

// fixGrub puts the kernel command line in grub.cfg right.
func (j *job) fixGrub(part disk.Name) error {
	text, err := os.ReadFile(grubPath)
	if errors.Is(err, fs.ErrNotExist) {
		j.agent.note("no %s to put right: the tree uses another boot loader", grubPath)
		return nil
	}
	if err != nil {
		return err
	}
	root := findable(part)
	fixed, found := grub.Rewrite(text, root)
	if found == 0 {
		j.agent.note("%s loads no Linux: left as it is", grubPath)
		return nil
	}
	j.say("%s: root=%s rootwait, nothing of this run", grubPath, root)
	return writeFile(grubPath, fixed)
}

// findable is what the kernel finds a partition by. Names of disks are given in the order in which drivers are ready,
// and that need not be the same at the next boot.
func findable(part disk.Name) string {
	sector := make([]byte, disk.SectorSize)
	f, err := os.Open(disk.Name{Disk: part.Disk}.Path())
	if err != nil {
		return part.Path()
	}
	defer f.Close()
	if _, err := io.ReadFull(f, sector); err != nil {
		return part.Path()
	}
	if id := disk.PartUUID(sector, part.Part); id != "" {
		return "PARTUUID=" + id
	}
	return part.Path()
}

// keepInit makes /init start the agent again, and keeps what was put there.
func keepInit(root string) error {
	init := filepath.Join(root, initPath)
	starts, err := isProgram(init, startLine(selfPath))
	if err != nil || starts {
		return err
	}
	if _, err := os.Stat(init); err == nil {
		if err := replaceFile(filepath.Join(root, treeInit), init, 0o755); err != nil {
			return err
		}
	}
	return writeStart(init, selfPath)
}

// isProgram reports whether a file is a program with that content. One that is missing is none.
func isProgram(path string, content []byte) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 || info.Size() != int64(len(content)) {
		return false, err
	}
	data, err := os.ReadFile(path)
	return bytes.Equal(data, content), err
}

// atBoot does again what a boot has undone: what earlier lives have set up, and no disk keeps.
func (a *agent) atBoot() error {
	var failed []error
	if a.isDone(stepFHS) {
		failed = append(failed, fhs.Finalize("/"))
	}
	if a.finished || a.isDone(stepSwap) { // a finished system uses whatever swap file there is, as the tree's does
		failed = append(failed, a.swapAgain())
	}
	return errors.Join(failed...)
}

// swapAgain puts the swap file to use, if it is whole. A system that has lost it runs without.
func (a *agent) swapAgain() error {
	info, err := os.Stat(swapPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // SWAP_SIZE was 0, or somebody wanted the room
	}
	if err != nil {
		return err
	}
	if ready, err := swap.Ready(swapPath, info.Size()); err != nil || !ready {
		return errors.Join(fmt.Errorf("%s is no whole swap file", swapPath), err)
	}
	return swap.On(swapPath)
}

// isDone reports whether an improvement of that name has been made. The plan can have it more than once.
func (a *agent) isDone(name string) bool {
	for _, s := range a.order {
		if s.Kind == steps.KindImprove && s.Name == name && a.state.Done[s.ID()] {
			return true
		}
	}
	return false
}
