// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package resume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/internal/event"
	"kindling/internal/history"
)

// Files of a run on its disk; package guest has the same.
const (
	home        = "kindling"
	journalFile = home + "/journal"
	logFolder   = home + "/log"
	agentFile   = home + "/init"
	kernelFile  = "boot/vmlinuz"
)

// What is read as a whole, in bytes.
const (
	maxAgent  = 32 << 20
	maxKernel = 128 << 20
)

// ErrNoRun is an image that holds no run of Kindling.
var ErrNoRun = errors.New("no run of Kindling")

// Disk is the disk of a run.
type Disk struct {
	*diskimage.Image
	Path    string // of the file that the guest writes to
	Index   int    // among the disks that Find was given
	History history.Run
}

// Open opens the disk of a run.
func Open(ctx context.Context, chain imagefile.Chain, o diskimage.Options) (*Disk, error) {
	image, err := diskimage.Open(ctx, chain, o)
	if err != nil {
		return nil, err
	}
	d := &Disk{Image: image, Path: chain[0].Path}
	if err := d.readJournal(ctx); err != nil {
		return nil, errors.Join(err, image.Close())
	}
	return d, nil
}

// Find opens the one disk that holds a run to go on with. Disks without a filesystem, those without a run, and those
// that a run was still moving to are passed over.
func Find(ctx context.Context, disks []imagefile.Chain, o diskimage.Options) (*Disk, error) {
	gone := 0
	for i, chain := range disks {
		d, err := Open(ctx, chain, o)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone++
			continue
		case errors.Is(err, diskimage.ErrNoFilesystem), errors.Is(err, ErrNoRun):
			continue
		case err != nil:
			return nil, err
		}
		if !d.Moved() {
			if err := d.Close(); err != nil {
				return nil, err
			}
			continue
		}
		d.Index = i
		return d, nil
	}
	if gone == len(disks) {
		return nil, fmt.Errorf("%w: its disks are gone; a run that ends well keeps them with --keep only", ErrNoRun)
	}
	return nil, fmt.Errorf("%w on its disks: it was not moved to one yet, and has to be begun anew", ErrNoRun)
}

// Moved reports whether the run has arrived on this disk: a move that was cut short has copied the journal, perhaps, but
// not written its end there.
func (d *Disk) Moved() bool {
	for _, s := range d.History.Steps {
		if s.Name == "jump: move_disk" && s.Status != string(event.StatusOK) {
			return false
		}
	}
	return true
}

func (d *Disk) readJournal(ctx context.Context) error {
	f, err := d.Open(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("image %s: %w: no /%s in it", d.Path, ErrNoRun, journalFile)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", d.Path, err)
	}
	if d.History, err = history.Read(ctx, f); err != nil {
		return fmt.Errorf("image %s: %w", d.Path, err)
	}
	for i, s := range d.History.Steps {
		if name := s.LogName(); name != "" {
			if info, err := d.Stat(logFolder + "/" + name); err == nil {
				d.History.Steps[i].LogSize = info.Size()
			}
		}
	}
	return nil
}

// Log opens the log of a step.
func (d *Disk) Log(s history.Step) (io.ReadCloser, error) {
	name := s.LogName()
	if name == "" {
		return nil, fmt.Errorf("log of step %d: its ID is no file name", s.Number)
	}
	return d.Open(logFolder + "/" + name)
}

// Agent is the agent's program on the disk.
func (d *Disk) Agent() ([]byte, error) { return d.ReadFile(agentFile, maxAgent) }

// Kernel is the run's own kernel, fs.ErrNotExist if it has built none yet.
func (d *Disk) Kernel() ([]byte, error) {
	data, err := d.ReadFile(kernelFile, maxKernel)
	if err != nil {
		return nil, err
	}
	if err := CheckKernel(data); err != nil {
		return nil, fmt.Errorf("image %s: /%s: %w", d.Path, kernelFile, err)
	}
	return data, nil
}

// ErrKernel is a file that no boot loader takes for a kernel.
var ErrKernel = errors.New("no Linux kernel for x86")

// CheckKernel looks for the boot protocol's mark (Linux, Documentation/arch/x86/boot.rst: "HdrS" at 0x202).
func CheckKernel(data []byte) error {
	const at, mark = 0x202, "HdrS"
	if len(data) < at+len(mark) || string(data[at:at+len(mark)]) != mark {
		return ErrKernel
	}
	return nil
}

// BootsItself reports whether the disk has a boot loader of the run's own making: GRUB in its first sector, with the
// step that put it there done.
func (d *Disk) BootsItself() (bool, error) {
	for _, s := range d.History.Steps {
		if s.Name == "improve: make_bootable" && s.Status == "ok" {
			return d.BootsGRUB()
		}
	}
	return false, nil
}
