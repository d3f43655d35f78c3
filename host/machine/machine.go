// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package machine describes the virtual machine of a run: machine.json in the run folder.
//
// The document holds facts, never commands: memory, cores, disks by name below the folder with their formats. QEMU's
// arguments are built anew from them, with the QEMU of the command line or of PATH. A run folder may come from anywhere,
// so every field is checked, and a path that leads out of the folder counts only if the user names it again (Given).
// The package reads and writes no file; it is called by cmd/host and packages resume and checkpoint.
package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"kindling/host/imagefile"
	"kindling/host/qemu"
	"kindling/internal/shell"
)

const (
	// Schema is the version of the document that Encode writes.
	Schema = 2
	// MaxSize is the largest document that Decode accepts, in bytes.
	MaxSize = 1 << 20
)

// ErrMachine is a document that does not describe a machine.
var ErrMachine = errors.New("description of a run's machine")

// Layer is a file of a disk.
type Layer struct {
	File   string           `json:"file"` // below the run folder, or absolute: outside of it
	Format imagefile.Format `json:"format"`
}

// Disk is one disk of the machine.
type Disk struct {
	Layers    []Layer        `json:"layers"` // the one that is written to comes first
	Interface qemu.Interface `json:"interface"`
	Throwaway bool           `json:"throwaway,omitempty"` // what the guest writes is gone with the machine
}

// Machine is what a run was begun with, so far as it is needed to go on.
type Machine struct {
	Schema int    `json:"schema"`
	Label  string `json:"label"`
	// Demo says that it is the embedded default: its kernel has modules, which go into the initramfs.
	Demo bool `json:"demo,omitempty"`
	// KernelArch is Debian's name of that kernel's architecture.
	KernelArch string `json:"kernel_arch,omitempty"`
	// AgentOff says that the tree's own scripts ran, which keep no journal.
	AgentOff bool `json:"agent_off,omitempty"`
	// Kernel is the kernel file: below the run folder, or absolute. "" is that of the embedded default, or none.
	Kernel string `json:"kernel,omitempty"`

	Accel     qemu.Accel `json:"accel"`
	MemoryMiB int        `json:"memory_mib"`
	Cores     int        `json:"cores"`
	CPU       string     `json:"cpu,omitempty"`
	Disks     []Disk     `json:"disks"`
	// Initrd and Append are what the kernel was booted with; a checkpoint needs them, a resumed run has its own.
	Initrd string `json:"initrd,omitempty"` // below the run folder, or absolute
	Append string `json:"append,omitempty"`

	// Mirrors are the folders that were served to the guest, below the run folder or outside of it.
	Mirrors []string `json:"mirrors,omitempty"`
	// Outside says that the guest could reach machines other than the host.
	Outside bool `json:"outside,omitempty"`
}

// Encode renders the document.
func (m Machine) Encode() ([]byte, error) {
	m.Schema = Schema
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	return append(data, '\n'), nil
}

// Decode reads what Encode wrote, and nothing else: unknown fields are errors.
func Decode(data []byte) (Machine, error) {
	var m Machine
	if len(data) > MaxSize {
		return m, fmt.Errorf("%w: larger than %d bytes", ErrMachine, MaxSize)
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	if version.Schema != Schema {
		return m, fmt.Errorf("%w: schema %d, this Kindling reads %d: go on with the Kindling that began the run", ErrMachine,
			version.Schema, Schema)
	}
	if err := in.Decode(&m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	if err := m.Check(); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	return m, nil
}

// Check reports the first fact that cannot be.
func (m Machine) Check() error {
	if m.KernelArch != "" && m.KernelArch != "i386" && m.KernelArch != "amd64" {
		return fmt.Errorf("kernel_arch: want i386 or amd64, got %q", m.KernelArch)
	}
	for _, d := range m.Disks {
		for _, l := range d.Layers {
			if err := checkFile(l.File); err != nil {
				return fmt.Errorf("disk: %w", err)
			}
		}
	}
	for _, mirror := range m.Mirrors {
		if err := checkFile(mirror); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
	}
	for what, file := range map[string]string{"kernel": m.Kernel, "initrd": m.Initrd} {
		if file == "" {
			continue
		}
		if err := checkFile(file); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return m.Options("/", "qemu").Validate()
}

// checkFile admits a plain path below the folder, or an absolute one.
func checkFile(name string) error {
	if name == "" || name != filepath.Clean(name) || !filepath.IsAbs(name) && !filepath.IsLocal(name) {
		return fmt.Errorf("%q is neither a plain path below the run folder nor an absolute one", name)
	}
	return nil
}

// demoKernel stands for the kernel of the embedded default, whose file is not recorded: it is in the user's own cache.
const demoKernel = "kernel-of-the-embedded-default"

// NeedsDemoKernel reports that the options of Options need that kernel's file.
func NeedsDemoKernel(o qemu.Options) bool { return o.Kernel == demoKernel }

// Options are the machine's options for QEMU, with the files of the run folder dir and the program binary. They boot what
// the machine booted at first. The caller checks the files (Outside, and package rundir for those of the folder).
func (m Machine) Options(dir, binary string) qemu.Options {
	o := qemu.Options{
		Binary: binary, MemoryMiB: m.MemoryMiB, Cores: m.Cores, Accel: m.Accel, CPU: m.CPU, NIC: &qemu.NIC{Model: "e1000"}, Ports: 2, PortDir: dir,
		NoDefaults: m.Demo, Kernel: below(dir, m.Kernel), Initrd: below(dir, m.Initrd), Append: m.Append,
	}
	if o.Kernel == "" && o.Initrd+o.Append != "" {
		o.Kernel = demoKernel
	}
	if !m.Demo {
		o.Machine = "pc,graphics=off" // the IDE disks that builder-hex0 and Fiwix see; the BIOS prints to the serial port
		if m.Accel == qemu.AccelKVM && m.Kernel == "" {
			o.Machine += ",kernel-irqchip=split" // builder-hex0 and Fiwix want the old interrupt controllers in QEMU itself
		}
	}
	for _, d := range m.Disks {
		o.Drives = append(o.Drives, qemu.Drive{Chain: d.Chain(dir), Interface: d.Interface, Snapshot: d.Throwaway})
	}
	return o
}

// below is a recorded file's path.
func below(dir, file string) string {
	if file == "" || filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// Chain is the disk's files, those of the run folder below dir.
func (d Disk) Chain(dir string) imagefile.Chain {
	var chain imagefile.Chain
	for _, l := range d.Layers {
		chain = append(chain, imagefile.Layer{Path: below(dir, l.File), Format: l.Format})
	}
	return chain
}

// Files are the files of disks, kernel and initramfs: those below the run folder dir, by their names there, and those
// outside of it.
func (m Machine) Files(dir string) (local, outside []string) {
	files := []string{m.Kernel, m.Initrd}
	for _, d := range m.Disks {
		for _, l := range d.Layers {
			files = append(files, l.File)
		}
	}
	for _, f := range files {
		switch f = Recorded(dir, f); {
		case f == "":
		case filepath.IsAbs(f):
			outside = append(outside, f)
		default:
			local = append(local, f)
		}
	}
	return local, outside
}

// Written are the disks that keep what the guest writes.
func (m Machine) Written() []Disk {
	return slices.DeleteFunc(slices.Clone(m.Disks), func(d Disk) bool { return d.Throwaway })
}

// Given are the paths that the user names on the command line: files, and folders with all that is in them.
type Given []string

// Confirm reports the first path outside the run folder that the user does not name.
func (g Given) Confirm(paths []string) error {
	for _, path := range paths {
		if !g.Has(path) {
			return fmt.Errorf("%w: it names %s, outside the run folder: add --allow %s if that is right", ErrMachine, path, shell.Quote(path))
		}
	}
	return nil
}

// Has reports whether path is one of them, or below one: by where they lead, links followed.
func (g Given) Has(path string) bool {
	path = resolved(path)
	return slices.ContainsFunc(g, func(given string) bool {
		if given == "" {
			return false
		}
		given = resolved(given)
		return path == given || strings.HasPrefix(path, strings.TrimSuffix(given, "/")+"/")
	})
}

// resolved is where a path leads; one that leads nowhere, and so can do no harm, stays as it is.
func resolved(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if target, err := filepath.EvalSymlinks(abs); err == nil {
		return target
	}
	return abs
}

// Describe are the facts of a machine with the options o, whose files below dir are named relative to it.
func Describe(o qemu.Options, dir string) Machine {
	m := Machine{Accel: o.Accel, MemoryMiB: o.MemoryMiB, Cores: o.Cores, CPU: o.CPU, Append: o.Append,
		Kernel: Below(dir, o.Kernel), Initrd: Below(dir, o.Initrd)}
	for _, d := range o.Drives {
		disk := Disk{Interface: d.Interface, Throwaway: d.Snapshot}
		for _, l := range d.Chain {
			disk.Layers = append(disk.Layers, Layer{File: Below(dir, l.Path), Format: l.Format})
		}
		m.Disks = append(m.Disks, disk)
	}
	return m
}

// Recorded is a recorded file, as a name below dir if it lies there, however it is spelled; otherwise absolute.
func Recorded(dir, file string) string { return Below(dir, below(dir, file)) }

// Below is path relative to dir if it lies there, otherwise absolute.
func Below(dir, path string) string {
	abs, err := filepath.Abs(path)
	if err != nil || path == "" {
		return path
	}
	if rel, err := filepath.Rel(dir, abs); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return abs
}
