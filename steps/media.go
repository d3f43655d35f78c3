// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"fmt"
	"slices"
	"strings"
)

// Medium is where a distfile travels.
type Medium string

// The media.
const (
	// MediumInit is the first medium: the builder-hex0 image, the disk image of --kernel, or the folder of a chroot.
	MediumInit Medium = "init"
	// MediumPayloadEarly is the front of the payload image, imported under Fiwix.
	MediumPayloadEarly Medium = "payload-early"
	// MediumPayload is the rest of the payload image, imported on Linux.
	MediumPayload Medium = "payload"
	// MediumExternal is a second disk with a filesystem, in place of a payload.
	MediumExternal Medium = "external"
	// MediumNetwork is no medium: the guest downloads the file.
	MediumNetwork Medium = "network"
)

// PayloadStage says when the payload is imported.
type PayloadStage string

// The payload stages.
const (
	// PayloadStageAuto imports in two parts: what is needed before jump: linux under Fiwix, the rest on Linux.
	PayloadStageAuto PayloadStage = "auto"
	// PayloadStageFiwix imports everything at once, right after jump: fiwix.
	PayloadStageFiwix PayloadStage = "fiwix"
	// PayloadStageLinux imports on Linux only, for a payload disk that Fiwix cannot see (AHCI, NVMe, USB): what would
	// be the early part goes to the first medium.
	PayloadStageLinux PayloadStage = "linux"
)

// MediaOptions is what the user asked for. That the kernels are bootstrapped too is read off the plan's configuration.
type MediaOptions struct {
	// ExternalSources carries everything; otherwise what is first needed after the first improve directive whose name
	// contains "network" is left to the guest's network.
	ExternalSources bool
	// Payload takes a payload image along. It has an effect in a kernel bootstrap only.
	Payload bool
	// PayloadStage is PayloadStageAuto if empty.
	PayloadStage PayloadStage
}

// Distfile is a file that the plan needs.
type Distfile struct {
	Name    string
	SHA256  string   // lower-case hex
	Sources []Source // the distinct lines that name it, in the order of need: its origins
	Medium  Medium
	// Again is a second medium that has to have it as well, or "": a file of the first medium that a package needs
	// again on Linux, where nothing of the first medium is left.
	Again Medium
	// Late says that a package needs the file after jump: linux, with a payload in two parts: the late import has to
	// bring it, or bring it back. It is not set for MediumNetwork.
	Late bool
	// Root is the root whose build needs it first, that build is NeededBy, by name, and Line that line of the manifest.
	Root     string
	NeededBy string
	Line     int
	// Active says that a build needs it which the configuration does not switch off.
	Active bool
	// Extra says that an extra root needs it.
	Extra bool
}

// Count is a number of distinct source lines and the number of files that they name.
type Count struct {
	Lines int
	Files int
}

// Counts says how much is needed up to certain points of the manifest. A nil pointer: there is no such point.
type Counts struct {
	All           Count
	BeforeNetwork *Count // before the first improve directive whose name contains "network"
	BeforeLinux   *Count // before the first jump: linux
	BeforeFiwix   *Count // before the first jump: fiwix
}

// Counts counts over all builds of the manifest, whatever the configuration switches off, as the tree's rootfs.py does.
func (p *Plan) Counts() Counts {
	counts := Counts{All: p.countBefore(len(p.entries))}
	before := func(match func(Directive) bool) *Count {
		i := slices.IndexFunc(p.manifest.Directives, match)
		if i < 0 {
			return nil
		}
		count := p.countBefore(i)
		return &count
	}
	counts.BeforeNetwork = before(isNetwork)
	counts.BeforeLinux = before(isDirective(KindJump, jumpLinux))
	counts.BeforeFiwix = before(isDirective(KindJump, jumpFiwix))
	return counts
}

func (p *Plan) countBefore(end int) Count {
	lines, files := map[lineKey]bool{}, map[string]bool{}
	for _, e := range p.entries[:end] {
		for _, s := range e.sources {
			lines[keyOf(s)] = true
			files[s.Name] = true
		}
	}
	return Count{Lines: len(lines), Files: len(files)}
}

// lineKey is what makes a source line distinct, as in the tree's lib/generator.py.
type lineKey struct{ sha256, url, name string }

func keyOf(s Source) lineKey { return lineKey{s.SHA256, s.URL, s.Name} }

func isDirective(kind Kind, name string) func(Directive) bool {
	return func(d Directive) bool { return d.Kind == kind && d.Name == name }
}

func isNetwork(d Directive) bool { return d.Kind == KindImprove && strings.Contains(d.Name, "network") }

// Distfiles lists what the builds of the manifest need, in the order of need, each name once, with its medium.
//
// Builds that the configuration switches off count as well: rootfs.py carries their files too, and the configuration
// may still be changed in the guest. Errors are *ParseError: one name with two checksums, and a build that needs files
// at a point where no medium can have brought them (between jump: linux and the late import of a payload).
func (p *Plan) Distfiles(opt MediaOptions) ([]Distfile, error) { return Distfiles([]*Plan{p}, opt) }

// Distfiles is Plan.Distfiles for a main plan and the extra roots behind it, which share one folder of distfiles.
func Distfiles(plans []*Plan, opt MediaOptions) ([]Distfile, error) {
	l := lister{index: map[string]int{}}
	for _, p := range plans {
		b, err := p.boundaries(opt)
		if err != nil {
			return nil, err
		}
		for i := range p.manifest.Directives {
			if err := l.build(p, b, i); err != nil {
				return nil, err
			}
		}
	}
	return l.files, nil
}

// lister collects distfiles.
type lister struct {
	files []Distfile
	index map[string]int // in files, by name
}

// build adds what the directive at index i of a plan's manifest needs.
func (l *lister) build(p *Plan, b boundaries, i int) error {
	d := p.manifest.Directives[i]
	for _, source := range p.entries[i].sources {
		at, known := l.index[source.Name]
		if !known {
			at = len(l.files)
			l.index[source.Name] = at
			l.files = append(l.files, Distfile{
				Name: source.Name, SHA256: source.SHA256, Medium: b.medium(i), Root: p.Root, NeededBy: d.Name, Line: d.Line,
			})
		}
		file := &l.files[at]
		if file.SHA256 != source.SHA256 {
			return p.conflict(*file, d, source)
		}
		if b.gap(i) {
			return p.unreachable(d)
		}
		file.need(b, i, p.entries[i].step >= 0)
		file.Extra = file.Extra || p.Root != MainRoot
		if !slices.ContainsFunc(file.Sources, func(s Source) bool { return keyOf(s) == keyOf(source) }) {
			file.Sources = append(file.Sources, source)
		}
	}
	return nil
}

// need notes that the build at index i of the manifest needs the file.
func (f *Distfile) need(b boundaries, i int, active bool) {
	f.Active = f.Active || active
	if !b.late(i) {
		return
	}
	f.Late = f.Medium != MediumNetwork
	if f.Medium == MediumInit {
		// Also in place of a download: the host has the file at hand.
		f.Again = MediumPayload
	}
}

func (p *Plan) conflict(file Distfile, d Directive, source Source) error {
	return parseErrorf(fmt.Sprintf("%s/%s/sources", p.Root, d.Name), source.Line,
		"%s has another sha256 than in %s/%s/sources: one name can be one file only, name one of them differently",
		quote(source.Name), file.Root, file.NeededBy)
}

func (p *Plan) unreachable(d Directive) error {
	return parseErrorf(p.manifest.Name, d.Line,
		"%s needs distfiles between jump: linux and the late payload import, where there are none: "+
			"move it behind that or do without a payload", quote(d.String()))
}

// boundaries are the points of the manifest, as indexes of directives, at which the medium changes. Jumps count if the
// configuration lets them happen; the network directive counts always, as in rootfs.py.
type boundaries struct {
	kernels  bool // the kernels are bootstrapped: there is a first medium that must stay small
	external bool // everything is carried
	payload  bool
	stage    PayloadStage

	fiwix   int // the payload disk can be read from here on
	linux   int // what stands behind runs on Linux
	rest    int // the late import
	network int // len of the manifest if there is none
}

// boundaries finds them, and checks opt.
func (p *Plan) boundaries(opt MediaOptions) (boundaries, error) {
	b := boundaries{external: opt.ExternalSources, stage: opt.PayloadStage}
	switch b.stage {
	case "":
		b.stage = PayloadStageAuto
	case PayloadStageAuto, PayloadStageFiwix, PayloadStageLinux:
	default:
		return boundaries{}, fmt.Errorf("payload stage %q: must be auto, fiwix or linux", opt.PayloadStage)
	}
	b.kernels = p.Config.First(varChroot) != valueTrue && p.Config.First(varKernelBootstrap) == valueTrue
	b.payload = opt.Payload && b.kernels
	if p.Root != MainRoot {
		return b, nil // all of it runs behind everything that a boundary stands for
	}
	end := len(p.entries)
	b.linux = p.indexOf(0, end, isDirective(KindJump, jumpLinux))
	b.fiwix = p.indexOf(0, b.linux, isDirective(KindJump, jumpFiwix))
	b.fiwix = p.indexOf(0, b.fiwix, isDirective(KindImprove, improveImport))
	b.rest = p.indexOf(b.linux, b.linux, isDirective(KindJump, jumpMoveDisk))
	b.rest = p.indexOf(b.linux, b.rest, isDirective(KindImprove, improveImportRest))
	b.network = slices.IndexFunc(p.manifest.Directives, isNetwork)
	if b.network < 0 {
		b.network = end
	}
	return b, nil
}

// indexOf is the index of the first step from start on that matches, or missing.
func (p *Plan) indexOf(start, missing int, match func(Directive) bool) int {
	for i := start; i < len(p.entries); i++ {
		if p.entries[i].step >= 0 && match(p.manifest.Directives[i]) {
			return i
		}
	}
	return missing
}

// medium is the medium of a file that is first needed by the directive at index i.
func (b boundaries) medium(i int) Medium {
	switch {
	case !b.external && i >= b.network:
		return MediumNetwork
	case !b.kernels:
		return MediumInit
	case !b.payload && i < b.network:
		return MediumInit
	case !b.payload:
		return MediumExternal
	case i < b.fiwix:
		return MediumInit
	case b.stage == PayloadStageFiwix:
		return MediumPayloadEarly
	case i >= b.linux:
		return MediumPayload
	case b.stage == PayloadStageLinux:
		return MediumInit
	}
	return MediumPayloadEarly
}

// late reports whether the directive at index i finds only what the late import brings.
func (b boundaries) late(i int) bool {
	return b.payload && b.stage != PayloadStageFiwix && i >= b.linux
}

// gap reports whether the directive at index i stands where distfiles are gone and not back yet.
func (b boundaries) gap(i int) bool { return b.late(i) && i < b.rest }
