// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"kindling"
	"kindling/host/debian"
	hostdemo "kindling/host/demo"
	"kindling/host/mirror"
	"kindling/host/progress"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/host/watch"
	"kindling/steps/demo"
)

// seedSize is how many random bytes the guest's entropy pool gets on the kernel command line.
const seedSize = 32

// runCmd is "kindling run": it boots the embedded default in QEMU and ends with the guest's result.
type runCmd struct {
	Variant string `help:"Make the run fail in one way: after-fails, build-fails, payload-cut or panic." enum:",after-fails,build-fails,payload-cut,panic" default:""`
	Guest   string `help:"Architecture of kernel and agent: 386 or amd64; the userland is i386." enum:"386,amd64" default:"386"`
	Folder  string `help:"Folder for everything that the run leaves; new or empty (default: kindling-runs/<time>)." placeholder:"DIR" name:"run" type:"path"`
	Cache   string `help:"Folder for Debian's packages (default: kindling below the user's cache folder)." placeholder:"DIR" type:"path" env:"KINDLING_CACHE"`
	Agent   string `help:"The agent's program (default: kindling-init-<guest> beside this program)." placeholder:"FILE" type:"existingfile"`
	CPU     string `help:"CPU model, as QEMU names it." name:"cpu" placeholder:"MODEL"`
	Cores   int    `help:"Cores of the guest." default:"2"`
	RAM     int    `help:"Memory of the guest in MiB." default:"1024" name:"ram"`
	Accel   string `help:"What runs the guest's instructions." enum:"auto,kvm,tcg" default:"auto"`
	QemuCmd string `help:"QEMU program." default:"qemu-system-x86_64"`
	DryRun  bool   `help:"Assemble the media and print QEMU's command line instead of running it."`
	Keep    bool   `help:"Keep the disk images in the run folder after a success."`
	JSON    bool   `help:"Print the guest's events as JSON lines instead of progress." name:"json"`
}

// run is one run being prepared.
type run struct {
	cmd     *runCmd
	streams streams
	dir     *rundir.Dir
	media   hostdemo.Media
	mirror  *mirror.Server
	options qemu.Options
	notes   []string
	started time.Time
}

// Run implements the verb.
func (c *runCmd) Run(ctx context.Context, s streams) error {
	if c.Cores < 1 || c.RAM < 256 {
		return usageError("--cores %d, --ram %d: want at least 1 core and 256 MiB", c.Cores, c.RAM)
	}
	r := &run{cmd: c, streams: s, started: time.Now()}
	serving, stop := context.WithCancel(ctx)
	defer r.stopMirror(stop)
	if err := r.prepare(serving); err != nil {
		if ctx.Err() != nil {
			return errors.Join(r.discard(), &exitError{report.ResultInterrupted.ExitStatus(), "interrupted while the media were assembled; nothing is left of the run"})
		}
		return errors.Join(err, r.discard())
	}
	if c.DryRun {
		_, err := fmt.Fprintln(s.out, qemu.ShellLine(r.options.Argv()))
		return err
	}
	return r.boot(ctx)
}

// stopMirror ends the mirror and waits until its port is free.
func (r *run) stopMirror(stop context.CancelFunc) {
	stop()
	if r.mirror == nil {
		return
	}
	if err := r.mirror.Wait(); err != nil {
		r.say(err.Error())
	}
}

// discard removes the folder of a run that never began.
func (r *run) discard() error {
	if r.dir == nil {
		return nil
	}
	return r.dir.Remove()
}

// say writes a line about what goes on before the guest runs.
func (r *run) say(line string) { _, _ = fmt.Fprintln(r.streams.err, line) }

// prepare makes the run folder and everything in it, and starts the mirror.
func (r *run) prepare(ctx context.Context) error {
	agent, err := r.cmd.agent()
	if err != nil {
		return err
	}
	cacheDir, err := r.cmd.cacheDir()
	if err != nil {
		return err
	}
	cache, err := debian.Open(cacheDir)
	if err != nil {
		return err
	}
	label := "demo"
	if r.cmd.Variant != "" {
		label += "-" + r.cmd.Variant
	}
	if r.dir, err = rundir.Create(rundir.Options{Path: r.cmd.Folder, Label: label, Now: r.started}); err != nil {
		return usageError("%s", err)
	}
	r.media, err = hostdemo.Assemble(ctx, hostdemo.Options{
		Dir: r.dir.Disks(), Cache: cache, Agent: agent, KernelArch: r.cmd.kernelArch(), Importer: kindling.PayloadImportSource,
		Variant: demo.Variant(r.cmd.Variant), Cores: r.cmd.Cores, Progress: r.say,
	})
	if err != nil {
		return fmt.Errorf("assemble: %w", err)
	}
	if r.mirror, err = mirror.Serve(ctx, mirror.Options{Dir: r.media.MirrorDir}); err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	return r.machine()
}

// agent finds the agent's program.
func (c *runCmd) agent() (string, error) {
	if c.Agent != "" {
		return c.Agent, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "kindling-init-"+c.Guest)
	if _, err := os.Stat(path); err != nil {
		return "", usageError("the agent is not beside this program (%s): build it with make, or name it with --agent", err)
	}
	return path, nil
}

func (c *runCmd) cacheDir() (string, error) {
	if c.Cache != "" {
		return c.Cache, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", usageError("no cache folder: %s; name one with --cache", err)
	}
	return filepath.Join(base, "kindling"), nil
}

// kernelArch is Debian's name of the architecture.
func (c *runCmd) kernelArch() string {
	if c.Guest == "386" {
		return "i386"
	}
	return c.Guest
}

// machine describes the machine: target disk first, payload second, console and events on the serial ports.
func (r *run) machine() error {
	accel, note, err := qemu.ResolveAccel(qemu.Accel(r.cmd.Accel), qemu.ProbeKVM)
	if err != nil {
		return usageError("%s", err)
	}
	if note != "" {
		r.notes = append(r.notes, note)
		r.say(note)
	}
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return err
	}
	cmdline, err := qemu.Cmdline{Args: []string{
		"console=ttyS0",
		"kindling.seed=" + hex.EncodeToString(seed),
		"kindling.mirrors=http://10.0.2.2:" + strconv.Itoa(r.mirror.Port()),
	}}.Render()
	if err != nil {
		return err
	}
	drive := func(path string) qemu.Drive {
		return qemu.Drive{Path: path, Format: qemu.FormatRaw, Interface: qemu.InterfaceIDE}
	}
	payload := drive(r.media.Payload.Path)
	payload.Snapshot = true
	r.options = qemu.Options{
		Binary: r.cmd.QemuCmd, MemoryMiB: r.cmd.RAM, Cores: r.cmd.Cores, Accel: accel, CPU: r.cmd.CPU, NoDefaults: true,
		Kernel: r.media.Kernel.Image, Initrd: r.media.Initramfs.Path, Append: cmdline,
		Drives:  []qemu.Drive{drive(r.media.Target.Path), payload},
		NIC:     &qemu.NIC{Model: "e1000"},
		Serials: []qemu.Serial{{File: r.dir.ConsoleLog()}, {File: r.dir.Events()}},
	}
	if err := r.options.Validate(); err != nil {
		return usageError("%s", err)
	}
	return nil
}

// boot runs the machine and turns its result into kindling's.
func (r *run) boot(ctx context.Context) error {
	log, err := r.dir.OpenQEMULog()
	if err != nil {
		return err
	}
	defer log.Close()
	process, err := qemu.Start(ctx, r.options, log)
	if err != nil {
		return errors.Join(usageError("%s", err), r.discard())
	}
	display := progress.For(r.streams.out, r.cmd.JSON, os.Getenv("TERM"))
	verdict := watch.Supervise(ctx, watch.Run{
		Process: process, Dir: r.dir, Options: r.watchOptions(), Sink: display, Report: r.report(ctx), Started: time.Now(),
	})
	display.Close()
	if verdict.ExitStatus() == statusOK {
		_, _ = fmt.Fprintf(r.streams.err, "%s\nreport: %s\n", verdict, r.dir.Report())
		if !r.cmd.Keep {
			return r.dir.RemoveDisks()
		}
		return nil
	}
	return &exitError{verdict.ExitStatus(), verdict.String() + "; report: " + r.dir.Report()}
}

// watchOptions are those of any run, with less patience: no step of the embedded default is silent for long.
func (r *run) watchOptions() watch.Options {
	o := watch.DefaultOptions(r.options.Accel == qemu.AccelTCG)
	for i, rule := range o.Rules {
		o.Rules[i].Patience = min(rule.Patience, time.Minute)
	}
	return o
}

// report is what is known of the run before it begins.
func (r *run) report(ctx context.Context) report.Report {
	doc := report.Report{
		Label: "demo", Accel: string(r.options.Accel), Argv: r.options.Argv(), Notes: r.notes,
		Versions: map[string]string{"kernel": r.media.Kernel.Release, "go": runtime.Version(), "qemu": qemuVersion(ctx, r.options.Binary)},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		doc.Versions["kindling"] = versionText(info)
	}
	if r.cmd.Variant != "" {
		doc.Label += "-" + r.cmd.Variant
	}
	for _, i := range []hostdemo.Image{r.media.Initramfs, r.media.Payload, r.media.Target} {
		doc.Media = append(doc.Media, report.Medium{Name: i.Name, Path: r.dir.Rel(i.Path), Size: i.Size, SHA256: i.SHA256})
	}
	for _, p := range r.media.Packages {
		doc.Packages = append(doc.Packages, report.Package{Name: p.Name, Version: p.Version, Architecture: p.Arch, SHA256: p.SHA256})
	}
	return doc
}

// qemuVersion is the first line that QEMU says about itself, "" if it says nothing.
func qemuVersion(ctx context.Context, binary string) string {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
