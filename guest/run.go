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

// makePlan reads manifest and configuration. The plan of a run is fixed when the agent first sees it: predicates are
// evaluated once, as the tree's own generator does, while the values that steps use are read when each step runs.
func (a *agent) makePlan(context.Context) error {
	data, err := os.ReadFile(planConfig)
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = os.ReadFile(configPath); err == nil {
			err = writeFile(planConfig, data)
		}
	}
	if err != nil {
		return err
	}
	cfg, err := steps.ParseConfig(planConfig, bytes.NewReader(data))
	if err != nil {
		return err
	}
	if a.plan, err = steps.NewPlan(os.DirFS("/"), "steps", cfg); err != nil {
		return err
	}
	d, err := where(situation{plan: a.plan.Steps, state: a.state})
	if err != nil {
		return err
	}
	a.next = d.next
	e := a.port.Send(event.Event{Kind: event.KindPlan, Name: a.boot, Done: int64(d.next), Total: int64(len(a.plan.Steps))})
	if err := a.journal.Append(e); err != nil {
		return err
	}
	switch d.place {
	case placeAfterJump:
		a.say("taking over at step %d of %d: %s", d.next+1, len(a.plan.Steps), a.plan.Steps[d.next])
	case placeResume:
		a.say("going on at step %d of %d: %s", d.next+1, len(a.plan.Steps), a.plan.Steps[d.next])
	case placeFinished:
		a.note("all %d steps are done already", len(a.plan.Steps))
	}
	return nil
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
	phase := ""
	for _, s := range a.plan.Steps[a.next:] {
		if a.state.Done[s.ID()] {
			continue
		}
		if p := phaseOf(s.Kernel); p != phase {
			phase = p
			a.phase(p)
		}
		if err := a.runStep(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func phaseOf(k steps.Kernel) string {
	if k == steps.KernelInitramfs {
		return phaseInitramfs
	}
	return phaseDisk
}

// runStep runs one step between its two journal entries.
func (a *agent) runStep(ctx context.Context, s steps.Step) error {
	begin := event.Event{Kind: event.KindStep, Name: s.String(), Step: s.ID(), Number: s.Number, Status: event.StatusStart}
	if err := a.journal.Append(a.port.Send(begin)); err != nil {
		return err
	}
	a.say("step %d: %s", s.Number, s)
	began := sinceBoot()
	failure := a.perform(ctx, s)
	if failure != nil {
		if _, ok := errors.AsType[*runError](failure); !ok {
			failure = &runError{reason: event.ReasonStep, err: failure}
		}
		failed, _ := errors.AsType[*runError](failure)
		if failed.step == "" {
			failed.step, failed.name = s.ID(), s.String()
		}
		return errors.Join(failure, a.endStep(s, began, failed))
	}
	if err := a.endStep(s, began, nil); err != nil || a.switchTo == "" {
		return err
	}
	return a.switchRoot(ctx)
}

// endStep puts the step's data on disk, then its end into the journal, in this order.
func (a *agent) endStep(s steps.Step, began time.Duration, failed *runError) error {
	end := event.Event{Kind: event.KindStep, Name: s.String(), Step: s.ID(), Number: s.Number, Status: event.StatusOK,
		DurationMS: (sinceBoot() - began).Milliseconds()}
	if failed != nil {
		end.Status, end.Exit, end.Text = event.StatusFailed, failed.exit, failed.err.Error()
	}
	if err := syncFilesystem(a.root); err != nil {
		return err
	}
	return a.journal.Append(a.port.Send(end))
}

// syncFilesystem writes everything of the filesystem that path is on to its disk.
func syncFilesystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(f.Fd()))
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
	if f, ok := natives()[nativeKey{s.Kind, s.Name}]; ok {
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
	f, err := os.Open(configPath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return steps.ParseConfig(configPath, f)
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

// script runs the step as the tree would: its own bash, the three files sourced, the directive's line.
func (j *job) script(ctx context.Context) error {
	if j.step.Kind == steps.KindBuild {
		if err := j.fetchSources(ctx); err != nil {
			return err
		}
	}
	text, err := j.agent.plan.StepScript(j.step)
	if err != nil {
		return err
	}
	return j.bash(ctx, text)
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

// environment is what a kernel gives to its first process, and all that a step starts with.
func environment() []string { return []string{"HOME=/", "TERM=linux"} }

// run runs a program on a terminal of its own, its output in the step's log.
func (j *job) run(ctx context.Context, path string, args ...string) error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("terminal for %s: %w", args[0], err)
	}
	p, err := j.agent.reaper.Start(proc.Spec{Path: path, Args: args, Env: environment(), Dir: "/", Files: []*os.File{slave, slave, slave}})
	if err = errors.Join(err, slave.Close()); err != nil {
		return errors.Join(err, master.Close())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(&uncook{w: j.log}, master) // EIO is how a terminal says that the last user is gone
		_ = master.Close()
	}()
	status, err := p.Wait(ctx, stopGrace)
	select { // a process that was left behind may keep the terminal; the step is over all the same
	case <-drained:
	case <-time.After(drainGrace):
	}
	if err != nil {
		return err
	}
	if !status.OK() {
		return &runError{reason: event.ReasonStep, exit: status.Exit, err: errors.New(status.String())}
	}
	return nil
}
