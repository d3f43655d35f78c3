// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"kindling/host/checkpoint"
	"kindling/host/console"
	"kindling/host/estimate"
	"kindling/host/mirror"
	"kindling/host/options"
	"kindling/host/progress"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/host/watch"
)

// bootOptions are rootfs.py's options without the methods of options.Rootfs: kong would call its Validate, which asks
// for a mode, and the embedded default needs none.
type bootOptions options.Rootfs

// runCmd is "kindling run": it assembles media, boots them, watches, and ends with the guest's result. Without a tree it
// runs the embedded default in QEMU.
type runCmd struct {
	Boot  bootOptions     `embed:""`
	Media options.Payload `embed:""`
	Extra options.Extra   `embed:""`
	Net   options.Net     `embed:""`

	Tree      string `help:"The live-bootstrap checkout to run; without it the embedded default." placeholder:"DIR"`
	Distfiles string `help:"Folder of the distfiles (default: distfiles in the tree), or of those of --extra-root." placeholder:"DIR"`
	Agent     string `help:"The agent's program, or off for a tree's own scripts (default: beside this program)." placeholder:"FILE|off"`

	Folder pathName `help:"Folder for everything that the run leaves; new or empty (default: kindling-runs/<time>)." placeholder:"DIR" name:"run"`
	Resume pathName `help:"Go on with the run of this folder, at its first unfinished step." placeholder:"RUN"`
	Accel  string   `help:"What runs the guest's instructions: auto, kvm or tcg." enum:"auto,kvm,tcg" default:"auto"`
	CPU    string   `help:"CPU model, as QEMU names it." name:"cpu" placeholder:"MODEL"`
	DryRun bool     `help:"Print the command instead of running it; with --keep or --run, its media are left there."`
	Keep   bool     `help:"Keep the media in the run folder after a success (a failed run keeps them anyway)."`
	JSON   bool     `help:"Print the guest's events as JSON lines instead of progress." name:"json"`

	Detach  bool `help:"Go on in the background once the machine runs; 'kindling attach' shows it, 'kindling stop' ends it." short:"d"`
	ReadyFD int  `hidden:"" name:"ready-fd"`

	Stage0Image pathName `help:"Boot this bootstrapped disk instead of starting over; the image is never changed." name:"stage0-image" placeholder:"IMG"`
	Stage0Copy  bool     `help:"With --stage0-image: a copy of the image in the run folder in place of a layer over it." name:"stage0-copy"`

	Checkpoints string   `help:"Keep memory and disks at each jump, to start again from there: auto (a tree's own kernels), on or off." enum:"auto,on,off" default:"auto"`
	From        string   `help:"Go on from a checkpoint of the run RUN: fiwix, linux or disk." enum:",fiwix,linux,disk" default:"" placeholder:"NAME"`
	Source      pathName `arg:"" optional:"" name:"run-folder" help:"With --from: the folder of the run to go on from; it stays as it is."`

	Variant string   `help:"Make the embedded default fail: after-fails, build-fails, payload-cut or panic." enum:",after-fails,build-fails,payload-cut,panic" default:"" placeholder:"NAME"`
	Guest   string   `help:"Architecture of the embedded default's kernel and agent: 386 or amd64." enum:"386,amd64" default:"386"`
	Cache   pathName `help:"Folder for the embedded default's Debian packages (default: kindling below the user's cache folder)." placeholder:"DIR" env:"KINDLING_CACHE"`
}

// Help implements kong.HelpProvider.
func (runCmd) Help() string {
	return examples(
		"kindling run", "boot the embedded default and watch it",
		"kindling run --variant panic", "the same, made to fail in one way",
		"kindling run --interactive --variant build-fails", "a failed step asks at your terminal what to do",
		"kindling run --dry-run", "print the command line of QEMU only",
		"kindling run --extra-build spark", "the same with an extra root behind the main steps",
		"kindling run --resume kindling-runs/latest", "go on with a run that failed or was cut short",
		"kindling run --json --run out", "events as JSON lines; everything that the run leaves is in out",
		"kindling run --tree ~/live-bootstrap --distfiles ~/distfiles --qemu --external-sources",
		"a real bootstrap, from builder-hex0 on",
		"kindling run --detach", "leave it to itself; look at it with kindling attach kindling-runs/latest",
		"kindling run --qemu --stage0-image disk.img --extra-build guix --tree ~/live-bootstrap",
		"boot a bootstrapped disk with an extra root to run",
		"kindling run --from linux kindling-runs/latest", "go on from where that run jumped to Linux",
	)
}

// machine is what is to be run, whatever it is: a virtual machine, or a chroot.
type machine struct {
	argv     []string
	start    func(ctx context.Context, log *os.File) (watch.Process, error)
	accel    qemu.Accel    // "" outside QEMU
	qemu     *qemu.Options // nil outside QEMU
	watch    watch.Options
	media    []report.Medium
	budgets  []report.Budget
	packages []report.Package
	versions map[string]string
}

// run is one run under way.
type run struct {
	cmd     *runCmd
	streams streams
	dir     *rundir.Dir
	agent   string // its program, "" for none
	label   string
	mirrors []served
	notes   []string
	started time.Time
	stage0  *stage0Boot            // the disk of --stage0-image; nil: none
	from    *checkpoint.Checkpoint // nil: from the beginning
	source  *rundir.Dir            // the run that has it
	sockets string                 // folder for QEMU's sockets, made when one is needed
	console *console.Console       // of an interactive run
	lock    io.Closer              // of the run folder
	resumed bool
	earlier []report.Report
}

// served is a mirror with the folder that it serves.
type served struct {
	*mirror.Server
	dir string
}

// Run implements the verb.
func (c *runCmd) Run(ctx context.Context, s streams) error {
	if c.Detach {
		return c.detach(ctx, s)
	}
	r := &run{cmd: c, streams: s, started: time.Now()}
	serving, stop := context.WithCancel(ctx)
	defer r.stopMirrors(stop)
	defer r.removeSockets()
	defer r.unlock()
	m, err := r.prepare(serving)
	if err != nil {
		err = errors.Join(err, r.discard())
		if ctx.Err() != nil {
			return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted while the media were assembled; nothing is left of the run"}
		}
		return err
	}
	if c.DryRun {
		return r.show(m)
	}
	return r.boot(ctx, m)
}

// show prints the command in place of running it. The media are there to be run with it only where they were asked for:
// by --keep, or by a folder of the user's own; the mirrors have to be started again then.
func (r *run) show(m machine) error {
	line := qemu.ShellLine(m.argv)
	if !r.cmd.Keep && r.cmd.Folder == "" {
		for _, s := range r.mirrors {
			line = strings.ReplaceAll(line, ":"+strconv.Itoa(s.Port()), ":PORT")
		}
		_, err := fmt.Fprintln(r.streams.out, line)
		r.say("nothing is left of this; --keep leaves the media")
		return errors.Join(err, r.discard())
	}
	if _, err := fmt.Fprintln(r.streams.out, line); err != nil {
		return err
	}
	r.say("media: " + r.dir.Disks())
	for _, s := range r.mirrors {
		r.say(fmt.Sprintf("while it runs: kindling mirror --listen %s %s", s.Addr(), qemu.ShellLine([]string{s.dir})))
	}
	return nil
}

// prepare makes the run folder and everything in it.
func (r *run) prepare(ctx context.Context) (machine, error) {
	what := r.prepareDemo
	r.label = "demo"
	switch {
	case r.cmd.From != "":
		what = r.prepareFrom
		r.label = "from-" + r.cmd.From
	case r.cmd.Stage0Image != "":
		what = r.prepareStage0
		r.label = "stage0"
	case r.cmd.Tree != "":
		what = r.prepareTree
		r.label = filepath.Base(filepath.Clean(r.cmd.Tree))
	}
	if r.cmd.Variant != "" {
		r.label += "-" + r.cmd.Variant
	}
	if err := r.cmd.check(); err != nil {
		return machine{}, err
	}
	if r.cmd.Resume != "" {
		return r.prepareResume(ctx)
	}
	var err error
	if r.agent, err = r.cmd.agent(); err != nil {
		return machine{}, err
	}
	dir, err := rundir.Create(rundir.Options{Path: string(r.cmd.Folder), Label: r.label, Now: r.started})
	if err != nil {
		return machine{}, usageError("%s", err)
	}
	r.dir = dir
	if r.lock, err = dir.Lock(); err != nil {
		return machine{}, err
	}
	return what(ctx)
}

func (r *run) unlock() {
	if r.lock != nil {
		_ = r.lock.Close() // the process's end would do it as well
	}
}

// check reports options that do not go together.
func (c *runCmd) check() error {
	b := c.Boot
	if err := c.Extra.Check(); err != nil {
		return usageError("%s", err)
	}
	if c.Stage0Image != "" {
		return c.checkStage0()
	}
	demoOnly := c.Variant != "" || c.Guest != "386"
	switch {
	case c.Stage0Copy:
		return usageError("--stage0-copy goes with --stage0-image")
	case c.From == "" && c.Source != "":
		return usageError("%s: a folder goes with --from; --run names the folder for a new run", c.Source)
	case c.From != "" && c.Source == "":
		return usageError("--from %s: name the folder of the run that has the checkpoint", c.From)
	case c.From != "" && (c.Tree != "" || demoOnly):
		return usageError("--from goes on with the machine as it was; options for a new one do not go with it")
	case b.Interactive && c.JSON:
		return usageError("--interactive --json: the console and the events cannot both have standard output; events.jsonl in the run folder has them")
	case c.Resume != "" && (demoOnly || c.From != "" || c.Tree != "" || c.Folder != "" || c.Distfiles != "" || c.Agent != "" || b.Kernel != "" ||
		b.Qemu || b.Chroot || b.Bwrap || b.BareMetal):
		return usageError("--resume goes on with the run as it was begun; of the other options only --accel, --interactive, --keep, --json and --dry-run go with it")
	case c.Tree != "" && demoOnly:
		return usageError("--variant and --guest belong to the embedded default; --tree names another tree")
	case c.Tree == "" && c.Agent == agentNone:
		return usageError("--agent=off: the embedded default is a run of the agent; name a tree with --tree")
	case c.Tree == "" && c.Distfiles != "" && len(c.Extra.ExtraRoot) == 0:
		return usageError("--distfiles: the embedded default has its own; name a tree with --tree, or an extra root with --extra-root")
	case c.Tree == "" && (b.Chroot || b.Bwrap || b.BareMetal || b.Kernel != "" || b.Repo != "" || b.EarlyPreseed != "" || b.ExternalSources):
		return usageError("the embedded default runs in QEMU, from its own sources; options for a tree need --tree")
	}
	return nil
}

// agent is the agent's program, "" where there is none: by the user's will, or because no kernel of its own runs.
func (c *runCmd) agent() (string, error) {
	if c.Agent == agentNone || c.Stage0Image != "" || c.From != "" || c.Tree != "" && !c.Boot.Qemu {
		return "", nil
	}
	path, err := c.Agent, error(nil)
	if path == "" {
		path, err = besideUs("kindling-init-" + c.Guest)
	}
	if err != nil {
		return "", err
	}
	return path, checkAgent(path, map[string]elf.Machine{"386": elf.EM_386, "amd64": elf.EM_X86_64}[c.Guest])
}

// checkAgent reports a file that cannot be PID 1: it has to be a static program for the guest's processor.
func checkAgent(path string, machine elf.Machine) error {
	f, err := elf.Open(path)
	if err != nil {
		return usageError("agent %s: %s; 'make build' makes one", path, err)
	}
	defer f.Close()
	if f.Machine != machine || f.Type != elf.ET_EXEC {
		return usageError("agent %s: it is for %s (%s), the guest needs a static program for %s", path, f.Machine, f.Type, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return usageError("agent %s: it is linked dynamically; the guest has nothing to link it with", path)
		}
	}
	return nil
}

// discard removes the folder of a run that never began.
func (r *run) discard() error {
	if r.dir == nil || r.resumed {
		return nil
	}
	return r.dir.Remove()
}

// say writes a line about what goes on before the guest runs.
func (r *run) say(line string) { _, _ = fmt.Fprintln(r.streams.err, line) }

// serve starts a mirror for a folder; it ends with ctx.
func (r *run) serve(ctx context.Context, dir string) (*mirror.Server, error) {
	s, err := mirror.Serve(ctx, mirror.Options{Dir: dir})
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	r.mirrors = append(r.mirrors, served{s, dir})
	return s, nil
}

// stopMirrors ends the mirrors and waits until their ports are free.
func (r *run) stopMirrors(stop context.CancelFunc) {
	stop()
	for _, m := range r.mirrors {
		if err := m.Wait(); err != nil {
			r.say(err.Error())
		}
	}
}

// accel resolves --accel, and says once when it is the slow one. Who asks for KVM by name gets it wherever it starts.
func (r *run) accel(ctx context.Context) (qemu.Accel, error) {
	probe := func() error { return qemu.TryKVM(ctx, r.cmd.Boot.QemuCmd, false).Obstacle }
	if qemu.Accel(r.cmd.Accel) == qemu.AccelKVM {
		probe = qemu.ProbeKVM
	}
	accel, note, err := qemu.ResolveAccel(qemu.Accel(r.cmd.Accel), probe)
	if err != nil {
		return "", usageError("%s", err)
	}
	if note != "" {
		r.notes = append(r.notes, note)
		r.say(note)
	}
	return accel, nil
}

// virtual is the machine that QEMU makes of o; console and events go to the run folder.
func (r *run) virtual(ctx context.Context, o qemu.Options) (machine, error) {
	o.Serials = []qemu.Serial{{File: r.dir.ConsoleLog(), Append: r.from != nil || r.resumed, Stdio: r.cmd.Boot.Interactive}, {File: r.dir.Events(), Append: r.from != nil || r.resumed}}
	if r.keeps() {
		if err := r.makeSockets(); err != nil {
			return machine{}, err
		}
		o.QMPSocket = filepath.Join(r.sockets, "qmp")
	}
	if err := o.Validate(); err != nil {
		return machine{}, usageError("%s", err)
	}
	return machine{
		argv: seedless(o.Argv()), accel: o.Accel, qemu: &o,
		start:    func(ctx context.Context, log *os.File) (watch.Process, error) { return r.startQEMU(ctx, o, log) },
		versions: map[string]string{"qemu": firstLine(ctx, o.Binary, "--version")},
	}, nil
}

// seedless is a command line without the guest's seed: the report is for others to read.
func seedless(argv []string) []string {
	seed := regexp.MustCompile(`kindling\.seed=[0-9a-f]+`)
	for i, arg := range argv {
		argv[i] = seed.ReplaceAllString(arg, "kindling.seed=SEED")
	}
	return argv
}

// boot runs the machine and turns its result into kindling's.
func (r *run) boot(ctx context.Context, m machine) error {
	log, err := r.dir.OpenQEMULog()
	if err != nil {
		return err
	}
	defer log.Close()
	var from watch.Offsets
	if r.resumed {
		from, err = watch.Ends(r.dir)
	} else if m.qemu != nil {
		err = r.remember(*m.qemu)
	}
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	if err := r.openConsole(end); err != nil {
		return errors.Join(err, r.discard())
	}
	process, err := m.start(ctx, log)
	if err != nil {
		return errors.Join(usageError("%s", err), r.closeConsole(), r.discard())
	}
	if err := r.goOnAlone(); err != nil {
		return errors.Join(err, process.Stop(context.WithoutCancel(ctx)), r.closeConsole())
	}
	m.watch.Attended = r.console != nil
	display := progress.NewRecorder(r.display(m), r.dir.View(), r.estimate(m))
	supervised := watch.Run{Process: process, Dir: r.dir, Options: m.watch, Sink: display, Report: r.report(m), Started: time.Now(), From: from,
		Audit: r.audit}
	stopKeeping := r.keepCheckpoints(ctx, m, &supervised)
	verdict := watch.Supervise(ctx, supervised)
	stopKeeping()
	display.Close()
	if err := r.closeConsole(); err != nil {
		r.say(err.Error())
	}
	if verdict.ExitStatus() == statusOK {
		_, _ = fmt.Fprintf(r.streams.err, "%s\nreport: %s\n", verdict, r.dir.Report())
		if !r.cmd.Keep {
			return r.dir.RemoveDisks()
		}
		return nil
	}
	return &exitError{verdict.ExitStatus(), verdict.String() + "; report: " + r.dir.Report()}
}

// estimate says how long the run will still take, from the runs beside it that were like it.
func (r *run) estimate(m machine) progress.Estimate {
	return estimate.Load(filepath.Dir(r.dir.Path()), r.label, string(m.accel)).Left
}

// report is what is known of the run before it begins.
func (r *run) report(m machine) report.Report {
	doc := report.Report{Label: r.label, Accel: string(m.accel), Argv: m.argv, Notes: r.notes, Media: m.media,
		Budgets: m.budgets, Command: append([]string{"kindling"}, r.streams.args...), Packages: m.packages, Versions: m.versions, Earlier: r.earlier}
	doc.Versions["go"] = runtime.Version()
	if info, ok := debug.ReadBuildInfo(); ok {
		doc.Versions["kindling"] = versionText(info)
	}
	return doc
}

// firstLine is the first line that a program prints, "" if it prints nothing.
func firstLine(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// besideUs is a program that is built together with this one: beside it, or where a package has it (../lib/kindling).
func besideUs(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("where this program is: %w", err)
	}
	dir := filepath.Dir(self)
	path := filepath.Join(dir, name)
	for _, p := range []string{path, filepath.Join(filepath.Dir(dir), "lib", "kindling", name)} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", usageError("no agent at %s: run 'make build', or name one with --agent (off: a tree's own scripts)", path)
}
