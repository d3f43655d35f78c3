// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"kindling/host/diskimage"
	"kindling/host/resume"
	"kindling/host/rundir"
	"kindling/host/transfer"
)

// resumeMediumCmd is "kindling resume-medium": a medium that goes on with a run on a machine of its own.
type resumeMediumCmd struct {
	Source  string   `arg:"" name:"image|run" help:"The disk that holds the run (an image, or the disk itself), or the folder of a run."`
	Out     pathName `help:"The medium to write; one of that name is replaced when it is complete." short:"o" required:"" placeholder:"FILE"`
	Kernel  string   `help:"The kernel to boot if the run has built none yet (/boot/vmlinuz)." placeholder:"FILE"`
	Console []string `help:"Consoles for the kernel, the agent's own last." default:"ttyS0;tty0" sep:";" placeholder:"DEVICE"`
}

// Help implements kong.HelpProvider.
func (resumeMediumCmd) Help() string {
	return examples(
		"kindling resume-medium /dev/sdX -o resume.img", "for the machine whose disk is here for now; then 'kindling write resume.img' to a stick",
		"kindling resume-medium disk.img -o resume.img --kernel bzImage", "for a run that has built no kernel yet",
		"kindling resume-medium kindling-runs/latest -o resume.img", "for the disk of a run in QEMU",
	)
}

// Run implements the verb.
func (c *resumeMediumCmd) Run(ctx context.Context, s streams) (err error) {
	disk, was, err := c.open(ctx)
	if err != nil {
		return orInterrupted(ctx, diskError(err))
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	next := disk.History.Next()
	if next == 0 {
		return usageError("%s: all its %d steps are done: there is nothing to resume", disk.Path, disk.History.Total)
	}
	dir, err := os.MkdirTemp("", "kindling-medium-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	otherwise := c.Kernel
	if otherwise == "" {
		otherwise = was.QEMU.Kernel
	}
	k, err := resumeKit(ctx, dir, was, disk, otherwise)
	if err != nil {
		return err
	}
	line := resume.Cmdline{PartUUID: disk.Partition.PartUUID()}
	for _, console := range c.Console {
		line.Args = append(line.Args, "console="+console)
	}
	medium := resume.Medium{Kernel: k.kernel, Initramfs: k.initramfs}
	if medium.Cmdline, err = line.Render(); err != nil {
		return usageError("%s", err)
	}
	size, err := medium.Write(ctx, string(c.Out))
	if err != nil {
		return orInterrupted(ctx, diskError(err))
	}
	p := &printer{out: s.text()}
	p.printf("%s: %s; a machine that boots from it goes on at step %d of %d\n", c.Out, transfer.Size(size), next, disk.History.Total)
	return p.err
}

// open finds the disk, and what is known of the machine.
func (c *resumeMediumCmd) open(ctx context.Context) (*resume.Disk, resume.Machine, error) {
	info, err := os.Stat(c.Source)
	if err != nil {
		return nil, resume.Machine{}, err
	}
	if !info.IsDir() {
		d, err := resume.Find(ctx, []string{c.Source}, diskimage.Options{Backing: true})
		if err != nil {
			err = fmt.Errorf("%s: %w", c.Source, err)
		}
		return d, resume.Machine{}, err
	}
	dir, err := rundir.Open(c.Source)
	if err != nil {
		return nil, resume.Machine{}, err
	}
	was, err := resume.ReadMachine(dir.Machine())
	if err != nil {
		return nil, was, err
	}
	d, err := resume.Find(ctx, was.Disks(), diskimage.Options{Backing: true})
	return d, was, err
}
