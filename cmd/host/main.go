// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Kindling puts live-bootstrap on its media, drives the machine that runs it, and gives the guest's result as its own
// exit status.
//
//	kindling run [--tree DIR]     boot the embedded default, or a tree, and end with its result
//	kindling run --resume RUN     go on with a run that was cut short
//	kindling log IMG|RUN [STEP]   a run's journal, or the log of a step
//	kindling plan --tree DIR      what would run, which distfile goes on which medium, and whether it fits
//	kindling assemble --tree DIR  the boot media of a tree
//	kindling scripts --tree DIR   the scripts of a tree, as its own generator writes them
//	kindling fetch --tree DIR     its distfiles
//	kindling mirror DIR           serve them
//	kindling payload              payload images
//	kindling write IMG DEVICE     an image onto a real disk
//	kindling report RUN           one HTML page about a run
//	kindling resume-medium IMG|RUN  a medium that goes on with a run on bare metal
//	kindling doctor               what this host can and cannot do, and what mends it
//	kindling version              the version and the commit it was built from
//
// `kindling --help` has all verbs, examples and the exit statuses.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// streams are where a verb writes. Files, not writers: a verb may ask whether one is a terminal. Text goes through text,
// notes and notef.
type streams struct {
	in, out, err *os.File // in may be nil: then there is nothing to read
	args         []string // the command line, for a report
}

// cli is the command line. Each verb has a method Run, which may take a context.Context (it ends with Ctrl-C), a
// streams and an io.Writer (standard output, through textWriter).
type cli struct {
	Run         runCmd          `cmd:"" help:"Boot the embedded default, or a tree, and end with the guest's result."`
	Plan        planCmd         `cmd:"" help:"Show what a tree would run, and which distfile goes on which medium."`
	Assemble    assembleCmd     `cmd:"" help:"Make the boot media of a tree."`
	Scripts     scriptsCmd      `cmd:"" help:"Write the scripts of a tree, as its own generator writes them."`
	Fetch       fetchCmd        `cmd:"" help:"Download the distfiles that a tree needs, or say which are missing."`
	Mirror      mirrorCmd       `cmd:"" help:"Serve a folder of distfiles over HTTP."`
	Payload     payloadCmd      `cmd:"" help:"Make, list, verify and extract payload images."`
	Write       writeCmd        `cmd:"" help:"Write an image to a real disk, verified."`
	Export      exportCmd       `cmd:"" help:"Take the packages out of an image, and compare them with the tree's list."`
	Checkpoints checkpointsCmd  `cmd:"" help:"List the kept states of a run that another run can start from, or remove one."`
	Attach      attachCmd       `cmd:"" help:"Show a run that another process drives, and end with its result."`
	Stop        stopCmd         `cmd:"" help:"End a run that another process drives, in order."`
	Doctor      doctorCmd       `cmd:"" help:"Say what this host can and cannot do, and what mends it."`
	Report      reportCmd       `cmd:"" help:"Write one HTML page about a run, to keep or to give away."`
	Log         logCmd          `cmd:"" help:"Show the journal of a run, or the log of one of its steps."`
	Medium      resumeMediumCmd `cmd:"" name:"resume-medium" help:"Make a medium from which a machine goes on with the run on its disk."`

	Completion completionCmd `cmd:"" help:"Print the script with which a shell completes this command line."`
	Man        manCmd        `cmd:"" help:"Print the manual page."`
	Version    versionCmd    `cmd:"" help:"Print the version and the commit it was built from."`
}

const description = `Harness around live-bootstrap: assembles the boot media, drives the machine, and ends with its result.`

// manual stands below the help of the whole program.
func manual() string {
	return `
Examples:
  kindling run                  boot the embedded default and watch it
  kindling run --help           its options, with more examples: every verb has some
  kindling doctor               what this host can and cannot do
  kindling man | man -l -       all of it as a manual page

Exit status:
` + exitTable() + `
Every run leaves a folder, ./kindling-runs/latest unless --run says otherwise, with console.log, events.jsonl, qemu.log,
a log for each step, and report.json.
`
}

func main() {
	os.Exit(execute(os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// execute is kindling without the process around it: arguments in, exit status out, at most one line of error.
func execute(args []string, s streams) int {
	s.args = args
	ctx, stop := untilSignal(context.Background())
	defer stop()
	status, line := statusOf(dispatch(ctx, args, s), s.out)
	if line != "" {
		s.notef("kindling: %s\n", line)
	}
	return status
}

// untilSignal gives a context that ends with the first SIGINT, SIGQUIT, SIGTERM or SIGHUP (a closed terminal; unless
// nohup has it ignored); the second one kills, as if nobody had listened (SIGQUIT with Go's account of what is stuck). Writing to a closed pipe is an error from here on, not
// the end of the program, because a run outlives its audience.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}
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
	helped := false
	parser, err := newParser(&cli{},
		kong.Writers(s.out, s.err),
		kong.Exit(func(int) { helped = true }), // kong calls it after --help only, and goes on parsing
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(s.text(), (*io.Writer)(nil)),
		kong.Bind(s),
	)
	if err != nil {
		return fmt.Errorf("command line grammar: %w", err)
	}
	if len(args) > 0 && args[0] == completeVerb {
		return complete(parser.Model.Node, args[1:], s.out)
	}
	verb, err := parser.Parse(expandShortFlags(args))
	if helped {
		return nil
	}
	if err != nil {
		return usageError("%s", grammarLine(err))
	}
	return verb.Run()
}

// newParser is the grammar without the world around it.
func newParser(grammar *cli, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append(options,
		kong.Name("kindling"),
		kong.Description(description),
		kong.Help(help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Vars{"runs": defaultRuns},
	)...)
}

// help is kong's own help; that of the whole program ends with the manual.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return fmt.Errorf("print help: %w", err)
	}
	if ctx.Selected() != nil {
		return nil
	}
	if _, err := io.WriteString(ctx.Stdout, manual()); err != nil {
		return fmt.Errorf("print help: %w", err)
	}
	return nil
}
