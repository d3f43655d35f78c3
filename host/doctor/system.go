// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kindling/host/debian"
	"kindling/host/programs"
	"kindling/host/qemu"
	"kindling/internal/event"
)

// programTime is how long a program that is asked for a line may take.
const programTime = 10 * time.Second

// maxText bounds a file of the system, in bytes.
const maxText = 1 << 20

// System is the machine that this program runs on. FindAgent says where the agent is.
type System struct {
	FindAgent func() (string, error)
}

// Program implements Host.
func (System) Program(name string) (string, error) {
	path, err := programs.Find(name)
	if errors.Is(err, exec.ErrNotFound) {
		err = errors.New("not found")
	}
	return path, err
}

// Output implements Host.
func (System) Output(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, programTime, fmt.Errorf("%s: no answer within %s", argv[0], programTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	line = event.Clean(line)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil && line != "":
		return "", errors.New(line)
	case err != nil:
		return "", fmt.Errorf("%s: %w", argv[0], err)
	}
	return line, nil
}

// Memory implements Host: MemAvailable of /proc/meminfo (proc(5)).
func (s System) Memory() (int64, error) {
	lines := bufio.NewScanner(strings.NewReader(s.Text("/proc/meminfo")))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/meminfo: %w", err)
		}
		return kib << 10, nil
	}
	return 0, errors.New("/proc/meminfo does not say how much is available")
}

// Free implements Host.
func (System) Free(dir string) (int64, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return 0, err
	}
	for {
		_, err := os.Stat(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return 0, err
		}
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return 0, &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Text implements Host.
func (System) Text(path string) string {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return ""
	}
	return string(data)
}

// KVM implements Host.
func (System) KVM(ctx context.Context, program string) qemu.KVM {
	return qemu.TryKVM(ctx, program, true)
}

// Packages implements Host.
func (System) Packages(cache string) (string, bool) {
	c, err := debian.Open(cache)
	if err != nil {
		return "", false
	}
	kernel, ok := c.HasKernel("i386")
	if !ok {
		kernel = ""
	}
	return kernel, c.HasUserland()
}

// Agent implements Host.
func (s System) Agent() (string, error) { return s.FindAgent() }

// Root implements Host.
func (System) Root() bool { return os.Geteuid() == 0 }
