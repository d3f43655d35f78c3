// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"kindling"
	"kindling/host/assemble"
	"kindling/host/budget"
	"kindling/host/options"
	"kindling/host/planview"
	"kindling/host/tree"
	"kindling/steps"
	"kindling/steps/overlay"
)

const (
	// agentLimit is what an agent that has not been built yet counts with: its size is tested to be below.
	agentLimit = 5 << 20
	// linuxPanic stands for the seconds of panic= that are added to Linux' command line in QEMU.
	linuxPanic = 10

	fiwixScript = "steps/jump/fiwix.sh"
)

// planBudget is the budgets of a plan in the making, before anything is assembled.
type planBudget struct {
	cmd      *planCmd
	tree     fs.FS
	plan     *steps.Plan
	extra    []*steps.Plan
	files    []steps.Distfile
	agent    int64 // size; 0: no agent
	base     bool  // there is a base tarball
	in       budget.Input
	warnings []string
}

// held holds a plan against the limits of the early kernels, if any runs, and decides about the base tarball.
func (c *planCmd) held(tree fs.FS, plan *steps.Plan, extra []*steps.Plan, facts *planview.Facts) error {
	if !c.Boot.KernelBootstrap() {
		facts.BaseTarball = c.baseTarball(plan, nil)
		return nil
	}
	files, err := steps.Distfiles(append([]*steps.Plan{plan}, extra...), c.Media.Media(&c.Boot))
	if err != nil {
		return err
	}
	b := planBudget{cmd: c, tree: tree, plan: plan, extra: extra, files: files}
	if b.agent, err = c.agentSize(); err != nil {
		return err
	}
	for _, step := range []func() error{b.limits, b.payload} {
		if err := step(); err != nil {
			return err
		}
	}
	b.builds()
	facts.BaseTarball = c.baseTarball(plan, budget.Compute(b.in))
	if b.base = facts.BaseTarball.Made; b.base {
		b.in.Added = append(b.in.Added, budget.Item{Path: budget.BaseTarballPath, Size: budget.BaseTarball})
	}
	if err := b.firstMedium(); err != nil {
		return err
	}
	facts.Budgets = b.report("pc")
	return nil
}

// baseTarball decides about it as "kindling run" does, which has steps of its own in every mode.
func (c *planCmd) baseTarball(plan *steps.Plan, budgets *budget.Report) *planview.BaseTarball {
	decided := assemble.DecideBaseTarball(assemble.BaseTarballFacts{
		Wish: c.Media.BaseTarball, Plan: plan, Overlay: true, Budget: budgets,
	})
	bare := c.Boot.Mode() == options.ModeChroot || c.Boot.Mode() == options.ModeBwrap || c.Agent == agentNone
	if decided.Made && bare && !c.Media.Wanted(&c.Boot) && c.Media.BaseTarball != options.BaseTarballOn {
		decided.Why += "; media of 'kindling assemble' have the tree's own steps instead, without --base-tarball=on"
	}
	return (*planview.BaseTarball)(&decided)
}

// script takes Fiwix' command lines out of jump/fiwix.sh as it stands on the media; nil: there is none.
func (b *planBudget) script(text []byte) error {
	script, err := budget.ParseFiwixScript(fiwixScript, bytes.NewReader(text))
	b.in.CommandLines = script.CommandLines
	return err
}

// report computes it.
func (b *planBudget) report(machine string) *budget.Report {
	if b.cmd.Boot.Qemu {
		b.in.Machine = budget.QEMU(machine, int64(b.cmd.Boot.QemuRAM)<<20)
	}
	report := budget.Compute(b.in)
	report.Warnings = append(b.warnings, report.Warnings...)
	return report
}

// agentSize is the size of the agent's program in bytes, or 0 without one.
func (c *planCmd) agentSize() (int64, error) {
	name := c.Agent
	switch name {
	case agentNone:
		return 0, nil
	case "":
		var err error
		if name, err = besideUs("kindling-init-386"); err != nil {
			return agentLimit, nil //nolint:nilerr // it matters only for a better number
		}
	}
	info, err := os.Stat(name)
	if err != nil {
		return 0, fmt.Errorf("agent: %w", err)
	}
	return info.Size(), nil
}

// limits reads them out of the tree and out of Fiwix' archive, if it is there.
func (b *planBudget) limits() (err error) {
	archive := ""
	if pkg := budget.FiwixPackage(b.tree); pkg != "" {
		for _, f := range b.files {
			if f.NeededBy == path.Base(pkg) {
				archive = f.Name
				break
			}
		}
	}
	var open func() (io.ReadCloser, error)
	if source, folder, err := b.cmd.distfile(archive); err == nil {
		defer folder.Close()
		open = func() (io.ReadCloser, error) { return source.Open() }
	}
	b.in.Limits, b.warnings, err = budget.ReadLimits(b.tree, open)
	return err
}

// distfiles is the folder of the distfiles.
func (c *planCmd) distfiles() string {
	if c.Distfiles != "" {
		return c.Distfiles
	}
	return filepath.Join(c.Tree, "distfiles")
}

// sizeOf is the size of a distfile, or budget.UnknownSize.
func (c *planCmd) sizeOf(name string) int64 {
	source, folder, err := c.distfile(name)
	if err != nil {
		return budget.UnknownSize
	}
	defer folder.Close()
	return source.Size
}

// distfile finds one; its folder must be closed by the caller.
func (c *planCmd) distfile(name string) (*tree.Source, *tree.Folder, error) {
	folder, err := tree.OpenFolder(c.distfiles())
	if err != nil {
		return nil, nil, err
	}
	source, err := tree.Find(folder, name, filepath.Join(c.distfiles(), name))
	if err != nil {
		return nil, nil, errors.Join(err, folder.Close())
	}
	return source, folder, nil
}

// firstMedium lists it, with what the overlay changes.
func (b *planBudget) firstMedium() error {
	payload := b.cmd.Media.Wanted(&b.cmd.Boot)
	in := overlay.Input{
		Tree: b.tree, Payload: payload, Agent: b.agent > 0, DoneEvent: b.agent == 0 && payload,
		Importer: kindling.PayloadImportSource, BaseTarball: b.base, Extra: b.extra,
	}
	if b.cmd.Boot.Qemu {
		in.Panic = linuxPanic
	}
	over, err := overlay.Apply(in)
	if err != nil {
		b.warnings = append(b.warnings, fmt.Sprintf("budget: counted without Kindling's own files: %v", err))
	}
	roots, err := b.extraRoots()
	if err != nil {
		return err
	}
	added := []budget.Item{{Path: "/steps/bootstrap.cfg", Size: int64(len(b.plan.Config.Bytes()))}}
	added = append(added, roots...)
	var distfiles []budget.Item
	for _, f := range over.Files {
		added = append(added, budget.Item{Path: "/" + f.Path, Size: int64(len(f.Data))})
		if f.Path == fiwixScript {
			if err := b.script(f.Data); err != nil {
				return err
			}
		}
	}
	if b.agent > 0 && (!payload || b.cmd.Media.PayloadStage == string(steps.PayloadStageLinux)) {
		added = append(added, budget.Item{Path: "/" + overlay.AgentPath, Size: b.agent})
	}
	for _, f := range b.files {
		if f.Medium == steps.MediumInit {
			distfiles = append(distfiles, budget.Item{Path: f.Name, Size: b.cmd.sizeOf(f.Name)})
		}
	}
	items, warnings, err := budget.FirstMedium(b.tree, distfiles, added)
	b.in.First = budget.Measure(items)
	b.warnings = append(b.warnings, warnings...)
	return err
}

// extraRoots lists the files of the extra roots, which stand on the first medium beside the steps.
func (b *planBudget) extraRoots() ([]budget.Item, error) {
	var items []budget.Item
	for _, p := range b.extra {
		entries, err := tree.List(b.tree, p.Root)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			items = append(items, budget.Item{Path: "/" + path.Join(p.Root, e.Path), Size: e.Size})
		}
	}
	return items, nil
}

// payload says what is imported under Fiwix, what stays in the ramdisk besides, and what is removed from it.
func (b *planBudget) payload() error {
	if b.agent > 0 {
		b.in.Added = append(b.in.Added, budget.Item{Path: "/" + overlay.AgentPath, Size: b.agent})
	}
	if !b.cmd.Media.Wanted(&b.cmd.Boot) {
		return nil
	}
	late, err := b.onlyLinux()
	if err != nil {
		return err
	}
	var all []string
	var early []budget.Item
	take := func(item budget.Item, imported bool) {
		all = append(all, item.Path)
		if imported {
			early = append(early, item)
		}
	}
	if b.agent > 0 && b.cmd.Media.PayloadStage != string(steps.PayloadStageLinux) {
		take(budget.Item{Path: overlay.AgentName, Size: b.agent}, true)
	}
	for _, f := range b.files {
		item := budget.Item{Path: f.Name, Size: b.cmd.sizeOf(f.Name)}
		guest := budget.Item{Path: "/external/distfiles/" + f.Name, Size: item.Size}
		imported := f.Medium == steps.MediumPayloadEarly
		if imported || f.Medium == steps.MediumPayload || f.Again == steps.MediumPayload {
			take(item, imported)
		}
		switch {
		case imported && late[f.Name]:
			b.in.Added = append(b.in.Added, guest)
		case imported && f.Late, f.Medium == steps.MediumInit && f.Late:
			b.in.Removed = append(b.in.Removed, guest)
		}
	}
	b.in.Payload = &budget.Payload{Files: early, End: budget.EarlyEnd(all, early)}
	return nil
}

// onlyLinux are the distfiles that nothing needs before jump: linux, by name.
func (b *planBudget) onlyLinux() (map[string]bool, error) {
	media := b.cmd.Media.Media(&b.cmd.Boot)
	media.PayloadStage = steps.PayloadStageAuto
	files, err := steps.Distfiles(append([]*steps.Plan{b.plan}, b.extra...), media)
	late := map[string]bool{}
	for _, f := range files {
		late[f.Name] = f.Medium == steps.MediumPayload
	}
	return late, err
}

// builds sorts the builds by the kernel they run on.
func (b *planBudget) builds() {
	for _, s := range b.plan.Steps {
		if s.Kind != steps.KindBuild {
			continue
		}
		switch s.Kernel {
		case steps.KernelBuilderHex0:
			b.in.HexBuilds = append(b.in.HexBuilds, s.Name)
		case steps.KernelFiwix:
			b.in.FiwixBuilds = append(b.in.FiwixBuilds, s.Name)
		}
	}
}
