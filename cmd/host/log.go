// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/resume"
	"kindling/host/rundir"
	"kindling/internal/ext4"
	"kindling/internal/history"
)

// logCmd is "kindling log": a run's journal, or the log of one of its steps.
type logCmd struct {
	Source string           `arg:"" name:"image|run" help:"A disk image, raw or qcow2, or the folder of a run."`
	Step   string           `arg:"" optional:"" help:"A step: its number, its ID, or its name; without one the table of all."`
	Format imagefile.Format `help:"The format of the image, raw or qcow2; without it the beginning of the file decides." enum:",raw,qcow2" default:"" placeholder:"FORMAT"`
	Allow  []string         `help:"A file or folder outside the run folder that the record of the run may name; repeatable." sep:"none" placeholder:"PATH"`
	JSON   bool             `help:"Print the table as JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (logCmd) Help() string {
	return examples(
		"kindling log kindling-runs/latest", "the steps of a run: status, start, duration, size of the log",
		"kindling log disk.img 12", "the log of step 12, out of a disk image; nothing of the image changes",
		"kindling log --json disk.img", "the table with stable field names",
	)
}

// journalSource is where a journal and logs are: on a disk, or what the host has written down of a run.
type journalSource struct {
	name    string
	history history.Run
	log     func(history.Step) (io.ReadCloser, error)
	close   func() error
}

// Run implements the verb.
func (c *logCmd) Run(ctx context.Context, s streams) (err error) {
	src, err := c.open(ctx, s)
	if err != nil {
		return orInterrupted(ctx, diskError(err))
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if c.Step != "" {
		if c.JSON {
			return usageError("--json: a step's log is text; leave out the step for the table")
		}
		return c.showStep(s, src)
	}
	if c.JSON {
		return writeJSON(s.out, jsonHistory(src))
	}
	if err := src.history.WriteTable(s.text()); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func (c *logCmd) showStep(s streams, src *journalSource) error {
	step, err := src.history.Find(c.Step)
	if err != nil {
		return usageError("%s: %s", src.name, err)
	}
	in, err := src.log(step)
	if err != nil {
		return usageError("log of step %d (%s): %s", step.Number, step.Name, err)
	}
	return errors.Join(history.CopyText(s.text(), in), in.Close())
}

// open finds the journal: in an image, on a run's disk, or, where that is gone or in use, in the run's folder.
func (c *logCmd) open(ctx context.Context, s streams) (*journalSource, error) {
	info, err := os.Stat(c.Source)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		chain, err := imagefile.Named(c.Source, c.Format)
		if err != nil {
			return nil, err
		}
		d, err := resume.Open(ctx, chain, diskimage.Options{})
		if err != nil {
			return nil, err
		}
		return onDisk(d), nil
	}
	if c.Format != "" {
		return nil, usageError(runFormat)
	}
	dir, m, err := openRun(c.Source)
	if err != nil {
		return nil, err
	}
	disks, err := disksOf(dir, m, c.Allow)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	d, err := resume.Find(ctx, disks, diskimage.Options{})
	switch {
	case err == nil:
		return onDisk(d), dir.Close()
	case errors.Is(err, diskimage.ErrInUse):
		s.notef("the run is under way: this is what the host has heard so far\n")
	case !errors.Is(err, resume.ErrNoRun):
		return nil, errors.Join(err, dir.Close())
	}
	return inFolder(ctx, s, dir)
}

func onDisk(d *resume.Disk) *journalSource {
	return &journalSource{name: d.Path, history: d.History, log: d.Log, close: d.Close}
}

// inFolder reads what the host has written down: the same events, and the logs that came over the event port.
func inFolder(ctx context.Context, s streams, dir *rundir.Dir) (*journalSource, error) {
	f, err := dir.Open(rundir.Events)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	defer f.Close()
	src := &journalSource{name: dir.Path(), close: dir.Close}
	src.history, err = history.Read(ctx, f)
	if errors.Is(err, history.ErrTooLong) { // of a guest that floods: the beginning has the steps
		s.notef("%s: %s: only its beginning is shown\n", dir.At(rundir.Events), err)
		err = nil
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	src.log = func(step history.Step) (io.ReadCloser, error) {
		name, err := rundir.StepLog(step.ID)
		if err != nil {
			return nil, err
		}
		return dir.Open(name)
	}
	for i, step := range src.history.Steps {
		if name, err := rundir.StepLog(step.ID); err == nil && dir.Check(name, 0) == nil {
			src.history.Steps[i].LogSize = dir.Size(name)
		}
	}
	return src, nil
}

// historyJSON is the table as JSON. Times are in milliseconds; a step's start is by the clock of its boot's kernel.
type historyJSON struct {
	Source string     `json:"source"`
	Total  int        `json:"steps_planned"`
	Next   int        `json:"next_step"` // 0: all are done
	Boots  int        `json:"boots"`
	Status string     `json:"status"` // "ok", "failed", or "" for a run that is not over
	Reason string     `json:"reason,omitempty"`
	Bad    int        `json:"unreadable_lines"`
	Steps  []stepJSON `json:"steps"`
}

type stepJSON struct {
	history.Step
	StartMS    int64 `json:"start_ms"`
	DurationMS int64 `json:"duration_ms"`
}

func jsonHistory(src *journalSource) historyJSON {
	h := src.history
	out := historyJSON{Source: src.name, Total: h.Total, Next: h.Next(), Boots: h.Boots, Status: h.Status, Reason: h.Reason,
		Bad: h.Bad, Steps: []stepJSON{}}
	for _, step := range h.Steps {
		out.Steps = append(out.Steps, stepJSON{step, step.Start.Milliseconds(), step.Duration.Milliseconds()})
	}
	return out
}

// runFormat says why a format cannot be stated for the disks of a run.
const runFormat = "--format goes with an image: a run has the formats of its disks on record"

// diskError makes what is wrong with an image that the user named an error of usage.
func diskError(err error) error {
	if ofThisMachine(err) {
		return err
	}
	for _, known := range []error{diskimage.ErrInUse, diskimage.ErrNoFilesystem, diskimage.ErrProgram, imagefile.ErrFormat, imagefile.ErrCorrupt,
		resume.ErrNoRun, resume.ErrKernel, resume.ErrGRUB, rundir.ErrBusy, rundir.ErrFile, rundir.ErrTrust, ext4.ErrCorrupt, ext4.ErrUnsupported, ext4.ErrTooLarge, fs.ErrNotExist} {
		if errors.Is(err, known) {
			return inputError(err)
		}
	}
	return err
}
