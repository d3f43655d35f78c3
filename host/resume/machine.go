// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package resume

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"

	"kindling/host/imagefile"
	"kindling/host/qemu"
)

// Schema is the version of the document that Write makes.
const Schema = 1

// maxMachine bounds the document, in bytes.
const maxMachine = 1 << 20

// ErrMachine is a document that is none.
var ErrMachine = errors.New("description of a run's machine")

// Machine is what a run was begun with, so far as it is needed to go on: machine.json in the run folder.
type Machine struct {
	Schema int    `json:"schema"`
	Label  string `json:"label"`
	// Demo says that it is the embedded default: its kernel has modules, which go into the initramfs.
	Demo bool `json:"demo"`
	// KernelArch is Debian's name of that kernel's architecture.
	KernelArch string `json:"kernel_arch,omitempty"`
	// Cache is the folder of Debian packages that it came from.
	Cache string `json:"cache,omitempty"`
	// QEMU is the machine; what was booted at first, and the serial ports, mean nothing for going on.
	QEMU qemu.Options `json:"qemu"`
	// Mirrors are the folders that the run served to its guest.
	Mirrors []string `json:"mirrors"`
	// AgentOff says that the tree's own scripts ran, which keep no journal.
	AgentOff bool `json:"agent_off,omitempty"`
}

// Write puts the document at path: complete under its name, or not there.
func (m Machine) Write(path string) error {
	m.Schema = Schema
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	return nil
}

// ReadMachine reads what Write wrote.
func ReadMachine(path string) (Machine, error) {
	f, err := os.Open(path)
	if err != nil {
		return Machine{}, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMachine+1))
	if err != nil {
		return Machine{}, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	m, err := decodeMachine(data)
	if err != nil {
		return Machine{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func decodeMachine(data []byte) (Machine, error) {
	var m Machine
	if len(data) > maxMachine {
		return m, fmt.Errorf("%w: larger than %d bytes", ErrMachine, maxMachine)
	}
	in := json.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(&m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	if m.Schema != Schema {
		return m, fmt.Errorf("%w: schema %d, this Kindling reads %d", ErrMachine, m.Schema, Schema)
	}
	if err := m.QEMU.Validate(); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	return m, nil
}

// Disks are the disks that the guest could write to, in their order.
func (m Machine) Disks() []imagefile.Chain {
	var disks []imagefile.Chain
	for _, d := range m.QEMU.Drives {
		if !d.Snapshot && !d.ReadOnly {
			disks = append(disks, chainOf(d))
		}
	}
	return disks
}

// chainOf is the chain of files that a drive is recorded as.
func chainOf(d qemu.Drive) imagefile.Chain {
	return imagefile.Chain{{Path: d.Path, Format: imagefile.Format(d.Format)}}
}
