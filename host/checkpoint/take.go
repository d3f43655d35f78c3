// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"kindling/host/imagefile"
	"kindling/host/machine"
	"kindling/host/rundir"
)

// Bounds of what a checkpoint may take.
const (
	// reserve is how many bytes must stay free beside a whole guest memory, so that the run itself does not run out.
	reserve = 1 << 30
	// deviceState is what a migration stream may have beside the guest's memory, in bytes.
	deviceState = 256 << 20
	// bandwidth is QEMU's own brake on a migration, in bytes a second, taken off: the stream stays on this machine.
	bandwidth = 64 << 30
	// poll is how often QEMU is asked whether it is done.
	poll = 100 * time.Millisecond
)

// Controller sends commands to a running QEMU; package qmp's Client is one.
type Controller interface {
	Execute(ctx context.Context, command string, arguments, result any) error
	PassFile(ctx context.Context, name string, f *os.File) error
}

// Taker makes the checkpoints of one run.
type Taker struct {
	Run     *rundir.Dir
	Machine machine.Machine // as it was started; its disks follow what Take does
	Started time.Time
	// Settle waits until the run's logs hold all that a machine which stands still has written. May be nil.
	Settle func(ctx context.Context) error
	// Moved hears of the disks that the machine goes on with, before it does. May be nil.
	Moved func(machine.Machine) error
}

// ErrSpace is a checkpoint that was not begun because the disk would not hold it.
var ErrSpace = errors.New("not enough room for a checkpoint")

// Take makes a checkpoint: the machine stops, its disks are frozen, its memory is written out, and it goes on. After an
// error the machine goes on too, if QEMU still obeys, and there is no checkpoint.
func (t *Taker) Take(ctx context.Context, vm Controller, name, phase string) (c *Checkpoint, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("checkpoint %s: %w", name, err)
		}
	}()
	tmp, err := t.prepare(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Run.Remove(tmp)) }() // gone by its new name after a success
	if err := vm.Execute(ctx, "stop", nil, nil); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vm.Execute(context.WithoutCancel(ctx), "cont", nil, nil)) }()
	if t.Settle != nil {
		if err := t.Settle(ctx); err != nil {
			return nil, err
		}
	}
	c = &Checkpoint{Schema: Schema, Name: name, Phase: phase, Made: time.Now().UTC(), Elapsed: time.Since(t.Started).Milliseconds(),
		Machine: t.Machine, Console: t.Run.Size(rundir.ConsoleLog), Events: t.Run.Size(rundir.Events), run: t.Run}
	if err := t.freeze(ctx, vm, name); err != nil {
		return nil, err
	}
	if c.Memory, err = t.saveMemory(ctx, vm, filepath.Join(t.Run.At(tmp), memoryFile)); err != nil {
		return nil, err
	}
	return c, publish(c, tmp)
}

// prepare makes the folder in which the checkpoint comes to be, below the run folder, and looks for room.
func (t *Taker) prepare(name string) (tmp string, err error) {
	if !nameRE.MatchString(name) {
		return "", fmt.Errorf("%.40q is not a name for one", name)
	}
	switch err := t.Run.Check(folder, fs.ModeDir); {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(t.Run.At(folder), 0o700); err != nil {
			return "", err
		}
	case err != nil:
		return "", err
	}
	if !t.Run.Free(filepath.Join(folder, name)) {
		return "", errors.New("there is one of that name already")
	}
	tmp = filepath.Join(folder, name+unfinished)
	if err := t.Run.Remove(tmp); err != nil {
		return "", err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(t.Run.At(folder), &st); err != nil {
		return "", fmt.Errorf("room in %s: %w", t.Run.At(folder), err)
	}
	free, need := int64(st.Bavail)*st.Bsize, int64(t.Machine.MemoryMiB)<<20+reserve
	if free < need {
		return "", fmt.Errorf("%w: %d MiB free in %s, %d MiB are asked for (the guest's memory and 1 GiB)",
			ErrSpace, free>>20, t.Run.At(folder), need>>20)
	}
	return tmp, os.Mkdir(t.Run.At(tmp), 0o700)
}

// freeze lets the machine go on in new images over its present ones. Drives whose changes nobody keeps have nothing to
// freeze.
func (t *Taker) freeze(ctx context.Context, vm Controller, name string) error {
	type data struct {
		Device string `json:"device"`
		File   string `json:"snapshot-file"`
		Format string `json:"format"`
	}
	type action struct {
		Type string `json:"type"`
		Data data   `json:"data"`
	}
	var actions []action
	disks := slices.Clone(t.Machine.Disks)
	for i, d := range disks {
		if d.Throwaway {
			continue
		}
		id := "drive" + strconv.Itoa(i) // as package qemu names them
		file, err := t.newLayer(id + "-after-" + name)
		if err != nil {
			return err
		}
		disks[i].Layers = slices.Insert(slices.Clone(d.Layers), 0, machine.Layer{File: file, Format: imagefile.QCOW2})
		actions = append(actions, action{"blockdev-snapshot-sync", data{id, t.Run.At(file), string(imagefile.QCOW2)}})
	}
	if len(actions) == 0 {
		return nil
	}
	if err := vm.Execute(ctx, "transaction", map[string]any{"actions": actions}, nil); err != nil {
		return err
	}
	t.Machine.Disks = disks
	if t.Moved == nil {
		return nil
	}
	return t.Moved(t.Machine)
}

// newLayer is a name for an image that does not exist: QEMU would write to whatever has it.
func (t *Taker) newLayer(name string) (string, error) {
	for n := 1; n <= maxList; n++ {
		file := filepath.Join(folder, name+".qcow2")
		if n > 1 {
			file = filepath.Join(folder, fmt.Sprintf("%s-%d.qcow2", name, n))
		}
		if t.Run.Free(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: there are %d images of that name", name, maxList)
}

// saveMemory writes QEMU's migration stream, packed, and gives its packed size.
func (t *Taker) saveMemory(ctx context.Context, vm Controller, path string) (size int64, err error) {
	memory, theirs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	err = vm.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(bandwidth)}, nil)
	if err == nil {
		err = vm.PassFile(ctx, "memory", theirs)
	}
	if err == nil {
		err = vm.Execute(ctx, "migrate", map[string]any{"uri": "fd:memory"}, nil)
	}
	if err = errors.Join(err, theirs.Close()); err != nil {
		return 0, err
	}
	limit := int64(t.Machine.MemoryMiB)<<20 + deviceState
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		size, err = receive(ctx, memory, path, limit)
		return err
	})
	group.Go(func() error { return migrated(ctx, vm) })
	return size, group.Wait()
}

// receive packs what comes into a file, which is on the disk when this returns.
func receive(ctx context.Context, memory *os.File, path string, limit int64) (size int64, err error) {
	defer context.AfterFunc(ctx, func() { _ = memory.SetReadDeadline(time.Unix(1, 0)) })()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	packed, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(packed, io.LimitReader(memory, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("the memory has more than %d bytes", limit)
	}
	if err = errors.Join(err, packed.Close(), f.Sync()); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekCurrent)
}

// migrated waits until QEMU has given all its memory away.
func migrated(ctx context.Context, vm Controller) error {
	for {
		var info struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := vm.Execute(ctx, "query-migrate", nil, &info); err != nil {
			return err
		}
		switch info.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("QEMU could not write its memory out (%s): %s", info.Status, info.Error)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(poll):
		}
	}
}

// publish gives the finished folder its name.
func publish(c *Checkpoint, tmp string) error {
	c.Machine.Schema = machine.Schema
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := c.run.Write(filepath.Join(tmp, metaFile), append(data, '\n')); err != nil {
		return err
	}
	return os.Rename(c.run.At(tmp), c.run.At(filepath.Join(folder, c.Name)))
}
