// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"kindling/host/tree"
	"kindling/steps"
)

// Files of the tree that have a place of their own.
const (
	stage1File  = tree.BuilderHex0 + "/builder-hex0-x86-stage1.hex0"
	stage2File  = tree.BuilderHex0 + "/builder-hex0-x86-stage2.hex0"
	configPath  = "steps/bootstrap.cfg"
	distfileDir = "external/distfiles"
	repoDir     = "repo-preseeded"
	seedsDir    = "bootstrap-seeds"
)

// list lists what is copied from the tree and from the folder of packages.
func (p *planner) list() (err error) {
	o := &p.a.Options
	if o.reuse() {
		return p.listFolder()
	}
	if o.Boot.EarlyPreseed != "" {
		if p.a.preseed, err = openPreseed(p.ctx, o.Boot.EarlyPreseed); err != nil {
			return err
		}
	} else {
		if p.stage0, err = tree.List(p.tree.FS(), tree.Stage0); err != nil {
			return p.inTree(err)
		}
		if p.seed, err = tree.List(p.tree.FS(), tree.Seed); err != nil {
			return p.inTree(err)
		}
	}
	if p.stepFiles, err = tree.List(p.tree.FS(), tree.Steps); err != nil {
		return p.inTree(err)
	}
	if err := p.listExtra(); err != nil {
		return err
	}
	if o.Boot.Repo != "" {
		if err := p.listRepo(o.Boot.Repo); err != nil {
			return err
		}
	}
	if o.Boot.ExternalSources && !o.payload() {
		return p.listFolder()
	}
	return nil
}

func (p *planner) listRepo(dir string) (err error) {
	if p.repoDir, err = p.open(dir); err != nil {
		return fmt.Errorf("--repo: %w", err)
	}
	if p.repo, err = tree.List(p.repoDir, "."); err != nil {
		return fmt.Errorf("--repo %s: %w", dir, err)
	}
	return nil
}

// media puts everything on its medium.
func (p *planner) media() error {
	o := &p.a.Options
	switch {
	case o.reuse():
		return p.reused()
	case o.Boot.KernelBootstrap():
		return p.kernelBootstrap()
	case o.Boot.Qemu || o.Boot.BareMetal:
		return p.ownKernel()
	}
	s := newFileset()
	p.wholeRoot(s)
	return p.finish(s, Medium{Name: "root", Format: FormatFolder})
}

// kernelBootstrap makes the builder-hex0 image and, for sources and packages that it does not hold, a second disk.
func (p *planner) kernelBootstrap() error {
	s := newFileset()
	p.base(s, true)
	p.addNeeded(s, distfileDir, func(f found) bool { return f.Medium == steps.MediumInit })
	if p.agent != nil && (p.a.Payload == nil || p.a.Config.Get("PAYLOAD_AGENT") != "True") {
		s.add(*p.agent)
	}
	if err := p.finishBoot(s); err != nil {
		return err
	}
	return p.external()
}

// finishBoot lays the builder-hex0 image out. It is the first medium of a machine, before the payload.
func (p *planner) finishBoot(s *fileset) error {
	m := Medium{Name: "init", File: "init.img", Format: FormatBoot}
	if p.a.preseed != nil {
		p.a.preseed.resolveLinks(s, p.warn)
	}
	entries, err := s.sorted()
	if err != nil {
		return err
	}
	m.Entries = slices.DeleteFunc(entries, func(e Entry) bool { return leftOut(e.Path) })
	source, err := readFile(p.tree, stage1File)
	if err != nil {
		return p.inTree(err)
	}
	stage1, err := CompileHex0(source)
	if err != nil {
		return p.inTree(fmt.Errorf("%s: %w", stage1File, err))
	}
	if n := len(stage1); n != sector || stage1[n-2] != 0x55 || stage1[n-1] != 0xaa {
		return p.inTree(fmt.Errorf("%s: %w: it is no boot sector (512 bytes that end in 55 AA)", stage1File, ErrHex0))
	}
	stage2, err := readFile(p.tree, stage2File)
	if err != nil {
		return p.inTree(err)
	}
	target := int64(0)
	if p.a.Options.Boot.Qemu {
		target = p.a.Options.Boot.TargetSize.Bytes()
	}
	if m.boot, err = layoutBoot(stage1, stage2, m.Entries, target); err != nil {
		return err
	}
	m.Size = m.boot.size
	m.count()
	p.a.Media = append([]Medium{m}, p.a.Media...)
	return nil
}

// external makes the second disk: sources, unless a payload carries them, and packages. It becomes the disk that the
// system moves to, which is why it has the size of a target. It stands between the boot image and the payload, because
// DISK names it.
func (p *planner) external() error {
	o := &p.a.Options
	if o.Boot.Repo == "" && (!o.Boot.ExternalSources || o.payload()) {
		return nil
	}
	s := newFileset()
	switch {
	case o.payload():
		s.dir("distfiles")
	case o.Boot.ExternalSources:
		p.addFolder(s, "distfiles")
	default:
		p.addNeeded(s, "distfiles", func(f found) bool { return f.Medium == steps.MediumInit })
	}
	p.addRepo(s, repoDir)
	m := Medium{Name: "external", File: "external.img", Format: FormatExt3, Size: o.Boot.TargetSize.Bytes(), offset: dataOffset}
	at := 1
	rest := append([]Medium(nil), p.a.Media[at:]...)
	p.a.Media = p.a.Media[:at]
	if err := p.finish(s, m); err != nil {
		return err
	}
	p.a.Media = append(p.a.Media, rest...)
	return nil
}

// ownKernel makes the disk that a kernel of the user's own has its root on.
func (p *planner) ownKernel() error {
	o := &p.a.Options
	s := newFileset()
	p.wholeRoot(s)
	if p.agent != nil {
		s.add(*p.agent)
	}
	m := Medium{Name: "disk", File: "disk.img", Format: FormatExt3, Size: o.Boot.TargetSize.Bytes(), offset: bootableOffset}
	if err := p.finish(s, m); err != nil || !o.Initramfs {
		return err
	}
	return p.finish(s, Medium{Name: "initramfs", File: "initramfs.cpio", Format: FormatInitramfs})
}

// wholeRoot puts in everything that a machine finds in one root: own kernel, chroot, bubblewrap.
func (p *planner) wholeRoot(s *fileset) {
	o := &p.a.Options
	p.base(s, false)
	if o.Boot.ExternalSources {
		p.addFolder(s, distfileDir)
	} else {
		p.addNeeded(s, distfileDir, func(f found) bool { return f.Medium == steps.MediumInit })
	}
	p.addRepo(s, "external/"+repoDir)
}

// reused is what a later stage of the tree's CI adds to the folder of an earlier one.
func (p *planner) reused() error {
	s := newFileset()
	if p.a.Options.Boot.ExternalSources {
		p.addFolder(s, distfileDir)
	} else {
		p.addNeeded(s, distfileDir, func(f found) bool { return f.Medium == steps.MediumInit })
	}
	return p.finish(s, Medium{Name: "root", Format: FormatFolder, merge: true})
}

// base puts in the seeds and the steps. For a kernel bootstrap the seeds come from hex0, and their folder stays out.
func (p *planner) base(s *fileset, kernelBootstrap bool) {
	if p.a.preseed != nil {
		p.a.preseed.addTo(s)
		p.addTreeFile(s, "kaem.x86", tree.Seed, tree.Entry{Path: "preseeded.kaem", Exec: true})
	} else {
		p.addSeeds(s, kernelBootstrap)
	}
	for _, e := range p.stepFiles {
		if e.Path != "bootstrap.cfg" {
			p.addTreeFile(s, "steps/"+e.Path, tree.Steps, e)
		}
	}
	p.addExtra(s)
	for _, f := range p.over.Files {
		s.add(Entry{Path: f.Path, Exec: f.Exec, Size: int64(len(f.Data)), Data: f.Data})
	}
	config := p.a.Config.Bytes()
	s.add(Entry{Path: configPath, Size: int64(len(config)), Data: config})
}

// addSeeds puts in stage0-posix and the files beside it.
func (p *planner) addSeeds(s *fileset, kernelBootstrap bool) {
	first := seedsDir + "/POSIX/" + archDir(p.a.Options.Boot.Arch) + "/kaem-optional-seed"
	for _, e := range p.stage0 {
		if kernelBootstrap && (e.Path == seedsDir || strings.HasPrefix(e.Path, seedsDir+"/")) {
			continue
		}
		p.addTreeFile(s, e.Path, tree.Stage0, e)
		if !kernelBootstrap && e.Path == first {
			p.addTreeFile(s, "init", tree.Stage0, e)
		}
	}
	if _, found := s.entries["init"]; !kernelBootstrap && !found {
		s.fail(fmt.Errorf("tree %s: %w: there is no %s/%s to begin with", p.tree.Dir(), tree.ErrShape, tree.Stage0, first))
	}
	for _, e := range p.seed {
		if !e.Dir && !strings.Contains(e.Path, "/") {
			p.addTreeFile(s, e.Path, tree.Seed, e)
		}
	}
}

func (p *planner) addRepo(s *fileset, dir string) {
	if p.a.Options.Boot.Repo == "" {
		return
	}
	s.dir(dir)
	for _, e := range p.repo {
		s.addHost(dir+"/"+e.Path, p.repoDir, e.Path, filepath.Join(p.a.Options.Boot.Repo, filepath.FromSlash(e.Path)), e)
	}
}

// addTreeFile adds, by the name to, something that was listed in the folder dir of the tree.
func (p *planner) addTreeFile(s *fileset, to, dir string, e tree.Entry) {
	name := dir + "/" + e.Path
	s.addHost(to, p.tree.FS(), name, p.tree.Path(name), e)
}

// addHost adds, by the name to, something that was listed as name in fsys and is path on the host.
func (s *fileset) addHost(to string, fsys fs.FS, name, path string, e tree.Entry) {
	if e.Dir {
		s.dir(to)
		return
	}
	source, err := tree.Find(fsys, name, path)
	if err != nil {
		s.fail(err)
		return
	}
	s.add(Entry{Path: to, Exec: e.Exec, Size: source.Size, Source: source})
}

// finish sorts the entries of a medium and adds it to the assembly.
func (p *planner) finish(s *fileset, m Medium) (err error) {
	if m.Entries, err = s.sorted(); err != nil {
		return err
	}
	m.count()
	if m.Format == FormatExt3 {
		if err := checkRoom(&m); err != nil {
			return err
		}
	}
	p.a.Media = append(p.a.Media, m)
	return nil
}

// count adds up what the entries take.
func (m *Medium) count() {
	for _, e := range m.Entries {
		m.Bytes += e.Size
	}
}
