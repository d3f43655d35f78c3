// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kindling/guest/disk"
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
	seqPath     = home + "/seq" // boot ID and number of the last event before a switch of the root

	// What the plan was made from, when the agent first ran.
	planConfig   = home + "/plan.cfg"
	planManifest = home + "/plan.manifest"
)

// flushPatience bounds the wait for a slow event port or console.
const flushPatience = 10 * time.Second

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
	plan    *steps.Plan   // of the main root
	extra   []*steps.Plan // of the extra roots that are asked for
	order   []steps.Step  // of all of them, as they run
	next    int           // in order

	uplink *uplink // nil before the network is started

	stop        context.CancelCauseFunc
	listening   chan struct{} // closed when signals are heard
	ending      atomic.Int32  // what becomes of the machine: an ending
	consoleOpen bool
	portOpen    bool
	heard       bool // there is an event port
	consolePath string
	shellPath   string // the terminal behind it
	jobs        int    // JOBS of the last step, where it was not as configured
	kills       kills

	environ  []string                // what the kernel gave
	root     string                  // where the root filesystem is that the steps' data goes to
	switchTo string                  // new root to go on in after the present step, "" for none
	instead  map[disk.Name]disk.Name // what a move has taken in the place of a disk that carries the payload
	inMemory *journal.Journal        // that of the root in memory, while the one on switchTo is the journal
	cleared  unix.Fsid               // filesystem whose own files a move to it has put aside in this life
	leap     bool                    // another kernel is loaded, to go on in after the present step
	finished bool                    // the run was over before this boot
}

// stage is one thing that PID 1 does before the first step.
type stage struct {
	name     string
	optional bool // failing is said, and the machine goes on
	run      func(context.Context) error
}

// Init is the life of PID 1. It never returns: whatever happens on the way, the machine is powered off and this waits.
func Init() {
	defer waitForever() // runs even while a panic unwinds, and so ends that
	a := newAgent()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	a.stop = cancel
	a.listen()
	result := a.guarded(ctx)
	a.farewell(ctx, result)
	a.finish(result)
}

func newAgent() *agent {
	a := &agent{console: newConsole(), reaper: proc.NewReaper(), machine: linux{}, port: port.New(sinceBoot), root: "/",
		consolePath: "/dev/console", shellPath: "/dev/console", listening: make(chan struct{}), environ: os.Environ(),
		instead: make(map[disk.Name]disk.Name)}
	log.SetOutput(a.console) // libraries print there, and fd 2 is a terminal that can stand still
	log.SetFlags(0)
	log.SetPrefix("kindling: ")
	return a
}

// listen takes every signal that would end the program: for a PID 1 that would be the kernel's end. The runtime takes
// them over one by one, each with a switch between threads and back, which other stages need not wait for; listening
// is closed when that is done.
func (a *agent) listen() {
	signals := make(chan os.Signal, 8)
	a.spawn("signals", func() {
		signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGPWR, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGALRM,
			unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGABRT, sigHalt, sigPowerOff, sigReboot)
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil { // from now on Ctrl-Alt-Del is a signal
			a.say("Ctrl-Alt-Del: %v (going on without)", err)
		}
		close(a.listening)
		a.heed(signals)
	})
}

// heed does what signals ask for.
func (a *agent) heed(signals <-chan os.Signal) {
	for sig := range signals {
		how, asked := requestOf(sig)
		if !asked {
			a.say("signal ignored: %s", sig)
			continue
		}
		a.ending.Store(int32(how))
		a.say("%s: the run stops, then the machine %s", sig, how)
		a.stop(fmt.Errorf("%w: %s", errStopped, sig))
	}
}

// awaitSignals is the stage that no step may come before: a step may signal PID 1.
func (a *agent) awaitSignals(ctx context.Context) error {
	select {
	case <-a.listening:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Signals by which systemd's own programs ask PID 1: SIGRTMIN+3, 4 and 5 as glibc counts them (systemd(1)).
const (
	sigHalt     = syscall.Signal(34 + 3)
	sigPowerOff = syscall.Signal(34 + 4)
	sigReboot   = syscall.Signal(34 + 5)
)

// requestOf is what a signal asks for, if anything. SIGINT is Ctrl-Alt-Del. busybox's halt and poweroff send SIGUSR1 and
// SIGUSR2 (busybox, init/halt.c); its reboot sends SIGTERM, which here powers off, because who ends PID 1 by hand wants
// an end, and a machine that boots again goes on with its run.
func requestOf(sig os.Signal) (ending, bool) {
	switch sig {
	case unix.SIGINT, sigReboot:
		return reboot, true
	case unix.SIGTERM, unix.SIGPWR, unix.SIGUSR1, unix.SIGUSR2, sigHalt, sigPowerOff:
		return powerOff, true
	}
	return powerOff, false
}

// errStopped is the cause of a run's end when somebody asked for it.
var errStopped = errors.New("stopped by a signal to PID 1")

// spawn runs f in a goroutine. A panic there must not end PID 1: it ends the run, with the panic as its reason.
func (a *agent) spawn(name string, f func()) {
	go func() {
		defer func() {
			if r := recover(); r != nil {
				a.say("%s: panic: %v\n%s", name, r, debug.Stack())
				a.stop(fmt.Errorf("agent panic in %s: %v", name, r))
			}
		}()
		f()
	}()
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
		if cause := context.Cause(ctx); cause != nil && !a.finished {
			err = errors.Join(&runError{reason: event.ReasonInternal, err: cause}, err)
		}
	}()
	for _, s := range a.stages() {
		if err := s.run(ctx); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			if !s.optional {
				return err
			}
			a.note("%v (going on without)", err)
		}
	}
	if a.finished {
		return a.liveOn(ctx)
	}
	return a.runSteps(ctx)
}

// stages lists the bring-up in order: those that can be heard come as early as they can.
func (a *agent) stages() []stage {
	return []stage{
		{"mounts", false, func(context.Context) error { return mountAll(mountSpecs()) }},
		{"console", true, func(context.Context) error { return a.openConsole() }},
		{"own file", false, func(context.Context) error { return becomeOwnFile() }},
		{"reaper", false, func(context.Context) error { return a.startReaper() }},
		{"kernel command line", true, func(context.Context) error { return a.readCmdline() }},
		{"event port", true, func(context.Context) error { return a.openPort() }},
		{"boot", true, func(context.Context) error { return a.goOnCounting() }},
		{"kernel messages", true, func(context.Context) error { return a.watchKernel() }},
		{"entropy seed", true, func(context.Context) error { return addEntropy(takeSeed(seedFile, a.cmdline.seed)) }},
		{"kernel modules", true, func(context.Context) error { return loadModules(a.say) }},
		{"resume", false, a.resume},
		{"journal", false, func(context.Context) error { return a.openJournal() }},
		{"random pool", true, func(ctx context.Context) error { return waitEntropy(ctx, a.note) }},
		{"signals", false, a.awaitSignals},
		{"plan", false, func(context.Context) error { return a.makePlan() }},
		{"what a boot undoes", true, func(context.Context) error { return a.atBoot() }},
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
	if err := giveAway(running, selfPath); err == nil {
		return nil
	}
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if same, _ := isProgram(selfPath, own); !same { // a disk that is full takes no second copy
		if err := replaceFile(selfPath, "/proc/self/exe", 0o755); err != nil {
			return err
		}
	}
	return fmt.Errorf("execute %s: %w", selfPath, unix.Exec(selfPath, []string{selfPath}, os.Environ()))
}

// giveAway gives the file of a program another name, and leaves under its own a script that the kernel runs by starting
// the program. Unlike a start from a copy this costs next to nothing, neither time nor memory. The name is good at any
// moment.
func giveAway(path, other string) error {
	tmp := other + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(path, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, other); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return writeStart(path, other)
}

// startLine is a script that the kernel runs by starting a program.
func startLine(program string) []byte { return []byte("#!" + program + "\n") }

// writeStart makes such a script.
func writeStart(path, program string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, startLine(program), 0o755); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
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

// startReaper starts what waits for children. It outlives the run: a step that is stopped must still be reaped.
func (a *agent) startReaper() error {
	a.spawn("reaper", func() { a.reaper.Run(context.Background()) })
	return nil
}

func (a *agent) openConsole() error {
	f, err := os.OpenFile(a.consolePath, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	a.consoleOpen = true
	a.shellPath = consoleDevice("/sys")
	a.spawn("console", func() { a.console.run(context.Background(), f) })
	return nil
}

func (a *agent) readCmdline() error {
	text, err := os.ReadFile("/proc/cmdline")
	a.cmdline = parseCmdline(string(text))
	return err
}

// goOnCounting takes up the numbers of the life that ended in this boot with a switch of the root.
func (a *agent) goOnCounting() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	a.boot = strings.TrimSpace(string(boot))
	if data, err := os.ReadFile(seqPath); err == nil {
		a.takeUp(string(data))
	}
	a.phase(phaseInit)
	return nil
}

// takeUp goes on where an earlier life has left off: in this boot, or in the one that has jumped to this kernel.
func (a *agent) takeUp(text string) {
	last, ok := parseLife(text)
	if !ok || last.boot != a.boot && last.boot != nextBoot {
		return
	}
	a.port.SetSeq(last.seq)
	if last.boot == nextBoot {
		_ = os.Remove(seqPath) // a later boot begins a run of its own, on the host
		return
	}
	if len(last.environ) > 0 {
		a.environ = last.environ
	}
}

func (a *agent) openJournal() (err error) {
	a.journal, a.state, err = journal.Open(journalPath)
	if err == nil && a.state.Bad > 0 {
		a.note("%d lines of %s cannot be read; the steps they told of run again", a.state.Bad, journalPath)
	}
	return err
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

// finish tells the result, and ends the machine. A run that failed before it could be heard is heard now.
func (a *agent) finish(result error) {
	if !a.consoleOpen {
		_ = a.openConsole() // there is no better place for its error
	}
	if !a.portOpen {
		_ = a.readCmdline()
		_ = a.openPort()
	}
	a.phase(phaseShutdown)
	end := newShutdown(a.machine, a.say)
	within(2*quietPatience, "shutdown", a.say, func() error { end.quiet(); return nil }) // its actions have their own ends
	a.stopNetwork()
	a.lastWords(result)
	end.end(ending(a.ending.Load()))
}

// lastWords tells the result to the console, the journal and the host, in this order, and waits until they have it.
func (a *agent) lastWords(result error) {
	done := a.port.Send(doneEvent(result))
	last := "kindling: done\n"
	if result != nil {
		last = fmt.Sprintf("kindling: FAILED: %v\n", result)
	}
	a.console.last([]byte(last))
	if a.journal != nil {
		within(flushPatience, "the journal's last line", a.say, func() error { return a.journal.Append(done) })
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushPatience)
	defer cancel()
	if err := a.port.Flush(ctx); err != nil {
		a.say("%v", err)
	}
	for !a.console.flushed() && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
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
