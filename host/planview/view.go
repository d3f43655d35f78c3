// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package planview shows a steps.Plan to people (Text) and to programs (JSON): what will run where, which distfile
// travels on which medium, the totals, and the budgets.
//
// It decides nothing and reads nothing; it is called by "kindling plan". The field names of View's JSON form are stable:
// fields are added, never renamed, and Version counts what is changed otherwise.
package planview

import (
	"kindling/host/budget"
	"kindling/steps"
)

// Version is the version of the JSON form.
const Version = 1

// Facts are what a plan is shown with and does not know itself.
type Facts struct {
	Tree  string // the folder, as the user named it
	Mode  string // qemu, bare-metal, chroot or bwrap
	Media steps.MediaOptions
	// Payload says that there will be a payload image.
	Payload bool
	// Extra are the plans of the extra roots that run behind the main steps, in their order.
	Extra []*steps.Plan
	// Budgets are the early kernels' limits; nil: no early kernel runs.
	Budgets *budget.Report
	// BaseTarball says what becomes of it; nil: this root has none.
	BaseTarball *BaseTarball
	// Warnings are the lines about options; those of the plan are added to them.
	Warnings []string
}

// View is a plan in the form in which it is shown.
type View struct {
	Version   int        `json:"version"`
	Tree      string     `json:"tree"`
	Root      string     `json:"root"`            // the folder of the manifest in the tree, such as "steps"
	Mode      string     `json:"mode"`            // "qemu", "bare-metal", "chroot", "bwrap"
	Extra     []string   `json:"extra,omitempty"` // the folders of the extra roots, in the order in which they run
	Config    []Variable `json:"config"`
	Payload   *Payload   `json:"payload"` // null: there is none
	Counts    Counts     `json:"counts"`
	Media     []Total    `json:"media"`     // files on each medium that is used, in the order of use
	Kernels   []Stretch  `json:"kernels"`   // in the order in which they run
	Steps     []Step     `json:"steps"`     // in the order in which they run
	Distfiles []Distfile `json:"distfiles"` // in the order in which they are needed
	Budgets   *Budgets   `json:"budgets"`   // the early kernels' limits; null: no early kernel runs
	Warnings  []string   `json:"warnings"`

	BaseTarball *BaseTarball `json:"base_tarball"` // null: this root has none
}

// BaseTarball says whether the guest keeps in base.tar.bz2 what it builds before its package repository.
type BaseTarball struct {
	Made bool   `json:"made"`
	Why  string `json:"why"` // a clause for people
}

// Budgets are the limits of the early kernels and what is used of them; package budget has the names.
type Budgets = budget.Report

// Variable is one line of bootstrap.cfg as it will be rewritten, with all defines.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Payload says how the payload image is used.
type Payload struct {
	Stage      string `json:"stage"`       // "auto" (two parts), "fiwix" or "linux"
	EarlyFiles int    `json:"early_files"` // imported under Fiwix
	Files      int    `json:"files"`       // distfiles in all
}

// Counts is how much the builds need, counted over the whole manifest; null where it has no such point.
type Counts struct {
	All           Count  `json:"all"`
	BeforeNetwork *Count `json:"before_network"`
	BeforeLinux   *Count `json:"before_jump_linux"`
	BeforeFiwix   *Count `json:"before_jump_fiwix"`
}

// Count is a number of distinct source lines and of the files that they name.
type Count struct {
	Lines int `json:"lines"`
	Files int `json:"files"`
}

// Total is the number of distfiles on one medium.
type Total struct {
	Medium string `json:"medium"` // "init", "payload-early", "payload", "external", "network"
	Files  int    `json:"files"`
}

// Stretch is a run of steps on one kernel and of one root.
type Stretch struct {
	Kernel string `json:"kernel"`         // "builder-hex0", "fiwix", "linux-early", "linux-initramfs", "linux-disk", "host"
	Root   string `json:"root,omitempty"` // the folder of an extra root
	First  int    `json:"first"`          // step numbers
	Last   int    `json:"last"`
	Builds int    `json:"builds"`
}

// Step is one step.
type Step struct {
	Number    int      `json:"number"`         // its place in the run, from 1
	Root      string   `json:"root,omitempty"` // the folder of an extra root
	ID        string   `json:"id"`             // the name in logs, journal and events
	Kind      string   `json:"kind"`           // "build", "improve", "jump", "uninstall"
	Name      string   `json:"name"`
	Args      []string `json:"args,omitempty"` // an uninstall's whole list
	Pass      int      `json:"pass,omitempty"` // a build's pass, from 1
	Family    string   `json:"family"`         // "kaem", "early-bash", "bash"
	Kernel    string   `json:"kernel"`
	Script    int      `json:"script"` // number of the generated script that holds it
	Line      int      `json:"line"`   // in the manifest
	Distfiles []string `json:"distfiles,omitempty"`

	text string
}

// Distfile is one file to fetch.
type Distfile struct {
	Name     string   `json:"name"`
	SHA256   string   `json:"sha256"`
	Medium   string   `json:"medium"`
	Again    string   `json:"again,omitempty"` // a second medium that has it as well
	Root     string   `json:"root,omitempty"`  // the folder of an extra root, if one needs it first
	NeededBy string   `json:"needed_by"`       // the first package that needs it
	Line     int      `json:"line"`            // of that one in the manifest
	Active   bool     `json:"active"`          // some step of this plan needs it
	URLs     []string `json:"urls,omitempty"`  // origins; none if only mirrors have it
}

// New makes the view of a plan. Its errors are those of steps.Plan.Distfiles.
func New(p *steps.Plan, facts Facts) (*View, error) {
	files, err := steps.Distfiles(append([]*steps.Plan{p}, facts.Extra...), facts.Media)
	if err != nil {
		return nil, err
	}
	order := steps.InOrder(p, facts.Extra, nil)
	v := &View{
		Version: Version, Tree: facts.Tree, Root: p.Root, Mode: facts.Mode,
		Counts: counts(p.Counts()), Kernels: stretches(order), Media: totals(files),
		Config: []Variable{}, Steps: []Step{}, Distfiles: []Distfile{}, Budgets: facts.Budgets, Warnings: []string{},
		BaseTarball: facts.BaseTarball,
	}
	for _, variable := range p.Config.Variables() {
		v.Config = append(v.Config, Variable(variable))
	}
	for _, s := range order {
		v.Steps = append(v.Steps, newStep(s))
	}
	for _, f := range files {
		v.Distfiles = append(v.Distfiles, newDistfile(f))
	}
	if facts.Payload {
		v.Payload = newPayload(files, facts.Media.PayloadStage)
	}
	v.Warnings = append(append(v.Warnings, facts.Warnings...), p.Warnings...)
	for _, extra := range facts.Extra {
		v.Extra = append(v.Extra, extra.Root)
		v.Warnings = append(v.Warnings, extra.Warnings...)
	}
	if facts.Budgets != nil {
		v.Warnings = append(v.Warnings, facts.Budgets.Warnings...)
	}
	return v, nil
}

func newPayload(files []steps.Distfile, stage steps.PayloadStage) *Payload {
	p := &Payload{Stage: string(stage)}
	if stage == "" {
		p.Stage = string(steps.PayloadStageAuto)
	}
	for _, f := range files {
		switch {
		case f.Medium == steps.MediumPayloadEarly:
			p.EarlyFiles++
			p.Files++
		case f.Medium == steps.MediumPayload || f.Again == steps.MediumPayload:
			p.Files++
		}
	}
	return p
}

func newStep(s steps.Step) Step {
	step := Step{
		Number: s.At, Root: s.Root, ID: s.ID(), Kind: string(s.Kind), Name: s.Name, Args: s.Args, Pass: s.Pass,
		Family: string(s.Family), Kernel: string(s.Kernel), Script: s.Script, Line: s.Line, text: s.String(),
	}
	for _, source := range s.Sources {
		step.Distfiles = append(step.Distfiles, source.Name)
	}
	return step
}

func newDistfile(f steps.Distfile) Distfile {
	d := Distfile{
		Name: f.Name, SHA256: f.SHA256, Medium: string(f.Medium), Again: string(f.Again),
		NeededBy: f.NeededBy, Line: f.Line, Active: f.Active,
	}
	if f.Root != steps.MainRoot {
		d.Root = f.Root
	}
	for _, source := range f.Sources {
		if source.URL != "_" {
			d.URLs = append(d.URLs, source.URL)
		}
	}
	return d
}

func counts(c steps.Counts) Counts {
	return Counts{
		All: Count(c.All), BeforeNetwork: (*Count)(c.BeforeNetwork),
		BeforeLinux: (*Count)(c.BeforeLinux), BeforeFiwix: (*Count)(c.BeforeFiwix),
	}
}

// stretches cuts the steps where the kernel or the root changes.
func stretches(all []steps.Step) []Stretch {
	out := []Stretch{}
	for _, s := range all {
		if len(out) == 0 || out[len(out)-1].Kernel != string(s.Kernel) || out[len(out)-1].Root != s.Root {
			out = append(out, Stretch{Kernel: string(s.Kernel), Root: s.Root, First: s.At})
		}
		last := &out[len(out)-1]
		last.Last = s.At
		if s.Kind == steps.KindBuild {
			last.Builds++
		}
	}
	return out
}

// totals counts the files of each medium; a file that stands on two counts on both.
func totals(files []steps.Distfile) []Total {
	count := map[steps.Medium]int{}
	for _, f := range files {
		count[f.Medium]++
		if f.Again != "" {
			count[f.Again]++
		}
	}
	out := []Total{}
	for _, m := range []steps.Medium{
		steps.MediumInit, steps.MediumPayloadEarly, steps.MediumPayload, steps.MediumExternal, steps.MediumNetwork,
	} {
		if count[m] > 0 {
			out = append(out, Total{Medium: string(m), Files: count[m]})
		}
	}
	return out
}
