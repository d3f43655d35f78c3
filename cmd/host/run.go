// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"kindling/host/checkpoint"
	"kindling/host/console"
	"kindling/host/control"
	"kindling/host/estimate"
	"kindling/host/imagefile"
	"kindling/host/initramfs"
	"kindling/host/machine"
	"kindling/host/mirror"
	"kindling/host/options"
	"kindling/host/programs"
	"kindling/host/progress"
	"kindling/host/qemu"
	"kindling/host/qmp"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/host/tree"
	"kindling/host/usernet"
	"kindling/host/watch"
	"kindling/internal/event"
	"kindling/internal/shell"
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

	GuestNet  string      `help:"Allow connections to other machines: auto (if a step downloads from them) or full (always). The guest always reaches Kindling's own mirrors." enum:"auto,full" default:"auto" name:"guest-net"`
	MaxOutput options.MiB `help:"How much console, events and step logs may take in all, as in 512M or 2G; a run that writes more is stopped." default:"2G" name:"max-output"`
	Allow     []string    `help:"A file or folder outside the run folder that the record of a resumed run may name; repeatable." sep:"none" placeholder:"PATH"`
	JSON      bool        `help:"Print the guest's events as JSON lines instead of progress." name:"json"`

	Detach  bool `help:"Go on in the background once the machine runs; 'kindling attach' shows it, 'kindling stop' ends it." short:"d"`
	ReadyFD int  `hidden:"" name:"ready-fd"`

	Stage0Image  pathName         `help:"Boot this bootstrapped disk instead of starting over; the image is never changed." name:"stage0-image" placeholder:"IMG"`
	Stage0Format imagefile.Format `help:"The format of that image, raw or qcow2; without it the beginning of the file decides." name:"stage0-format" enum:",raw,qcow2" default:"" placeholder:"FORMAT"`
	Stage0Copy   bool             `help:"With --stage0-image: a copy of the image in the run folder in place of a layer over it." name:"stage0-copy"`

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

// guest is what is to be run, whatever it is: a virtual machine, or a chroot.
type guest struct {
	argv     []string
	start    func(ctx context.Context) (*started, error)
	accel    qemu.Accel       // "" outside QEMU
	machine  *machine.Machine // nil outside QEMU
	watch    watch.Options
	media    []report.Medium
	budgets  []report.Budget
	packages []report.Package
	versions map[string]string
}

// started is a guest under way, and where what it writes comes from.
type started struct {
	watch.Process
	console, events, output watch.Source
	keyboard                io.Writer                     // nil: it has none
	qemu                    *qemu.Process                 // nil outside QEMU
	final                   func(said string) event.Event // of a guest without event port
	close                   func() error
}

// run is one run under way.
type run struct {
	cmd     *runCmd
	streams streams
	dir     *rundir.Dir
	agent   string // its program, "" for none
	label   string
	mirrors []served
	outside bool // the guest may reach other machines
	notes   []string
	started time.Time
	stage0  *stage0Boot            // the disk of --stage0-image; nil: none
	from    *checkpoint.Checkpoint // nil: from the beginning
	source  *rundir.Dir            // the run that has it
	console *console.Console       // of an interactive run
	lock    io.Closer              // of the run folder
	vm      *qmp.Client            // of a machine that was restored
	resumed bool
	earlier []report.Report
}

// served is a folder that is served to the guest.
type served struct {
	dir    string
	url    string         // as the guest knows it
	port   uint16         // inside the guest's network; 0: on the host's loopback
	server *mirror.Server // nil until it serves
}

// guestNetFull is --guest-net's value for a guest that may reach other machines.
const guestNetFull = "full"

// firstMirrorPort is the first mirror's port inside the guest's network. They are fixed, so that a run that goes on finds
// its mirrors where they were.
const (
	firstMirrorPort = 8001
	maxMirrors      = 64
)

// Run implements the verb.
func (c *runCmd) Run(ctx context.Context, s streams) error {
	if c.Detach {
		return c.detach(ctx, s)
	}
	r := &run{cmd: c, streams: s, started: time.Now()}
	serving, stop := context.WithCancel(ctx)
	defer r.stopMirrors(stop)
	defer r.unlock()
	g, err := r.prepare(serving)
	if err != nil {
		err = errors.Join(err, r.discard())
		if ctx.Err() != nil {
			return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted while the media were assembled; nothing is left of the run"}
		}
		return err
	}
	if c.DryRun {
		return r.show(g)
	}
	return r.boot(ctx, g)
}

// show prints the command instead of running it. The media are there only where they were asked for: by --keep, or by a
// folder of the user's own.
func (r *run) show(g guest) error {
	_, err := fmt.Fprintln(r.streams.text(), shell.Line(g.argv))
	if g.machine != nil {
		r.say("descriptors from 3 on are Kindling's ends of network and control; serial ports are named pipes of the run folder")
	}
	if !r.cmd.Keep && r.cmd.Folder == "" {
		r.say("nothing is left of this; --keep leaves the media")
		return errors.Join(err, r.discard())
	}
	r.say("media: " + r.dir.At(rundir.Disks))
	return err
}

// prepare makes the run folder and everything in it.
func (r *run) prepare(ctx context.Context) (guest, error) {
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
		return guest{}, err
	}
	if r.cmd.Resume != "" {
		return r.prepareResume(ctx)
	}
	var err error
	if r.agent, err = r.cmd.agent(); err != nil {
		return guest{}, err
	}
	dir, err := rundir.Create(rundir.Options{Path: string(r.cmd.Folder), Label: r.label, Now: r.started})
	if err != nil {
		return guest{}, inputError(err)
	}
	r.dir = dir
	if r.lock, err = dir.Lock(); err != nil {
		return guest{}, err
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
		return inputError(err)
	}
	demoOnly := c.Variant != "" || c.Guest != "386"
	if c.Stage0Image != "" && c.Resume == "" {
		return c.checkStage0()
	}
	switch {
	case len(c.Allow) > 0 && c.Resume == "" && c.From == "":
		return usageError("--allow goes with --resume and --from")
	case c.Stage0Copy || c.Stage0Format != "":
		return usageError("--stage0-copy and --stage0-format go with --stage0-image")
	case c.From == "" && c.Source != "":
		return usageError("%s: a folder goes with --from; --run names the folder for a new run", c.Source)
	case c.From != "" && c.Source == "":
		return usageError("--from %s: name the folder of the run that has the checkpoint", c.From)
	case c.From != "" && (c.Tree != "" || demoOnly):
		return usageError("--from goes on with the machine as it was; options for a new one do not go with it")
	case b.Interactive && c.JSON:
		return usageError("--interactive --json: the console and the events cannot both have standard output; events.jsonl in the run folder has them")
	case c.Resume != "" && (demoOnly || c.From != "" || c.Tree != "" || c.Folder != "" || c.Distfiles != "" || c.Agent != "" ||
		b.Qemu || b.Chroot || b.Bwrap || b.BareMetal):
		return usageError("--resume goes on with the run as it was begun; of the other options only --accel, --qemu-cmd, --guest-net, --max-output, --interactive, --keep, --json, --dry-run, and the paths that the run had (--allow, --kernel, --target, --mirrors, --stage0-image) go with it")
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
	file, err := tree.OpenFile(path)
	if err != nil {
		return usageError("agent: %s; 'make build' makes one", err)
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return usageError("agent %s: %s; 'make build' makes one", path, err)
	}
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
	return r.dir.Discard()
}

// say writes a line about what goes on before the guest runs.
func (r *run) say(line string) { r.streams.notef("%s\n", line) }

// serve has a folder served to the guest, by the URL that it gives: inside the network of a virtual machine once that
// runs, otherwise on the host's loopback, until ctx ends.
func (r *run) serve(ctx context.Context, dir string, virtual bool) (string, error) {
	s := served{dir: dir}
	if virtual {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return "", usageError("mirror %s: %s", dir, cmp.Or(err, error(syscall.ENOTDIR)))
		}
		s.port = firstMirrorPort + uint16(len(r.mirrors))
		for _, f := range forwards(r.cmd.Boot.Mirrors) {
			if f.Port >= firstMirrorPort && f.Port < firstMirrorPort+maxMirrors {
				return "", usageError("mirror 127.0.0.1:%d: in the guest, ports %d to %d are Kindling's own mirrors: serve it at another port", f.Port,
					firstMirrorPort, firstMirrorPort+maxMirrors-1)
			}
		}
		if len(r.mirrors) == maxMirrors {
			return "", usageError("mirror %s: at most %d folders are served", dir, maxMirrors)
		}
		s.url = fmt.Sprintf("http://%s:%d", usernet.HostAddr, s.port)
	} else {
		server, err := mirror.Serve(ctx, mirror.Options{Dir: dir})
		if err != nil {
			return "", inputError(err)
		}
		s.server, s.url = server, server.URL()
	}
	r.mirrors = append(r.mirrors, s)
	return s.url, nil
}

// mirrorURLs are the mirrors as the guest knows them.
func (r *run) mirrorURLs() []string {
	var urls []string
	for _, s := range r.mirrors {
		urls = append(urls, s.url)
	}
	return urls
}

// stopMirrors ends the mirrors and waits until their ports are free.
func (r *run) stopMirrors(stop context.CancelFunc) {
	stop()
	for _, s := range r.mirrors {
		if s.server == nil || s.port > 0 { // those inside a guest's network have ended with it
			continue
		}
		if err := s.server.Wait(); err != nil {
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
		return "", inputError(err)
	}
	if note != "" {
		r.notes = append(r.notes, note)
		r.say(note)
	}
	return accel, nil
}

// facts are what every virtual machine of this command line is made of.
func (r *run) facts(ctx context.Context) (machine.Machine, error) {
	accel, err := r.accel(ctx)
	b := r.cmd.Boot
	return machine.Machine{Label: r.label, AgentOff: r.agent == "", Accel: accel, MemoryMiB: int(b.QemuRAM), Cores: int(b.Cores),
		CPU: r.cmd.CPU}, err
}

// disk is a disk of one raw image, or of one file over others.
func (r *run) disk(chain imagefile.Chain, throwaway bool) machine.Disk {
	d := machine.Disk{Interface: qemu.InterfaceIDE, Throwaway: throwaway}
	for _, l := range chain {
		d.Layers = append(d.Layers, machine.Layer{File: machine.Below(r.dir.Path(), l.Path), Format: l.Format})
	}
	return d
}

func raw(path string) imagefile.Chain { return imagefile.Chain{{Path: path, Format: imagefile.Raw}} }

// virtual is the guest that QEMU makes of the machine m. kernel is the file of the embedded default's kernel, where it
// boots that.
func (r *run) virtual(ctx context.Context, m machine.Machine, kernel string) (guest, error) {
	for _, s := range r.mirrors {
		m.Mirrors = append(m.Mirrors, machine.Below(r.dir.Path(), s.dir))
	}
	m.Outside = r.outside
	o := m.Options(r.dir.Path(), r.cmd.Boot.QemuCmd)
	if machine.NeedsDemoKernel(o) {
		o.Kernel = kernel
	}
	o.Control = r.keeps()
	return r.virtualWith(ctx, m, o)
}

// virtualWith is virtual, with options of the caller's making.
func (r *run) virtualWith(ctx context.Context, m machine.Machine, o qemu.Options) (guest, error) {
	if err := o.Validate(); err != nil {
		return guest{}, inputError(err)
	}
	if o.Initrd != "" && !o.Incoming && !r.cmd.DryRun {
		seeded := r.dir.At("disks/boot.cpio")
		if err := initramfs.WithSeed(ctx, seeded, o.Initrd); err != nil {
			return guest{}, err
		}
		o.Initrd = seeded
	}
	return guest{
		argv: o.Argv(), accel: o.Accel, machine: &m, versions: map[string]string{"qemu": firstLine(ctx, o.Binary, "--version")},
		start: func(ctx context.Context) (*started, error) { return r.startQEMU(ctx, o) },
	}, nil
}

// startQEMU starts a machine, and the network at the end of its cable.
func (r *run) startQEMU(ctx context.Context, o qemu.Options) (*started, error) {
	for _, d := range o.Drives {
		if err := own(d.Path()); err != nil {
			return nil, err
		}
	}
	p, err := qemu.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &started{Process: p, console: p.Ports[0], events: p.Ports[1], output: p.Output, keyboard: p.Ports[0], qemu: p}
	done, refused, err := r.startNetwork(ctx, p.Network)
	s.close = func() error {
		err := p.Close()
		<-done
		if n := refused(); n > 0 {
			line := fmt.Sprintf("the guest was refused %d connections", n)
			if !r.outside {
				line += "; --guest-net full lets it reach other machines"
			}
			r.say(line)
		}
		return err
	}
	if err != nil {
		return nil, errors.Join(err, p.Stop(context.WithoutCancel(ctx)), s.close())
	}
	return s, nil
}

// own makes an image that a machine writes to, or that was made for it, its owner's alone, whatever made it.
func own(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = f.Chmod(0o600)
	}
	return errors.Join(err, f.Close())
}

// startNetwork connects the machine's cable with a network in which there are the run's mirrors, and other machines only
// where the run has to reach them. done is closed when the cable is cut and everything has ended.
func (r *run) startNetwork(ctx context.Context, cable net.Conn) (done <-chan struct{}, refused func() int64, err error) {
	ended := make(chan struct{})
	network, err := usernet.New(usernet.Options{Outside: r.outside, Forward: forwards(r.cmd.Boot.Mirrors), Log: r.refusal})
	if err != nil {
		close(ended)
		return ended, func() int64 { return 0 }, err
	}
	ctx = context.WithoutCancel(ctx) // an interrupted machine ends in order
	ctx, cancel := context.WithCancel(ctx)
	for i, s := range r.mirrors {
		l, err := network.Listen(s.port)
		if err == nil {
			r.mirrors[i].server, err = mirror.Serve(ctx, mirror.Options{Dir: s.dir, Listener: l})
		}
		if err != nil {
			cancel()
			close(ended)
			return ended, network.Refused, errors.Join(fmt.Errorf("serve %s to the guest: %w", s.dir, err), network.Close())
		}
	}
	go func() {
		defer close(ended)
		defer cancel()
		_ = network.Serve(ctx, cable) // the end of the cable is the end of the machine, which says more
	}()
	return ended, network.Refused, nil
}

// refusal keeps what the guest's network has refused in QEMU's log.
func (r *run) refusal(line string) {
	f, err := r.dir.Append(rundir.QEMULog)
	if err != nil {
		return // it is counted as well
	}
	_, _ = fmt.Fprintf(f, "network: %s\n", line)
	_ = f.Close()
}

// boot runs the guest and turns its result into kindling's.
func (r *run) boot(ctx context.Context, g guest) error {
	if g.machine != nil && !r.resumed {
		if err := r.remember(*g.machine); err != nil {
			return err
		}
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	if err := r.openConsole(end); err != nil {
		return errors.Join(err, r.discard())
	}
	s, err := g.start(ctx)
	if err != nil {
		err = errors.Join(inputError(err), r.closeConsole(), r.discard())
		if ctx.Err() != nil {
			return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted before the machine ran"}
		}
		return err
	}
	if err := r.dir.SetLatest(); err != nil {
		r.say(err.Error()) // the run itself is well
	}
	if err := r.goOnAlone(); err != nil {
		return errors.Join(err, s.Stop(context.WithoutCancel(ctx)), s.close(), r.closeConsole())
	}
	verdict, err := r.watch(ctx, g, s, end)
	if err := errors.Join(err, s.close(), r.closeConsole()); err != nil {
		r.say(err.Error())
	}
	if verdict.ExitStatus() == statusOK {
		r.streams.notef("%s\nreport: %s\n", verdict, r.dir.At(rundir.Report))
		if !r.cmd.Keep {
			return r.dir.Remove(rundir.Disks)
		}
		return nil
	}
	return &exitError{verdict.ExitStatus(), verdict.String() + "; report: " + r.dir.At(rundir.Report)}
}

// watch watches the guest to its end. An error is about the way, not about the verdict.
func (r *run) watch(ctx context.Context, g guest, s *started, end func()) (watch.Verdict, error) {
	g.watch.Attended, g.watch.MaxOutput = r.console != nil, r.cmd.MaxOutput.Bytes()
	display := progress.NewRecorder(r.display(g), r.estimate(g))
	w := watch.Run{Process: s.Process, Dir: r.dir, Options: g.watch, Sink: display, Report: r.report(g), Started: time.Now(),
		Console: s.console, Events: s.events, Output: s.output, Final: s.final, Audit: r.audit, Replay: r.from != nil, Flush: make(chan chan<- struct{})}
	if r.console != nil && s.keyboard != nil {
		w.Tee = r.console.Show
		r.console.Run(s.keyboard)
	}
	stopKeeping := r.keepCheckpoints(ctx, g, s, &w)
	server, failed := control.Listen(r.dir.Path(), rundir.Control, control.Handler{Stop: end, Document: display.Document})
	verdict := watch.Supervise(ctx, w)
	stopKeeping()
	display.Close()
	if failed == nil {
		failed = server.Close()
	}
	return verdict, failed
}

// estimate says how long the run will still take, from the runs beside it that were like it.
func (r *run) estimate(g guest) progress.Estimate {
	return estimate.Load(filepath.Dir(r.dir.Path()), r.label, string(g.accel)).Left
}

// report is what is known of the run before it begins.
func (r *run) report(g guest) report.Report {
	doc := report.Report{Label: r.label, Accel: string(g.accel), Argv: g.argv, Notes: r.notes, Media: g.media,
		Budgets: g.budgets, Command: append([]string{"kindling"}, r.streams.args...), Packages: g.packages, Versions: g.versions, Earlier: r.earlier}
	doc.Versions["go"] = runtime.Version()
	if info, ok := debug.ReadBuildInfo(); ok {
		doc.Versions["kindling"] = versionText(info)
	}
	return doc
}

// firstLine is the first line that a program prints, "" if it prints nothing.
func firstLine(ctx context.Context, program string, args ...string) string {
	path, err := programs.Find(program)
	if err != nil {
		return ""
	}
	out, err := exec.CommandContext(ctx, path, args...).Output()
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
