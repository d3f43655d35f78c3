// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"kindling/host/distfiles"
	"kindling/host/options"
	"kindling/host/report"
	"kindling/host/transfer"
	"kindling/steps"
)

// anyMode is rootfs.py's argument list where no mode has to be chosen.
type anyMode options.Rootfs

// planned are the options that decide which distfiles are needed. Without a mode all of them are: all sources are taken
// along then.
type planned struct {
	Boot  anyMode         `embed:""`
	Media options.Payload `embed:""`
	Extra options.Extra   `embed:""`
	Root  string          `help:"The root to plan, such as /steps-guix." default:"/steps"`
}

// boot are the options with a mode, which is fallback with all sources if none was chosen.
func (p *planned) boot(fallback options.Mode) (*options.Rootfs, error) {
	boot := options.Rootfs(p.Boot)
	if !boot.Qemu && !boot.BareMetal && !boot.Chroot && !boot.Bwrap {
		boot.Qemu, boot.Chroot = fallback == options.ModeQemu, fallback == options.ModeChroot
		boot.ExternalSources = true
	}
	return &boot, errors.Join(boot.Validate(), p.Media.Check(&boot), p.Extra.Check())
}

// distfiles are what the builds of a tree need, each with its medium, in the order of need.
func (p *planned) distfiles(dir string, fallback options.Mode) ([]steps.Distfile, error) {
	boot, err := p.boot(fallback)
	if err != nil {
		return nil, err
	}
	tree, err := openTree(dir, &p.Extra)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	all, err := plans(tree, boot, &p.Media, &p.Extra, rootName(p.Root))
	if err != nil {
		return nil, inTree(dir, err)
	}
	files, err := steps.Distfiles(all, p.Media.Media(boot))
	return files, inTree(dir, err)
}

// fetchCmd is "kindling fetch": it brings the distfiles that a tree needs into one folder, or says which of them are
// there and right.
type fetchCmd struct {
	Plan planned `embed:""`

	Tree       string `help:"The live-bootstrap checkout." required:"" placeholder:"DIR"`
	Distfiles  string `help:"Folder for the distfiles; made if it is missing." required:"" placeholder:"DIR"`
	Jobs       int    `help:"Files to work on at a time, up to 64." default:"4"`
	Seed       uint64 `help:"Number that shuffles the mirrors for each file; 0 tries them in the given order." default:"0"`
	VerifyOnly bool   `help:"Download nothing: say which files are missing or wrong."`
	JSON       bool   `help:"Write the result as JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (fetchCmd) Help() string {
	return examples(
		"kindling fetch --tree ~/live-bootstrap --distfiles ~/distfiles -m https://mirror.example",
		"bring everything that is missing",
		"kindling fetch --tree ~/live-bootstrap --distfiles ~/distfiles --verify-only",
		"say what is missing or wrong",
	)
}

// fetched is the result as JSON.
type fetched struct {
	Status   string             `json:"status"` // complete, incomplete, interrupted or failed
	Folder   string             `json:"folder"`
	Wanted   int                `json:"wanted"`
	Present  int                `json:"present"`
	Fetched  int                `json:"fetched"`
	Replaced int                `json:"replaced"`
	Missing  int                `json:"missing"`
	Wrong    int                `json:"wrong"`
	Skipped  int                `json:"skipped"`
	Bytes    int64              `json:"bytes"`    // in the files that are there and right
	Received int64              `json:"received"` // in this run
	Files    []distfiles.Result `json:"files"`
}

// Run implements the verb. Progress goes to standard error, the result to standard output.
func (c *fetchCmd) Run(ctx context.Context, s streams) error {
	if c.Jobs < 1 || c.Jobs > distfiles.MaxJobs {
		return usageError("--jobs %d: must be 1 to %d", c.Jobs, distfiles.MaxJobs)
	}
	files, err := c.Plan.distfiles(c.Tree, options.ModeChroot) // which carries everything, and knows no payload
	if err != nil {
		return inputError(err)
	}
	wants := distfiles.Wants(files)
	view := &fetchView{display: transfer.For(s.err, os.Getenv("TERM")), all: len(wants)}
	result, err := c.work(ctx, wants, view.update)
	view.display.Close()
	if result.Files == nil && err != nil {
		return inputError(err) // nothing has been tried
	}
	if printErr := c.print(s.text(), result, err); printErr != nil {
		return errors.Join(err, printErr)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted; the next run takes up what has arrived"}
	case errors.Is(err, distfiles.ErrIncomplete):
		return usageError("%s: the list is above", err)
	}
	return err
}

func (c *fetchCmd) work(
	ctx context.Context, wants []distfiles.Want, tell func(distfiles.Update),
) (distfiles.Report, error) {
	if c.VerifyOnly {
		return distfiles.Verify(ctx, wants, c.Distfiles, c.Jobs, tell)
	}
	return distfiles.Fetch(ctx, wants, distfiles.Options{
		Dir: c.Distfiles, Mirrors: c.Plan.Boot.Mirrors, Jobs: c.Jobs, Seed: c.Seed, Report: tell,
	})
}

// print writes the result.
func (c *fetchCmd) print(out io.Writer, r distfiles.Report, err error) error {
	size, received := r.Size()
	sum := fetched{
		Status: fetchStatus(err), Folder: c.Distfiles, Wanted: len(r.Files), Bytes: size, Received: received,
		Files:   r.Files,
		Present: r.Count(distfiles.Present), Fetched: r.Count(distfiles.Fetched), Replaced: r.Count(distfiles.Replaced),
		Missing: r.Count(distfiles.Missing), Wrong: r.Count(distfiles.Wrong), Skipped: r.Count(distfiles.Skipped),
	}
	if c.JSON {
		return writeJSON(out, sum)
	}
	p := &printer{out: out}
	for _, f := range r.Bad() {
		if f.Status == distfiles.Skipped {
			continue
		}
		p.printf("%s: %s", f.Name, f.Status)
		if f.Aside != "" {
			p.printf(", set aside as %s", f.Aside)
		}
		p.printf(" (want sha256 %s)\n", f.SHA256)
		for _, a := range f.Attempts {
			p.printf("    %s: %s\n", a.Address, a.Cause)
		}
	}
	p.printf("%d distfiles: %d present, %d fetched, %d replaced, %d missing, %d wrong",
		sum.Wanted, sum.Present, sum.Fetched, sum.Replaced, sum.Missing, sum.Wrong)
	if sum.Skipped > 0 {
		p.printf(", %d not looked at", sum.Skipped)
	}
	p.printf("; %s there, %s received\n", transfer.Size(size), transfer.Size(received))
	return p.err
}

func fetchStatus(err error) string {
	switch {
	case err == nil:
		return "complete"
	case errors.Is(err, distfiles.ErrIncomplete):
		return "incomplete"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	return "failed"
}

// fetchView shows updates.
type fetchView struct {
	display transfer.Display
	mu      sync.Mutex
	done    int
	all     int
}

func (v *fetchView) update(u distfiles.Update) {
	switch u.Kind {
	case distfiles.Checking:
	case distfiles.Waiting:
		v.display.Row(u.Name, "another run is at work on it", 0, 0)
	case distfiles.Trying:
		v.display.Row(u.Name, "", u.Done, 0)
	case distfiles.Received:
		v.display.Row(u.Name, "", u.Done, u.Total)
	case distfiles.GaveUp:
		v.display.Line(fmt.Sprintf("%s: %s: %s", u.Name, u.Address, u.Cause))
	case distfiles.Finished:
		v.display.Drop(u.Name)
		if r := u.Result; r.Status.Good() && r.Status != distfiles.Present { // the others are listed at the end
			v.display.Line(finishedLine(r))
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.done++
		v.display.Count(v.done, v.all)
	}
}

// finishedLine is what stays of a file that was brought.
func finishedLine(r *distfiles.Result) string {
	line := fmt.Sprintf("%s: %s, %s", r.Name, r.Status, transfer.Size(r.Size))
	if r.From != "" {
		line += " from " + r.From
	}
	return line
}

// printer writes until writing fails.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

// writeJSON writes one document.
func writeJSON(out io.Writer, document any) error {
	encoder := json.NewEncoder(jsonWriter{rawWriter(out)})
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
