// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"bytes"
	"io"
	"path"

	"kindling/host/budget"
	"kindling/steps"
	"kindling/steps/overlay"
)

// Items are the files that builder-hex0 has to hold once it has loaded the first medium and has carried out the commands
// behind its files, by their paths in the guest. Without a kernel bootstrap there are none.
func (a *Assembly) Items() []budget.Item {
	m := a.Medium("init")
	if m == nil {
		return nil
	}
	items := []budget.Item{{Path: "/."}}
	for _, e := range m.Entries {
		items = append(items, budget.Item{Path: "/" + e.Path, Size: e.Size})
	}
	for _, made := range []string{"", "/POSIX", "/POSIX/x86", "/POSIX/x86/hex0-seed", "/POSIX/x86/kaem-optional-seed"} {
		items = append(items, budget.Item{Path: "/" + seedsDir + made})
	}
	return append(items, budget.Item{Path: "/init"})
}

// budgetInput gathers what the limits of the early kernels are held against, but for the first medium, which is not laid
// out yet.
func (p *planner) budgetInput() (err error) {
	a, in := p.a, &p.in
	if !a.Options.Boot.KernelBootstrap() {
		return nil
	}
	if in.Limits, p.unread, err = budget.ReadLimits(p.tree.FS(), p.fiwixArchive()); err != nil {
		return p.inTree(err)
	}
	if p.agent != nil {
		in.Added = append(in.Added, budget.Item{Path: "/" + overlay.AgentPath, Size: p.agent.Size})
	}
	if a.Payload != nil {
		p.payloadBudget(in)
	}
	for _, s := range a.Plan.Steps {
		switch {
		case s.Kind != steps.KindBuild:
		case s.Kernel == steps.KernelBuilderHex0:
			in.HexBuilds = append(in.HexBuilds, s.Name)
		case s.Kernel == steps.KernelFiwix:
			in.FiwixBuilds = append(in.FiwixBuilds, s.Name)
		}
	}
	if a.Options.Boot.Qemu {
		in.Machine = budget.QEMU("pc", int64(a.Options.Boot.QemuRAM)<<20)
	}
	return nil
}

// budget holds what was decided against the limits of the early kernels. More than a hard limit is an error.
func (p *planner) budget() error {
	a := p.a
	if !a.Options.Boot.KernelBootstrap() {
		return nil
	}
	p.in.First = budget.Measure(a.Items())
	if a.FiwixScript != nil {
		script, err := budget.ParseFiwixScript("steps/jump/fiwix.sh", bytes.NewReader(a.FiwixScript))
		if err != nil {
			return p.inTree(err)
		}
		p.in.CommandLines = script.CommandLines
	}
	a.Budget = budget.Compute(p.in)
	a.Budget.Warnings = append(p.unread, a.Budget.Warnings...)
	return a.Budget.Err()
}

// payloadBudget says what Fiwix reads of the payload, and what of the distfiles stays in the ramdisk or leaves it.
func (p *planner) payloadBudget(in *budget.Input) {
	info := p.a.Payload
	in.Payload = &budget.Payload{End: info.EarlyEnd}
	for _, e := range p.entries[:info.Early] {
		in.Payload.Files = append(in.Payload.Files, budget.Item{Path: e.Path, Size: e.Size})
	}
	kept := p.a.Options.Payload.PayloadStage == string(steps.PayloadStageFiwix)
	for _, f := range p.files {
		guest := budget.Item{Path: "/" + distfileDir + "/" + f.Name, Size: f.source.Size}
		early := f.Medium == steps.MediumPayloadEarly
		switch {
		case kept && early && !p.needed[f.Name]:
			in.Added = append(in.Added, guest)
		case !kept && f.Late && (early || f.Medium == steps.MediumInit):
			in.Removed = append(in.Removed, guest)
		}
	}
}

// fiwixArchive opens the sources of Fiwix, which have limits of their own in them; nil if they are not at hand.
func (p *planner) fiwixArchive() func() (io.ReadCloser, error) {
	name := budget.FiwixPackage(p.tree.FS())
	for _, f := range p.files {
		if name != "" && f.NeededBy == path.Base(name) {
			return func() (io.ReadCloser, error) { return f.source.Open() }
		}
	}
	return nil
}
