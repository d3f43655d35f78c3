// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Extra roots: folders beside "steps" with a manifest, packages, improvements and jumps of their own, which are run when
// the main steps are done, on the same machine and with the same configuration.

// ExtraPrefix is what the folder of an extra root begins with; its name follows.
const ExtraPrefix = MainRoot + "-"

// The variables of bootstrap.cfg that ask for extra roots.
const (
	// VarExtraBuild has the names of the roots in the order in which they run, with commas between them.
	VarExtraBuild = "EXTRA_BUILD"
	// VarBuildGuixAlso is True when the root "guix" is asked for; a tree's own scripts may look at it.
	VarBuildGuixAlso = "BUILD_GUIX_ALSO"

	// GuixName is the name of the root that VarBuildGuixAlso asks for.
	GuixName = "guix"
)

// HandoffMarker stands in every /init that enters the extra roots that bootstrap.cfg asks for: in the agent's program, and
// as a comment in the script that takes its place where there is none.
const HandoffMarker = "kindling-extra-build-handoff-1"

// maxExtraList is how long the list of extra roots may be, in bytes: the tree's configurator reads a value into 128.
const maxExtraList = 127

// preseeded ends the name of the folder of prebuilt packages that belongs to a repository (steps/helpers.sh of the tree).
const preseeded = "preseeded"

// ExtraRoot is the folder of the extra root with that name, such as "steps-guix". A name has up to 32 lower-case
// letters, digits, "_" and "-", and begins with a letter. Those that end in "preseeded" would give their packages the
// folder in which another root looks for prebuilt ones.
func ExtraRoot(name string) (string, error) {
	const longest = 32
	bad := strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
	switch {
	case name == "" || bad || name[0] < 'a' || name[0] > 'z' || len(name) > longest:
		return "", fmt.Errorf("extra root %s: a name has up to %d lower-case letters, digits, _ and -, a letter first", quote(name), longest)
	case name == preseeded || strings.HasSuffix(name, "-"+preseeded):
		return "", fmt.Errorf("extra root %s: its packages would stand where prebuilt ones are looked for: take another name", quote(name))
	}
	return ExtraPrefix + name, nil
}

// extraName is the name in the folder of an extra root, "" for the main one.
func extraName(root string) string {
	name, _ := strings.CutPrefix(root, ExtraPrefix)
	if name == MainRoot {
		return ""
	}
	return name
}

// Repo is the folder of a root's packages in the guest, below its top. Each root has one of its own, because the number
// that a package's archive gets is counted from what is in there.
func Repo(root string) string {
	const main = "external/repo"
	if name := extraName(root); name != "" {
		return main + "-" + name
	}
	return main
}

// ExtraNames are the names of the extra roots that a bootstrap.cfg asks for, in the order in which they run.
func ExtraNames(c *Config) ([]string, error) {
	var names []string
	if list := c.Get(VarExtraBuild); list != "" {
		names = strings.Split(list, ",")
	}
	if c.Get(VarBuildGuixAlso) == valueTrue && !slices.Contains(names, GuixName) {
		names = append(names, GuixName)
	}
	return names, checkExtraNames(names)
}

// SetExtraNames has a bootstrap.cfg ask for these roots, and for nothing without any: then not a byte of it changes.
func SetExtraNames(c *Config, names []string) error {
	if err := checkExtraNames(names); err != nil || len(names) == 0 {
		return err
	}
	if slices.Contains(names, GuixName) {
		c.Set(VarBuildGuixAlso, valueTrue)
	}
	c.Set(VarExtraBuild, strings.Join(names, ","))
	return nil
}

func checkExtraNames(names []string) error {
	if n := len(strings.Join(names, ",")); n > maxExtraList {
		return fmt.Errorf("extra roots: their names and the commas between them have %d bytes, %d are possible", n, maxExtraList)
	}
	for i, name := range names {
		if _, err := ExtraRoot(name); err != nil {
			return err
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("extra root %s: is asked for twice", quote(name))
		}
	}
	return nil
}

// NewExtraPlans plans extra roots that run one after the other, behind a main plan that ends with the configuration cfg.
// What a root defines holds for the roots behind it as well, because all share one bootstrap.cfg.
func NewExtraPlans(tree fs.FS, names []string, cfg *Config) ([]*Plan, error) {
	if err := checkExtraNames(names); err != nil {
		return nil, err
	}
	var plans []*Plan
	for _, name := range names {
		plan, err := NewPlan(tree, ExtraPrefix+name, cfg)
		if err != nil {
			return nil, err
		}
		plans = append(plans, plan)
		cfg = plan.Config
	}
	return plans, nil
}

// isAfter is the improvement that runs the after scripts and ends the machine.
func isAfter(s Step) bool { return s.Kind == KindImprove && s.Name == "after" }

// InOrder lists the steps of a whole run: those of the extra roots come when the main ones are done, before the after
// scripts, which may sign or upload what the extra roots have made; or behind those, if they are done already.
func InOrder(main *Plan, extra []*Plan, done map[string]bool) []Step {
	at := slices.IndexFunc(main.Steps, isAfter)
	if at < 0 || done[main.Steps[at].ID()] {
		at = len(main.Steps)
	}
	order := slices.Clone(main.Steps[:at])
	for _, plan := range extra {
		order = append(order, plan.Steps...)
	}
	order = append(order, main.Steps[at:]...)
	for i := range order {
		order[i].At = i + 1
	}
	return order
}

// RunsAfter reports whether the plan has the step before which extra roots run without an agent.
func (p *Plan) RunsAfter() bool { return slices.ContainsFunc(p.Steps, isAfter) }
