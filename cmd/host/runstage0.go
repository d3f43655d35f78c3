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
	"path/filepath"

	"github.com/google/renameio/v2"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/machine"
	"kindling/host/qemu"
	"kindling/host/resume"
	"kindling/host/rundir"
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
func (r *run) prepareStage0(ctx context.Context) (guest, error) {
	image, err := filepath.Abs(string(r.cmd.Stage0Image))
	if err != nil {
		return guest{}, err
	}
	chain, err := imagefile.Named(image, r.cmd.Stage0Format)
	if err != nil {
		return guest{}, usageError("--stage0-image: %s", err)
	}
	opened, err := diskimage.Open(ctx, chain, diskimage.Options{})
	if err != nil {
		return guest{}, orInterrupted(ctx, usageError("--stage0-image: %s", err))
	}
	boot := &stage0Boot{}
	if boot.handoff, err = stage0.Check(opened); err == nil {
		err = r.readStage0(ctx, image, opened, boot)
	}
	names := r.cmd.Extra.Names()
	if err == nil && len(names) == 0 {
		err = r.recordStage0(opened, boot.handoff)
	}
	if err = errors.Join(err, opened.Close()); err != nil {
		return guest{}, usageError("--stage0-image %s: %s", image, err)
	}
	r.stage0 = boot
	disk := raw(r.dir.At("disks/stage0.img"))
	if len(names) == 0 && !r.cmd.Stage0Copy {
		disk = append(imagefile.Chain{{Path: r.dir.At("disks/stage0.qcow2"), Format: imagefile.QCOW2}}, chain...)
		err = imagefile.CreateLayer(ctx, disk[0].Path, chain)
	} else {
		err = imagefile.Copy(ctx, chain, disk[0].Path)
		if err == nil && len(names) > 0 {
			err = r.request(ctx, disk, boot)
		}
	}
	if err != nil {
		return guest{}, assembleError(ctx, err)
	}
	r.cmd.Keep = true // what the run makes is on that disk
	return r.stage0Machine(ctx, disk, boot)
}

// stage0Boot is what is known of a disk that is to be booted.
type stage0Boot struct {
	handoff  stage0.Handoff
	itself   bool // GRUB is on it, and boots it
	kit      kit  // otherwise: its own kernel, and for the agent an initramfs
	partUUID string
	demo     bool   // the kernel is that of the embedded default
	arch     string // and its architecture, as Debian names it
	missing  bool   // the guest has to download something
}

// readStage0 finds out how the disk boots: by itself, or with a kernel, for which the agent needs an initramfs.
func (r *run) readStage0(ctx context.Context, image string, guest *diskimage.Image, b *stage0Boot) (err error) {
	b.partUUID = guest.Partition.PartUUID()
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
		if b.demo = kernel == nil && given == ""; b.demo {
			if b.arch, err = r.demoOf(disk); err != nil {
				return err
			}
		}
		k := kitMaker{dir: r.dir.At(rundir.Disks), demo: b.demo, arch: b.arch, cache: r.cmd.Cache, otherwise: given}
		b.kit, err = k.make(ctx, disk)
		return err
	}
	switch {
	case given != "":
		b.kit.kernel = given
	case kernel == nil:
		return errors.New("it has neither GRUB nor /boot/vmlinuz: name a kernel with --kernel")
	default:
		b.kit.kernel = r.dir.At("disks/stage0-vmlinuz")
		return renameio.WriteFile(b.kit.kernel, kernel, 0o600)
	}
	return nil
}

// demoOf says for which architecture the embedded default's kernel has to be that runs the agent of a disk.
func (r *run) demoOf(disk *resume.Disk) (arch string, err error) {
	agent, err := disk.Agent()
	if err != nil {
		return "", err
	}
	program, err := elf.NewFile(bytes.NewReader(agent))
	if err != nil {
		return "", fmt.Errorf("its agent: %w", err)
	}
	r.notes = append(r.notes, "the image has no kernel: booting Debian's")
	if program.Machine == elf.EM_X86_64 {
		return "amd64", nil
	}
	return "i386", nil
}

// request puts the extra roots that are asked for, and what they need, onto a copy of the disk.
func (r *run) request(ctx context.Context, copied imagefile.Chain, boot *stage0Boot) (err error) {
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
	guest, err := diskimage.Open(ctx, copied, diskimage.Options{Write: true, Temp: r.dir.At(rundir.Disks)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guest.Close()) }()
	work, err := stage0.Prepare(guest, boot.handoff, stage0.Request{Names: r.cmd.Extra.Names(), Tree: fsys})
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
			boot.missing = true // the guest downloads it
			continue
		}
		if err := guest.Apply(ctx, stage0.AddDistfile(guest, f.Name, data)); err != nil {
			return err
		}
	}
	if err := guest.Apply(ctx, work.Changes); err != nil {
		return err
	}
	return r.recordStage0(guest, boot.handoff)
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

// readBelow reads a regular file of a folder.
func readBelow(dir, name string) ([]byte, error) {
	folder, err := tree.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	return fs.ReadFile(folder, name)
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
		data, err = readBelow(dir, name)
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
func (r *run) stage0Machine(ctx context.Context, disk imagefile.Chain, boot *stage0Boot) (guest, error) {
	m, err := r.facts(ctx)
	if err != nil {
		return guest{}, err
	}
	m.AgentOff, m.Demo, m.KernelArch = boot.handoff != stage0.HandoffAgent, boot.demo, boot.arch
	m.Disks = []machine.Disk{r.disk(disk, false)}
	if m.Append, err = r.stage0Cmdline(ctx, boot); err != nil {
		return guest{}, err
	}
	r.bootedWith(&m, qemu.Options{Kernel: boot.kit.kernel, Initrd: boot.kit.initramfs, Append: m.Append})
	r.outside = r.cmd.GuestNet == guestNetFull || boot.missing && r.cmd.Distfiles == ""
	g, err := r.virtual(ctx, m, boot.kit.kernel)
	g.watch = watch.DefaultOptions(m.Accel == qemu.AccelTCG)
	g.media = r.drives(m.Options(r.dir.Path(), r.cmd.Boot.QemuCmd))
	return g, err
}

// stage0Cmdline is the kernel's command line, "" if the disk boots by itself.
func (r *run) stage0Cmdline(ctx context.Context, boot *stage0Boot) (string, error) {
	switch {
	case boot.itself:
		return "", nil
	case boot.handoff != stage0.HandoffAgent:
		return qemu.Cmdline{Root: "/dev/sda1", Args: []string{"console=ttyS0", "init=/init", "rw"}}.Render()
	}
	if r.cmd.Distfiles != "" {
		if _, err := r.serve(ctx, r.cmd.Distfiles, true); err != nil {
			return "", err
		}
	}
	return resume.Cmdline{PartUUID: boot.partUUID, Args: []string{"console=ttyS0", "no_timer_check"}, Mirrors: r.mirrorURLs()}.Render()
}
