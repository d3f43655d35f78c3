// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/mount/block"

	"kindling/guest/disk"
	"kindling/internal/event"
	"kindling/internal/payload"
	"kindling/steps"
)

const (
	diskPatience  = 120 * time.Second // how long a disk may take to show up (USB)
	wrongPatience = 10 * time.Second  // how long a right payload may still come after a wrong one was seen
	diskPoll      = 100 * time.Millisecond
	payloadTick   = 500 * time.Millisecond // between two progress events
)

// candidate is a block device that carries a payload.
type candidate struct {
	name string
	info payload.Info
}

// importEarly imports what is needed before `jump: linux`. Under Fiwix the C program does it; here it is for plans
// that import on Linux at once.
func importEarly(ctx context.Context, j *job) error {
	early, err := fileCount(j.config, "PAYLOAD_EARLY_COUNT")
	if err != nil {
		return err
	}
	if early == 0 {
		early = payload.CountNone
	}
	return j.importPayload(ctx, payload.ImportOptions{Count: early})
}

// importRest imports the late part straight to its place on the disk. Early files that Linux needs again stand last in
// the early part, so the late part may begin before the early one ends.
func importRest(ctx context.Context, j *job) error {
	key := "PAYLOAD_REST_SKIP"
	if j.config.Get(key) == "" {
		key = "PAYLOAD_EARLY_COUNT"
	}
	skip, err := fileCount(j.config, key)
	if err != nil {
		return err
	}
	return j.importPayload(ctx, payload.ImportOptions{Skip: skip})
}

// fileCount is a number of files in the configuration, 0 if it is not set.
func fileCount(config *steps.Config, key string) (int, error) {
	value := config.Get(key)
	if value == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s=%q in %s: want a number of files", key, value, configPath)
	}
	return int(n), nil
}

// importPayload finds the payload disk and imports the files that opt selects. Every failure is the payload's.
func (j *job) importPayload(ctx context.Context, opt payload.ImportOptions) error {
	if j.config.Get("PAYLOAD_REQUIRED") != "True" {
		j.say("no payload is configured")
		return nil
	}
	opt.ID = j.config.Get("PAYLOAD_ID")
	c, err := j.findPayload(ctx, opt.ID)
	if err == nil {
		opt.Progress = j.payloadProgress()
		err = j.importFrom(ctx, c, opt)
	}
	if payloadFault(err) {
		return &runError{reason: event.ReasonPayload, err: err}
	}
	return err
}

// errNoPayload says that no disk carries the payload that is wanted.
var errNoPayload = errors.New("payload not found")

// payloadFault reports whether an error says that the payload is missing, cut, corrupt or the wrong one; a full disk or
// one that cannot be read is not the payload's fault.
func payloadFault(err error) bool {
	for _, fault := range []error{errNoPayload, payload.ErrNotPayload, payload.ErrTruncated, payload.ErrLimit, payload.ErrName,
		payload.ErrDuplicate, payload.ErrSums, payload.ErrNoSums, payload.ErrChecksum, payload.ErrWrongID, payload.ErrRange} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

func (j *job) importFrom(ctx context.Context, c candidate, opt payload.ImportOptions) error {
	path := "/dev/" + c.name
	j.say("payload on %s: %d files, id %s", path, c.info.Files, c.info.ID)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	began := time.Now()
	result, err := payload.Import(ctx, f, distfilesDir, opt)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	seconds := time.Since(began).Seconds()
	j.say("imported %d files, %d bytes in %.1f s (%.1f MiB/s); %d were right already", result.Copied, result.CopiedBytes,
		seconds, float64(result.CopiedBytes)/(1<<20)/max(seconds, 0.001), result.Kept)
	return nil
}

// payloadProgress tells the host how far the import is, at most once a tick.
func (j *job) payloadProgress() func(payload.Progress) {
	var last time.Time
	return func(p payload.Progress) {
		if time.Since(last) < payloadTick {
			return
		}
		last = time.Now()
		j.agent.port.Send(event.Event{Kind: event.KindPayload, Step: j.step.ID(), Name: p.Name, Done: p.Bytes, Total: p.Total})
	}
}

// findPayload waits for the disk that carries the payload with that ID.
func (j *job) findPayload(ctx context.Context, id string) (candidate, error) {
	began := time.Now()
	tick := j.waiting()
	for {
		found, looked, err := probeDisks()
		if err != nil {
			return candidate{}, err
		}
		c, err := choose(found, id)
		if err == nil {
			return c, nil
		}
		waited := time.Since(began)
		if waited > diskPatience || len(found) > 0 && waited > wrongPatience {
			return candidate{}, fmt.Errorf("%w: %w; disks looked at: %s", errNoPayload, err, orNone(looked))
		}
		tick.say("waiting up to %s for the payload disk; so far: %s", diskPatience, orNone(looked))
		select {
		case <-ctx.Done():
			return candidate{}, ctx.Err()
		case <-time.After(diskPoll):
		}
	}
}

// waitTick is how often a wait is said while it lasts, so that nobody takes it for a hang.
const waitTick = 10 * time.Second

// waiting says now and then what is waited for: first after a second.
type waiting struct {
	job  *job
	next time.Time
}

func (j *job) waiting() *waiting { return &waiting{j, time.Now().Add(time.Second)} }

func (w *waiting) say(format string, args ...any) {
	if time.Now().After(w.next) {
		w.next = time.Now().Add(waitTick)
		w.job.say(format, args...)
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// choose picks the payload: the one with the ID, or, without an ID, the only one there is. Whole disks come before
// their partitions.
func choose(found []candidate, id string) (candidate, error) {
	var right []candidate
	var names []string
	for _, c := range found {
		if id == "" || c.info.ID == id {
			right = append(right, c)
		}
		names = append(names, c.name+" (id "+orUnknown(c.info.ID)+")")
	}
	switch {
	case len(found) == 0:
		return candidate{}, errors.New("no disk carries a payload (magic " + payload.Magic + ")")
	case len(right) == 0:
		return candidate{}, fmt.Errorf("no disk carries the payload with PAYLOAD_ID=%s; found: %s", id, strings.Join(names, ", "))
	case len(right) > 1 && id == "":
		return candidate{}, fmt.Errorf("%d disks carry a payload: set PAYLOAD_ID to one of: %s", len(right), strings.Join(names, ", "))
	}
	return right[0], nil
}

func orUnknown(id string) string {
	if id == "" {
		return "unknown"
	}
	return id
}

// listDisks lists every block device of the machine that can be a disk or a partition, whole disks first.
func listDisks() ([]disk.Name, error) {
	devices, err := block.GetBlockDevices()
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var names []disk.Name
	for _, d := range devices {
		if n, err := disk.ParseName(d.Name); err == nil && !strings.HasPrefix(n.Disk, "loop") {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, disk.Name.Compare)
	return names, nil
}

// probeDisks looks for payloads on all of them.
func probeDisks() (found []candidate, looked []string, err error) {
	names, err := listDisks()
	if err != nil {
		return nil, nil, err
	}
	for _, n := range names {
		looked = append(looked, n.String())
		info, err := probe(n.Path())
		if err == nil {
			found = append(found, candidate{n.String(), info})
		}
	}
	return found, looked, nil
}

// probe looks for a payload at the start of a device. A device that cannot be read carries none.
func probe(path string) (payload.Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return payload.Info{}, err
	}
	defer f.Close()
	return payload.Probe(f)
}
