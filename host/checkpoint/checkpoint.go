// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package checkpoint keeps the whole state of a running virtual machine, memory and disks, and starts machines from it
// as often as wanted.
//
// A checkpoint is a folder with three things: checkpoint.json (the machine's options and what else a restart needs),
// memory.zst (QEMU's migration stream, packed), and, beside it in the folder of all checkpoints, the disk images as
// they were. Disks are not copied: the image that the machine wrote to is frozen, and the machine goes on in a qcow2
// over it. So a frozen image belongs to every later checkpoint of the run as well, and is never written again.
//
// Frozen by QEMU's blockdev-snapshot-sync and migrate (docs/interop/live-block-operations and migration). The package
// does not decide when a checkpoint is made; it is called by cmd/host.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"kindling/host/qemu"
)

// Schema is the version of checkpoint.json.
const Schema = 1

// Names in a checkpoint's folder.
const (
	metaFile   = "checkpoint.json"
	memoryFile = "memory.zst"
	unfinished = ".tmp" // end of the name of a folder that is being made
)

// maxMeta bounds checkpoint.json, in bytes.
const maxMeta = 1 << 20

// Errors of this package.
var (
	ErrNone = errors.New("no such checkpoint")
	ErrBad  = errors.New("damaged checkpoint")
)

// Mirror is a server that the guest knows by its port.
type Mirror struct {
	Dir  string `json:"dir"`
	Port int    `json:"port"`
}

// Checkpoint is a kept state.
type Checkpoint struct {
	Schema int       `json:"schema"`
	Name   string    `json:"name"`
	Phase  string    `json:"phase"` // of the run, in which it was made
	Made   time.Time `json:"made"`
	// Elapsed is how long the run had gone on, in milliseconds.
	Elapsed int64 `json:"elapsed_ms"`
	// Machine is what ran. Its drives are the frozen images.
	Machine qemu.Options `json:"machine"`
	Mirrors []Mirror     `json:"mirrors,omitempty"`
	// Console and Events are how many bytes of these logs were written by then.
	Console int64 `json:"console_bytes"`
	Events  int64 `json:"event_bytes"`
	// Memory is the size of the packed memory in bytes.
	Memory int64 `json:"memory_bytes"`

	dir string
}

// MemoryPath is the file with the packed memory.
func (c *Checkpoint) MemoryPath() string { return filepath.Join(c.dir, memoryFile) }

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// List reads the checkpoints below dir, oldest first. Without a folder there are none. One that cannot be read is an
// error beside those that can.
func List(dir string) ([]*Checkpoint, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	var list []*Checkpoint
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !nameRE.MatchString(e.Name()) {
			continue
		}
		c, err := Open(dir, e.Name())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *Checkpoint) int { return a.Made.Compare(b.Made) })
	return list, errors.Join(errs...)
}

// Open reads one checkpoint. ErrNone: there is none of that name.
func Open(dir, name string) (*Checkpoint, error) {
	if !nameRE.MatchString(name) {
		return nil, fmt.Errorf("%w: %.40q: a name has lower-case letters, digits and \"-\"", ErrNone, name)
	}
	path := filepath.Join(dir, name)
	data, err := readBounded(filepath.Join(path, metaFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s in %s", ErrNone, name, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", name, err)
	}
	c := &Checkpoint{dir: path}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBad, name, err)
	}
	if err := c.check(name); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBad, name, err)
	}
	return c, nil
}

// check holds a checkpoint against its own account of itself.
func (c *Checkpoint) check(name string) error {
	if c.Schema != Schema {
		return fmt.Errorf("schema %d, this program knows %d", c.Schema, Schema)
	}
	if c.Name != name {
		return fmt.Errorf("it calls itself %.40q", c.Name)
	}
	info, err := os.Stat(c.MemoryPath())
	if err != nil {
		return err
	}
	if info.Size() != c.Memory {
		return fmt.Errorf("%s has %d bytes, not %d", memoryFile, info.Size(), c.Memory)
	}
	for _, d := range c.Machine.Drives {
		if _, err := os.Stat(d.Path); err != nil {
			return err
		}
	}
	return c.Machine.Validate()
}

// Remove deletes a checkpoint: its memory, which is nearly all of its size. The frozen disk images stay, because the
// run's present disks and other checkpoints stand on them.
func Remove(dir, name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("%w: %.40q", ErrNone, name)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(filepath.Join(path, metaFile)); err != nil {
		return fmt.Errorf("%w: %s in %s", ErrNone, name, dir)
	}
	// Without its first file it is a checkpoint no more, whatever happens to the rest.
	if err := errors.Join(os.Remove(filepath.Join(path, metaFile)), os.RemoveAll(path)); err != nil {
		return fmt.Errorf("remove checkpoint %s: %w", name, err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxMeta {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxMeta)
	}
	return os.ReadFile(path)
}
