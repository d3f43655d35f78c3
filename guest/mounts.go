// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"
)

// mountSpec is one filesystem that PID 1 mounts.
type mountSpec struct {
	fsType, path, data string
	flags              uintptr
	optional           bool // the machine can go on without it
}

// mountSpecs lists what is mounted at every boot, in order. /dev/shm is needed by Python's semaphores and is not made
// by devtmpfs; /tmp in memory makes configure scripts several times faster.
func mountSpecs() []mountSpec {
	return []mountSpec{
		{fsType: "proc", path: "/proc"},
		{fsType: "sysfs", path: "/sys"},
		{fsType: "devtmpfs", path: "/dev", data: "mode=0755"},
		{fsType: "devpts", path: "/dev/pts", data: "mode=0620,ptmxmode=0666", flags: unix.MS_NOSUID | unix.MS_NOEXEC, optional: true},
		{fsType: "tmpfs", path: "/dev/shm", data: "mode=1777", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{fsType: "tmpfs", path: "/tmp", data: "mode=1777"},
	}
}

// mountAll mounts what is not mounted yet. Before /proc is mounted nothing is known, and nothing but what the kernel did by
// itself (CONFIG_DEVTMPFS_MOUNT) can be mounted.
func mountAll(specs []mountSpec) error {
	var mounted map[string]bool
	for _, s := range specs {
		if mounted == nil {
			var err error
			if mounted, err = mountPoints(); err != nil {
				return err
			}
		}
		if mounted[s.path] {
			continue
		}
		if err := makeDir(s.path); err != nil {
			return fmt.Errorf("mount point %s: %w", s.path, err)
		}
		if _, err := mount.Mount(s.fsType, s.path, s.fsType, s.data, s.flags); err != nil && !s.optional {
			return err
		}
	}
	return nil
}

// isMounted reports whether path is a mount point of its own.
func isMounted(path string) (bool, error) {
	mounted, err := mountPoints()
	return mounted[path], err
}

// mountPoints gives the mount points that there are, nil without /proc.
func mountPoints() (map[string]bool, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return parseMounts(string(text)), err
}

// parseMounts reads the format of /proc/self/mounts.
func parseMounts(text string) map[string]bool {
	points := make(map[string]bool)
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 2 {
			points[fields[1]] = true
		}
	}
	return points
}

// makeDir makes a directory. An empty regular file in its place goes: builder-hex0 turns empty directories into empty
// files, and what comes out of it can be what stands here.
func makeDir(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.MkdirAll(path, 0o755)
}
