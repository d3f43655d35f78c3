// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"kindling/guest/proc"
)

// linux is the real machine.
type linux struct{}

func (linux) Kill(sig syscall.Signal) error {
	if err := unix.Kill(-1, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

func (linux) Processes() int { return proc.Living() }

func (linux) Swaps() []string { return listed("/proc/swaps", swapsIn) }

func (linux) Swapoff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func (linux) Sync() error {
	unix.Sync()
	return nil
}

func (linux) Mounts() []mounted { return listed("/proc/self/mounts", mountsIn) }

// listed reads a list of the kernel's; one that cannot be read is empty.
func listed[T any](path string, parse func(io.Reader) []T) []T {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parse(bytes.NewReader(data))
}

func (linux) Unmount(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	return unix.Unmount(path, flags)
}

// Loops lists the loop devices that have a file.
func (linux) Loops() []string {
	const dir = "/sys/block"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var devs []string
	for _, e := range entries {
		if unix.Access(dir+"/"+e.Name()+"/loop/backing_file", unix.F_OK) == nil {
			devs = append(devs, "/dev/"+e.Name())
		}
	}
	return devs
}

// DetachLoop takes a loop device's file away; one that is in use loses it when it is used no more.
func (linux) DetachLoop(dev string) error {
	f, err := os.Open(dev)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	if errors.Is(err, unix.ENXIO) { // it went with its last user
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Sysrq writes to /proc, which a switch of the root that failed may have moved already.
func (linux) Sysrq(key byte) error {
	err := os.WriteFile("/proc/sysrq-trigger", []byte{key}, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.WriteFile(newRoot+"/proc/sysrq-trigger", []byte{key}, 0)
	}
	return err
}

func (linux) PowerOff() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }

func (linux) Reboot() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) }

func (linux) RemountReadOnly(path string) error {
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("read-only: %w", err)
	}
	return nil
}
