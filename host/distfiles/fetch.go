// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"
)

// maxAttempts is how often one address is asked in a row for a file that arrives in pieces.
const maxAttempts = 20

// fetcher is one run of Fetch.
type fetcher struct {
	opt     Options
	limits  Limits
	client  *http.Client
	mirrors []*url.URL
	health  health
}

func newFetcher(opt Options) (*fetcher, error) {
	f := &fetcher{opt: opt, limits: opt.Limits.withDefaults(), client: opt.Client}
	f.health.failures = make(map[string]int)
	if f.client == nil {
		f.client = NewClient()
	}
	for _, mirror := range opt.Mirrors {
		u, err := parseMirror(mirror)
		if err != nil {
			return nil, err
		}
		f.mirrors = append(f.mirrors, u)
	}
	return f, nil
}

// job is the work on one file.
type job struct {
	*fetcher
	want   Want
	final  string // path under its name
	part   *part
	result Result
	whole  bool // what is in the part has come from one address from the first byte on
}

func (j *job) tell(u Update) {
	u.Name = j.want.Name
	notify(j.opt.Report, u)
}

// file makes one file stand in the folder. Its error ends the whole run.
func (f *fetcher) file(ctx context.Context, w Want) (Result, error) {
	j := &job{fetcher: f, want: w, final: filepath.Join(f.opt.Dir, w.Name), result: resultOf(w)}
	err := j.run(ctx)
	if err == nil || j.result.Status != Skipped {
		done := j.result
		j.tell(Update{Kind: Finished, Result: &done})
	}
	return j.result, err
}

func (j *job) run(ctx context.Context) (err error) {
	j.tell(Update{Kind: Checking})
	before, err := check(ctx, j.final, j.want.SHA256)
	if err != nil {
		return err
	}
	if before.status == Present {
		j.result.Status, j.result.Size = Present, before.size
		return nil
	}
	waiting := func() { j.tell(Update{Kind: Waiting}) }
	j.part, err = openPart(ctx, filepath.Join(j.opt.Dir, partName(j.want)), j.limits.Poll, waiting)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.part.close()) }()
	// Again, now that nobody else is at work on it.
	before, err = check(ctx, j.final, j.want.SHA256)
	if err != nil {
		return err
	}
	if before.status == Present {
		j.part.useless = true
		j.result.Status, j.result.Size = Present, before.size
		return nil
	}
	if err := j.part.load(ctx); err != nil {
		return err
	}
	return j.obtain(ctx, before)
}

// obtain downloads the file and gives it its name, or sets aside what wrongly has it.
func (j *job) obtain(ctx context.Context, before found) error {
	right, err := j.download(ctx)
	if err != nil {
		return err
	}
	if right && before.irregular {
		if j.result.Aside, err = setAside(j.opt.Dir, j.want.Name); err != nil {
			return err
		}
	}
	if right {
		if err := j.part.become(j.final); err != nil {
			return err
		}
		j.result.Size = j.part.size
		j.result.Status = Fetched
		if before.status == Wrong {
			j.result.Status = Replaced
		}
		return nil
	}
	j.result.Status = before.status
	if before.status != Wrong {
		return nil
	}
	j.result.failed(j.want.Name, before.cause)
	j.result.Aside, err = setAside(j.opt.Dir, j.want.Name)
	return err
}

// download fills the part, and reports whether it is right in the end.
func (j *job) download(ctx context.Context) (bool, error) {
	if j.part.size > 0 && j.part.sum() == j.want.SHA256 {
		return true, nil // an earlier run was ended between the last byte and the name
	}
	list := addresses(j.want, shuffle(j.mirrors, j.opt.Seed, j.want.Name), j.giveUp)
	if len(list) == 0 && len(j.result.Attempts) == 0 {
		j.giveUp(NoOrigin, "only mirrors have it, and no mirror was given")
	}
	delay := j.limits.Backoff
	for round := range j.limits.Rounds {
		if round > 0 {
			if err := pause(ctx, delay); err != nil {
				return false, err
			}
			delay *= 4
		}
		var again []address
		for _, a := range demote(list, j.health.demoted) {
			failure, err := j.ask(ctx, a)
			if err != nil || failure == nil {
				return err == nil, err
			}
			j.giveUp(a.String(), failure.cause)
			if failure.passing && !j.health.demoted(a.server) {
				again = append(again, a)
			}
		}
		if list = again; len(list) == 0 {
			break
		}
	}
	return false, nil
}

func (j *job) giveUp(address, cause string) {
	j.result.failed(address, cause)
	j.tell(Update{Kind: GaveUp, Address: address, Cause: cause})
}

// failure is why an address did not give the file.
type failure struct {
	cause   string // one clean line
	passing bool   // it may do so later
	dead    bool   // it is the server, not the file
	restart bool   // the part did not fit and has been emptied: ask again for the whole file
}

// ask tries to get the file from one address, and goes on there as long as new bytes arrive; it starts again at the first
// byte once. A nil failure says that the part is right; an error ends the run.
func (j *job) ask(ctx context.Context, a address) (*failure, error) {
	j.tell(Update{Kind: Trying, Address: a.String(), Done: j.part.size})
	var last *failure
	restarted := false
	for range maxAttempts {
		before := j.part.size
		var err error
		last, err = j.attempt(ctx, a)
		if err != nil {
			return nil, err
		}
		if last == nil {
			if j.part.sum() == j.want.SHA256 {
				j.health.note(a.server, true)
				j.result.From = a.String()
				return nil, nil // neither failure nor error: it worked
			}
			last = &failure{cause: wrongSum(j.part.sum(), j.want.SHA256, j.part.size)}
			if err := j.part.reset(); err != nil {
				return nil, err
			}
			last.restart = !j.whole // what it was appended to may have been wrong
		}
		again := last.passing && j.part.size > before
		if last.restart {
			again, restarted = !restarted, true
		}
		if !again {
			break
		}
	}
	j.health.note(a.server, !last.dead)
	return last, nil
}

// attempt asks an address once for what is missing of the part. A nil failure says that all of it has arrived.
func (j *job) attempt(ctx context.Context, a address) (*failure, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := newWatchdog(j.limits.Stall, cancel)
	defer dog.stop()
	j.whole = j.part.size == 0
	var failed *failure
	var err error
	if a.url.Scheme == "file" {
		failed, err = j.copyFile(ctx, a, dog)
	} else {
		failed, err = j.get(ctx, a, dog)
	}
	if errors.Is(context.Cause(ctx), errStalled) && (failed != nil || err != nil) {
		return &failure{cause: fmt.Sprintf("%v for %s", errStalled, j.limits.Stall), passing: true, dead: true}, nil
	}
	return failed, err
}

// errStalled ends an attempt that does not get on.
var errStalled = errors.New("less than 1 KiB arrived")

// stallBytes is how much has to arrive before a watchdog is content.
const stallBytes = 1 << 10

// watchdog ends an attempt that does not get on.
type watchdog struct {
	timer *time.Timer
	limit time.Duration
	bytes int64
}

func newWatchdog(limit time.Duration, cancel context.CancelCauseFunc) *watchdog {
	return &watchdog{timer: time.AfterFunc(limit, func() { cancel(errStalled) }), limit: limit}
}

// fed tells the watchdog that n bytes have arrived.
func (w *watchdog) fed(n int) {
	if w.bytes += int64(n); w.bytes >= stallBytes {
		w.bytes = 0
		w.timer.Reset(w.limit)
	}
}

func (w *watchdog) stop() { w.timer.Stop() }
