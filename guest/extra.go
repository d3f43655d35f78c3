// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"kindling/internal/event"
	"kindling/steps"
)

// planExtras plans the extra roots that bootstrap.cfg asks for. Like the main plan, that of a root is fixed when the
// agent first sees it asked for: what its manifest and the configuration were then is kept. The request itself is read
// at every boot, so that a later one is heard.
func (a *agent) planExtras() error {
	cfg, err := readConfig()
	if err != nil {
		return err
	}
	names, err := steps.ExtraNames(cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", configPath, err)
	}
	if len(names) > 0 {
		a.say("%s: %s", steps.HandoffMarker, strings.Join(names, ", ")) // also how the host knows this program
	}
	for _, v := range a.plan.Config.Variables() { // what the main manifest defines, if no generator has written it down
		if _, found := cfg.Lookup(v.Name); !found {
			cfg.Set(v.Name, v.Value)
		}
	}
	for _, name := range names {
		plan, err := planExtra("/", home, name, cfg)
		if err != nil {
			return err
		}
		a.extra = append(a.extra, plan)
		cfg = plan.Config
	}
	return nil
}

// planExtra plans one root of a filesystem; what the plan is made from is kept in the folder kept.
func planExtra(root, kept, name string, cfg *steps.Config) (*steps.Plan, error) {
	folder, err := steps.ExtraRoot(name)
	if err != nil {
		return nil, err
	}
	configFile := filepath.Join(kept, "plan."+folder+".cfg")
	if data, err := os.ReadFile(configFile); err == nil {
		if cfg, err = steps.ParseConfig(configFile, bytes.NewReader(data)); err != nil {
			return nil, err
		}
	} else if err := writeFile(configFile, cfg.Bytes()); err != nil {
		return nil, err
	}
	manifestFile := filepath.Join(kept, "plan."+folder+".manifest")
	data, err := keep(filepath.Join(root, folder, "manifest"), manifestFile)
	if err != nil {
		return nil, fmt.Errorf("extra root %s is asked for in %s: %w", name, configPath, err)
	}
	manifest, err := steps.ParseManifest(manifestFile, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return steps.NewPlanOf(manifest, os.DirFS(root), folder, cfg)
}

// planOf is the plan that a step belongs to.
func (a *agent) planOf(s steps.Step) *steps.Plan {
	for _, p := range a.extra {
		if p.Root == s.Root {
			return p
		}
	}
	return a.plan
}

// enterExtra gets the configuration ready for an extra root whose first step s is: what its manifest defines goes into
// bootstrap.cfg, as the tree's generator has it for the main root.
func (a *agent) enterExtra(s steps.Step) error {
	if s.Root == "" || s.Number != 1 {
		return nil
	}
	a.port.Send(event.Event{Kind: event.KindNote, Text: "extra root " + s.Root})
	for _, v := range a.planOf(s).Defined {
		if err := setConfig("/", v.Name, v.Value); err != nil {
			return err
		}
	}
	return nil
}
