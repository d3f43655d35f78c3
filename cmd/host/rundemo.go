// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"kindling"
	"kindling/host/debian"
	hostdemo "kindling/host/demo"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/watch"
	"kindling/steps/demo"
)

// seedSize is how many random bytes the guest's entropy pool gets on the kernel command line.
const seedSize = 32

// seedHex is a fresh seed as the kernel command line has it.
func seedHex() string {
	seed := make([]byte, seedSize)
	_, _ = rand.Read(seed) // it never fails: crypto/rand
	return hex.EncodeToString(seed)
}

// prepareDemo assembles the embedded default and starts its mirror.
func (r *run) prepareDemo(ctx context.Context) (machine, error) {
	if err := r.cmd.Net.Check(true); err != nil {
		return machine{}, usageError("%s", err)
	}
	packages, err := cacheDir(r.cmd.Cache)
	if err != nil {
		return machine{}, err
	}
	cache, err := debian.Open(packages)
	if err != nil {
		return machine{}, err
	}
	for _, w := range r.cmd.Extra.Warnings() {
		r.notes = append(r.notes, w)
		r.say("warning: " + w)
	}
	media, err := hostdemo.Assemble(ctx, hostdemo.Options{
		Dir: r.dir.Disks(), Cache: cache, Agent: r.agent, KernelArch: r.cmd.kernelArch(), Importer: kindling.PayloadImportSource,
		Variant: demo.Variant(r.cmd.Variant), Cores: int(r.cmd.Boot.Cores), Interactive: r.cmd.Boot.Interactive, Progress: r.say,
		Extra: r.cmd.Extra, Net: r.cmd.Net, Distfiles: r.cmd.Distfiles,
	})
	if _, ok := errors.AsType[*hostdemo.InputError](err); ok {
		return machine{}, usageError("assemble: %s", err)
	}
	if err != nil {
		return machine{}, fmt.Errorf("assemble: %w", err)
	}
	if err := r.recordPlan(media.Plan, media.Extra); err != nil {
		return machine{}, err
	}
	server, err := r.serve(ctx, media.MirrorDir)
	if err != nil {
		return machine{}, err
	}
	return r.demoMachine(ctx, media, server.Port())
}

// kernelArch is Debian's name of the architecture.
func (c *runCmd) kernelArch() string {
	if c.Guest == "386" {
		return "i386"
	}
	return c.Guest
}

// demoMachine describes the machine: the disk to move to first, the payload second.
func (r *run) demoMachine(ctx context.Context, media hostdemo.Media, mirrorPort int) (machine, error) {
	accel, err := r.accel(ctx)
	if err != nil {
		return machine{}, err
	}
	seed := seedHex()
	// On a loaded host the virtual timer can be too late for Linux' test of it, and "IO-APIC + timer doesn't work" is a panic.
	cmdline, err := qemu.Cmdline{Args: []string{
		"console=ttyS0", "no_timer_check", "kindling.seed=" + seed,
		"kindling.mirrors=http://10.0.2.2:" + strconv.Itoa(mirrorPort),
	}}.Render()
	if err != nil {
		return machine{}, err
	}
	target := qemu.Drive{Path: media.Target.Path, Format: qemu.FormatRaw, Interface: qemu.InterfaceIDE}
	payload := qemu.Drive{Path: media.Payload.Path, Format: qemu.FormatRaw, Interface: qemu.InterfaceIDE, Snapshot: true}
	m, err := r.virtual(ctx, qemu.Options{
		Binary: r.cmd.Boot.QemuCmd, MemoryMiB: int(r.cmd.Boot.QemuRAM), Cores: int(r.cmd.Boot.Cores), Accel: accel,
		CPU: r.cmd.CPU, NoDefaults: true, Kernel: media.Kernel.Image, Initrd: media.Initramfs.Path, Append: cmdline,
		Drives: []qemu.Drive{target, payload}, NIC: &qemu.NIC{Model: "e1000"},
	})
	if err != nil {
		return m, err
	}
	m.versions["kernel"] = media.Kernel.Release
	m.watch = demoWatch(accel)
	for _, i := range []hostdemo.Image{media.Initramfs, media.Payload, media.Target} {
		m.media = append(m.media, report.Medium{Name: i.Name, Path: r.dir.Rel(i.Path), Size: i.Size, SHA256: i.SHA256})
	}
	for _, p := range media.Packages {
		m.packages = append(m.packages, report.Package{Name: p.Name, Version: p.Version, Architecture: p.Arch, SHA256: p.SHA256})
	}
	return m, nil
}

// demoWatch are the options of any run, with less patience: no step of the embedded default is silent for long.
func demoWatch(accel qemu.Accel) watch.Options {
	o := watch.DefaultOptions(accel == qemu.AccelTCG)
	for i, rule := range o.Rules {
		o.Rules[i].Patience = min(rule.Patience, time.Minute)
	}
	return o
}
