// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kindling/guest/journal"
	"kindling/guest/port"
	"kindling/guest/proc"
	"kindling/internal/event"
	"kindling/steps"
)

// Files of the agent in the guest. Everything that is Kindling's own is below one folder.
const (
	home        = "/kindling"
	selfPath    = home + "/init"
	journalPath = home + "/journal"
	logDir      = home + "/log"
	scriptPath  = home + "/step.sh"
	planConfig  = home + "/plan.cfg" // bootstrap.cfg as it was when the plan was made
)

// Phases that the agent tells the host. The host knows more of them, from before the agent runs.
const (
	phaseInit      = "init"
	phaseInitramfs = "linux-initramfs"
	phaseDisk      = "linux-disk"
	phaseShutdown  = "shutdown"
)

// agent is the state of one life of PID 1.
type agent struct {
	console *console
	port    *port.Port
	reaper  *proc.Reaper
	machine machine

	cmdline cmdline
	boot    string // the kernel's boot_id
	journal *journal.Journal
	state   journal.State
	plan    *steps.Plan
	next    int

	root     string // where the root filesystem is that the steps' data goes to
	switchTo string // new root to go on in after the present step, "" for none
}

// stage is one thing that PID 1 does before the first step.
type stage struct {
	name     string
	optional bool // failing is said, and the machine goes on
	run      func(context.Context) error
}

// Init is the life of PID 1. It never returns.
func Init() {
	a := newAgent()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := a.guarded(ctx)
	a.finish(ctx, result)
	waitForever()
}

func newAgent() *agent {
	return &agent{console: newConsole(), reaper: proc.NewReaper(), machine: linux{}, port: port.New(sinceBoot, 0), root: "/"}
}

// sinceBoot is the kernel's monotonic clock.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// guarded lives and turns a panic of the agent into an error.
func (a *agent) guarded(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &runError{reason: event.ReasonInternal, err: fmt.Errorf("agent panic: %v", r)}
			a.say("%v\n%s", err, debug.Stack())
		}
	}()
	for _, s := range a.stages() {
		if err := s.run(ctx); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			if !s.optional {
				return err
			}
			a.say("%v (going on without)", err)
		}
	}
	return a.runSteps(ctx)
}

// stages lists the bring-up in order.
func (a *agent) stages() []stage {
	return []stage{
		{"mounts", false, func(context.Context) error { return mountAll(mountSpecs()) }},
		{"own file", false, func(context.Context) error { return becomeOwnFile() }},
		{"console", true, a.openConsole},
		{"reaper", false, func(ctx context.Context) error { go a.reaper.Run(ctx); return nil }},
		{"kernel command line", true, a.readCmdline},
		{"journal", false, a.openJournal},
		{"event port", true, a.openPort},
		{"entropy seed", true, func(context.Context) error { return addEntropy(a.cmdline.seed) }},
		{"kernel modules", true, func(context.Context) error { return loadModules(a.say) }},
		{"random pool", true, func(ctx context.Context) error { return waitEntropy(ctx, a.say) }},
		{"plan", false, a.makePlan},
	}
}

// becomeOwnFile makes the running program that of selfPath, so that steps may rewrite /init: a kernel refuses to write
// to the file of a running program ("text file busy").
func becomeOwnFile() error {
	running, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	if running == selfPath {
		return nil
	}
	if err := makeDir(home); err != nil {
		return err
	}
	if err := replaceFile(selfPath, "/proc/self/exe", 0o755); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", selfPath, unix.Exec(selfPath, []string{selfPath}, os.Environ()))
}

// replaceFile copies a file to a temporary name beside its destination and renames it.
func replaceFile(dst, src string, mode os.FileMode) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := dst + ".new"
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Chmod(mode)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, dst)
}

func (a *agent) openConsole(ctx context.Context) error {
	f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	go a.console.run(ctx, f)
	return nil
}

func (a *agent) readCmdline(context.Context) error {
	text, err := os.ReadFile("/proc/cmdline")
	a.cmdline = parseCmdline(string(text))
	return err
}

func (a *agent) openJournal(context.Context) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	a.boot = strings.TrimSpace(string(boot))
	a.journal, a.state, err = journal.Open(journalPath)
	if err != nil {
		return err
	}
	if a.state.Boot == a.boot { // after switch_root: the same boot goes on, and so do the numbers
		a.port = port.New(sinceBoot, a.state.Seq)
	}
	return nil
}

// openPort opens the serial line to the host. Where the machine has none, writing to it fails, and that is no failure
// of the run.
func (a *agent) openPort(ctx context.Context) error {
	name := a.cmdline.events
	if name == "none" {
		go a.port.Run(ctx, io.Discard) //nolint:errcheck // Discard does not fail
		return nil
	}
	f, err := openSerial("/dev/" + name)
	if err != nil {
		go a.port.Run(ctx, io.Discard) //nolint:errcheck // Discard does not fail
		return err
	}
	if _, err := f.WriteString("\n"); err != nil { // ends a line that an earlier life may have left unfinished
		a.say("event port: %v", err)
	}
	go func() {
		if err := a.port.Run(ctx, f); err != nil {
			a.say("%v: the host sees no more events", err)
		}
	}()
	a.phase(phaseInit)
	return nil
}

// openSerial opens a serial line and makes it raw, so that the kernel neither echoes nor changes what is written.
func openSerial(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is no serial port: %w", path, err), f.Close())
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB|unix.CBAUD) | unix.CS8 | unix.CLOCAL | unix.CREAD | unix.B115200
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", path, err), f.Close())
	}
	return f, nil
}

// say writes a line for people to the console.
func (a *agent) say(format string, args ...any) {
	fmt.Fprintf(a.console, "kindling: "+format+"\n", args...)
}

// note says a line and tells it to the host.
func (a *agent) note(format string, args ...any) {
	a.say(format, args...)
	a.port.Send(event.Event{Kind: event.KindNote, Text: fmt.Sprintf(format, args...)})
}

func (a *agent) phase(name string) { a.port.Send(event.Event{Kind: event.KindPhase, Name: name}) }

// finish tells the result, and ends the machine.
func (a *agent) finish(ctx context.Context, result error) {
	a.phase(phaseShutdown)
	done := doneEvent(result)
	if result != nil {
		a.say("FAILED: %v", result)
	} else {
		a.say("done")
	}
	done = a.port.Send(done)
	if a.journal != nil {
		if err := a.journal.Append(done); err != nil {
			a.say("%v", err)
		}
	}
	flushCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := a.port.Flush(flushCtx); err != nil {
		a.say("%v", err)
	}
	var swaps []string
	if f, err := os.Open("/proc/swaps"); err == nil {
		swaps = swapsIn(f)
		_ = f.Close()
	}
	shutdown(a.machine, swaps, a.say)
}

// runError is a failed run: why, in which step, and with which exit status of what was run.
type runError struct {
	reason event.Reason
	step   string
	name   string
	exit   int
	err    error
}

func (e *runError) Error() string {
	if e.step == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("%s: %v", e.name, e.err)
}

func (e *runError) Unwrap() error { return e.err }

// doneEvent is the final event for a result.
func doneEvent(result error) event.Event {
	if result == nil {
		return event.Event{Kind: event.KindDone, Status: event.StatusOK}
	}
	e := event.Event{Kind: event.KindDone, Status: event.StatusFailed, Reason: event.ReasonInternal, Text: result.Error()}
	if failed, ok := errors.AsType[*runError](result); ok {
		e.Reason, e.Step, e.Name, e.Exit, e.Text = failed.reason, failed.step, failed.name, failed.exit, failed.err.Error()
	}
	return e
}
