// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"kindling/host/imagefile"
	"kindling/host/qemu"
)

// maxWindow is the most memory, in bytes, that unpacking may take; what a Taker packs has less.
const maxWindow = 64 << 20

// Restored makes the options of a machine that goes on from the checkpoint with QEMU's program binary: new disks in dir
// over the frozen ones. It waits for its memory. Files outside the checkpoint's run folder are the caller's to confirm.
func (c *Checkpoint) Restored(ctx context.Context, dir, binary string) (qemu.Options, error) {
	o := c.Machine.Options(c.run.Path(), binary)
	local, _ := c.Machine.Files(c.run.Path())
	for _, file := range local {
		if err := c.run.Check(file, 0); err != nil {
			return o, fmt.Errorf("checkpoint %s: %w", c.Name, err)
		}
	}
	for i, d := range o.Drives {
		if d.Snapshot {
			continue
		}
		path := filepath.Join(dir, "drive"+strconv.Itoa(i)+"-from-"+c.Name+".qcow2")
		if err := imagefile.CreateLayer(ctx, path, d.Chain); err != nil {
			return o, fmt.Errorf("checkpoint %s: %w", c.Name, err)
		}
		o.Drives[i].Chain = slices.Insert(slices.Clone(d.Chain), 0, imagefile.Layer{Path: path, Format: imagefile.QCOW2})
	}
	o.Incoming, o.Control = true, true
	return o, nil
}

// Resume gives the memory to a machine that was started with what Restored made, and lets it go on. It waits for QEMU,
// until ctx ends.
func (c *Checkpoint) Resume(ctx context.Context, vm Controller, incoming net.Conn) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("checkpoint %s: %w", c.Name, err)
		}
	}()
	f, err := c.run.Open(at(c.Name, memoryFile))
	if err != nil {
		return err
	}
	defer f.Close()
	memory, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer memory.Close()
	defer context.AfterFunc(ctx, func() { _ = incoming.Close() })()
	_, err = io.Copy(incoming, io.LimitReader(memory, int64(c.Machine.MemoryMiB)<<20+deviceState))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err = errors.Join(err, incoming.Close()); err != nil {
		return err
	}
	return goOn(ctx, vm)
}

// goOn waits until QEMU has taken the memory in. It was taken from a machine that stood still, so this one does too.
func goOn(ctx context.Context, vm Controller) error {
	for {
		var info struct {
			Status string `json:"status"`
		}
		if err := vm.Execute(ctx, "query-status", nil, &info); err != nil {
			return err
		}
		if info.Status != "inmigrate" {
			return vm.Execute(ctx, "cont", nil, nil)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(poll):
		}
	}
}
