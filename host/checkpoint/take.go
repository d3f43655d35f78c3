// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"kindling/host/qemu"
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
}

// Taker makes the checkpoints of one run.
type Taker struct {
	Dir     string       // folder of the run's checkpoints; made when the first is
	Machine qemu.Options // as it was started; its drives follow what Take does
	Mirrors []Mirror
	Started time.Time
	// Sockets is a folder with a short path, for the socket of the memory stream.
	Sockets string
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
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }() // gone by its new name after a success
	if err := vm.Execute(ctx, "stop", nil, nil); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vm.Execute(context.WithoutCancel(ctx), "cont", nil, nil)) }()
	c = &Checkpoint{Schema: Schema, Name: name, Phase: phase, Made: time.Now().UTC(), Mirrors: t.Mirrors,
		Elapsed: time.Since(t.Started).Milliseconds(), Machine: t.Machine, dir: filepath.Join(t.Dir, name)}
	c.Machine.Drives = slices.Clone(t.Machine.Drives)
	if err := t.freeze(ctx, vm, name); err != nil {
		return nil, err
	}
	if c.Memory, err = t.saveMemory(ctx, vm, filepath.Join(tmp, memoryFile)); err != nil {
		return nil, err
	}
	if c.Console, c.Events, err = t.logSizes(); err != nil {
		return nil, err
	}
	return c, publish(c, tmp)
}

// prepare makes the folder in which the checkpoint comes to be, and looks for room.
func (t *Taker) prepare(name string) (tmp string, err error) {
	if !nameRE.MatchString(name) {
		return "", fmt.Errorf("%.40q is no name for one", name)
	}
	if _, err := os.Lstat(filepath.Join(t.Dir, name)); err == nil {
		return "", errors.New("there is one of that name already")
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return "", err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(t.Dir, &st); err != nil {
		return "", fmt.Errorf("room in %s: %w", t.Dir, err)
	}
	free, need := int64(st.Bavail)*st.Bsize, int64(t.Machine.MemoryMiB)<<20+reserve
	if free < need {
		return "", fmt.Errorf("%w: %d MiB free in %s, %d MiB are asked for (the guest's memory and 1 GiB)",
			ErrSpace, free>>20, t.Dir, need>>20)
	}
	tmp = filepath.Join(t.Dir, name+unfinished)
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	return tmp, os.Mkdir(tmp, 0o700)
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
	drives := slices.Clone(t.Machine.Drives)
	for i, d := range drives {
		if d.Snapshot || d.ReadOnly {
			continue
		}
		id := "drive" + strconv.Itoa(i) // as package qemu names them
		drives[i].Path, drives[i].Format = filepath.Join(t.Dir, id+"-after-"+name+".qcow2"), qemu.FormatQCOW2
		actions = append(actions, action{"blockdev-snapshot-sync", data{id, drives[i].Path, string(qemu.FormatQCOW2)}})
	}
	if len(actions) == 0 {
		return nil
	}
	if err := vm.Execute(ctx, "transaction", map[string]any{"actions": actions}, nil); err != nil {
		return err
	}
	t.Machine.Drives = drives
	return nil
}

// saveMemory writes QEMU's migration stream, packed, and gives its packed size.
func (t *Taker) saveMemory(ctx context.Context, vm Controller, path string) (size int64, err error) {
	var lc net.ListenConfig
	socket := filepath.Join(t.Sockets, "memory")
	l, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := vm.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(bandwidth)}, nil); err != nil {
		return 0, err
	}
	if err := vm.Execute(ctx, "migrate", map[string]any{"uri": "unix:" + socket}, nil); err != nil {
		return 0, err
	}
	limit := int64(t.Machine.MemoryMiB)<<20 + deviceState
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		size, err = receive(ctx, l, path, limit)
		return err
	})
	group.Go(func() error { return migrated(ctx, vm) })
	return size, group.Wait()
}

// receive takes one connection and packs what comes into a file, which is on the disk when this returns.
func receive(ctx context.Context, l net.Listener, path string, limit int64) (size int64, err error) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	conn, err := l.Accept()
	stop()
	if err != nil {
		return 0, fmt.Errorf("wait for the memory: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	packed, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(packed, io.LimitReader(conn, limit+1))
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

// logSizes are how much of console and events was written.
func (t *Taker) logSizes() (console, events int64, err error) {
	sizes := make([]int64, 2)
	for i, s := range t.Machine.Serials[:min(2, len(t.Machine.Serials))] {
		info, err := os.Stat(s.File)
		if err != nil {
			return 0, 0, err
		}
		sizes[i] = info.Size()
	}
	return sizes[0], sizes[1], nil
}

// publish gives the finished folder its name.
func publish(c *Checkpoint, tmp string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	// It has the guest's seed in it: for its owner only.
	if err := renameio.WriteFile(filepath.Join(tmp, metaFile), append(data, '\n'), 0o600, renameio.IgnoreUmask()); err != nil {
		return err
	}
	return os.Rename(tmp, c.dir)
}
