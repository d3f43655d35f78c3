// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package demo assembles the media of the embedded default: a kernel and a userland from Debian's packages, the demo
// tree of package steps/demo, a payload image, a folder for the mirror, and a blank disk to move to.
//
// It takes the way of a real tree: the plan says which distfile goes where, the configuration is rootfs.py's with
// Kindling's keys, the initramfs is what `jump: linux` would hand to the kernel. Given the same packages, the images are
// the same bytes everywhere. It starts nothing; cmd/host does.
package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"kindling/host/debian"
	"kindling/host/initramfs"
	"kindling/host/options"
	"kindling/host/tree"
	"kindling/internal/payload"
	"kindling/steps"
	"kindling/steps/demo"
	"kindling/steps/overlay"
)

// TargetSize is the size of the disk that the guest moves to, in bytes. The file is sparse; the guest's partition starts
// at 1 GiB, as a real tree's does.
const TargetSize = 3 << 30

// Cache is where the guest's kernel and userland come from. Package debian has it.
type Cache interface {
	Userland(ctx context.Context, p debian.Progress) (debian.Tree, error)
	Kernel(ctx context.Context, arch string, p debian.Progress) (debian.Kernel, error)
}

// Options say what to assemble.
type Options struct {
	Dir        string       // where the media go; it exists
	Cache      Cache        // kernel and userland
	Agent      string       // the agent's program file, for the kernel's architecture
	KernelArch string       // Debian's name of the kernel's architecture, "i386" or "amd64"
	Importer   []byte       // source of payload-import
	Variant    demo.Variant // how the run shall fail
	Cores      int          // of the guest

	Net       options.Net   // how the agent configures the guest's network
	Extra     options.Extra // extra roots: of the embedded default, or of folders
	Distfiles string        // folder of what those of folders need; "" for none

	// Interactive asks the person at the guest's console what to do about a failed step.
	Interactive bool
	Progress    debian.Progress
}

// Image is one medium that was made.
type Image struct {
	Name   string // "initramfs", "payload", "target"
	Path   string
	Size   int64
	SHA256 string // empty for the blank target
}

// Media is everything that a run needs.
type Media struct {
	Kernel    debian.Kernel
	Initramfs Image
	Payload   Image
	Target    Image
	MirrorDir string // folder with the distfiles that the guest downloads
	Plan      *steps.Plan
	Extra     []*steps.Plan
	Packages  []debian.Package
	// Unread are what came from the cache as an earlier run has left it: "kernel", "userland".
	Unread []string
}

// Assemble makes the media.
func Assemble(ctx context.Context, o Options) (Media, error) {
	var m Media
	userland, err := o.Cache.Userland(ctx, o.Progress)
	if err != nil {
		return m, err
	}
	if m.Kernel, err = o.Cache.Kernel(ctx, o.KernelArch, o.Progress); err != nil {
		return m, err
	}
	m.Packages = slices.Concat(userland.Packages, m.Kernel.Packages)
	if userland.Cached {
		m.Unread = append(m.Unread, "userland")
	}
	if m.Kernel.Cached {
		m.Unread = append(m.Unread, "kernel")
	}
	if err := o.onTree(ctx, userland, &m); err != nil {
		return m, err
	}
	m.Target = Image{Name: "target", Path: filepath.Join(o.Dir, "target.img"), Size: TargetSize}
	return m, blankDisk(m.Target)
}

// onTree makes everything that depends on the tree, with its extra roots beside it.
func (o Options) onTree(ctx context.Context, userland debian.Tree, m *Media) error {
	folders, err := o.Extra.Folders()
	if err != nil {
		return err
	}
	extras, err := tree.OpenExtras(folders)
	if err != nil {
		return o.input(err)
	}
	defer extras.Close()
	fsys, err := extras.Over(tree.Mount(demo.Tree(), demo.ExtraRoots()))
	if err == nil {
		err = o.plan(fsys, m)
	}
	if err != nil {
		return o.input(fmt.Errorf("embedded tree: %w", err))
	}
	if err := o.placeDistfiles(ctx, m); err != nil {
		return err
	}
	m.Initramfs, err = o.initramfs(ctx, userland, fsys, m)
	return err
}

// InputError is an error in what the user has given: an extra root, or a distfile of one.
type InputError struct{ err error }

// Error implements error.
func (e *InputError) Error() string { return e.err.Error() }

// Unwrap is the error itself.
func (e *InputError) Unwrap() error { return e.err }

// input is an error that the user's extra roots have made, if there are any; everything else is embedded.
func (o Options) input(err error) error {
	if len(o.Extra.Names())+len(o.Extra.ExtraRoot) == 0 {
		return err
	}
	return &InputError{err}
}

// plan plans the main steps and the extra roots behind them.
func (o Options) plan(fsys fs.FS, m *Media) error {
	config := o.config()
	if err := o.Extra.Config(config); err != nil {
		return err
	}
	names := o.Extra.Names()
	for _, name := range names {
		if err := tree.CheckExtra(fsys, name); err != nil {
			return err
		}
	}
	var err error
	if m.Plan, err = steps.NewPlan(fsys, steps.MainRoot, config); err != nil {
		return err
	}
	if m.Extra, err = steps.NewExtraPlans(fsys, names, m.Plan.Config); err != nil {
		return err
	}
	for _, p := range m.Extra {
		for _, missing := range p.Missing(fsys, func(steps.Step) bool { return false }) {
			return errors.New(missing)
		}
	}
	return nil
}

// config is bootstrap.cfg: that of a kernel bootstrap in QEMU with a payload.
func (o Options) config() *steps.Config {
	r := &options.Rootfs{Arch: "x86", Qemu: true, Cores: options.Count(o.Cores), Interactive: o.Interactive, SerialConsole: true}
	p := &options.Payload{Payload: "on", PayloadStage: "auto"}
	c := p.Config(r)
	o.Net.AddTo(c)
	c.Set("JOBS", "1") // as the early kernels have it; improve: finalize_job_count ends that
	return c
}

// placeDistfiles puts every distfile onto the medium that the plan names, and what the guest checks into the
// configuration.
func (o Options) placeDistfiles(ctx context.Context, m *Media) error {
	media := steps.MediaOptions{Payload: true, PayloadStage: steps.PayloadStageAuto}
	files, err := steps.Distfiles(append([]*steps.Plan{m.Plan}, m.Extra...), media)
	if err != nil {
		return o.input(fmt.Errorf("embedded tree: %w", err))
	}
	have, err := demo.Distfiles()
	if err != nil {
		return err
	}
	m.MirrorDir = filepath.Join(o.Dir, "mirror")
	if err := os.MkdirAll(m.MirrorDir, 0o755); err != nil {
		return err
	}
	var entries []payload.Entry
	for _, f := range files {
		data, err := o.distfile(f, have)
		if err != nil {
			return o.input(err)
		}
		switch f.Medium {
		case steps.MediumPayload, steps.MediumPayloadEarly:
			entries = append(entries, payload.Entry{Name: f.Name, Size: int64(len(data)), SHA256: f.SHA256,
				Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }})
		case steps.MediumNetwork:
			if err := renameio.WriteFile(filepath.Join(m.MirrorDir, f.Name), data, 0o644); err != nil {
				return err
			}
		default:
			return fmt.Errorf("embedded tree: %s goes to medium %s, which it does not have", f.Name, f.Medium)
		}
	}
	return o.payload(ctx, m, entries)
}

// distfile is the content of a distfile: one of the embedded ones, or one of the folder.
func (o Options) distfile(f steps.Distfile, have []demo.Distfile) ([]byte, error) {
	if i := slices.IndexFunc(have, func(d demo.Distfile) bool { return d.Name == f.Name }); i >= 0 {
		return have[i].Data, nil
	}
	needed := fmt.Sprintf("distfile %s, which %s/%s needs", f.Name, f.Root, f.NeededBy)
	if o.Distfiles == "" {
		return nil, fmt.Errorf("%s: name the folder that has it with --distfiles", needed)
	}
	folder, err := tree.OpenFolder(o.Distfiles)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", needed, err)
	}
	defer folder.Close()
	data, err := fs.ReadFile(folder, f.Name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", needed, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, fmt.Errorf("%s: sha256 %x instead of %s", needed, sum, f.SHA256)
	}
	return data, nil
}

// payload writes the payload image and adds its keys to the configuration.
func (o Options) payload(ctx context.Context, m *Media, entries []payload.Entry) error {
	m.Payload = Image{Name: "payload", Path: filepath.Join(o.Dir, "payload.img")}
	sum := sha256.New()
	var summary payload.Summary
	err := writeFile(m.Payload.Path, func(w io.Writer) (err error) {
		summary, err = payload.Write(ctx, io.MultiWriter(w, sum), entries)
		return err
	})
	if err != nil {
		return err
	}
	m.Payload.Size, m.Payload.SHA256 = summary.Size, hex.EncodeToString(sum.Sum(nil))
	if err := options.AddPayload(m.Plan.Config, 0, summary.ID); err != nil {
		return err
	}
	if o.Variant == demo.PayloadCut {
		return o.cut(m, entries)
	}
	return nil
}

// cut shortens the payload image so that it ends inside its last file.
func (o Options) cut(m *Media, entries []payload.Entry) error {
	_, headers, err := payload.Layout(entries)
	if err != nil {
		return err
	}
	last := headers[len(headers)-1]
	const sector = 512
	size := (last.Offset + last.Size/2) / sector * sector
	if size <= last.Offset {
		return errors.New("the last file of the payload is too small to be cut")
	}
	m.Payload.Size, m.Payload.SHA256 = size, ""
	return os.Truncate(m.Payload.Path, size)
}

// initramfs writes what the kernel unpacks: userland, modules, the tree, the agent as /init.
func (o Options) initramfs(ctx context.Context, userland debian.Tree, fsys fs.FS, m *Media) (Image, error) {
	modules, err := Modules(m.Kernel)
	if err != nil {
		return Image{}, err
	}
	variant, err := demo.Overlay(o.Variant)
	if err != nil {
		return Image{}, err
	}
	own, err := o.ownFiles(m)
	if err != nil {
		return Image{}, err
	}
	image := Image{Name: "initramfs", Path: filepath.Join(o.Dir, "initramfs.cpio")}
	layers := []initramfs.Layer{initramfs.Dir(userland.Dir, "."), initramfs.FS(demo.Tree(), "."), initramfs.FS(variant, ".")}
	for _, p := range m.Extra {
		root, err := fs.Sub(fsys, p.Root)
		if err != nil {
			return Image{}, err
		}
		layers = append(layers, initramfs.FS(root, p.Root))
	}
	sum, err := initramfs.Create(ctx, image.Path, append(layers, modules, initramfs.Files(own...))...)
	if err != nil {
		return Image{}, err
	}
	image.Size, image.SHA256 = sum.Size, sum.SHA256
	return image, nil
}

// Modules are the kernel's drivers for the disks and network cards that the embedded default can meet.
func Modules(kernel debian.Kernel) (initramfs.Layer, error) {
	modules, err := kernel.Modules(slices.Concat(debian.DefaultModules(), debian.StorageModules()))
	if err != nil {
		return nil, err
	}
	files := []initramfs.File{initramfs.Regular(modules.DepPath(), 0o644, modules.Dep), initramfs.Regular(modules.LoadPath(), 0o644, modules.Load)}
	for _, mod := range modules.Modules {
		files = append(files, initramfs.HostFile(mod.Path, 0o644, mod.Source))
	}
	return initramfs.Files(files...), nil
}

// ownFiles lists what is in neither the userland nor the tree.
func (o Options) ownFiles(m *Media) ([]initramfs.File, error) {
	env, err := fs.ReadFile(demo.Tree(), steps.MainRoot+"/env")
	if err != nil {
		return nil, err
	}
	scripts, err := m.Plan.Scripts(env)
	if err != nil {
		return nil, err
	}
	files := initramfs.EarlyDevices()
	for _, dir := range []string{"proc", "sys", "tmp", "external/distfiles"} {
		files = append(files, initramfs.Directory(dir, 0o755))
	}
	for _, s := range scripts {
		files = append(files, initramfs.Regular(strings.TrimPrefix(s.Path, "/"), s.Mode, s.Data))
	}
	files = append(files, initramfs.Regular("steps/payload-import-1.0/src/payload-import.c", 0o644, o.Importer))
	return append(files, initramfs.Agent(initramfs.HostFile(overlay.AgentPath, 0o755, o.Agent))...), nil
}

// blankDisk makes a sparse file of zeros.
func blankDisk(i Image) error {
	f, err := os.OpenFile(i.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(i.Size), f.Close())
}

// writeFile writes a file that has its name only when it is complete.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := renameio.NewPendingFile(name, renameio.WithTempDir(filepath.Dir(name)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.Cleanup())
	}
	return f.CloseAtomicallyReplace()
}
