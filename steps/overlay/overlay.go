// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package overlay is what Kindling lays over a live-bootstrap tree: the importer as a package of the steps, the
// improvements that run it, what stands around the tree's own jump to Linux, and the keys of bootstrap.cfg that the
// tree's configurator has to keep. A script of the tree is wrapped (it stays, under another name) or changed in one
// place, and never restated.
//
// Apply is pure: the tree's files in, the files that differ out. It is called by host/assemble. Nothing of it is laid
// over a tree that was not asked to carry a payload, an agent or the final event.
package overlay

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"kindling/steps"
)

//go:embed tree
var files embed.FS

// What the guest finds where.
const (
	AgentPath  = "kindling/init" // the agent's file, below the root of the guest
	AgentName  = "kindling-init" // the agent as a file of a payload
	importer   = "payload-import-1.0"
	linuxJump  = "steps/jump/linux.sh"
	setupRepo  = "steps/improve/setup_repo.sh"
	checksums  = "steps/improve/update_checksums.sh"
	fiwixJump  = "steps/jump/fiwix.sh"
	diskJump   = "steps/jump/move_disk.sh"
	manifest   = "steps/manifest"
	configFile = "steps/configurator"

	after        = "steps/improve/after.sh"         // wrapped when extra roots run without the agent
	cleaner      = "steps/improve/clean_sources.sh" // wrapped when it would delete what extra roots need
	bootable     = "steps/improve/make_bootable.sh" // wrapped so that its /init enters extra roots
	handoff      = "steps/extra-handoff.sh"
	extraRunner  = "steps/extra-roots.sh"  // runs the extra roots
	extraSources = "steps/extra-distfiles" // their distfiles, one name a line
)

// Provides reports whether a step's script comes from the overlay, so that a tree need not have it. What wraps a script of
// the tree does not stand in for it, and an extra root has to have its own.
func Provides(s steps.Step) bool {
	if s.Root != "" {
		return false
	}
	name := path.Join(steps.MainRoot, string(s.Kind), s.Name+".sh")
	if s.Kind == steps.KindBuild {
		name = path.Join(steps.MainRoot, s.Name)
	}
	if slices.Contains([]string{linuxJump, diskJump, setupRepo, checksums, after, cleaner, bootable}, name) {
		return false
	}
	_, err := fs.Stat(files, path.Join("tree", name))
	return err == nil
}

// CheckSteps reports the first step of the plans that neither the tree nor the overlay has a folder and a script for.
func CheckSteps(tree fs.FS, plans []*steps.Plan) error {
	for _, p := range plans {
		for _, missing := range p.Missing(tree, Provides) {
			return errors.New(missing)
		}
	}
	return nil
}

// wrapped is the name that a script of the tree has when it is wrapped.
func wrapped(name string) string { return strings.TrimSuffix(name, ".sh") + "-tree.sh" }

// MaxCommandLine is the room that Fiwix has for its command line, in bytes and with the final NUL; it copies without
// looking (Fiwix 1.5.0-lb1, kernel/multiboot.c into kernel_cmdline of kernel/main.c, NAME_MAX + 1 bytes).
const MaxCommandLine = 256

// Key is a variable of bootstrap.cfg that the configurator has to know, so that it does not drop it.
type Key struct {
	Name  string
	Value string
	Type  string // of seed/configurator.c: "bool", "int", or "\"\"" for any one word
	Short string // one line for the menu
}

// Input says what is laid over which tree.
type Input struct {
	Tree    fs.FS // the top folder of a live-bootstrap checkout
	Payload bool  // a payload image is imported
	Agent   bool  // the agent takes over on Linux
	// BaseTarball has everything that is built before the package repository kept in /external/repo/base.tar.bz2. Where
	// that would not fit through the kexec window, the guest leaves it out.
	BaseTarball bool
	DoneEvent   bool   // the last after script tells the host that all is done (there is no agent that would)
	Panic       int    // seconds after which Linux restarts when it has panicked; 0: it hangs, as the tree has it
	Importer    []byte // the source of payload-import
	Keys        []Key  // Kindling's keys with their values, in order

	Extra []*steps.Plan // the extra roots, in the order in which they run
	Keep  []string      // names of their distfiles that the first medium carries, or the import under Fiwix brings
}

// File is a file that the overlay adds or replaces.
type File struct {
	Path string // relative to the root of the guest and the tree
	Exec bool
	Data []byte
}

// Result is what Apply makes.
type Result struct {
	Files    []File // no path twice, in no particular order
	Warnings []string
}

// ErrTree says that the tree has no place for what shall be laid over it.
var ErrTree = errors.New("overlay does not fit the tree")

// Apply gives the files to put over those of the tree. Without payload, agent, final event, base tarball and extra roots there
// are none.
func Apply(in Input) (Result, error) {
	a := &applier{in: in}
	for _, part := range []struct {
		wanted bool
		apply  func() error
	}{
		{in.Payload, a.payload},
		{in.Payload || in.Agent, a.jump},
		{!in.Agent && (in.Payload || in.DoneEvent), a.moveDisk},
		{in.BaseTarball, a.baseTarball},
		{in.Panic > 0 && (in.Payload || in.Agent || in.DoneEvent), a.fiwixPanic},
		{len(in.Keys) > 0, a.configurator},
		{len(in.Extra) > 0 && !in.Agent, a.extraRoots},
		{!in.Agent && (in.Payload || in.DoneEvent || len(in.Extra) > 0), a.handoff},
		{len(in.Keep) > 0, a.keepSources},
		{in.DoneEvent, func() error { return a.embedded("steps/after/999999999-kindling-done.sh") }},
	} {
		if !part.wanted {
			continue
		}
		if err := part.apply(); err != nil {
			return Result{}, err
		}
	}
	return a.result, nil
}

type applier struct {
	in     Input
	result Result
}

func (a *applier) add(name string, data []byte) {
	exec := bytes.HasPrefix(data, []byte("#!"))
	a.result.Files = append(a.result.Files, File{Path: name, Exec: exec, Data: data})
}

func (a *applier) warn(format string, args ...any) {
	a.result.Warnings = append(a.result.Warnings, fmt.Sprintf(format, args...))
}

// embedded adds files of this package as they are.
func (a *applier) embedded(names ...string) error {
	for _, name := range names {
		data, err := files.ReadFile(path.Join("tree", name))
		if err != nil {
			return fmt.Errorf("overlay: %w", err)
		}
		a.add(name, data)
	}
	return nil
}

// payload adds the importer, the improvements that run it, and their lines in the manifest.
func (a *applier) payload() error {
	text, err := fs.ReadFile(a.in.Tree, manifest)
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	text, err = Manifest(manifest, text)
	if err != nil {
		return err
	}
	a.add(manifest, text)
	a.add("steps/"+importer+"/src/payload-import.c", a.in.Importer)
	return a.embedded("steps/"+importer+"/pass1.kaem", "steps/"+importer+"/"+importer+".checksums",
		"steps/improve/import_payload.sh", "steps/improve/import_payload_rest.sh")
}

// Manifest is the manifest with everything that a payload needs: the imports (steps.WithPayloadImport), and the build of
// the importer before each jump: fiwix, under the condition that PAYLOAD_REQUIRED is True. Every other byte stays. A
// manifest that builds the importer already does not get that line again.
func Manifest(name string, text []byte) ([]byte, error) {
	text, err := steps.WithPayloadImport(name, text)
	if err != nil {
		return nil, err
	}
	parsed, err := steps.ParseManifest(name, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	before := map[int]bool{}
	for _, d := range parsed.Directives {
		switch {
		case d.Kind == steps.KindBuild && d.Name == importer:
			return text, nil
		case d.Kind == steps.KindJump && d.Name == "fiwix":
			before[d.Line] = true
		}
	}
	var out []byte
	number := 0
	for line := range bytes.SplitAfterSeq(text, []byte("\n")) {
		number++
		if before[number] {
			out = append(out, "build: "+importer+" ( "+steps.VarPayloadRequired+" == True )\n"...)
		}
		out = append(out, line...)
	}
	return out, nil
}

// appended matches the command line that the tree's jump from one Linux to another hands over.
var appended = regexp.MustCompile(`--append="[^"]*`)

// jump wraps the tree's jump to Linux.
func (a *applier) jump() error {
	own, err := fs.ReadFile(a.in.Tree, linuxJump)
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if a.in.Panic > 0 {
		own = appended.ReplaceAll(own, []byte("${0} panic="+strconv.Itoa(a.in.Panic)))
	}
	a.add(wrapped(linuxJump), own)
	return a.embedded(linuxJump)
}

// moveDisk wraps the tree's move to disk in a guard. The tree makes the name of a partition by putting a 1 behind the
// disk's, which is no partition of an nvme0n1: there the guard says what stands between.
func (a *applier) moveDisk() error {
	own, err := fs.ReadFile(a.in.Tree, diskJump)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	named := bytes.ReplaceAll(own, []byte("${DISK}1"), []byte("${DISK}${KINDLING_P}1"))
	if bytes.Equal(named, own) {
		a.warn("%s: no ${DISK}1, where names of partitions are made: only sdX, hdX and vdX will work", diskJump)
	}
	a.add(wrapped(diskJump), named)
	return a.embedded(diskJump)
}

// baseTarball wraps what sets up the package repository, what writes the checksums of the packages, because the base
// tarball is none, and the jump to Linux, which leaves it out if it has to.
func (a *applier) baseTarball() error {
	_, err := fs.Stat(a.in.Tree, linuxJump)
	if alone := !a.in.Payload && !a.in.Agent; alone && err == nil {
		if err := a.jump(); err != nil {
			return err
		}
	}
	for _, name := range []string{setupRepo, checksums} {
		own, err := fs.ReadFile(a.in.Tree, name)
		if errors.Is(err, fs.ErrNotExist) && name == checksums {
			continue // such a tree writes none
		}
		if err != nil {
			return fmt.Errorf("overlay: base tarball: %w", err)
		}
		a.add(wrapped(name), own)
		if err := a.embedded(name); err != nil {
			return err
		}
	}
	return nil
}

var (
	// kexecLine matches what Fiwix hands to Linux, inside of Fiwix' own command line, inside of double quotes.
	kexecLine = regexp.MustCompile(`kexec_cmdline=\\"[^"\\]*`)
	// fiwixLine matches Fiwix' command line where kexec-fiwix is given it.
	fiwixLine = regexp.MustCompile(`-c "((?:[^"\\]|\\.)*)"`)
)

// fiwixPanic adds panic= to the command line that Fiwix hands to Linux: that kernel hangs for ever otherwise, and the
// host cannot tell it from one that works in silence.
func (a *applier) fiwixPanic() error {
	text, err := fs.ReadFile(a.in.Tree, fiwixJump)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	changed := kexecLine.ReplaceAll(text, []byte("${0} panic="+strconv.Itoa(a.in.Panic)))
	if bytes.Equal(changed, text) {
		a.warn("%s: no kexec_cmdline=\\\"...\\\" to add panic=%d to: a panic of Linux will look like a hang", fiwixJump,
			a.in.Panic)
		return nil
	}
	if err := CheckCommandLines(fiwixJump, changed); err != nil {
		return err
	}
	a.add(fiwixJump, changed)
	return nil
}

// CommandLines are the command lines of Fiwix in the text of jump/fiwix.sh, without the shell's quoting.
func CommandLines(text []byte) []string {
	var lines []string
	for _, m := range fiwixLine.FindAllSubmatch(text, -1) {
		lines = append(lines, strings.ReplaceAll(string(m[1]), `\"`, `"`))
	}
	return lines
}

// CheckCommandLines reports a command line of Fiwix that is too long. name is for errors.
func CheckCommandLines(name string, text []byte) error {
	for _, line := range CommandLines(text) {
		if n := len(line) + 1; n > MaxCommandLine {
			return fmt.Errorf("%w: %s: a command line of Fiwix has %d bytes with its NUL, %d are possible: %.60q", ErrTree,
				name, n, MaxCommandLine, line)
		}
	}
	return nil
}

// configurator appends Kindling's keys to the tree's list of options, with the values that they have, so that a run of
// the configurator keeps them even when it starts from nothing.
func (a *applier) configurator() error {
	text, err := fs.ReadFile(a.in.Tree, configFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a tree without a configurator drops nothing
	}
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	var out bytes.Buffer
	out.Write(bytes.TrimRight(text, "\n"))
	out.WriteString("\n\nm /kindling _ _ _ [INTERNAL] Kindling\n" +
		"What the tool that made these media has to tell the guest. Leave it as it is.\n")
	for _, k := range a.in.Keys {
		if strings.ContainsAny(k.Value, " \n") || k.Value == "" || len(k.Value) >= 128 {
			return fmt.Errorf("%w: %s=%q is not one word of at most 127 bytes", ErrTree, k.Name, k.Value)
		}
		fmt.Fprintf(&out, "\no /kindling/%s %s %s %s [INTERNAL] %s\nSet by the host.\n", strings.ToLower(k.Name), k.Name, k.Type,
			k.Value, k.Short)
	}
	a.add(configFile, out.Bytes())
	return nil
}
