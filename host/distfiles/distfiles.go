// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package distfiles brings the source archives that a plan needs into one folder, and says which of them are there and
// right.
//
// Fetch downloads what is missing: several files at a time, each from all mirrors in turn and then from its origin,
// taking up again what was cut. The sha256 is computed while the bytes arrive, and they are written once. Only a file
// with the right sha256 gets its name; until then it is called NAME.<12 digits of its sha256>.part, which is also what
// its lock hangs on (flock), so that several runs in one folder wait for each other file by file and a killed one
// leaves nothing but resumable parts. Verify reads what is there and changes nothing.
//
// Nothing that a server says is believed: redirects, sizes and waits are bounded, texts are cleaned, and no file is
// ever in memory as a whole. The package knows nothing of media or payloads, prints nothing, and writes in the one
// folder it is given. It is called by the verbs of cmd/host and by package assemble.
package distfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"kindling/steps"
)

// ErrIncomplete is the error of a run that ended with files missing or wrong; the Report has the reasons.
var ErrIncomplete = errors.New("distfiles are missing or wrong")

// DefaultJobs is how many files Fetch works on at a time when nobody says, and MaxJobs is the most it does.
const (
	DefaultJobs = 4
	MaxJobs     = 64
)

// NoOrigin as an origin says that only mirrors have a file, as in a tree's sources.
const NoOrigin = "_"

// Want is one file that has to be there.
type Want struct {
	Name    string   // a plain file name (steps.CheckDistfileName)
	SHA256  string   // lower-case hex
	Origins []string // where to get it when no mirror has it, in this order; NoOrigin is passed over
}

// Wants are the files that the host has to have: all but those that the guest downloads.
func Wants(files []steps.Distfile) []Want {
	var wants []Want
	for _, f := range files {
		if f.Medium == steps.MediumNetwork && f.Again == "" {
			continue
		}
		w := Want{Name: f.Name, SHA256: f.SHA256}
		for _, s := range f.Sources {
			if s.URL != NoOrigin && !slices.Contains(w.Origins, s.URL) {
				w.Origins = append(w.Origins, s.URL)
			}
		}
		wants = append(wants, w)
	}
	return wants
}

// Options say how Fetch works. Dir is needed; the zero value of the rest is useful.
type Options struct {
	Dir     string       // the folder; made if it is missing
	Mirrors []string     // http://, https:// or file:///folder; a file is at MIRROR/NAME
	Jobs    int          // files at a time, at most MaxJobs; 0 is DefaultJobs
	Seed    uint64       // 0 tries the mirrors in the given order, any other number in a shuffled one for each file
	Client  *http.Client // nil is NewClient()
	Limits  Limits
	Report  func(Update) // called from several goroutines; nil for nobody
}

// Limits bound what a server may do. A zero value is the default that stands beside it.
type Limits struct {
	Stall   time.Duration // an answer has to begin, and then 1 KiB to arrive, within this time; 30 s
	Rounds  int           // how often all addresses are tried, as far as their failures may pass; 3
	Backoff time.Duration // pause before the second round, four times as long before each further one; 1 s
	MaxSize int64         // bytes in one file; 2^31-1, what a payload and a 32-bit guest can hold
	Poll    time.Duration // how often a file that another run is at work on is looked at; 100 ms
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Stall: cmp.Or(l.Stall, 30*time.Second), Rounds: cmp.Or(l.Rounds, 3), Backoff: cmp.Or(l.Backoff, time.Second),
		MaxSize: cmp.Or(l.MaxSize, 1<<31-1), Poll: cmp.Or(l.Poll, 100*time.Millisecond),
	}
}

// Fetch makes every wanted file stand in the folder. It goes on with the others when one cannot be had; the error then
// wraps ErrIncomplete. An error of the folder itself (no space, no permission) and the end of ctx end the whole run.
// The Report is complete in every case, in the order of wants.
//
// A wrong file under a wanted name stays until a right one takes its place; if none can be had, it is set aside as
// NAME.wrong.
func Fetch(ctx context.Context, wants []Want, opt Options) (Report, error) {
	if err := checkWants(wants); err != nil {
		return Report{}, err
	}
	if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
		return Report{}, fmt.Errorf("distfiles folder: %w", err)
	}
	f, err := newFetcher(opt)
	if err != nil {
		return Report{}, err
	}
	report, err := each(ctx, wants, opt.Jobs, f.file)
	f.client.CloseIdleConnections()
	if unsynced := syncDir(opt.Dir); err == nil || errors.Is(err, ErrIncomplete) && unsynced != nil {
		err = unsynced
	}
	return report, err
}

// Verify says which of the wanted files are in dir and right. It changes nothing. The error wraps ErrIncomplete when
// not all are.
func Verify(ctx context.Context, wants []Want, dir string, jobs int, tell func(Update)) (Report, error) {
	if err := checkWants(wants); err != nil {
		return Report{}, err
	}
	if info, err := os.Stat(dir); err != nil {
		return Report{}, fmt.Errorf("distfiles folder: %w", err)
	} else if !info.IsDir() {
		return Report{}, fmt.Errorf("distfiles folder %s: is no folder", dir)
	}
	return each(ctx, wants, jobs, func(ctx context.Context, w Want) (Result, error) {
		r := resultOf(w)
		notify(tell, Update{Name: w.Name, Kind: Checking})
		found, err := check(ctx, filepath.Join(dir, w.Name), w.SHA256)
		if err != nil {
			return r, err
		}
		r.Status, r.Size = found.status, found.size
		if found.cause != "" {
			r.Attempts = []Attempt{{Address: w.Name, Cause: found.cause}}
		}
		notify(tell, Update{Name: w.Name, Kind: Finished, Result: &r})
		return r, nil
	})
}

// each runs work for every want, jobs at a time, and collects the results in order.
func each(
	ctx context.Context, wants []Want, jobs int, work func(context.Context, Want) (Result, error),
) (Report, error) {
	report := Report{Files: make([]Result, len(wants))}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(max(cmp.Or(jobs, DefaultJobs), 1), MaxJobs))
	for i, w := range wants {
		report.Files[i] = resultOf(w)
		group.Go(func() error {
			if err := groupCtx.Err(); err != nil {
				return err
			}
			var err error
			report.Files[i], err = work(groupCtx, w)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return report, err
	}
	if bad := report.Bad(); len(bad) > 0 {
		return report, fmt.Errorf("%d of %d %w", len(bad), len(wants), ErrIncomplete)
	}
	return report, nil
}

// checkWants refuses what would make files of one run overwrite each other, or leave the folder.
func checkWants(wants []Want) error {
	names := make(map[string]string, len(wants))
	for _, w := range wants {
		if msg := steps.CheckDistfileName(w.Name); msg != "" {
			return fmt.Errorf("distfile %q: the name %s", w.Name, msg)
		}
		if len(w.SHA256) != 64 || trimHex(w.SHA256) != "" {
			return fmt.Errorf("distfile %s: %q is no sha256", w.Name, w.SHA256)
		}
		for _, name := range []string{w.Name, partName(w), w.Name + asideSuffix} {
			if other, taken := names[name]; taken {
				return fmt.Errorf("distfile %s: its files would get in the way of those of %s", w.Name, other)
			}
			names[name] = w.Name
		}
	}
	return nil
}

// syncDir makes the names in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync distfiles folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync distfiles folder: %w", err)
	}
	return nil
}
