// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"kindling/host/checkpoint"
	"kindling/host/machine"
	"kindling/host/qemu"
	"kindling/host/qmp"
	"kindling/host/rundir"
	"kindling/host/watch"
	"kindling/internal/event"
)

// restorePatience bounds the reading of a checkpoint's memory: 4 GiB take half a minute on a slow disk.
const restorePatience = 10 * time.Minute

// keepPatience bounds the making of a checkpoint: the silence of its machine means nothing meanwhile.
const keepPatience = 10 * time.Minute

// moment is where a checkpoint is made: at the beginning of a phase.
type moment struct{ name, phase string }

// moments are the jumps, in order: to Fiwix, to Linux, and from memory to the disk.
func moments() []moment {
	return []moment{{"fiwix", watch.PhaseFiwix}, {"linux", watch.PhaseInitramfs}, {"disk", watch.PhaseDisk}}
}

// checkpointsCmd is "kindling checkpoints".
type checkpointsCmd struct {
	RunFolder pathName `arg:"" help:"The run's folder."`
	Remove    string   `help:"Remove this one: its memory, which is nearly all of its size." placeholder:"NAME"`
	JSON      bool     `help:"Print the list as JSON." name:"json"`
}

// Help implements kong.HelpProvider.
func (checkpointsCmd) Help() string {
	return examples(
		"kindling checkpoints kindling-runs/latest", "what can be started from",
		"kindling checkpoints kindling-runs/latest --remove fiwix", "give back the room that one takes",
	)
}

// Run implements the verb.
func (c *checkpointsCmd) Run(out io.Writer) error {
	dir, err := rundir.Open(string(c.RunFolder))
	if err != nil {
		return inputError(err)
	}
	defer dir.Close()
	if c.Remove != "" {
		err := checkpoint.Remove(dir, c.Remove)
		if errors.Is(err, checkpoint.ErrNone) {
			return inputError(err)
		}
		return err
	}
	list, err := checkpoint.List(dir)
	if err != nil {
		return inputError(err)
	}
	if c.JSON {
		return printCheckpointsJSON(out, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no checkpoints; a run keeps them with --checkpoints on, until it succeeds (or with --keep)")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tPHASE\tINTO THE RUN\tMADE\tMEMORY")
	for _, c := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.1f MiB\n", c.Name, event.Clean(c.Phase), time.Duration(c.Elapsed*1e6).Round(time.Second),
			c.Made.Format(time.DateTime), float64(c.Memory)/(1<<20))
	}
	return table.Flush()
}

func printCheckpointsJSON(out io.Writer, list []*checkpoint.Checkpoint) error {
	type row struct {
		Name    string    `json:"name"`
		Phase   string    `json:"phase"`
		Made    time.Time `json:"made"`
		Elapsed int64     `json:"elapsed_ms"`
		Memory  int64     `json:"memory_bytes"`
	}
	rows := make([]row, 0, len(list))
	for _, c := range list {
		rows = append(rows, row{c.Name, c.Phase, c.Made, c.Elapsed, c.Memory})
	}
	return writeJSON(out, rows)
}

// keeps reports whether this run makes checkpoints.
func (r *run) keeps() bool {
	switch r.cmd.Checkpoints {
	case "on":
		return true
	case "off":
		return false
	}
	return r.from != nil || r.cmd.Tree != "" && r.cmd.Boot.Kernel == ""
}

// keeper makes checkpoints while a run goes on. It is a watch.Sink between the supervisor and the display.
type keeper struct {
	watch.Sink
	taker   *checkpoint.Taker
	control *net.UnixConn
	vm      *qmp.Client // once there is a connection
	wanted  chan moment
	notes   chan string
	held    atomic.Bool
	seen    int // marks looked at
	order   []moment
}

// keepCheckpoints sets a keeper between supervisor and display, if this run has one. Call what it returns when the
// machine has ended.
func (r *run) keepCheckpoints(ctx context.Context, g guest, s *started, supervised *watch.Run) (stop func()) {
	if s.qemu == nil || s.qemu.Control == nil {
		return func() {}
	}
	order := moments()
	if r.from != nil { // what was before it is replayed from the logs, and kept there already
		at := slices.IndexFunc(order, func(m moment) bool { return m.name == r.from.Name })
		order = order[at+1:]
	}
	k := &keeper{
		Sink: supervised.Sink, order: order, control: s.qemu.Control,
		vm: r.vm, wanted: make(chan moment, len(order)), notes: make(chan string, 2*len(order)),
		taker: &checkpoint.Taker{Run: r.dir, Machine: *g.machine, Started: supervised.Started,
			Settle: settle(supervised.Flush), Moved: r.remember},
	}
	supervised.Sink, supervised.Held, supervised.Notes = k, k.held.Load, k.notes
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, cancel)
	go func() { // a Take that is under way has no QEMU to wait for any more
		select {
		case <-supervised.Process.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.work(ctx)
	}()
	return func() { cancel(); <-done }
}

// settle waits until the supervisor has written everything that has come from a machine that stands still.
func settle(flush chan chan<- struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		written := make(chan struct{})
		select {
		case flush <- written:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-written:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Update implements watch.Sink: it looks for a jump among the marks.
func (k *keeper) Update(v watch.View) {
	for _, m := range v.Marks[k.seen:] {
		i := slices.IndexFunc(k.order, func(at moment) bool { return m.Kind == watch.MarkPhase && at.phase == m.Name })
		if i >= 0 {
			k.wanted <- k.order[i] // has room for all of them
			k.order = slices.Delete(slices.Clone(k.order), i, i+1)
		}
	}
	k.seen = len(v.Marks)
	k.Sink.Update(v)
}

// work makes the checkpoints one after another.
func (k *keeper) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-k.wanted:
			k.held.Store(true)
			text := k.keep(ctx, m)
			k.held.Store(false)
			if ctx.Err() == nil {
				k.notes <- text // has room for all of them
			}
		}
	}
}

// keep makes one, and says in a line how that went: a run goes on without, too.
func (k *keeper) keep(ctx context.Context, m moment) string {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, keepPatience, fmt.Errorf("QEMU has not made it within %s", keepPatience))
	defer cancel()
	if k.vm == nil {
		vm, err := qmp.New(ctx, k.control)
		if err != nil {
			return fmt.Sprintf("checkpoint %s: %v", m.name, err)
		}
		k.vm = vm
	}
	c, err := k.taker.Take(ctx, k.vm, m.name, m.phase)
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return fmt.Sprintf("checkpoint %s: kept in %.1f s, memory %.1f MiB packed", m.name, time.Since(began).Seconds(), float64(c.Memory)/(1<<20))
}

// prepareFrom is a machine that goes on from a checkpoint: new disks over the kept ones, the logs as they were by then.
func (r *run) prepareFrom(ctx context.Context) (guest, error) {
	source, err := rundir.Open(string(r.cmd.Source))
	if err != nil {
		return guest{}, usageError("--from: %s", err)
	}
	c, err := checkpoint.Open(source, r.cmd.From)
	if err != nil {
		return guest{}, usageError("--from: %s; 'kindling checkpoints' lists what there is", err)
	}
	r.from, r.source = c, source
	if err := r.serveRecorded(ctx, c.Machine); err != nil {
		return guest{}, err
	}
	if err := r.checkFiles(source, c.Machine); err != nil {
		return guest{}, err
	}
	o, err := c.Restored(ctx, r.dir.At(rundir.Disks), r.cmd.Boot.QemuCmd)
	if err != nil {
		return guest{}, inputError(err)
	}
	if machine.NeedsDemoKernel(o) {
		if o.Kernel, _, err = demoKernel(ctx, r.cmd.Cache, c.Machine.KernelArch); err != nil {
			return guest{}, err
		}
	}
	err = errors.Join(copyStart(r.dir, source, rundir.ConsoleLog, c.Console),
		copyStart(r.dir, source, rundir.Events, c.Events), r.recordSource())
	if err != nil {
		return guest{}, fmt.Errorf("--from: %w", err)
	}
	m := c.Machine
	m.Disks = nil
	for _, d := range o.Drives {
		m.Disks = append(m.Disks, r.disk(d.Chain, d.Snapshot))
	}
	m.Mirrors = nil
	for _, s := range r.mirrors {
		m.Mirrors = append(m.Mirrors, machine.Below(r.dir.Path(), s.dir))
	}
	r.bootedWith(&m, o)
	g, err := r.virtualWith(ctx, m, o)
	if err != nil {
		return g, err
	}
	g.start = func(ctx context.Context) (*started, error) { return r.startFrom(ctx, o, c) }
	g.watch = watch.DefaultOptions(o.Accel == qemu.AccelTCG)
	if c.Name == "fiwix" {
		g.watch = watch.TreeOptions(watch.TreeFacts{TCG: o.Accel == qemu.AccelTCG})
	}
	r.say(fmt.Sprintf("going on from %s of %s, %s into that run", c.Name, source.Path(), time.Duration(c.Elapsed*1e6).Round(time.Second)))
	return g, nil
}

// bootedWith records what a machine boots, as a path from its run folder. The embedded default's kernel is
// not recorded.
func (r *run) bootedWith(m *machine.Machine, o qemu.Options) {
	m.Kernel, m.Initrd, m.Append = machine.Below(r.dir.Path(), o.Kernel), machine.Below(r.dir.Path(), o.Initrd), o.Append
	if m.Demo && filepath.IsAbs(m.Kernel) {
		m.Kernel = ""
	}
}

// startFrom starts QEMU and gives it its memory.
func (r *run) startFrom(ctx context.Context, o qemu.Options, c *checkpoint.Checkpoint) (*started, error) {
	s, err := r.startQEMU(ctx, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, restorePatience)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // without QEMU there is nothing to wait for
		select {
		case <-s.Done():
			cancel()
		case <-stop:
		}
	}()
	if r.vm, err = qmp.New(ctx, s.qemu.Control); err == nil {
		err = c.Resume(ctx, r.vm, s.qemu.Incoming)
	}
	if err != nil {
		said := make([]byte, 4096)
		stopped := s.Stop(context.WithoutCancel(ctx))
		n, _ := s.qemu.Output.Read(said)
		if n > 0 {
			err = fmt.Errorf("%w: QEMU: %s", err, event.Clean(string(said[:n])))
		}
		return nil, errors.Join(err, stopped, s.close())
	}
	return s, nil
}

// copyStart makes a log of dst the first n bytes of that of src.
func copyStart(dst, src *rundir.Dir, name string, n int64) (err error) {
	in, err := src.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dst.Append(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.CopyN(out, in, n); err != nil {
		return fmt.Errorf("%s: shorter than at the checkpoint: %w", src.At(name), err)
	}
	return nil
}
