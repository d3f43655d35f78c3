// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"crypto/rand"
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

	"kindling/host/debian"
	"kindling/host/diskimage"
	"kindling/host/initramfs"
	"kindling/host/qemu"
	"kindling/host/report"
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
	handoff, err := stage0.Check(guest)
	boot := stage0Boot{handoff: handoff}
	if err == nil {
		err = boot.read(guest)
	}
	if err = errors.Join(err, guest.Close()); err != nil {
		return machine{}, usageError("--stage0-image %s: %s", image, err)
	}
	disk := qemu.Drive{Path: filepath.Join(r.dir.Disks(), "stage0.qcow2"), Format: qemu.FormatQCOW2, Interface: qemu.InterfaceIDE}
	if names := r.cmd.Extra.Names(); len(names) == 0 && !r.cmd.Stage0Copy {
		err = qemuImg(ctx, "create", "-q", "-f", "qcow2", "-F", imageFormat(boot.header), "-b", image, disk.Path)
	} else {
		disk.Path, disk.Format = filepath.Join(r.dir.Disks(), "stage0.img"), qemu.FormatRaw
		if err = qemuImg(ctx, "convert", "-f", imageFormat(boot.header), "-O", "raw", image, disk.Path); err == nil && len(names) > 0 {
			err = r.request(ctx, disk.Path, handoff)
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
	handoff stage0.Handoff
	header  []byte // the first bytes of the image
	itself  bool   // GRUB is on it
	kernel  []byte // /boot/vmlinuz, nil without one
	agent   []byte // its /init, if that is the agent
}

func (b *stage0Boot) read(guest *diskimage.Image) (err error) {
	const largest = 64 << 20
	b.header = guest.Header()
	if b.itself, err = guest.BootsGRUB(); err != nil || b.itself {
		return err
	}
	if b.kernel, err = guest.ReadFile("boot/vmlinuz", largest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.agent, err = nil, nil
	if b.handoff == stage0.HandoffAgent {
		b.agent, err = guest.ReadFile("kindling/init", largest) // it is there from the agent's first second on
	}
	return err
}

// imageFormat is QEMU's name of an image's format.
func imageFormat(header []byte) string {
	if bytes.HasPrefix(header, []byte("QFI\xfb")) {
		return string(qemu.FormatQCOW2)
	}
	return string(qemu.FormatRaw)
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
	return guest.Apply(ctx, work.Changes)
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

// stage0Machine is a machine with that disk. It boots by itself if GRUB is on the disk; otherwise with a kernel: that of
// the disk, or for the agent, which brings an initramfs with modules, the embedded default's.
func (r *run) stage0Machine(ctx context.Context, disk qemu.Drive, boot stage0Boot) (machine, error) {
	accel, err := r.accel(ctx)
	if err != nil {
		return machine{}, err
	}
	o := qemu.Options{
		Binary: r.cmd.Boot.QemuCmd, MemoryMiB: int(r.cmd.Boot.QemuRAM), Cores: int(r.cmd.Boot.Cores), Accel: accel, CPU: r.cmd.CPU,
		Machine: machineType + ",graphics=off", NIC: &qemu.NIC{Model: "e1000"}, Drives: []qemu.Drive{disk},
	}
	if !boot.itself {
		if err := r.stage0Kernel(ctx, boot, &o); err != nil {
			return machine{}, err
		}
	}
	m, err := r.virtual(ctx, o)
	m.watch = watch.DefaultOptions(accel == qemu.AccelTCG)
	if info, err := os.Stat(disk.Path); err == nil {
		m.media = append(m.media, report.Medium{Name: "stage0", Path: r.dir.Rel(disk.Path), Size: info.Size()})
	}
	return m, err
}

// stage0Kernel gives the machine a kernel.
func (r *run) stage0Kernel(ctx context.Context, boot stage0Boot, o *qemu.Options) (err error) {
	line := qemu.Cmdline{Args: []string{"console=ttyS0"}}
	switch {
	case r.cmd.Boot.Kernel != "":
		o.Kernel = r.cmd.Boot.Kernel
	case boot.kernel != nil:
		o.Kernel = filepath.Join(r.dir.Disks(), "vmlinuz")
		err = os.WriteFile(o.Kernel, boot.kernel, 0o644)
	case boot.agent == nil:
		err = usageError("the image has neither GRUB nor /boot/vmlinuz: name a kernel with --kernel")
	}
	if err != nil {
		return err
	}
	if boot.agent == nil {
		line.Root = "/dev/sda1"
		line.Args = append(line.Args, "init=/init", "rw")
		o.Append, err = line.Render()
		return err
	}
	layers := []initramfs.Layer{initramfs.Files(append(initramfs.EarlyDevices(), initramfs.Regular("init", 0o755, boot.agent))...)}
	if o.Kernel == "" {
		var modules []initramfs.File
		if o.Kernel, modules, err = r.debianKernel(ctx, boot.agent); err != nil {
			return err
		}
		layers = append(layers, initramfs.Files(modules...))
		r.notes = append(r.notes, "the image has no kernel: booting Debian's")
	}
	o.Initrd = filepath.Join(r.dir.Disks(), "stage0.cpio")
	if _, err := initramfs.Create(ctx, o.Initrd, layers...); err != nil {
		return err
	}
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return err
	}
	line.Args = append(line.Args, "kindling.resume", "kindling.seed="+hex.EncodeToString(seed))
	if r.cmd.Distfiles != "" {
		server, err := r.serve(ctx, r.cmd.Distfiles)
		if err != nil {
			return usageError("%s", err)
		}
		line.Args = append(line.Args, "kindling.mirrors=http://10.0.2.2:"+strconv.Itoa(server.Port()))
	}
	o.Append, err = line.Render()
	return err
}

// debianKernel is the embedded default's kernel for an agent, and the modules that it needs.
func (r *run) debianKernel(ctx context.Context, agent []byte) (string, []initramfs.File, error) {
	program, err := elf.NewFile(bytes.NewReader(agent))
	if err != nil {
		return "", nil, usageError("the image's /init: %s", err)
	}
	arch := "i386"
	if program.Machine == elf.EM_X86_64 {
		arch = "amd64"
	}
	dir, err := cacheDir(r.cmd.Cache)
	if err != nil {
		return "", nil, err
	}
	cache, err := debian.Open(dir)
	if err != nil {
		return "", nil, err
	}
	kernel, err := cache.Kernel(ctx, arch, r.say)
	if err != nil {
		return "", nil, err
	}
	modules, err := kernel.Modules(append(debian.DefaultModules(), debian.StorageModules()...))
	if err != nil {
		return "", nil, err
	}
	files := []initramfs.File{
		initramfs.Regular(modules.DepPath(), 0o644, modules.Dep), initramfs.Regular(modules.LoadPath(), 0o644, modules.Load),
	}
	for _, m := range modules.Modules {
		files = append(files, initramfs.HostFile(m.Path, 0o644, m.Source))
	}
	return kernel.Image, files, nil
}
