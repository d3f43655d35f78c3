// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package checkpoint keeps the whole state of a running virtual machine, memory and disks, and starts machines from it
// as often as wanted.
//
// A checkpoint is a folder with two things: checkpoint.json (the machine and what else a restart needs) and memory.zst
// (QEMU's migration stream, packed). Beside it, in the folder of all checkpoints of the run, are the disk images as they
// were. Disks are not copied: the image that the machine wrote to is frozen, and the machine goes on in a qcow2 over it.
// So a frozen image belongs to every later checkpoint of the run as well, and is never written again.
//
// Frozen by QEMU's blockdev-snapshot-sync and migrate (docs/interop/live-block-operations and migration). What is read is
// a run folder's, so it is facts and is checked (packages rundir and machine). The package does not decide when a
// checkpoint is made; it is called by cmd/host.
package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"kindling/host/machine"
	"kindling/host/rundir"
)

// Schema is the version of checkpoint.json.
const Schema = 2

// Names in a run folder.
const (
	folder     = rundir.Disks + "/checkpoints"
	metaFile   = "checkpoint.json"
	memoryFile = "memory.zst"
	unfinished = ".tmp" // end of the name of a folder that is being made
)

// Bounds of what is read.
const (
	maxMeta = 1 << 20 // bytes of checkpoint.json
	maxList = 1000    // checkpoints of a run
)

// Errors of this package.
var (
	ErrNone = errors.New("no such checkpoint")
	ErrBad  = errors.New("damaged checkpoint")
)

// Checkpoint is a kept state.
type Checkpoint struct {
	Schema int       `json:"schema"`
	Name   string    `json:"name"`
	Phase  string    `json:"phase"` // of the run, in which it was made
	Made   time.Time `json:"made"`
	// Elapsed is how long the run had gone on, in milliseconds.
	Elapsed int64 `json:"elapsed_ms"`
	// Machine is what ran. Its disks are the frozen images.
	Machine machine.Machine `json:"machine"`
	// Console and Events are how many bytes of these logs were written by then.
	Console int64 `json:"console_bytes"`
	Events  int64 `json:"event_bytes"`
	// Memory is the size of the packed memory in bytes.
	Memory int64 `json:"memory_bytes"`

	run *rundir.Dir
}

func at(name, file string) string { return filepath.Join(folder, name, file) }

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// List reads the checkpoints of a run, oldest first. One that cannot be read is an error beside those that can.
func List(run *rundir.Dir) ([]*Checkpoint, error) {
	if err := run.Check(folder, fs.ModeDir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(run.FS(), folder)
	if err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	var list []*Checkpoint
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !nameRE.MatchString(e.Name()) || len(list) == maxList {
			continue
		}
		c, err := Open(run, e.Name())
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
func Open(run *rundir.Dir, name string) (*Checkpoint, error) {
	if !nameRE.MatchString(name) {
		return nil, fmt.Errorf("%w: %.40q: a name has lower-case letters, digits and \"-\"", ErrNone, name)
	}
	data, err := run.Read(at(name, metaFile), maxMeta)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s in %s", ErrNone, name, run.Path())
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", name, err)
	}
	c, err := decode(data)
	if err == nil {
		c.run = run
		err = c.check(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBad, name, err)
	}
	return c, nil
}

// decode reads checkpoint.json.
func decode(data []byte) (*Checkpoint, error) {
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Schema != Schema {
		return nil, fmt.Errorf("schema %d, this program knows %d", version.Schema, Schema)
	}
	c := &Checkpoint{}
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(c); err != nil {
		return nil, err
	}
	if c.Console < 0 || c.Events < 0 || c.Memory < 0 || c.Elapsed < 0 {
		return nil, errors.New("a size is negative")
	}
	return c, c.Machine.Check()
}

// check compares a checkpoint with its own account of itself.
func (c *Checkpoint) check(name string) error {
	if c.Name != name {
		return fmt.Errorf("it calls itself %.40q", c.Name)
	}
	memory := at(name, memoryFile)
	if err := c.run.Check(memory, 0); err != nil {
		return err
	}
	if size := c.run.Size(memory); size != c.Memory {
		return fmt.Errorf("%s has %d bytes, not %d", memoryFile, size, c.Memory)
	}
	return nil
}

// Remove deletes a checkpoint: its memory, which is nearly all of its size. The frozen disk images stay, because the
// run's present disks and other checkpoints stand on them.
func Remove(run *rundir.Dir, name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("%w: %.40q", ErrNone, name)
	}
	if err := run.Check(at(name, metaFile), 0); err != nil {
		return fmt.Errorf("%w: %s in %s", ErrNone, name, run.Path())
	}
	// Without its first file it is a checkpoint no more, whatever happens to the rest.
	err := os.Remove(run.At(at(name, metaFile)))
	if err = errors.Join(err, run.Remove(at(name, ""))); err != nil {
		return fmt.Errorf("remove checkpoint %s: %w", name, err)
	}
	return nil
}
