// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// GeneratorPath is the source of the tree's own generator, whose scripts Scripts writes.
const GeneratorPath = "seed/script-generator.c"

// MainRoot is the root of the bootstrap itself, "/steps" in the guest. Its scripts start in kaem, those of every other
// root in bash: other roots run when the main steps are done.
const MainRoot = "steps"

// Step is one directive that will be carried out.
type Step struct {
	Root    string   // the folder of an extra root, such as "steps-guix"; "" for a step of the main root
	Number  int      // 1-based position in the plan of its root
	At      int      // 1-based position in the whole run: Number, unless extra roots take part (InOrder)
	Kind    Kind     // never KindDefine
	Name    string   // package, improvement or jump; of an uninstall the first argument
	Args    []string // an uninstall's whole list, otherwise nil
	Pass    int      // number of the build pass, as the generator counts it; 0 if this is no build
	Family  Family   // what runs the script that holds the step
	Kernel  Kernel   // what that runs on
	Script  int      // number of the generated script that holds the step
	Sources []Source // what a build needs, as its sources file lists it
	Line    int      // 1-based, in the manifest
}

// arg is what the C program calls the primary argument.
func (s Step) arg() string {
	if s.Kind == KindUninstall {
		return strings.Join(s.Args, " ")
	}
	return s.Name
}

// directive is the step as it stands in the manifest, without its condition.
func (s Step) directive() string { return string(s.Kind) + ": " + s.arg() }

// String is the directive, as in "build: bash-2.05b" or "uninstall: a b", behind the name of the root if it is an extra
// one: "guix: build: zlib-1.3".
func (s Step) String() string {
	if name := extraName(s.Root); name != "" {
		return name + ": " + s.directive()
	}
	return s.directive()
}

// ID names the step in logs, journal and events: unique in a run, the same each time the same manifest is planned
// with the same configuration, safe as a file name. For example "012-build-bash-2.05b-pass1", and for a step of an extra
// root "guix.001-build-zlib-1.3-pass1": names of roots have no dot.
func (s Step) ID() string {
	const longest = 80
	name := strings.Map(func(r rune) rune {
		if notNameRune(r) {
			return '_'
		}
		return r
	}, s.Name)
	if len(name) > longest {
		name = name[:longest]
	}
	id := fmt.Sprintf("%03d-%s-%s", s.Number, s.Kind, name)
	if s.Kind == KindBuild {
		id += fmt.Sprintf("-pass%d", s.Pass)
	}
	if name := extraName(s.Root); name != "" {
		id = name + "." + id
	}
	return id
}

// Plan is a manifest evaluated with a configuration.
type Plan struct {
	Root   string  // "steps", or the folder of an extra root such as "steps-guix"
	Config *Config // as bootstrap.cfg will be rewritten: with all defines
	Steps  []Step
	// Warnings are lines of the manifest that are valid and probably not meant, each as "name:line: ...".
	Warnings []string

	// Defined are the defines of the manifest that took effect, with their values, in order.
	Defined []Variable

	manifest Manifest
	entries  []entry
	plainE   bool // the tree's generator writes "set -E" alone into interactive scripts
}

// entry is what became of one directive of the manifest; Plan.entries has one for each.
type entry struct {
	step    int      // index in Plan.Steps, or -1 when the predicate does not hold and for a define
	sources []Source // of a build, whether its predicate holds or not
}

// NewPlan evaluates root/manifest of tree (the top folder of a live-bootstrap checkout, or "/" in the guest) with cfg,
// which is not changed; nil is an empty one. Sources are read from root/PACKAGE/sources, also those of builds that are
// switched off; a package without that file needs none. Errors are *ParseError, or those of tree.
func NewPlan(tree fs.FS, root string, cfg *Config) (*Plan, error) {
	manifest, err := ReadManifest(tree, root)
	if err != nil {
		return nil, err
	}
	return NewPlanOf(manifest, tree, root, cfg)
}

// ReadManifest parses root/manifest of tree.
func ReadManifest(tree fs.FS, root string) (Manifest, error) {
	if err := checkRoot(root); err != nil {
		return Manifest{}, err
	}
	name := path.Join(root, "manifest")
	file, err := tree.Open(name)
	if err != nil {
		return Manifest{}, fmt.Errorf("open manifest: %w", err)
	}
	defer file.Close()
	return ParseManifest(name, file)
}

// NewPlanOf is NewPlan with a manifest that need not stand in tree as it is, such as that of WithPayloadImport.
func NewPlanOf(manifest Manifest, tree fs.FS, root string, cfg *Config) (*Plan, error) {
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	p := &Plan{Root: root, Config: &Config{}, Warnings: manifest.Warnings, manifest: manifest}
	if cfg != nil {
		p.Config = cfg.Clone()
	}
	if err := p.readSources(tree); err != nil {
		return nil, err
	}
	if err := p.readGenerator(tree); err != nil {
		return nil, err
	}
	p.evaluate()
	return p, nil
}

// Manifest is what the plan was evaluated from.
func (p *Plan) Manifest() Manifest { return p.manifest }

// FirstOnLinux is the index of the first step in the order of a run that the agent can meet: the first of the main root
// with a Linux that the bootstrap has built. It is -1 if there is none.
func FirstOnLinux(order []Step) int {
	return slices.IndexFunc(order, func(s Step) bool {
		return s.Root == "" && (s.Kernel == KernelInitramfs || s.Kernel == KernelDisk)
	})
}

// checkRoot admits one plain folder name, because it becomes "/root" in scripts.
func checkRoot(root string) error {
	if msg := checkName(root, false); msg != "" || strings.ContainsAny(root, "~@") {
		return fmt.Errorf("root %q: must be one folder at the top of the tree, such as %s", root, MainRoot)
	}
	return nil
}

// readSources fills p.entries, reading the sources of each package once.
func (p *Plan) readSources(tree fs.FS) error {
	known := map[string][]Source{}
	for _, d := range p.manifest.Directives {
		e := entry{step: -1}
		if d.Kind == KindBuild {
			if _, ok := known[d.Name]; !ok {
				sources, err := readSources(tree, path.Join(p.Root, d.Name, "sources"))
				if err != nil {
					return err
				}
				known[d.Name] = sources
			}
			e.sources = known[d.Name]
		}
		p.entries = append(p.entries, e)
	}
	return nil
}

// readGenerator finds out what the tree's generator writes into scripts of interactive runs: "set -E" until February 2025,
// "set -eEo pipefail" since, and where there is none.
func (p *Plan) readGenerator(tree fs.FS) error {
	file, err := tree.Open(GeneratorPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open generator: %w", err)
	}
	defer file.Close()
	text, err := readLimited(GeneratorPath, file)
	p.plainE = bytes.Contains(text, []byte(`"set -E\n`))
	return err
}

func readSources(tree fs.FS, name string) ([]Source, error) {
	file, err := tree.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open sources: %w", err)
	}
	defer file.Close()
	return ParseSources(name, file)
}

// evaluate goes through the manifest once, in order: defines change the configuration for what follows, and what the
// configuration switches on becomes a step.
func (p *Plan) evaluate() {
	at := position{family: FamilyKaem, kernel: firstKernel(p.Root, p.Config)}
	if p.Root != MainRoot {
		at.family = FamilyBash
	}
	root := p.Root
	if root == MainRoot {
		root = ""
	}
	seen := map[string]int{} // steps so far, of any kind, by argument: the generator counts passes that way
	for i, d := range p.manifest.Directives {
		if d.Kind == KindDefine {
			p.define(d)
			continue
		}
		if d.Predicate != nil && !d.Predicate.Holds(p.Config.First) {
			continue
		}
		step := Step{
			Root: root, Number: len(p.Steps) + 1, At: len(p.Steps) + 1, Kind: d.Kind, Name: d.Name, Args: d.Args, Line: d.Line,
			Family: at.family, Kernel: at.kernel, Script: at.script, Sources: p.entries[i].sources,
		}
		if d.Kind == KindBuild {
			step.Pass = seen[d.arg()] + 1
		}
		seen[d.arg()]++
		p.entries[i].step = len(p.Steps)
		p.Steps = append(p.Steps, step)
		at = at.after(step)
	}
}

func (p *Plan) define(d Directive) {
	value := d.Constant
	if d.Logic != nil {
		value = d.Logic.Eval(p.Config.First)
	}
	if d.Predicate == nil || d.Predicate.Holds(p.Config.First) {
		p.Config.define(d.Name, value)
		p.Defined = append(p.Defined, Variable{Name: d.Name, Value: value})
	}
}

// position is where in the bootstrap a step stands.
type position struct {
	family Family
	kernel Kernel
	script int
}

// after is the position that follows step: a jump and each build of a bash begin a new script.
func (at position) after(step Step) position {
	switch {
	case step.Kind == KindJump:
		at.script++
		at.kernel = nextKernel(at.kernel, step.Name)
	case startsShell(step):
		at.script++
		at.family = nextFamily(at.family)
	}
	return at
}

// startsShell reports whether a step brings a new bash.
func startsShell(step Step) bool {
	return step.Kind == KindBuild && strings.HasPrefix(step.Name, "bash-")
}

func nextFamily(family Family) Family {
	if family == FamilyKaem {
		return FamilyEarlyBash
	}
	return FamilyBash
}

// firstKernel is what the first step runs on. Extra roots run after the main steps, from the final disk.
func firstKernel(root string, config *Config) Kernel {
	switch {
	case config.First(varChroot) == valueTrue:
		return KernelHost
	case root != MainRoot:
		return KernelDisk
	case config.First(varKernelBootstrap) == valueTrue:
		return KernelBuilderHex0
	default:
		return KernelLinuxEarly
	}
}

// The jumps that change the kernel or the root. Others, such as "break", do not.
const (
	jumpFiwix    = "fiwix"
	jumpLinux    = "linux"
	jumpMoveDisk = "move_disk"
)

// nextKernel is what runs after a jump. With the user's own kernel, jump: linux boots the new kernel straight from the
// disk; otherwise it boots an initramfs, which jump: move_disk leaves.
func nextKernel(kernel Kernel, jump string) Kernel {
	switch {
	case kernel == KernelHost || kernel == KernelDisk:
		return kernel
	case jump == jumpFiwix && kernel == KernelBuilderHex0:
		return KernelFiwix
	case jump == jumpLinux && kernel == KernelLinuxEarly:
		return KernelDisk
	case jump == jumpLinux:
		return KernelInitramfs
	case jump == jumpMoveDisk && kernel == KernelInitramfs:
		return KernelDisk
	}
	return kernel
}
