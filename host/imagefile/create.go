// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package imagefile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kindling/host/programs"
	"kindling/internal/event"
)

// CreateLayer makes an empty qcow2 layer over a chain, for its owner alone. The name of the file below and its format go
// into the header for other programs; Kindling goes by its own record, and qemu-img (-u) opens nothing below.
func CreateLayer(ctx context.Context, path string, over Chain) error {
	disk, err := over.Open()
	if err != nil {
		return err
	}
	size := disk.Size()
	if err := disk.Close(); err != nil {
		return err
	}
	base, err := filepath.Abs(over[0].Path)
	if err != nil {
		return err
	}
	if err := QEMUImg(ctx, "create", "-q", "-f", string(QCOW2), "-F", string(over[0].Format), "-u", "-b", base, path, strconv.FormatInt(size, 10)); err != nil {
		return err
	}
	return os.Chmod(path, 0o600)
}

// QEMUImg runs qemu-img.
func QEMUImg(ctx context.Context, args ...string) error {
	program, err := programs.Find("qemu-img")
	if err != nil {
		return errors.New("qemu-img is not here: apt-get install qemu-utils")
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img %s: %w: %s", args[0], err, event.Clean(strings.TrimSpace(string(out))))
	}
	return nil
}

// Copy makes a raw copy of a chain, sparse and for its owner alone. One that the filesystem has no room for is refused
// before anything is written: a small qcow2 file can unpack to any size.
func Copy(ctx context.Context, chain Chain, path string) error {
	disk, err := chain.Open()
	if err != nil {
		return err
	}
	need, err := disk.Stored(ctx)
	if err = errors.Join(err, disk.Close()); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
		return fmt.Errorf("room in %s: %w", filepath.Dir(path), err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%w: %s unpacks to %d MiB, and %s has room for %d MiB", ErrFormat, chain[0].Path, need>>20, filepath.Dir(path), free>>20)
	}
	if err := QEMUImg(ctx, "convert", "--image-opts", "-O", string(Raw), chain.Options(), path); err != nil {
		return err
	}
	return os.Chmod(path, 0o600)
}
