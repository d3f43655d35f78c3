// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"io"
	"strings"

	"kindling/host/doctor"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/internal/event"
)

// doctorCmd is "kindling doctor": what this host can and cannot do, and the command that mends what is missing.
type doctorCmd struct {
	Runs    string   `help:"Folder that runs are made in." default:"${runs}" placeholder:"DIR"`
	Cache   pathName `help:"Folder for the embedded default's Debian packages (default: kindling below the user's cache folder)." placeholder:"DIR" env:"KINDLING_CACHE"`
	QemuCmd string   `help:"QEMU program." default:"qemu-system-x86_64"`
	QemuRAM int      `help:"Memory of the guest in MiB." default:"4096" name:"qemu-ram"`
	JSON    bool     `help:"Write JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (doctorCmd) Help() string {
	return examples(
		"kindling doctor", "look at everything: the exit status is 0 if 'kindling run' can run here, 3 if not",
		"kindling doctor --json", "the same for a program",
	)
}

// Run looks, and says what there is. Only what keeps the embedded default from running is an error.
func (c *doctorCmd) Run(ctx context.Context, out io.Writer) error {
	if c.QemuRAM < 1 {
		return usageError("--qemu-ram %d: must be at least 1 (MiB)", c.QemuRAM)
	}
	cache, err := cacheDir(c.Cache)
	if err != nil {
		return err
	}
	findAgent := func() (string, error) { return (&runCmd{Guest: "386"}).agent() }
	found := doctor.Examine(ctx, doctor.System{FindAgent: findAgent}, doctor.Options{
		QEMU: c.QemuCmd, MemoryMiB: c.QemuRAM, Runs: c.Runs, Cache: cache,
	})
	if ctx.Err() != nil {
		return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted"}
	}
	write := printFindings
	if c.JSON {
		write = func(out io.Writer, r doctor.Report) error { return writeJSON(out, r) }
	}
	if err := write(out, found); err != nil || found.Ready {
		return err
	}
	var missing []string
	for _, f := range found.Findings {
		if f.State == doctor.Missing {
			missing = append(missing, f.What)
		}
	}
	return &exitError{statusNotReady, "not ready for 'kindling run': " + strings.Join(missing, ", ")}
}

// printFindings writes a block for each finding, the remedy below what it mends.
func printFindings(out io.Writer, r doctor.Report) error {
	p := &printer{out: out}
	for _, f := range r.Findings {
		p.printf("%-8s %s: %s\n", f.State, f.What, event.Clean(strings.ReplaceAll(f.Found, "\n", "; ")))
		if f.State != doctor.OK {
			p.printf("%-8s   for: %s\n", "", f.For)
		}
		if f.Remedy != "" {
			p.printf("%-8s   do:  %s\n", "", f.Remedy)
		}
	}
	if r.Ready {
		p.printf("'kindling run' can run here\n")
	}
	return p.err
}

// defaultRuns is where runs go.
const defaultRuns = rundir.DefaultBase
