// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"errors"

	"kindling/host/options"
	"kindling/host/tree"
	"kindling/steps"
	"kindling/steps/overlay"
)

// rootFiles is what an extra root holds.
type rootFiles struct {
	root    string // its folder in the guest and in the tree, "steps-guix"
	entries []tree.Entry
}

// addExtras puts those extra roots beside the steps of the tree that stand elsewhere.
func addExtras(t *tree.Tree, o *options.Extra) error {
	dirs, err := o.Folders()
	if err != nil {
		return err
	}
	return t.AddExtras(dirs)
}

// extraRoots plans the extra roots behind the main steps, and finds out which distfile goes where for all of them
// together.
func (p *planner) extraRoots() error {
	o := &p.a.Options
	p.a.Warnings = append(p.a.Warnings, o.Extra.Warnings()...)
	names := o.Extra.Names()
	for _, name := range names {
		if err := tree.CheckExtra(p.tree.FS(), name); err != nil {
			return p.inTree(err)
		}
	}
	var err error
	if p.a.Extra, err = steps.NewExtraPlans(p.tree.FS(), names, p.a.Plan.Config); err != nil {
		return p.inTree(err)
	}
	if err := p.checkExtra(); err != nil {
		return p.inTree(err)
	}
	media := o.Payload.Media(&o.Boot)
	if p.a.Distfiles, err = steps.Distfiles(p.plans(), media); err != nil {
		return p.inTree(err)
	}
	return p.inTree(p.findNeeded(media))
}

// checkExtra looks for steps that nothing is there for: they would fail hours later. It also adds the keys that ask for the
// extra roots to those that the configurator keeps.
func (p *planner) checkExtra() error {
	if err := overlay.CheckSteps(p.tree.FS(), p.plans()); err != nil {
		return err
	}
	if len(p.a.Extra) == 0 {
		return nil
	}
	if p.a.Config.Get(steps.VarBuildGuixAlso) != "" {
		p.addKey(overlay.Key{Name: steps.VarBuildGuixAlso, Type: "bool", Short: "Run the extra root guix"})
	}
	p.addKey(overlay.Key{Name: steps.VarExtraBuild, Type: `""`, Short: "Extra roots to run, with commas between them"})
	if !p.a.Options.agent() && !p.a.Plan.RunsAfter() {
		return errors.New("steps/manifest: no improve: after: without the agent, extra roots have no place to run")
	}
	return nil
}

// plans are the main plan and those of the extra roots.
func (p *planner) plans() []*steps.Plan { return append([]*steps.Plan{p.a.Plan}, p.a.Extra...) }

// findNeeded finds the distfiles that something before Linux needs, in whichever stage the payload is imported.
func (p *planner) findNeeded(media steps.MediaOptions) error {
	media.PayloadStage = steps.PayloadStageAuto
	files, err := steps.Distfiles(p.plans(), media)
	p.needed = map[string]bool{}
	for _, f := range files {
		p.needed[f.Name] = f.Medium == steps.MediumInit || f.Medium == steps.MediumPayloadEarly
	}
	return err
}

// keep are the distfiles of extra roots that are there before the tree deletes what the main steps do not need any more,
// and that nothing brings back: all of them, where there is one folder of distfiles from the beginning to the end, and
// with a payload that is imported at once.
func (p *planner) keep() []string {
	o := &p.a.Options
	if o.Boot.KernelBootstrap() && (!o.payload() || o.Payload.PayloadStage != string(steps.PayloadStageFiwix)) {
		return nil
	}
	var names []string
	for _, f := range p.a.Distfiles {
		if f.Extra && f.Medium != steps.MediumNetwork {
			names = append(names, f.Name)
		}
	}
	return names
}

// listExtra lists what is copied from the extra roots.
func (p *planner) listExtra() error {
	for _, plan := range p.a.Extra {
		entries, err := tree.List(p.tree.FS(), plan.Root)
		if err != nil {
			return p.inTree(err)
		}
		p.extra = append(p.extra, rootFiles{root: plan.Root, entries: entries})
	}
	return nil
}

// addExtra puts the extra roots beside the steps.
func (p *planner) addExtra(s *fileset) {
	for _, r := range p.extra {
		for _, e := range r.entries {
			p.addTreeFile(s, r.root+"/"+e.Path, r.root, e)
		}
	}
}
