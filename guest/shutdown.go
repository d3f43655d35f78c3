// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// machine is what a shutdown does to the machine; tests give a recorder.
type machine interface {
	Swapoff(path string) error
	Sync()
	Sysrq(key byte) error
	RemountReadOnly(path string) error
}

// shutdown ends the machine's life in the tree's own order: swap off, sync, sysrq u (remount everything read-only,
// even what is busy), remount the root read-only to wait for that, sysrq o (power off). Errors are said and passed
// over: the next action may still succeed, and there is nobody to return to.
func shutdown(m machine, swaps []string, say func(string, ...any)) {
	for _, s := range swaps {
		if err := m.Swapoff(s); err != nil {
			say("%v", err)
		}
	}
	m.Sync()
	if err := m.Sysrq('u'); err != nil {
		say("%v", err)
	}
	if err := m.RemountReadOnly("/"); err != nil {
		say("%v", err)
	}
	if err := m.Sysrq('o'); err != nil {
		say("%v", err)
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

func (linux) Sync() { unix.Sync() }

func (linux) Sysrq(key byte) error {
	if err := os.WriteFile("/proc/sysrq-trigger", []byte{key}, 0); err != nil {
		return fmt.Errorf("sysrq %c: %w", key, err)
	}
	return nil
}

func (linux) RemountReadOnly(path string) error {
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount %s read-only: %w", path, err)
	}
	return nil
}
