// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"kindling/internal/event"
	"kindling/internal/history"
	"kindling/steps"
)

// Schema is the version of the document that Encode renders.
const Schema = 1

// What is read as a whole, in bytes.
const (
	MaxRecord  = 32 << 20
	maxJournal = 256 << 20
)

// ErrRecord is a plan.json that cannot be used.
var ErrRecord = errors.New("record of the run's plan")

// Record is what the host keeps of a run's plan when the run begins: plan.json in the run folder.
type Record struct {
	Schema int `json:"schema"`
	// Agent says that the agent runs the steps and reports their ends. Without it no step has an event.
	Agent bool `json:"agent"`
	// Config is bootstrap.cfg as the host has planned with it.
	Config string `json:"config"`
	// Roots are the main root and the extra roots that are asked for, in the order in which they run.
	Roots []Root `json:"roots"`
	// Done are the steps, by ID, that had ended before the present machine was started, as the journal on the run's disk
	// said then: a power cut takes the events that were on their way.
	Done map[string]event.Status `json:"done,omitempty"`
}

// Root is a root with its manifest.
type Root struct {
	Folder   string `json:"folder"` // "steps", or that of an extra root, such as "steps-guix"
	Manifest string `json:"manifest"`
}

// NewRecord is the record of a run of the agent with these plans.
func NewRecord(main *steps.Plan, extra []*steps.Plan) Record {
	r := Record{Agent: true, Config: string(main.Config.Bytes())}
	for _, p := range append([]*steps.Plan{main}, extra...) {
		r.Roots = append(r.Roots, Root{p.Root, string(p.Manifest().Bytes())})
	}
	return r
}

// RecordOf is the record of a run that begins on a bootstrapped disk: what the agent's plan there is made from, and what of it
// is done.
func RecordOf(disk Files) (Record, error) {
	config, err := firstOf(disk, keptConfig(steps.MainRoot), guestConfig)
	if err != nil {
		return Record{}, err
	}
	now, err := firstOf(disk, guestConfig)
	if err != nil {
		return Record{}, err
	}
	asked, err := steps.PlainConfig(guestConfig, now)
	if err != nil {
		return Record{}, err
	}
	names, err := steps.ExtraNames(asked)
	if err != nil {
		return Record{}, err
	}
	r := Record{Agent: true, Config: string(config)}
	folders := []string{steps.MainRoot}
	for _, name := range names {
		folders = append(folders, steps.ExtraPrefix+name)
	}
	for _, folder := range folders {
		manifest, err := firstOf(disk, keptManifest(folder), folder+"/manifest")
		if err != nil {
			return Record{}, err
		}
		r.Roots = append(r.Roots, Root{folder, string(manifest)})
	}
	return r, r.rememberDisk(disk)
}

// rememberDisk is Remember for the journal of a disk; one that has none has done nothing.
func (r *Record) rememberDisk(disk Files) error {
	text, err := disk.ReadFile(guestJournal, maxJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read /%s: %w", guestJournal, err)
	}
	journal, err := history.Read(context.Background(), bytes.NewReader(text))
	r.Remember(journal)
	return err
}

// firstOf reads the first of these files that a disk has.
func firstOf(disk Files, names ...string) (data []byte, err error) {
	for _, name := range names {
		if data, err = disk.ReadFile(name, steps.MaxFile); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the guest's plan: %w", err)
	}
	return data, nil
}

// Remember notes which steps have ended, by the journal of a run that goes on.
func (r *Record) Remember(journal history.Run) {
	r.Done = make(map[string]event.Status)
	for _, s := range journal.Steps {
		if status := event.Status(s.Status); isEnd(status) {
			r.Done[s.ID] = status
		}
	}
}

// Encode renders the document.
func (r Record) Encode() ([]byte, error) {
	r.Schema = Schema
	var data bytes.Buffer
	out := json.NewEncoder(&data)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return data.Bytes(), nil
}

// Decode reads what Encode wrote, and nothing else.
func Decode(data []byte) (Record, error) {
	var r Record
	if len(data) > MaxRecord {
		return r, fmt.Errorf("%w: larger than %d bytes", ErrRecord, MaxRecord)
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%w: data after the document", ErrRecord)
	}
	if r.Schema != Schema {
		return r, fmt.Errorf("%w: schema %d, this Kindling reads %d", ErrRecord, r.Schema, Schema)
	}
	for id, status := range r.Done {
		if !isEnd(status) {
			return r, fmt.Errorf("%w: step %.80q: status %.20q is not that of a step that is done", ErrRecord, id, status)
		}
	}
	return r, nil
}

// isEnd reports an end of a step after which the agent goes on with the next.
func isEnd(s event.Status) bool { return s == event.StatusOK || s == event.StatusSkipped }
