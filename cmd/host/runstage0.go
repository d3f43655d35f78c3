// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"kindling/host/diskimage"
	"kindling/host/qemu"
	"kindling/host/resume"
	"kindling/host/stage0"
	"kindling/host/tree"
	"kindling/host/watch"
	"kindling/steps/demo"
)

// checkStage0 reports options that do not go with a disk that is bootstrapped already.
func (c *runCmd) checkStage0() error {
	b := c.Boot
	switch {
	case !b.Qemu || b.Chroot || b.Bwrap || b.BareMetal:
		return usageError("--stage0-image boots an image in QEMU: give --qemu, and no other mode")
	case c.From != "" || c.Variant != "" || b.Repo != "" || b.EarlyPreseed != "" || c.Agent != "":
		return usageError("--stage0-image goes on with what is in the image; --from, --variant, --repo, --early-preseed and --agent are for other runs")
	}
	return nil
}

// prepareStage0 describes the machine that boots a bootstrapped disk. The image itself is never written: the machine has
// a qcow2 image over it, or, where something has to change on it beforehand, a copy.
func (r *run) prepareStage0(ctx context.Context) (machine, error) {
	image, err := filepath.Abs(string(r.cmd.Stage0Image))
	if err != nil {
		return machine{}, err
	}
	guest, err := diskimage.Open(ctx, image, diskimage.Options{Temp: r.dir.Disks()})
	if err != nil {
		return machine{}, usageError("--stage0-image: %s", err)
	}
	boot := &stage0Boot{}
	if boot.handoff, err = stage0.Check(guest); err == nil {
		err = r.readStage0(ctx, image, guest, boot)
	}
	names := r.cmd.Extra.Names()
	if err == nil && len(names) == 0 {
		err = r.recordStage0(guest, boot.handoff)
	}
	if err = errors.Join(err, guest.Close()); err != nil {
		return machine{}, usageError("--stage0-image %s: %s", image, err)
	}
	r.stage0 = boot
	disk := qemu.Drive{Path: filepath.Join(r.dir.Disks(), "stage0.qcow2"), Format: qemu.FormatQCOW2, Interface: qemu.InterfaceIDE}
	if len(names) == 0 && !r.cmd.Stage0Copy {
		err = qemuImg(ctx, "create", "-q", "-f", "qcow2", "-F", boot.format, "-b", image, disk.Path)
	} else {
		disk.Path, disk.Format = filepath.Join(r.dir.Disks(), "stage0.img"), qemu.FormatRaw
		if err = qemuImg(ctx, "convert", "-f", boot.format, "-O", "raw", image, disk.Path); err == nil && len(names) > 0 {
			err = r.request(ctx, disk.Path, boot.handoff)
		}
	}
	if err != nil {
		return machine{}, assembleError(ctx, err)
	}
	r.cmd.Keep = true // what the run makes is on that disk
	return r.stage0Machine(ctx, disk, boot)
}

// stage0Boot is what is known of a disk that is to be booted.
type stage0Boot struct {
	handoff  stage0.Handoff
	format   string // of the image, as QEMU names it
	itself   bool   // GRUB is on it, and boots it
	kit      kit    // otherwise: its own kernel, and for the agent an initramfs
	partUUID string
	demo     bool   // the kernel is that of the embedded default
	arch     string // and its architecture, as Debian names it
}

// readStage0 finds out how the disk boots: by itself, or with a kernel, for which the agent needs an initramfs.
func (r *run) readStage0(ctx context.Context, image string, guest *diskimage.Image, b *stage0Boot) (err error) {
	b.format, b.partUUID = string(qemu.FormatRaw), guest.Partition.PartUUID()
	if bytes.HasPrefix(guest.Header(), []byte("QFI\xfb")) {
		b.format = string(qemu.FormatQCOW2)
	}
	if b.itself, err = guest.BootsGRUB(); err != nil || b.itself {
		return err
	}
	disk := &resume.Disk{Image: guest, Path: image}
	kernel, err := disk.Kernel()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	given := r.cmd.Boot.Kernel
	if b.handoff == stage0.HandoffAgent {
		was := resume.Machine{}
		if b.demo = kernel == nil && given == ""; b.demo {
			if was, err = r.demoOf(disk); err != nil {
				return err
			}
			b.arch = was.KernelArch
		}
		b.kit, err = resumeKit(ctx, r.dir.Disks(), was, disk, given)
		return err
	}
	switch {
	case given != "":
		b.kit.kernel = given
	case kernel == nil:
		return errors.New("it has neither GRUB nor /boot/vmlinuz: name a kernel with --kernel")
	default:
		b.kit.kernel = filepath.Join(r.dir.Disks(), "stage0-vmlinuz")
		return os.WriteFile(b.kit.kernel, kernel, 0o644)
	}
	return nil
}

// demoOf says which of the embedded default's kernels runs the agent of a disk.
func (r *run) demoOf(disk *resume.Disk) (resume.Machine, error) {
	m := resume.Machine{Demo: true, KernelArch: "i386"}
	agent, err := disk.Agent()
	if err != nil {
		return m, err
	}
	program, err := elf.NewFile(bytes.NewReader(agent))
	if err != nil {
		return m, fmt.Errorf("its agent: %w", err)
	}
	if program.Machine == elf.EM_X86_64 {
		m.KernelArch = "amd64"
	}
	r.notes = append(r.notes, "the image has no kernel: booting Debian's")
	m.Cache, err = cacheDir(r.cmd.Cache)
	return m, err
}

// qemuImg runs qemu-img.
func qemuImg(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("qemu-img is not here: apt-get install qemu-utils")
	}
	if err != nil {
		return fmt.Errorf("qemu-img %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// request puts the extra roots that are asked for, and what they need, onto a copy of the disk.
func (r *run) request(ctx context.Context, copied string, handoff stage0.Handoff) (err error) {
	fsys, closeTree, err := r.stage0Tree()
	if err != nil {
		return err
	}
	defer closeTree()
	for _, name := range r.cmd.Extra.Names() {
		if err := tree.CheckExtra(fsys, name); err != nil {
			return err
		}
	}
	guest, err := diskimage.Open(ctx, copied, diskimage.Options{Write: true, Temp: r.dir.Disks()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guest.Close()) }()
	work, err := stage0.Prepare(guest, handoff, stage0.Request{Names: r.cmd.Extra.Names(), Tree: fsys})
	if err != nil {
		return err
	}
	for _, note := range work.Notes {
		r.notes = append(r.notes, note)
		r.say(note)
	}
	for _, f := range work.Missing {
		data, err := r.stage0Distfile(f.Name, f.SHA256)
		if err != nil {
			return err
		}
		if data == nil {
			continue // the guest downloads it
		}
		if err := guest.Apply(ctx, stage0.AddDistfile(guest, f.Name, data)); err != nil {
			return err
		}
	}
	if err := guest.Apply(ctx, work.Changes); err != nil {
		return err
	}
	return r.recordStage0(guest, handoff)
}

// stage0Tree is where the extra roots come from: a tree, folders, or the embedded default.
func (r *run) stage0Tree() (fs.FS, func(), error) {
	if r.cmd.Tree != "" {
		t, err := openTree(r.cmd.Tree, &r.cmd.Extra)
		if err != nil {
			return nil, nil, err
		}
		return t.FS(), func() { _ = t.Close() }, nil
	}
	folders, err := r.cmd.Extra.Folders()
	if err != nil {
		return nil, nil, err
	}
	extras, err := tree.OpenExtras(folders)
	if err != nil {
		return nil, nil, err
	}
	fsys, err := extras.Over(tree.Mount(demo.Tree(), demo.ExtraRoots()))
	if err != nil {
		return nil, nil, errors.Join(err, extras.Close())
	}
	return fsys, func() { _ = extras.Close() }, nil
}

// stage0Distfile is a distfile of the host, verified; nil if there is none, and the guest may download it.
func (r *run) stage0Distfile(name, sum string) ([]byte, error) {
	dir := r.cmd.Distfiles
	if dir == "" && r.cmd.Tree != "" {
		dir = filepath.Join(r.cmd.Tree, tree.Distfiles)
	}
	var data []byte
	err := fs.ErrNotExist
	if dir != "" {
		data, err = os.ReadFile(filepath.Join(dir, name))
	} else if embedded, packErr := demo.Distfiles(); packErr == nil {
		for _, d := range embedded {
			if d.Name == name {
				data, err = d.Data, nil
			}
		}
	}
	switch got := sha256.Sum256(data); {
	case errors.Is(err, fs.ErrNotExist) && !r.cmd.Boot.ExternalSources:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("distfile %s: %w", name, err)
	case hex.EncodeToString(got[:]) != sum:
		return nil, fmt.Errorf("distfile %s: sha256 %x instead of %s: delete it and fetch it again", name, got, sum)
	}
	return data, nil
}

// stage0Machine is a machine with that disk.
func (r *run) stage0Machine(ctx context.Context, disk qemu.Drive, boot *stage0Boot) (machine, error) {
	accel, err := r.accel(ctx)
	if err != nil {
		return machine{}, err
	}
	o := qemu.Options{
		Binary: r.cmd.Boot.QemuCmd, MemoryMiB: int(r.cmd.Boot.QemuRAM), Cores: int(r.cmd.Boot.Cores), Accel: accel, CPU: r.cmd.CPU,
		Machine: machineType + ",graphics=off", NIC: &qemu.NIC{Model: "e1000"}, Drives: []qemu.Drive{disk},
		Kernel: boot.kit.kernel, Initrd: boot.kit.initramfs,
	}
	if o.Append, err = r.stage0Cmdline(ctx, boot); err != nil {
		return machine{}, err
	}
	m, err := r.virtual(ctx, o)
	m.watch = watch.DefaultOptions(accel == qemu.AccelTCG)
	m.media = r.drives(o)
	return m, err
}

// stage0Cmdline is the kernel's command line, "" if the disk boots by itself.
func (r *run) stage0Cmdline(ctx context.Context, boot *stage0Boot) (string, error) {
	switch {
	case boot.itself:
		return "", nil
	case boot.handoff != stage0.HandoffAgent:
		return qemu.Cmdline{Root: "/dev/sda1", Args: []string{"console=ttyS0", "init=/init", "rw"}}.Render()
	}
	line := resume.Cmdline{PartUUID: boot.partUUID, Args: []string{"console=ttyS0", "no_timer_check", "kindling.seed=" + seedHex()}}
	if r.cmd.Distfiles != "" {
		server, err := r.serve(ctx, r.cmd.Distfiles)
		if err != nil {
			return "", usageError("%s", err)
		}
		line.Mirrors = append(line.Mirrors, "http://10.0.2.2:"+strconv.Itoa(server.Port()))
	}
	return line.Render()
}
