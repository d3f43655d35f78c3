// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// actionPatience bounds each action of a shutdown: a dead disk can hold any of them for ever.
const actionPatience = 30 * time.Second

// machine is what a shutdown does to the machine; tests give a recorder.
type machine interface {
	Swapoff(path string) error
	Sync() error
	Sysrq(key byte) error
	RemountReadOnly(path string) error
	PowerOff() error
}

// shutdown ends the machine's life in the tree's own order: swap off, sync, sysrq u (remount everything read-only,
// even what is busy), remount the root read-only to wait for that, sysrq o (power off); where sysrq does not work, by
// system call. Errors are said and passed over, and no action is waited for longer than patience: the next one may
// still succeed, and there is nobody to return to.
func shutdown(m machine, swaps []string, patience time.Duration, say func(string, ...any)) {
	for _, s := range swaps {
		within(patience, "swapoff "+s, say, func() error { return m.Swapoff(s) })
	}
	within(patience, "sync", say, m.Sync)
	within(patience, "sysrq u", say, func() error { return m.Sysrq('u') })
	within(patience, "remount /", say, func() error { return m.RemountReadOnly("/") })
	if !within(patience, "sysrq o", say, func() error { return m.Sysrq('o') }) {
		within(patience, "power off", say, m.PowerOff)
	}
}

// within does an action, but waits for its end only so long. It reports success.
func within(patience time.Duration, name string, say func(string, ...any), action func() error) bool {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("panic: %v", r)
			}
		}()
		done <- action()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			say("%s: %v", name, err)
		}
		return err == nil
	case <-timer.C:
		say("%s: no end in %s", name, patience)
		return false
	}
}

// waitForever is where PID 1 ends. Power-off takes the kernel some time, and if it never comes (no ACPI), a halted
// machine is still better than "Attempted to kill init".
func waitForever() {
	for {
		time.Sleep(time.Hour)
	}
}

// swapsIn lists the swap areas in use, from the format of /proc/swaps.
func swapsIn(r io.Reader) []string {
	var swaps []string
	in := bufio.NewScanner(r)
	for in.Scan() {
		if fields := strings.Fields(in.Text()); len(fields) > 1 && strings.HasPrefix(fields[0], "/") {
			swaps = append(swaps, strings.ReplaceAll(fields[0], `\040`, " "))
		}
	}
	return swaps
}

// linux is the real machine.
type linux struct{}

func (linux) Swapoff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return fmt.Errorf("swapoff %s: %w", path, err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return fmt.Errorf("swapoff %s: %w", path, errno)
	}
	return nil
}

func (linux) Sync() error {
	unix.Sync()
	return nil
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

func (linux) RemountReadOnly(path string) error {
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount %s read-only: %w", path, err)
	}
	return nil
}
