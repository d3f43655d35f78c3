// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"kindling/guest/proc"
	"kindling/internal/event"
	"kindling/steps"
)

const (
	stepsDir   = "/steps"
	configPath = stepsDir + "/bootstrap.cfg"

	stopGrace  = 10 * time.Second // between SIGTERM and SIGKILL for a step that must end
	drainGrace = time.Second      // how long output may still come after a step's first process has ended
)

// makePlan makes the plan of the run. It is fixed when the agent first sees it, because the journal refers to its steps:
// manifest and configuration of that moment are kept. Predicates are evaluated once, as the tree's own generator does,
// while the values that steps use are read when each step runs.
func (a *agent) makePlan() error {
	config, err := keep(configPath, planConfig)
	if err != nil {
		return err
	}
	manifest, err := keep(stepsDir+"/manifest", planManifest)
	if err != nil {
		return err
	}
	cfg, err := steps.ParseConfig(planConfig, bytes.NewReader(config))
	if err != nil {
		return err
	}
	parsed, err := steps.ParseManifest(planManifest, bytes.NewReader(manifest))
	if err != nil {
		return err
	}
	if a.plan, err = steps.NewPlanOf(parsed, os.DirFS("/"), steps.MainRoot, cfg); err != nil {
		return err
	}
	if err := a.planExtras(); err != nil {
		return err
	}
	a.order = steps.InOrder(a.plan, a.extra, a.state.Done)
	d, err := where(situation{plan: a.order, state: a.state})
	if err != nil {
		return err
	}
	a.next, a.finished = d.next, d.place == placeFinished
	e := a.port.Send(event.Event{Kind: event.KindPlan, Name: a.boot, Done: int64(d.next), Total: int64(len(a.order))})
	if !a.finished { // a run that is over stays over
		err = a.journal.Append(e)
	}
	a.sayWhere(d)
	return err
}

// keep gives the content of a file as it was when this was first called for it; kept is where that is.
func keep(path, kept string) ([]byte, error) {
	data, err := os.ReadFile(kept)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	return data, writeFile(kept, data)
}

func (a *agent) sayWhere(d decision) {
	switch d.place {
	case placeAfterJump:
		a.say("taking over at step %d of %d: %s", d.next+1, len(a.order), a.order[d.next])
	case placeResume:
		a.note("going on at step %d of %d: %s", d.next+1, len(a.order), a.order[d.next])
	case placeEnded:
		a.note("all %d steps are done already: ending the run", len(a.order))
	case placeFinished:
		a.note("the run is over, all %d steps are done: this is the finished system", len(a.order))
	}
}

// writeFile writes a small file under a temporary name, syncs and renames it.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// runSteps runs what is left of the plan.
func (a *agent) runSteps(ctx context.Context) error {
	inMemory, err := rootInMemory()
	if err != nil {
		return fmt.Errorf("what the root filesystem is: %w", err)
	}
	a.phase(map[bool]string{true: phaseInitramfs, false: phaseDisk}[inMemory])
	a.bringBackNetwork()
	a.reopenConsoles(ctx)
	for _, s := range a.order[a.next:] {
		if a.state.Done[s.ID()] {
			continue
		}
		if err := errors.Join(misplaced(s, inMemory), context.Cause(ctx)); err != nil {
			return err
		}
		if err := a.runStep(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// misplaced reports a step that the plan has on a disk while the machine still lives in memory: the move has not
// happened, whatever the journal says.
func misplaced(s steps.Step, inMemory bool) error {
	if inMemory && s.Kernel == steps.KernelDisk {
		return &runError{reason: event.ReasonInternal, step: s.ID(), name: s.String(), err: errors.New("the root filesystem is still in memory")}
	}
	return nil
}

// runStep runs one step. Where a person sits at the run, a failure is an offer: to run the step again, to go on without
// it, or to stop.
func (a *agent) runStep(ctx context.Context, s steps.Step) error {
	for {
		err := a.tryStep(ctx, s)
		if err == nil || ctx.Err() != nil || a.state.Failed != s.ID() || !a.interactive() {
			return err
		}
		switch a.offer(ctx, s, err) {
		case answerRetry:
			a.releaseNewRoot()
		case answerSkip:
			return a.skip(s)
		default:
			return err
		}
	}
}

// releaseNewRoot takes the disk back from a move to it that has failed.
func (a *agent) releaseNewRoot() {
	if used, err := isMounted(newRoot); err != nil || !used {
		return
	}
	if err := a.machine.Unmount(newRoot, true); err != nil {
		a.say("%v", err)
	}
}

// tryStep runs one step between its two journal entries.
func (a *agent) tryStep(ctx context.Context, s steps.Step) error {
	if err := a.remember(s); err != nil {
		return err
	}
	begin := event.Event{Kind: event.KindStep, Name: s.String(), Step: s.ID(), Number: s.At, Status: event.StatusStart}
	if err := a.journal.Append(a.port.Send(begin)); err != nil {
		return err
	}
	a.say("step %d: %s", s.At, s)
	began := sinceBoot()
	a.kills.begin(s.String())
	defer a.kills.begin("")
	done, err := a.mend(s)
	if err == nil {
		err = a.enterExtra(s)
	}
	if err == nil && !done {
		err = a.perform(ctx, s)
	}
	if err == nil {
		err = a.settle(s, began)
	}
	if err != nil {
		a.state.Started, a.state.Failed = "", s.ID()
		failed := inStep(errors.Join(err, a.kills.explain()), s)
		return errors.Join(failed, a.endFailed(s, began, failed))
	}
	switch {
	case a.leap:
		return a.leapOver(ctx)
	case a.switchTo != "":
		return a.switchRoot(ctx)
	}
	return nil
}

// inStep makes an error a failure of the step, unless it is one already.
func inStep(err error, s steps.Step) *runError {
	failed, ok := errors.AsType[*runError](err)
	switch {
	case !ok:
		failed = &runError{reason: event.ReasonStep, err: err}
	case failed.Error() != err.Error(): // what was joined to it counts as well
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		failed = &runError{reason: failed.reason, step: failed.step, name: failed.name, exit: failed.exit, err: errors.New(text)}
	}
	if failed.step == "" {
		failed.step, failed.name = s.ID(), s.String()
	}
	return failed
}

// settle ends a step that went well: its data on the disk, then its end in the journal, then the word to the host.
func (a *agent) settle(s steps.Step, began time.Duration) error {
	if err := syncFilesystem(a.root); err != nil {
		return err
	}
	end := endEvent(s, began, event.StatusOK)
	if err := a.journal.Append(end); err != nil {
		return err
	}
	a.state.Done[s.ID()] = true
	a.port.Send(end)
	return nil
}

// endFailed ends a step that went wrong. The host hears of it first: there may be no disk to write to any more.
func (a *agent) endFailed(s steps.Step, began time.Duration, failed *runError) error {
	end := endEvent(s, began, event.StatusFailed)
	end.Exit, end.Text = failed.exit, failed.err.Error()
	a.port.Send(end)
	if a.switchTo != "" {
		a.forsake(end)
	}
	return a.journal.Append(end)
}

func endEvent(s steps.Step, began time.Duration, status event.Status) event.Event {
	return event.Event{Kind: event.KindStep, Name: s.String(), Step: s.ID(), Number: s.At, Status: status,
		TimeMS: sinceBoot().Milliseconds(), DurationMS: (sinceBoot() - began).Milliseconds()}
}

// syncFilesystem writes everything of the filesystem that path is on to its disk. One that has become read-only, as
// ext4 does after an error, takes a sync without a word and keeps nothing.
func syncFilesystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	err = unix.Syncfs(int(f.Fd()))
	if err == nil {
		err = unix.Fstatfs(int(f.Fd()), &st)
	}
	if err == nil && st.Flags&unix.ST_RDONLY != 0 {
		err = unix.EROFS
	}
	if err != nil {
		err = fmt.Errorf("sync %s: %w", path, err)
	}
	return errors.Join(err, f.Close())
}

// perform does what the step is: natively, or by the tree's own script.
func (a *agent) perform(ctx context.Context, s steps.Step) (err error) {
	cfg, err := readConfig()
	if err != nil {
		return err
	}
	emit := func(line string) { a.port.Send(event.Event{Kind: event.KindLog, Step: s.ID(), Text: line}) }
	log, err := openLog(logDir, s.ID(), a.console, emit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	job := &job{agent: a, step: s, config: cfg, log: log}
	if s.Kind == steps.KindImprove {
		job.expectNetwork(ctx)
	}
	if f, ok := nativeOf(s); ok {
		err = f(ctx, job)
	} else {
		err = job.script(ctx)
	}
	if err != nil {
		fmt.Fprintf(log, "kindling: %v\n", err)
	}
	return err
}

// readConfig reads bootstrap.cfg as it is now: a change takes effect from the next step on.
func readConfig() (*steps.Config, error) {
	data, err := os.ReadFile(configPath)
	if err != nil {
		return nil, err
	}
	return steps.PlainConfig(configPath, data)
}

// job is one step being performed.
type job struct {
	agent  *agent
	step   steps.Step
	config *steps.Config
	log    io.Writer
}

// say writes a line into the step's log (and so to console and host).
func (j *job) say(format string, args ...any) { fmt.Fprintf(j.log, format+"\n", args...) }

// script runs the step as the tree would: its own bash, the three files sourced, the directive's line. Shell
// functions can be put before that line.
func (j *job) script(ctx context.Context, functions ...string) error {
	if j.step.Kind == steps.KindBuild {
		if err := j.fetchSources(ctx); err != nil {
			return err
		}
	}
	text, err := j.agent.planOf(j.step).StepScript(j.step, slices.Concat(j.assignments(), j.attended(), functions)...)
	if err != nil {
		return err
	}
	return j.bash(ctx, text)
}

// attended is what a step's script has besides in an interactive run: the options that the tree gives its later bash
// then, and, in place of the tree's prompts, the agent's: where a shell that fails stood is kept for a shell on the
// console.
func (j *job) attended() []string {
	if !isInteractive(j.config) {
		return nil
	}
	_ = os.Remove(stoppedPath) // that of an earlier step
	lines := []string{`trap 'test $? = 0 || { printf "cd %q\n" "${PWD}"; export -p; } > ` + stoppedPath + `' EXIT`}
	if j.step.Family == steps.FamilyBash {
		lines = append(lines, "set -Eo pipefail")
	}
	return lines
}

// bash writes a script and runs it.
func (j *job) bash(ctx context.Context, text []byte) error {
	if err := os.WriteFile(scriptPath, text, 0o755); err != nil {
		return err
	}
	shell, err := lookup("bash")
	if err != nil {
		return err
	}
	return j.run(ctx, shell, "bash", scriptPath)
}

// lookup finds a program in the places where a bootstrap has programs; PID 1 has no PATH.
func lookup(name string) (string, error) {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"} {
		path := dir + "/" + name
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s: not in /usr/bin, /usr/sbin, /bin or /sbin", name)
}

// run runs a program on a terminal, its output in the step's log.
func (j *job) run(ctx context.Context, path string, args ...string) error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("terminal for %s: %w", args[0], err)
	}
	if slave, err = plainly(slave); err != nil {
		return errors.Join(err, master.Close())
	}
	likeConsole(slave)
	env := stepEnvironment(j.agent.environ, path)
	p, err := j.agent.reaper.Start(proc.Spec{Path: path, Args: args, Env: env, Dir: "/", Files: []*os.File{slave, slave, slave}})
	if err = errors.Join(err, slave.Close()); err != nil {
		return errors.Join(err, master.Close())
	}
	d := &drain{active: make(chan struct{}, 1), done: make(chan struct{})}
	j.agent.spawn("step output", func() { d.run(&uncook{w: j.log}, master) })
	ended := make(chan struct{})
	j.agent.spawn("step pace", func() { j.watchPace(&d.printed, ended) })
	status, err := p.Wait(ctx, stopGrace)
	close(ended)
	if err == nil && !status.OK() {
		err = p.End(stopGrace) // what a failed step has left running ends with it
	}
	d.wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		j.say("kindling: %v", err)
	}
	if !status.OK() {
		return &runError{reason: event.ReasonStep, exit: status.Exit, err: errors.New(status.String())}
	}
	return nil
}

// drain reads a step's terminal to its end.
type drain struct {
	active  chan struct{} // has room for one: something was read
	done    chan struct{}
	printed atomic.Int64 // bytes so far
}

// run copies until the last user of the terminal is gone, which a terminal tells by EIO.
func (d *drain) run(w io.Writer, master *os.File) {
	defer close(d.done)
	defer master.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := master.Read(buf)
		if n > 0 {
			d.printed.Add(int64(n))
			_, _ = w.Write(buf[:n])
			select {
			case d.active <- struct{}{}:
			default:
			}
		}
		if err != nil {
			return
		}
	}
}

// wait waits until everything is read. A process that the step left behind may keep the terminal: then it is enough
// that nothing has come for drainGrace.
func (d *drain) wait() {
	for {
		select {
		case <-d.done:
			return
		case <-d.active:
		case <-time.After(drainGrace):
			return
		}
	}
}
