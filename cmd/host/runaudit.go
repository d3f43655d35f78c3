// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"

	"kindling/host/audit"
	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/machine"
	"kindling/host/report"
	"kindling/host/resume"
	"kindling/host/rundir"
	"kindling/host/stage0"
	"kindling/internal/history"
	"kindling/steps"
)

// recordPlan keeps what the run is to do in its folder, for the audit at its end and for later lives of the run.
func (r *run) recordPlan(main *steps.Plan, extra []*steps.Plan) error {
	if r.agent == "" {
		return r.writeRecord(audit.Record{})
	}
	return r.writeRecord(audit.NewRecord(main, extra))
}

func (r *run) writeRecord(record audit.Record) error {
	data, err := record.Encode()
	if err != nil {
		return err
	}
	return r.dir.Write(rundir.Plan, data)
}

func readRecord(dir *rundir.Dir) (audit.Record, error) {
	data, err := dir.Read(rundir.Plan, audit.MaxRecord)
	if err != nil {
		return audit.Record{}, err
	}
	return audit.Decode(data)
}

// recordSource takes over the record of the run that this one starts from.
func (r *run) recordSource() error {
	record, err := readRecord(r.source)
	if err != nil {
		return err
	}
	return r.writeRecord(record)
}

// recordResumed notes which steps the journal on the run's disk has, before another life of the run begins.
func (r *run) recordResumed(journal history.Run) error {
	record, err := readRecord(r.dir)
	if err != nil {
		return err
	}
	record.Remember(journal)
	return r.writeRecord(record)
}

// recordStage0 keeps what a bootstrapped disk is to do, as it will be booted, and what of that it has done.
func (r *run) recordStage0(disk *diskimage.Image, handoff stage0.Handoff) error {
	if handoff != stage0.HandoffAgent {
		return r.writeRecord(audit.Record{})
	}
	record, err := audit.RecordOf(disk)
	if err != nil {
		return err
	}
	return r.writeRecord(record)
}

// audit compares a success that the guest reports with what the run owes.
func (r *run) audit(ctx context.Context) audit.Finding {
	found, err := r.auditRun(ctx)
	if err == nil {
		return found
	}
	why := "unchecked: " + oneLine(err)
	return audit.Finding{Audit: report.Audit{Steps: why, Journal: why},
		Doubt: "the guest reports success, but the steps that it owes cannot be checked: " + oneLine(err)}
}

func (r *run) auditRun(ctx context.Context) (audit.Finding, error) {
	record, err := readRecord(r.dir)
	if err != nil {
		return audit.Finding{}, err
	}
	events, err := r.dir.Open(rundir.Events)
	if err != nil {
		return audit.Finding{}, err
	}
	defer events.Close()
	evidence := audit.Evidence{Record: record, Events: events, Attended: r.cmd.Boot.Interactive}
	if record.Agent {
		r.readDisk(ctx, &evidence)
	}
	return audit.Check(evidence), nil
}

// readDisk reads what the audit needs of the run's disk. What cannot be read does not fail the run.
func (r *run) readDisk(ctx context.Context, e *audit.Evidence) {
	// The record names the disks that the machine had at last, and this process has written it.
	data, err := r.dir.Read(rundir.Machine, machine.MaxSize)
	var m machine.Machine
	if err == nil {
		m, err = machine.Decode(data)
	}
	if err != nil {
		e.NoConfigs, e.NoJournal = oneLine(err), oneLine(err)
		return
	}
	var disks []imagefile.Chain
	for _, d := range m.Written() {
		disks = append(disks, d.Chain(r.dir.Path()))
	}
	disk, err := r.journalDisk(ctx, disks)
	if err != nil {
		e.NoConfigs, e.NoJournal = oneLine(err), oneLine(err)
		if errors.Is(err, resume.ErrNoRun) {
			e.Journal = &history.Run{}
		}
		return
	}
	defer disk.Close()
	e.Journal = &disk.History
	configs, err := audit.ReadConfigs(disk, e.Record.Roots)
	if err != nil {
		e.NoConfigs = oneLine(err)
		return
	}
	e.Configs = &configs
}

// journalDisk opens the disk that has the run's journal, one that the run has arrived on if there is one. The error is
// resume.ErrNoRun only when every disk could be read.
func (r *run) journalDisk(ctx context.Context, disks []imagefile.Chain) (*resume.Disk, error) {
	if len(disks) == 0 {
		return nil, errors.New("the machine has no disk")
	}
	var left *resume.Disk // by a move that was cut short
	var unread, none error
	for _, chain := range disks {
		disk, err := resume.Open(ctx, chain, diskimage.Options{})
		switch {
		case errors.Is(err, resume.ErrNoRun):
			none = err
		case err != nil:
			unread = errors.Join(unread, err)
		case disk.Moved():
			return disk, closeDisk(left)
		default:
			unread = errors.Join(unread, closeDisk(left))
			left = disk
		}
	}
	switch {
	case left != nil:
		return left, nil
	case unread != nil:
		return nil, unread
	}
	return nil, fmt.Errorf("%w (%d disks)", none, len(disks))
}

func closeDisk(d *resume.Disk) error {
	if d == nil {
		return nil
	}
	return d.Close()
}
