// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kindling/steps"
)

// Places in a guest, below its root; package guest has the same.
const (
	guestConfig  = "steps/bootstrap.cfg"
	guestPlans   = "kindling/plan"
	guestJournal = "kindling/journal"
)

// Files are those of the run's disk. diskimage.Image has them.
type Files interface {
	// ReadFile reads a file of at most limit bytes.
	ReadFile(name string, limit int64) ([]byte, error)
}

// Configs are the configurations of a guest. The agent plans with bootstrap.cfg as it is when the agent first runs, which
// the tree's configurator may have changed, and keeps it beside its journal; later steps append to the original.
type Configs struct {
	Now  *steps.Config            // bootstrap.cfg as it stands: it names the extra roots
	Kept map[string]*steps.Config // by the folder of the root: what the agent has planned with
}

// ReadConfigs reads the configurations from the disk of a run with these roots.
func ReadConfigs(disk Files, roots []Root) (Configs, error) {
	c := Configs{Kept: make(map[string]*steps.Config)}
	text, err := disk.ReadFile(guestConfig, steps.MaxFile)
	if err != nil {
		return c, fmt.Errorf("read /%s: %w", guestConfig, err)
	}
	if c.Now, err = steps.PlainConfig(guestConfig, text); err != nil {
		return c, err
	}
	for _, r := range roots {
		name := keptConfig(r.Folder)
		text, err := disk.ReadFile(name, steps.MaxFile)
		if err != nil {
			continue // the agent has planned with bootstrap.cfg, or not planned this root at all
		}
		if c.Kept[r.Folder], err = steps.ParseConfig(name, bytes.NewReader(text)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// keptConfig is the agent's copy of the configuration that it has planned a root with.
func keptConfig(folder string) string { return keptPlan(folder) + ".cfg" }

// keptManifest is its copy of the root's manifest.
func keptManifest(folder string) string { return keptPlan(folder) + ".manifest" }

func keptPlan(folder string) string {
	if folder == steps.MainRoot {
		return guestPlans
	}
	return guestPlans + "." + folder
}

// main is the configuration of the main root.
func (c Configs) main() *steps.Config {
	if kept := c.Kept[steps.MainRoot]; kept != nil {
		return kept
	}
	return c.Now
}

// host are the configurations that the host has planned with.
func (r Record) host() (Configs, error) {
	config, err := steps.ParseConfig("bootstrap.cfg", strings.NewReader(r.Config))
	return Configs{Now: config}, err
}

// order evaluates the record's manifests with the configurations of c, and gives the steps of the whole run in order.
// done says which steps were done before.
func (r Record) order(c Configs, done map[string]bool) ([]steps.Step, error) {
	main, err := r.plan(steps.MainRoot, c.main())
	if err != nil {
		return nil, err
	}
	names, err := r.extraNames(c)
	if err != nil {
		return nil, err
	}
	config := c.Now.Clone()
	for _, v := range main.Config.Variables() {
		if _, found := config.Lookup(v.Name); !found {
			config.Set(v.Name, v.Value)
		}
	}
	var extra []*steps.Plan
	for _, name := range names {
		folder := steps.ExtraPrefix + name
		if kept := c.Kept[folder]; kept != nil {
			config = kept
		}
		plan, err := r.plan(folder, config)
		if err != nil {
			return nil, err
		}
		extra = append(extra, plan)
		config = plan.Config
	}
	return steps.InOrder(main, extra, done), nil
}

// extraNames are the extra roots that the guest owes: those that the host has asked for, in the guest's order, and also
// those that the guest's configuration has lost. A root that the host does not know is not owed to it.
func (r Record) extraNames(c Configs) ([]string, error) {
	asked, err := steps.ExtraNames(c.Now)
	if err != nil {
		return nil, err
	}
	var known, names []string
	for _, root := range r.Roots {
		if name, extra := strings.CutPrefix(root.Folder, steps.ExtraPrefix); extra {
			known = append(known, name)
		}
	}
	for _, name := range append(asked, known...) {
		if slices.Contains(known, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// plan evaluates one manifest. Sources do not matter to what the steps are.
func (r Record) plan(folder string, config *steps.Config) (*steps.Plan, error) {
	i := slices.IndexFunc(r.Roots, func(root Root) bool { return root.Folder == folder })
	if i < 0 {
		return nil, fmt.Errorf("%w: no manifest of %s", ErrRecord, folder)
	}
	manifest, err := steps.ParseManifest(folder+"/manifest", strings.NewReader(r.Roots[i].Manifest))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return steps.NewPlanOf(manifest, embed.FS{}, folder, config)
}

// errNoLinux is a plan without a step for the agent.
var errNoLinux = errors.New("the plan has no step that runs on Linux")

// owed are the steps of an order that the agent owes.
func owed(order []steps.Step) ([]steps.Step, error) {
	first := steps.FirstOnLinux(order)
	if first < 0 {
		return nil, errNoLinux
	}
	return order[first:], nil
}
