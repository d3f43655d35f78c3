// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"kindling/host/checkpoint"
	"kindling/host/mirror"
	"kindling/host/qemu"
	"kindling/host/qmp"
	"kindling/host/rundir"
	"kindling/host/watch"
)

// checkpointsDir is the folder of a run's checkpoints, in that of its disks: they go together.
const checkpointsDir = "checkpoints"

// restorePatience bounds the reading of a checkpoint's memory: 4 GiB take half a minute on a slow disk.
const restorePatience = 10 * time.Minute

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
		return usageError("%s", err)
	}
	at := filepath.Join(dir.Disks(), checkpointsDir)
	if c.Remove != "" {
		err := checkpoint.Remove(at, c.Remove)
		if errors.Is(err, checkpoint.ErrNone) {
			return usageError("%s", err)
		}
		return err
	}
	list, err := checkpoint.List(at)
	if err != nil {
		return usageError("%s", err)
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
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.1f MiB\n", c.Name, c.Phase, time.Duration(c.Elapsed*1e6).Round(time.Second),
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
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
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

// makeSockets makes a folder with a short path: a run folder's may be too long for a unix socket.
func (r *run) makeSockets() (err error) {
	if r.sockets == "" {
		r.sockets, err = os.MkdirTemp("", "kindling-")
	}
	return err
}

func (r *run) removeSockets() {
	if r.sockets == "" {
		return
	}
	if err := os.RemoveAll(r.sockets); err != nil {
		r.say(err.Error())
	}
}

// keeper makes checkpoints while a run goes on. It is a watch.Sink between the supervisor and the display.
type keeper struct {
	watch.Sink
	taker  *checkpoint.Taker
	moved  func(qemu.Options) error // called when the machine has gone on on other disk images
	socket string
	wanted chan moment
	notes  chan string
	held   atomic.Bool
	seen   int // marks looked at
	order  []moment
}

// keepCheckpoints sets a keeper between supervisor and display, if this run has one. Call what it returns when the
// machine has ended.
func (r *run) keepCheckpoints(ctx context.Context, m machine, supervised *watch.Run) (stop func()) {
	if m.qemu == nil || m.qemu.QMPSocket == "" {
		return func() {}
	}
	order := moments()
	if r.from != nil { // what was before it is replayed from the logs, and kept there already
		at := slices.IndexFunc(order, func(m moment) bool { return m.name == r.from.Name })
		order = order[at+1:]
	}
	k := &keeper{
		Sink: supervised.Sink, moved: r.remember, order: order, socket: m.qemu.QMPSocket,
		wanted: make(chan moment, len(order)), notes: make(chan string, 2*len(order)),
		taker: &checkpoint.Taker{Dir: filepath.Join(r.dir.Disks(), checkpointsDir), Machine: *m.qemu, Started: supervised.Started,
			Sockets: r.sockets},
	}
	for _, s := range r.mirrors {
		k.taker.Mirrors = append(k.taker.Mirrors, checkpoint.Mirror{Dir: s.dir, Port: s.Port()})
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
	vm, err := qmp.Dial(ctx, k.socket)
	if err != nil {
		return fmt.Sprintf("checkpoint %s: %v", m.name, err)
	}
	defer vm.Close()
	c, err := k.taker.Take(ctx, vm, m.name, m.phase)
	if err = errors.Join(err, k.moved(k.taker.Machine)); err != nil { // disks may have been frozen also without a checkpoint
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return fmt.Sprintf("checkpoint %s: kept in %.1f s, memory %.1f MiB packed", m.name, time.Since(began).Seconds(), float64(c.Memory)/(1<<20))
}

// prepareFrom is a machine that goes on from a checkpoint: new disks over the kept ones, the logs as they were by then.
func (r *run) prepareFrom(ctx context.Context) (machine, error) {
	source, err := rundir.Open(string(r.cmd.Source))
	if err != nil {
		return machine{}, usageError("--from: %s", err)
	}
	c, err := checkpoint.Open(filepath.Join(source.Disks(), checkpointsDir), r.cmd.From)
	if err != nil {
		return machine{}, usageError("--from: %s; 'kindling checkpoints' lists what there is", err)
	}
	r.from, r.source = c, source
	for _, m := range c.Mirrors {
		if err := r.serveAgain(ctx, m); err != nil {
			return machine{}, err
		}
	}
	err = errors.Join(copyStart(r.dir.ConsoleLog(), source.ConsoleLog(), c.Console),
		copyStart(r.dir.Events(), source.Events(), c.Events), r.recordSource(), r.makeSockets())
	if err != nil {
		return machine{}, fmt.Errorf("--from: %w", err)
	}
	memory := filepath.Join(r.sockets, "incoming")
	o, err := c.Restored(ctx, r.dir.Disks(), memory)
	if err != nil {
		return machine{}, usageError("%s", err)
	}
	o.QMPSocket = filepath.Join(r.sockets, "qmp")
	m, err := r.virtual(ctx, o)
	if err != nil {
		return m, err
	}
	m.start = func(ctx context.Context, log *os.File) (watch.Process, error) {
		return r.startFrom(ctx, *m.qemu, log, c, memory)
	}
	m.watch = watch.DefaultOptions(o.Accel == qemu.AccelTCG)
	if c.Name == "fiwix" {
		m.watch = watch.TreeOptions(watch.TreeFacts{TCG: o.Accel == qemu.AccelTCG})
	}
	r.say(fmt.Sprintf("going on from %s of %s, %s into that run", c.Name, source.Path(), time.Duration(c.Elapsed*1e6).Round(time.Second)))
	return m, nil
}

// serveAgain starts a mirror at the port by which the guest knows it.
func (r *run) serveAgain(ctx context.Context, m checkpoint.Mirror) error {
	addr := fmt.Sprintf("127.0.0.1:%d", m.Port)
	s, err := mirror.Serve(ctx, mirror.Options{Dir: m.Dir, Addr: addr})
	if err != nil {
		return usageError("--from: the guest knows a mirror at %s: %s", addr, err)
	}
	r.mirrors = append(r.mirrors, served{s, m.Dir})
	return nil
}

// startFrom starts QEMU and gives it its memory.
func (r *run) startFrom(ctx context.Context, o qemu.Options, log *os.File, c *checkpoint.Checkpoint, memory string) (watch.Process, error) {
	p, err := r.startQEMU(ctx, o, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, restorePatience)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // without QEMU there is nothing to wait for
		select {
		case <-p.Done():
			cancel()
		case <-stop:
		}
	}()
	vm, err := qmp.Dial(ctx, o.QMPSocket)
	if err == nil {
		err = errors.Join(c.Resume(ctx, vm, memory), vm.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w (QEMU's own words are in %s)", err, log.Name()), p.Stop(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// copyStart makes dst the first n bytes of src.
func copyStart(dst, src string, n int64) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.CopyN(out, in, n); err != nil {
		return fmt.Errorf("%s: shorter than at the checkpoint: %w", src, err)
	}
	return nil
}
