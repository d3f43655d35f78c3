// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"kindling/host/debian"
	hostdemo "kindling/host/demo"
	"kindling/host/diskimage"
	"kindling/host/initramfs"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/resume"
	"kindling/host/rundir"
	"kindling/host/stage0"
	"kindling/host/watch"
	"kindling/steps/overlay"
)

// prepareResume describes the machine that goes on with the run of the folder --resume.
func (r *run) prepareResume(ctx context.Context) (machine, error) {
	dir, err := rundir.Open(string(r.cmd.Resume))
	if err != nil {
		return machine{}, usageError("%s", err)
	}
	r.dir, r.resumed = dir, true
	if r.lock, err = dir.Lock(); err != nil {
		return machine{}, diskError(err)
	}
	was, err := resume.ReadMachine(dir.Machine())
	if err != nil {
		return machine{}, diskError(err)
	}
	r.label = was.Label
	if was.AgentOff {
		return machine{}, usageError("%s: the run had no agent, and a tree's own scripts keep no journal to go on from", dir.Path())
	}
	disk, err := resume.Find(ctx, was.Disks(), diskimage.Options{Backing: true, Temp: dir.Disks()})
	if err != nil {
		return machine{}, diskError(fmt.Errorf("run %s: %w", dir.Path(), err))
	}
	m, err := r.resumeMachine(ctx, was, disk)
	if err == nil && !r.cmd.DryRun {
		err = errors.Join(r.mend(ctx, disk), r.recordResumed(disk.History))
	}
	return m, errors.Join(err, disk.Close())
}

// mend makes whole what a power cut has torn on the run's disk: the kernel that mounts it may be one that refuses that.
func (r *run) mend(ctx context.Context, disk *resume.Disk) error {
	torn := disk.Torn()
	if torn == "" {
		return nil
	}
	if err := disk.Mend(ctx); err != nil {
		return diskError(err)
	}
	line := fmt.Sprintf("a power cut has torn %s on %s: mended", torn, r.dir.Rel(disk.Path))
	r.say(line)
	r.notes = append(r.notes, line)
	return nil
}

// remember writes down what it takes to go on with the run: o is the machine with the disks that it has now.
func (r *run) remember(o qemu.Options) error {
	doc, err := r.origin()
	if err != nil {
		return err
	}
	doc.QEMU = o
	doc.QEMU.Append, doc.QEMU.Incoming, doc.QEMU.QMPSocket = "", "", "" // the first has the seed, the others were of that start
	doc.QEMU.Drives = slices.Clone(o.Drives)
	for i, d := range doc.QEMU.Drives {
		if abs, err := filepath.Abs(d.Path); err == nil {
			doc.QEMU.Drives[i].Path = abs
		}
	}
	return doc.Write(r.dir.Machine())
}

// origin is what of it was fixed when the run was begun: a run that starts from a checkpoint has it from the one before.
func (r *run) origin() (resume.Machine, error) {
	if r.source != nil {
		return resume.ReadMachine(r.source.Machine())
	}
	doc := resume.Machine{Label: r.label, AgentOff: r.agent == "", Demo: r.cmd.Tree == ""}
	for _, m := range r.mirrors {
		doc.Mirrors = append(doc.Mirrors, m.dir)
	}
	if r.stage0 != nil {
		doc.AgentOff, doc.Demo, doc.KernelArch = r.stage0.handoff != stage0.HandoffAgent, r.stage0.demo, r.stage0.arch
	}
	if doc.Demo {
		var err error
		if doc.Cache, err = cacheDir(r.cmd.Cache); err != nil {
			return doc, err
		}
		if doc.KernelArch == "" {
			doc.KernelArch = r.cmd.kernelArch()
		}
	}
	return doc, nil
}

// resumeMachine is the machine that the run had, with what boots its disk now.
func (r *run) resumeMachine(ctx context.Context, was resume.Machine, disk *resume.Disk) (machine, error) {
	next := disk.History.Next()
	if next == 0 {
		return machine{}, usageError("run %s: all its %d steps are done: there is nothing to resume", r.dir.Path(), disk.History.Total)
	}
	line := fmt.Sprintf("resuming at step %d of %d, with what is on %s", next, disk.History.Total, r.dir.Rel(disk.Path))
	r.say(line)
	r.notes = append(r.notes, line)
	accel, err := r.accel(ctx)
	if err != nil {
		return machine{}, err
	}
	o := was.QEMU
	o.Accel, o.Kernel, o.Initrd, o.Append = accel, "", "", ""
	if err := r.resumeBoot(ctx, was, disk, &o); err != nil {
		return machine{}, err
	}
	earlier, err := report.Read(r.dir.Report())
	if err == nil {
		r.earlier = earlier.Earlier
		earlier.Earlier = nil
		r.earlier = append(r.earlier, earlier)
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.notes = append(r.notes, err.Error())
	}
	m, err := r.virtual(ctx, o)
	m.watch = watch.DefaultOptions(accel == qemu.AccelTCG)
	if was.Demo {
		m.watch = demoWatch(accel)
	}
	m.media = r.drives(o)
	return m, err
}

// drives lists a machine's disks for the report.
func (r *run) drives(o qemu.Options) []report.Medium {
	var media []report.Medium
	for _, d := range o.Drives {
		if info, err := os.Stat(d.Path); err == nil {
			media = append(media, report.Medium{Name: filepath.Base(d.Path), Path: r.dir.Rel(d.Path), Size: info.Size()})
		}
	}
	return media
}

// resumeBoot says what the machine boots: the disk itself once the run has put GRUB on it, otherwise a kernel.
func (r *run) resumeBoot(ctx context.Context, was resume.Machine, disk *resume.Disk, o *qemu.Options) error {
	itself, err := disk.BootsItself()
	if err != nil {
		return err
	}
	if itself && disk.Path == o.Drives[0].Path { // a BIOS boots from the first disk
		r.notes = append(r.notes, "booting from the disk: GRUB is on it")
		return nil
	}
	kit, err := resumeKit(ctx, r.dir.Disks(), was, disk, was.QEMU.Kernel)
	if err != nil {
		return err
	}
	line := resume.Cmdline{PartUUID: disk.Partition.PartUUID(), Args: []string{"console=ttyS0", "no_timer_check", "kindling.seed=" + seedHex()}}
	for _, folder := range was.Mirrors {
		server, err := r.serve(ctx, folder)
		if err != nil {
			return usageError("mirror %s: %s", folder, err)
		}
		line.Mirrors = append(line.Mirrors, "http://10.0.2.2:"+strconv.Itoa(server.Port()))
	}
	o.Kernel, o.Initrd = kit.kernel, kit.initramfs
	o.Append, err = line.Render()
	return err
}

// kit is what boots a machine whose disk cannot: files of the host.
type kit struct{ kernel, initramfs string }

// resumeKit makes it in a folder: the kernel that the run has built, otherwise the one that is given, and the run's
// own agent as initramfs.
func resumeKit(ctx context.Context, dir string, was resume.Machine, disk *resume.Disk, otherwise string) (kit, error) {
	agent, err := disk.Agent()
	if err != nil {
		return kit{}, usageError("image %s: %s", disk.Path, err)
	}
	k := kit{kernel: filepath.Join(dir, "resume-vmlinuz"), initramfs: filepath.Join(dir, "resume-initramfs.cpio")}
	files := append(initramfs.EarlyDevices(), initramfs.Agent(initramfs.Regular(overlay.AgentPath, 0o755, agent))...)
	layers := []initramfs.Layer{initramfs.Files(files...)}
	image, err := disk.Kernel()
	switch {
	case err == nil:
		err = os.WriteFile(k.kernel, image, 0o644)
	case !errors.Is(err, fs.ErrNotExist):
		err = diskError(err)
	case was.Demo:
		var modules initramfs.Layer
		k.kernel, modules, err = demoKernel(ctx, was)
		layers = append(layers, modules)
	case otherwise == "":
		err = usageError("image %s: no /boot/vmlinuz in it yet, and no other kernel is known", disk.Path)
	default:
		k.kernel, err = otherwise, checkKernelFile(otherwise)
	}
	if err != nil {
		return kit{}, err
	}
	_, err = initramfs.Create(ctx, k.initramfs, layers...)
	return k, err
}

// demoKernel is the embedded default's kernel and its modules.
func demoKernel(ctx context.Context, was resume.Machine) (string, initramfs.Layer, error) {
	cache, err := debian.Open(was.Cache)
	if err != nil {
		return "", nil, err
	}
	kernel, err := cache.Kernel(ctx, was.KernelArch, nil)
	if err != nil {
		return "", nil, err
	}
	modules, err := hostdemo.Modules(kernel)
	return kernel.Image, modules, err
}

// checkKernelFile reports a file that is no kernel.
func checkKernelFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return usageError("kernel: %s", err)
	}
	defer f.Close()
	head := make([]byte, 1024)
	n, err := f.Read(head)
	if err == nil {
		err = resume.CheckKernel(head[:n])
	}
	if err != nil {
		return usageError("kernel %s: %s", path, err)
	}
	return nil
}
