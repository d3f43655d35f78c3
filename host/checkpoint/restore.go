// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"kindling/host/qemu"
)

// Restored makes the options of a machine that goes on from the checkpoint: new disks in dir over the frozen ones, and
// the memory expected on socket. Its serial ports are the caller's to set. It needs qemu-img.
func (c *Checkpoint) Restored(ctx context.Context, dir, socket string) (qemu.Options, error) {
	o := c.Machine
	o.Drives = slices.Clone(o.Drives)
	for i, d := range o.Drives {
		if d.Snapshot || d.ReadOnly {
			continue
		}
		path := filepath.Join(dir, "drive"+strconv.Itoa(i)+"-from-"+c.Name+".qcow2")
		if err := overlay(ctx, path, d); err != nil {
			return o, fmt.Errorf("checkpoint %s: %w", c.Name, err)
		}
		o.Drives[i].Path, o.Drives[i].Format = path, qemu.FormatQCOW2
	}
	o.Incoming = "unix:" + socket
	return o, nil
}

// overlay makes an empty image over another one.
func overlay(ctx context.Context, path string, over qemu.Drive) error {
	base, err := filepath.Abs(over.Path)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", string(over.Format), "-b", base, path)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("qemu-img is not here: apt-get install qemu-utils")
	}
	if err != nil {
		return fmt.Errorf("qemu-img create %s: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// dialPoll is how often a socket is tried that QEMU has not made yet.
const dialPoll = 20 * time.Millisecond

// Resume gives the memory to a machine that was started with what Restored made, and lets it go on. It waits for the
// socket and for QEMU, until ctx ends.
func (c *Checkpoint) Resume(ctx context.Context, vm Controller, socket string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("checkpoint %s: %w", c.Name, err)
		}
	}()
	f, err := os.Open(c.MemoryPath())
	if err != nil {
		return err
	}
	defer f.Close()
	memory, err := zstd.NewReader(f)
	if err != nil {
		return err
	}
	defer memory.Close()
	conn, err := dial(ctx, socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err = io.Copy(conn, memory); err != nil {
		return errors.Join(err, conn.Close())
	}
	if err := conn.Close(); err != nil {
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

func dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("give QEMU its memory: %w", context.Cause(ctx))
		case <-time.After(dialPoll):
		}
	}
}
