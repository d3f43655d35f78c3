// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"kindling"
	"kindling/host/debian"
	hostdemo "kindling/host/demo"
	"kindling/host/machine"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/host/watch"
	"kindling/steps/demo"
)

// prepareDemo assembles the embedded default and starts its mirror.
func (r *run) prepareDemo(ctx context.Context) (guest, error) {
	if err := r.cmd.Net.Check(true); err != nil {
		return guest{}, inputError(err)
	}
	packages, err := cacheDir(r.cmd.Cache)
	if err != nil {
		return guest{}, err
	}
	cache, err := debian.Open(packages)
	if err != nil {
		return guest{}, err
	}
	for _, w := range r.cmd.Extra.Warnings() {
		r.notes = append(r.notes, w)
		r.say("warning: " + w)
	}
	media, err := hostdemo.Assemble(ctx, hostdemo.Options{
		Dir: r.dir.At(rundir.Disks), Cache: cache, Agent: r.agent, KernelArch: r.cmd.kernelArch(), Importer: kindling.PayloadImportSource,
		Variant: demo.Variant(r.cmd.Variant), Cores: int(r.cmd.Boot.Cores), Interactive: r.cmd.Boot.Interactive, Progress: r.say,
		Extra: r.cmd.Extra, Net: r.cmd.Net, Distfiles: r.cmd.Distfiles,
	})
	if _, ok := errors.AsType[*hostdemo.InputError](err); ok {
		return guest{}, usageError("assemble: %s", err)
	}
	if err != nil {
		return guest{}, fmt.Errorf("assemble: %w", err)
	}
	if err := r.recordPlan(media.Plan, media.Extra); err != nil {
		return guest{}, err
	}
	if len(media.Unread) > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%s from the cache %s: owners, names, modes and sizes of the files were checked, their "+
			"contents were not; sums of packages are those of the .deb files when apt fetched them", strings.Join(media.Unread, " and "), packages))
	}
	if _, err := r.serve(ctx, media.MirrorDir, true); err != nil {
		return guest{}, err
	}
	return r.demoMachine(ctx, media)
}

// kernelArch is Debian's name of the architecture.
func (c *runCmd) kernelArch() string {
	if c.Guest == "386" {
		return "i386"
	}
	return c.Guest
}

// demoMachine describes the machine: the disk to move to first, the payload second.
func (r *run) demoMachine(ctx context.Context, media hostdemo.Media) (guest, error) {
	m, err := r.facts(ctx)
	if err != nil {
		return guest{}, err
	}
	// On a loaded host the virtual timer can be too late for Linux' test of it, and "IO-APIC + timer doesn't work" is a panic.
	m.Append, err = qemu.Cmdline{Args: []string{
		"console=ttyS0", "no_timer_check", "kindling.mirrors=" + strings.Join(r.mirrorURLs(), ","),
	}}.Render()
	if err != nil {
		return guest{}, err
	}
	m.Demo, m.KernelArch, m.Initrd = true, r.cmd.kernelArch(), machine.Below(r.dir.Path(), media.Initramfs.Path)
	m.Disks = []machine.Disk{r.disk(raw(media.Target.Path), false), r.disk(raw(media.Payload.Path), true)}
	r.outside = r.cmd.GuestNet == guestNetFull
	g, err := r.virtual(ctx, m, media.Kernel.Image)
	if err != nil {
		return g, err
	}
	g.versions["kernel"] = media.Kernel.Release
	g.watch = demoWatch(m.Accel)
	for _, i := range []hostdemo.Image{media.Initramfs, media.Payload, media.Target} {
		g.media = append(g.media, report.Medium{Name: i.Name, Path: r.dir.Rel(i.Path), Size: i.Size, SHA256: i.SHA256})
	}
	for _, p := range media.Packages {
		g.packages = append(g.packages, report.Package{Name: p.Name, Version: p.Version, Architecture: p.Arch, SHA256: p.SHA256})
	}
	return g, nil
}

// demoWatch are the options of any run, with less patience: no step of the embedded default is silent for long.
func demoWatch(accel qemu.Accel) watch.Options {
	o := watch.DefaultOptions(accel == qemu.AccelTCG)
	for i, rule := range o.Rules {
		o.Rules[i].Patience = min(rule.Patience, time.Minute)
	}
	return o
}
