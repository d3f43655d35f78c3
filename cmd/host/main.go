// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Kindling puts live-bootstrap on its media, drives the machine that runs it, and gives the guest's result as its own
// exit status.
//
//	kindling run [--tree DIR]     boot the embedded default, or a tree, and end with its result
//	kindling plan --tree DIR      what would run, which distfile goes on which medium, and whether it fits
//	kindling assemble --tree DIR  the boot media of a tree
//	kindling scripts --tree DIR   the scripts of a tree, as its own generator writes them
//	kindling fetch --tree DIR     its distfiles
//	kindling mirror DIR           serve them
//	kindling payload              payload images
//	kindling write IMG DEVICE     an image onto a real disk
//	kindling version              the version and the commit it was built from
//
// `kindling --help` has all verbs, examples and the exit statuses.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"kindling/internal/event"
)

// Exit statuses that are not a run's result; report.Result has those.
const (
	statusOK       = 0
	statusInternal = 1
	statusUsage    = 2
)

// exitError is an error that knows kindling's exit status. Every error that a verb returns without one is internal.
type exitError struct {
	status int
	line   string // what the user reads; one line
}

func (e *exitError) Error() string { return e.line }

// usageError is bad usage or bad input: what it was, where, and what to do.
func usageError(format string, args ...any) error {
	return &exitError{status: statusUsage, line: fmt.Sprintf(format, args...)}
}

// streams are where a verb writes. Files, not writers: a verb may ask whether one is a terminal.
type streams struct {
	out, err *os.File
}

// cli is the command line. Each verb has a method Run, which may take a context.Context (it ends with Ctrl-C), a
// streams and an io.Writer (standard output).
type cli struct {
	Run      runCmd      `cmd:"" help:"Boot the embedded default, or a tree, and end with the guest's result."`
	Plan     planCmd     `cmd:"" help:"Show what a tree would run, and which distfile goes on which medium."`
	Assemble assembleCmd `cmd:"" help:"Make the boot media of a tree."`
	Scripts  scriptsCmd  `cmd:"" help:"Write the scripts of a tree, as its own generator writes them."`
	Fetch    fetchCmd    `cmd:"" help:"Download the distfiles that a tree needs, or say which are missing."`
	Mirror   mirrorCmd   `cmd:"" help:"Serve a folder of distfiles over HTTP."`
	Payload  payloadCmd  `cmd:"" help:"Make, list, verify and extract payload images."`
	Write    writeCmd    `cmd:"" help:"Write an image to a real disk, verified."`
	Version  versionCmd  `cmd:"" help:"Print the version and the commit it was built from."`
}

const description = `Harness around live-bootstrap: assembles the boot media, drives the machine, and ends with its result.`

// manual stands below the help of the whole program.
const manual = `
Examples:
  kindling run                                boot the embedded default and watch it
  kindling run --variant NAME                 the same, made to fail in one way
  kindling run --dry-run                      print the QEMU command line only
  kindling plan --tree ~/live-bootstrap --qemu --external-sources --json
  kindling scripts --tree ~/live-bootstrap --config bootstrap.cfg --out scripts
  kindling fetch --tree ~/live-bootstrap --distfiles ~/distfiles -m https://mirror.example
  kindling assemble --tree ~/live-bootstrap --distfiles ~/distfiles --out media --bare-metal --external-sources
  kindling run --tree ~/live-bootstrap --distfiles ~/distfiles --qemu --external-sources

Exit status:
    0  success: the guest's final event said so
    1  Kindling itself failed
    2  usage, or input that cannot be used
   10  a step failed
   11  an after script failed
   12  the payload is missing, cut, corrupt or the wrong one
   13  the guest's kernel panicked
   14  hang: no sign of life for longer than the phase may take
   15  QEMU ended without a final event
  130  interrupted

Every run leaves a folder, ./kindling-runs/latest unless --run says otherwise, with console.log, events.jsonl, qemu.log,
a log for each step, and report.json.
`

func main() {
	os.Exit(execute(os.Args[1:], streams{out: os.Stdout, err: os.Stderr}))
}

// execute is kindling without the process around it: arguments in, exit status out, at most one line of error.
func execute(args []string, s streams) int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	err := dispatch(ctx, args, s)
	if err == nil {
		return statusOK
	}
	_, _ = fmt.Fprintf(s.err, "kindling: %s\n", oneLine(err))
	var known *exitError
	if errors.As(err, &known) {
		return known.status
	}
	return statusInternal
}

// untilSignal gives a context that ends with the first SIGINT, SIGTERM or SIGHUP (a closed terminal; unless nohup has
// it ignored); the second one kills, as if nobody had listened. Writing to a closed pipe is an error from here on, not
// the end of the program, because a run outlives its audience.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(parent, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// dispatch parses the arguments and runs the verb.
func dispatch(ctx context.Context, args []string, s streams) error {
	var grammar cli
	helped := false
	parser, err := kong.New(&grammar,
		kong.Name("kindling"),
		kong.Description(description),
		kong.Writers(s.out, s.err),
		kong.Exit(func(int) { helped = true }), // kong calls it after --help only, and goes on parsing
		kong.Help(help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(s.out, (*io.Writer)(nil)),
		kong.Bind(s),
	)
	if err != nil {
		return fmt.Errorf("command line grammar: %w", err)
	}
	verb, err := parser.Parse(expandShortFlags(args))
	if helped {
		return nil
	}
	if err != nil {
		return usageError("%s; see 'kindling --help'", err)
	}
	return verb.Run()
}

// help is kong's own help; that of the whole program ends with the manual.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return fmt.Errorf("print help: %w", err)
	}
	if ctx.Selected() != nil {
		return nil
	}
	if _, err := io.WriteString(ctx.Stdout, manual); err != nil {
		return fmt.Errorf("print help: %w", err)
	}
	return nil
}

// oneLine makes an error, which may quote a guest or a file, one clean line.
func oneLine(err error) string {
	return event.Clean(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}
