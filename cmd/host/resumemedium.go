// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/resume"
	"kindling/host/transfer"
)

// resumeMediumCmd is "kindling resume-medium": a medium that goes on with a run on a machine of its own.
type resumeMediumCmd struct {
	Source  string           `arg:"" name:"image|run" help:"The disk that holds the run (an image, or the disk itself), or the folder of a run."`
	Out     pathName         `help:"The medium to write; one of that name is replaced when it is complete." short:"o" required:"" placeholder:"FILE"`
	Kernel  string           `help:"The kernel to boot if the run has built none yet (/boot/vmlinuz)." placeholder:"FILE"`
	Format  imagefile.Format `help:"The format of the image, raw or qcow2; without it the beginning of the file decides." enum:",raw,qcow2" default:"" placeholder:"FORMAT"`
	Allow   []string         `help:"A file or folder outside the run folder that the record of the run may name; repeatable." sep:"none" placeholder:"PATH"`
	Console []string         `help:"Consoles for the kernel, the agent's own last." default:"ttyS0;tty0" sep:";" placeholder:"DEVICE"`
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
	disk, k, err := c.open(ctx)
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
	k.dir = dir
	boot, err := k.make(ctx, disk)
	if err != nil {
		return err
	}
	line := resume.Cmdline{PartUUID: disk.Partition.PartUUID()}
	for _, console := range c.Console {
		line.Args = append(line.Args, "console="+console)
	}
	medium := resume.Medium{Kernel: boot.kernel, Initramfs: boot.initramfs}
	if medium.Cmdline, err = line.Render(); err != nil {
		return inputError(err)
	}
	size, err := medium.Write(ctx, string(c.Out))
	if err != nil {
		return orInterrupted(ctx, diskError(err))
	}
	p := &printer{out: s.text()}
	p.printf("%s: %s; a machine that boots from it goes on at step %d of %d\n", c.Out, transfer.Size(size), next, disk.History.Total)
	return p.err
}

// open finds the disk, and what is known of what boots it.
func (c *resumeMediumCmd) open(ctx context.Context) (*resume.Disk, kitMaker, error) {
	k := kitMaker{otherwise: c.Kernel}
	info, err := os.Stat(c.Source)
	if err != nil {
		return nil, k, err
	}
	if !info.IsDir() {
		chain, err := imagefile.Named(c.Source, c.Format)
		if err != nil {
			return nil, k, err
		}
		d, err := resume.Find(ctx, []imagefile.Chain{chain}, diskimage.Options{})
		if err != nil {
			err = fmt.Errorf("%s: %w", c.Source, err)
		}
		return d, k, err
	}
	if c.Format != "" {
		return nil, k, usageError(runFormat)
	}
	dir, m, err := openRun(c.Source)
	if err != nil {
		return nil, k, err
	}
	defer dir.Close()
	k.demo, k.arch = m.Demo, m.KernelArch
	if k.otherwise, err = recordedKernel(dir, m, c.Kernel, c.Allow); err != nil {
		return nil, k, err
	}
	disks, err := disksOf(dir, m, c.Allow)
	if err != nil {
		return nil, k, err
	}
	d, err := resume.Find(ctx, disks, diskimage.Options{})
	return d, k, err
}
