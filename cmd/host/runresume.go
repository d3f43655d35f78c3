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
	"strings"

	"github.com/google/renameio/v2"

	"kindling/host/debian"
	hostdemo "kindling/host/demo"
	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/initramfs"
	"kindling/host/machine"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/resume"
	"kindling/host/rundir"
	"kindling/host/tree"
	"kindling/host/watch"
	"kindling/steps/overlay"
)

// openRun opens an existing run folder and reads what is recorded of its machine.
func openRun(path string) (*rundir.Dir, machine.Machine, error) {
	dir, err := rundir.Open(path)
	if err != nil {
		return nil, machine.Machine{}, inputError(err)
	}
	data, err := dir.Read(rundir.Machine, machine.MaxSize)
	if errors.Is(err, fs.ErrNotExist) { // a chroot, or a run of which no machine ever ran
		return dir, machine.Machine{}, nil
	}
	var m machine.Machine
	if err == nil {
		m, err = machine.Decode(data)
	}
	if err != nil {
		return nil, m, errors.Join(usageError("run %s: %s", path, err), dir.Close())
	}
	return dir, m, nil
}

// disksOf are the disks of a run on which its guest wrote. Files of the folder are plain files of it, those outside are
// given on the command line; one that is gone is for the reader of the disks to report.
func disksOf(dir *rundir.Dir, m machine.Machine, given machine.Given) ([]imagefile.Chain, error) {
	var chains []imagefile.Chain
	for _, d := range m.Written() {
		local, outside := machine.Machine{Disks: []machine.Disk{d}}.Files(dir.Path())
		if err := given.Confirm(outside); err != nil {
			return nil, usageError("run %s: %s", dir.Path(), err)
		}
		for _, file := range local {
			if err := dir.Check(file, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, inputError(err)
			}
		}
		chains = append(chains, d.Chain(dir.Path()))
	}
	return chains, nil
}

// given are the paths outside a run folder that this command line names.
func (c *runCmd) given() machine.Given {
	given := append(machine.Given{c.Boot.Kernel, string(c.Stage0Image)}, c.Allow...)
	if c.Boot.Target != "" && c.Boot.Target != "target" {
		given = append(given, c.Boot.Target)
	}
	for _, m := range c.Boot.Mirrors {
		if dir, found := strings.CutPrefix(m, "file://"); found {
			given = append(given, dir)
		}
	}
	return given
}

// prepareResume describes the machine that goes on with the run of the folder --resume.
func (r *run) prepareResume(ctx context.Context) (guest, error) {
	dir, was, err := openRun(string(r.cmd.Resume))
	if err != nil {
		return guest{}, err
	}
	r.dir, r.resumed = dir, true
	if r.lock, err = dir.Lock(); err != nil {
		return guest{}, diskError(err)
	}
	switch r.label = was.Label; {
	case was.Schema == 0:
		return guest{}, usageError("%s: it is not the run of a virtual machine, or none ever ran: begin it anew", dir.Path())
	case was.AgentOff:
		return guest{}, usageError("%s: the run had no agent, and a tree's own scripts keep no journal to go on from", dir.Path())
	}
	chains, err := disksOf(dir, was, r.cmd.given())
	if err != nil {
		return guest{}, err
	}
	disk, err := resume.Find(ctx, chains, diskimage.Options{})
	if err != nil {
		return guest{}, diskError(fmt.Errorf("run %s: %w", dir.Path(), err))
	}
	g, err := r.resumeMachine(ctx, was, disk)
	if err == nil && !r.cmd.DryRun {
		err = errors.Join(r.repairTorn(ctx, disk), r.recordResumed(disk.History))
	}
	return g, errors.Join(err, disk.Close())
}

// repairTorn makes whole what a power cut has torn on the run's disk: the kernel that mounts it may be one that refuses
// that.
func (r *run) repairTorn(ctx context.Context, disk *resume.Disk) error {
	torn := disk.Torn()
	if torn == "" {
		return nil
	}
	if err := disk.Mend(ctx); err != nil {
		return diskError(err)
	}
	line := fmt.Sprintf("a power cut has torn %s on %s: repaired", torn, r.dir.Rel(disk.Path))
	r.say(line)
	r.notes = append(r.notes, line)
	return nil
}

// remember records what it takes to go on with the run, with the disks that its machine has now.
func (r *run) remember(m machine.Machine) error {
	data, err := m.Encode()
	if err == nil {
		err = m.Check() // a record that cannot be read again is useless
	}
	if err != nil {
		return err
	}
	return r.dir.Write(rundir.Machine, data)
}

// resumeMachine is the machine that the run had, with what boots its disk now.
func (r *run) resumeMachine(ctx context.Context, was machine.Machine, disk *resume.Disk) (guest, error) {
	next := disk.History.Next()
	if next == 0 {
		return guest{}, usageError("run %s: all its %d steps are done: there is nothing to resume", r.dir.Path(), disk.History.Total)
	}
	line := fmt.Sprintf("resuming at step %d of %d, with what is on %s", next, disk.History.Total, r.dir.Rel(disk.Path))
	r.say(line)
	r.notes = append(r.notes, line)
	accel, err := r.accel(ctx)
	if err == nil {
		err = r.serveRecorded(ctx, was)
	}
	if err != nil {
		return guest{}, err
	}
	now := was
	now.Accel, now.Kernel, now.Initrd, now.Append = accel, "", "", ""
	if err := r.checkFiles(r.dir, now); err != nil {
		return guest{}, err
	}
	o := now.Options(r.dir.Path(), r.cmd.Boot.QemuCmd)
	if err := r.resumeBoot(ctx, was, disk, &o); err != nil {
		return guest{}, err
	}
	if err := r.readEarlier(); err != nil {
		r.notes = append(r.notes, err.Error())
	}
	o.Control = r.keeps()
	r.bootedWith(&now, o)
	g, err := r.virtualWith(ctx, now, o)
	g.watch = watch.DefaultOptions(accel == qemu.AccelTCG)
	if was.Demo {
		g.watch = demoWatch(accel)
	}
	g.media = r.drives(o)
	return g, err
}

// checkFiles looks at all files that a machine recorded in a run folder is about to use.
func (r *run) checkFiles(dir *rundir.Dir, m machine.Machine) error {
	local, outside := m.Files(dir.Path())
	if err := r.cmd.given().Confirm(outside); err != nil {
		return usageError("run %s: %s", dir.Path(), err)
	}
	for _, file := range local {
		if err := dir.Check(file, 0); err != nil {
			return inputError(err)
		}
	}
	return nil
}

// readEarlier reads the reports of the run's earlier lives.
func (r *run) readEarlier() error {
	earlier, err := readReport(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.earlier, earlier.Earlier = earlier.Earlier, nil
	r.earlier = append(r.earlier, earlier)
	return nil
}

// serveRecorded serves the folders that the run served, and lets its guest out if it was let out: what leads out of the
// run folder only if this command line says so, too.
func (r *run) serveRecorded(ctx context.Context, was machine.Machine) error {
	given := r.cmd.given()
	for _, m := range was.Mirrors {
		path := m
		if m = machine.Recorded(r.recorded().Path(), m); !filepath.IsAbs(m) {
			path = r.recorded().At(m)
			if err := r.recorded().Check(m, fs.ModeDir); err != nil {
				return usageError("mirror: %s", err)
			}
		} else if err := given.Confirm([]string{m}); err != nil {
			return usageError("run %s: %s; it was served to the guest", r.recorded().Path(), err)
		}
		if _, err := r.serve(ctx, path, true); err != nil {
			return err
		}
	}
	if r.outside = r.cmd.GuestNet == guestNetFull; was.Outside && !r.outside {
		return usageError("run %s: its guest reached other machines: add --guest-net full to let it again", r.recorded().Path())
	}
	return nil
}

// recorded is the folder of the run that is gone on with.
func (r *run) recorded() *rundir.Dir {
	if r.source != nil {
		return r.source
	}
	return r.dir
}

// drives lists a machine's disks for the report.
func (r *run) drives(o qemu.Options) []report.Medium {
	var media []report.Medium
	for _, d := range o.Drives {
		if info, err := os.Stat(d.Path()); err == nil {
			media = append(media, report.Medium{Name: filepath.Base(d.Path()), Path: r.dir.Rel(d.Path()), Size: info.Size()})
		}
	}
	return media
}

// resumeBoot adds what the machine boots: nothing once the run has put GRUB on its disk, otherwise a kernel.
func (r *run) resumeBoot(ctx context.Context, was machine.Machine, disk *resume.Disk, o *qemu.Options) error {
	itself, err := disk.BootsItself()
	if err != nil {
		return err
	}
	if itself && disk.Path == o.Drives[0].Path() { // a BIOS boots from the first disk
		r.notes = append(r.notes, "booting from the disk: GRUB is on it")
		return nil
	}
	k := kitMaker{dir: r.dir.At(rundir.Disks), dry: r.cmd.DryRun, demo: was.Demo, arch: was.KernelArch, cache: r.cmd.Cache}
	if k.otherwise, err = recordedKernel(r.dir, was, r.cmd.Boot.Kernel, r.cmd.given()); err != nil {
		return err
	}
	kit, err := k.make(ctx, disk)
	if err != nil {
		return err
	}
	line := resume.Cmdline{PartUUID: disk.Partition.PartUUID(), Args: []string{"console=ttyS0", "no_timer_check"}, Mirrors: r.mirrorURLs()}
	o.Kernel, o.Initrd = kit.kernel, kit.initramfs
	o.Append, err = line.Render()
	return err
}

// recordedKernel is the kernel to boot where the run has built none: the one that is given now, or the one that the run
// was begun with; "" if none is known.
func recordedKernel(dir *rundir.Dir, was machine.Machine, now string, given machine.Given) (string, error) {
	switch {
	case now != "" || was.Kernel == "":
		return now, nil
	case !filepath.IsAbs(was.Kernel):
		return dir.At(was.Kernel), dir.Check(was.Kernel, 0)
	}
	if err := given.Confirm([]string{was.Kernel}); err != nil {
		return "", usageError("run %s: %s", dir.Path(), err)
	}
	return was.Kernel, nil
}

// kit is what boots a machine whose disk cannot: files of the host.
type kit struct{ kernel, initramfs string }

// kitMaker makes it in a folder: the kernel that the run has built, otherwise the embedded default's or the one that is
// given, and the run's own agent as initramfs.
type kitMaker struct {
	dir       string
	demo      bool
	arch      string // of the embedded default's kernel, as Debian names it
	cache     pathName
	otherwise string
	dry       bool // nothing is written
}

func (k kitMaker) make(ctx context.Context, disk *resume.Disk) (kit, error) {
	agent, err := disk.Agent()
	if err != nil {
		return kit{}, usageError("image %s: %s", disk.Path, err)
	}
	out := kit{kernel: filepath.Join(k.dir, "resume-vmlinuz"), initramfs: filepath.Join(k.dir, "resume-initramfs.cpio")}
	files := append(initramfs.EarlyDevices(), initramfs.Agent(initramfs.Regular(overlay.AgentPath, 0o755, agent))...)
	layers := []initramfs.Layer{initramfs.Files(files...)}
	image, err := disk.Kernel()
	switch {
	case err == nil:
		err = k.write(out.kernel, image)
	case !errors.Is(err, fs.ErrNotExist):
		err = diskError(err)
	case k.demo:
		var modules initramfs.Layer
		out.kernel, modules, err = demoKernel(ctx, k.cache, k.arch)
		layers = append(layers, modules)
	case k.otherwise == "":
		err = usageError("image %s: no /boot/vmlinuz in it yet, and no other kernel is known", disk.Path)
	default:
		out.kernel, err = k.otherwise, checkKernelFile(k.otherwise)
	}
	if err != nil {
		return kit{}, err
	}
	if !k.dry {
		_, err = initramfs.Create(ctx, out.initramfs, layers...)
	}
	return out, err
}

// write replaces whatever has the name: a link is not followed.
func (k kitMaker) write(path string, data []byte) error {
	if k.dry {
		return nil
	}
	return renameio.WriteFile(path, data, 0o600)
}

// demoKernel is the embedded default's kernel and its modules, from the user's own cache.
func demoKernel(ctx context.Context, cacheFolder pathName, arch string) (string, initramfs.Layer, error) {
	folder, err := cacheDir(cacheFolder)
	if err != nil {
		return "", nil, err
	}
	cache, err := debian.Open(folder)
	if err != nil {
		return "", nil, err
	}
	kernel, err := cache.Kernel(ctx, arch, nil)
	if err != nil {
		return "", nil, err
	}
	modules, err := hostdemo.Modules(kernel)
	return kernel.Image, modules, err
}

// checkKernelFile reports a file that is no kernel.
func checkKernelFile(path string) error {
	f, err := tree.OpenFile(path)
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
