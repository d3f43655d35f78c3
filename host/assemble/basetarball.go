// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"fmt"

	"kindling/host/budget"
	"kindling/host/options"
	"kindling/steps"
)

// BaseTarball says whether the guest keeps what it builds before its package repository in base.tar.bz2, and why.
type BaseTarball struct {
	Made bool   `json:"made"`
	Why  string `json:"why"` // a clause for people
}

// BaseTarballFacts are what DecideBaseTarball goes by.
type BaseTarballFacts struct {
	Wish    string // "on", "off", or "auto" and "" for whatever is best
	Plan    *steps.Plan
	Overlay bool // Kindling changes the steps of this tree anyway
	// Budget holds what a kernel bootstrap brings along, without a base tarball, against the limits of its kernels; nil
	// where no early kernel runs.
	Budget *budget.Report
}

// DecideBaseTarball makes a base tarball where it was asked for. Left to itself, it makes one where the steps are not
// those of the tree alone anyway and where, by estimate, it has room: it stays in Fiwix' ramdisk while Linux is built,
// and passes through the kexec window.
func DecideBaseTarball(f BaseTarballFacts) BaseTarball {
	if f.Wish == options.BaseTarballOff {
		return BaseTarball{Why: "switched off"}
	}
	if !setsUpRepo(f.Plan) {
		return BaseTarball{Why: "no improve: setup_repo in this plan"}
	}
	short, where := int64(0), ""
	if f.Budget != nil {
		for _, row := range f.Budget.Rows {
			if row.ID != budget.RowRamdisk && row.ID != budget.RowKexecWindow || row.Left == nil {
				continue
			}
			if over := budget.BaseTarball - *row.Left; over > short {
				short, where = over, row.What
			}
		}
	}
	switch {
	case f.Wish == options.BaseTarballOn && short > 0:
		return BaseTarball{Made: true, Why: fmt.Sprintf("asked for; by estimate %d bytes too many for the %s, and then left out "+
			"before the jump to Linux at the latest", short, where)}
	case f.Wish == options.BaseTarballOn:
		return BaseTarball{Made: true, Why: "asked for"}
	case short > 0:
		return BaseTarball{Why: fmt.Sprintf("no room: by estimate %d bytes too many for the %s (--base-tarball=on tries)", short,
			where)}
	case !f.Overlay:
		return BaseTarball{Why: "the steps are the tree's own (--base-tarball=on changes them)"}
	}
	return BaseTarball{Made: true, Why: "there is room"}
}

// setsUpRepo reports whether the plan has the step that the base tarball follows.
func setsUpRepo(p *steps.Plan) bool {
	for _, s := range p.Steps {
		if s.Kind == steps.KindImprove && s.Name == "setup_repo" {
			return true
		}
	}
	return false
}
