// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The bounds of a shutdown: a dead disk can hold any action for ever, and there is nobody to return to.
const (
	actionPatience = 30 * time.Second // for each action
	quietPatience  = 3 * time.Minute  // for everything before the last words
	killGrace      = 5 * time.Second  // between SIGTERM and SIGKILL, and behind that
	killPoll       = 20 * time.Millisecond
	unmountRounds  = 4 // what holds what: a filesystem in a file on a filesystem, and the like
)

// machine is what a shutdown does to the machine; tests give a recorder, and one that has mounts.
type machine interface {
	Kill(sig syscall.Signal) error // every process but this one
	Processes() int                // the living ones besides this one and the kernel's
	Swaps() []string               // areas in use
	Swapoff(path string) error
	Sync() error
	Mounts() []mounted // in the order of their making
	Unmount(path string, lazy bool) error
	RemountReadOnly(path string) error
	Loops() []string // loop devices in use
	DetachLoop(dev string) error
	Sysrq(key byte) error
	PowerOff() error
	Reboot() error
}

// ending is what becomes of the machine.
type ending int32

const (
	powerOff ending = iota
	reboot
)

// String is what the machine does.
func (e ending) String() string {
	if e == reboot {
		return "reboots"
	}
	return "powers off"
}

// shutdown is the end of a machine's life under way. Errors are said and passed over: the next action may still succeed.
type shutdown struct {
	m        machine
	say      func(string, ...any)
	patience time.Duration // for each action
	grace    time.Duration // for processes
	deadline time.Time     // of quiet
}

// newShutdown begins one.
func newShutdown(m machine, say func(string, ...any)) *shutdown {
	return &shutdown{m: m, say: say, patience: actionPatience, grace: killGrace, deadline: time.Now().Add(quietPatience)}
}

// do does one action of quiet, for as long as there is time.
func (s *shutdown) do(name string, action func() error) bool {
	left := min(s.patience, time.Until(s.deadline))
	if left <= 0 {
		s.say("%s: no time left", name)
		return false
	}
	return within(left, name, s.say, action)
}

// quiet ends everything that could still write, and brings what was written to its place: processes end, swap is
// switched off, everything but the root and the kernel's own filesystems is unmounted, loop devices let go of their
// files. After it only the root is left, and PID 1.
func (s *shutdown) quiet() {
	s.endProcesses()
	for _, area := range s.m.Swaps() {
		s.do("swapoff "+area, func() error { return s.m.Swapoff(area) })
	}
	s.do("sync", s.m.Sync)
	s.unmount()
}

// endProcesses asks all processes to end, and then makes them.
func (s *shutdown) endProcesses() {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		if s.m.Processes() == 0 {
			return
		}
		all := []syscall.Signal{sig}
		if sig == unix.SIGTERM { // interactive shells hear the next only, and the stopped ones when they go on
			all = append(all, unix.SIGHUP, unix.SIGCONT)
		}
		for _, sig := range all {
			s.do("signal all processes", func() error { return s.m.Kill(sig) })
		}
		for end := time.Now().Add(s.grace); s.m.Processes() > 0 && time.Now().Before(end); {
			time.Sleep(killPoll)
		}
	}
	if n := s.m.Processes(); n > 0 {
		s.say("%d processes do not end: they hang in the kernel", n)
	}
}

// unmount unmounts, the last mount first. What is busy is tried again after the loop devices that were free by then have
// been detached, as long as that helps; what is busy in the end becomes read-only and is detached from the tree, so that
// what holds it can go.
func (s *shutdown) unmount() {
	busy := 0
	for range unmountRounds {
		before := busy
		busy = s.unmountRound(false)
		if busy == 0 || busy == before {
			break
		}
	}
	if busy > 0 {
		s.unmountRound(true)
		s.detachLoops()
	}
}

// unmountRound tries each mount once and reports how many are left. The last round says what is wrong with each.
func (s *shutdown) unmountRound(last bool) (busy int) {
	mounts := s.m.Mounts()
	for _, mnt := range slices.Backward(mounts) {
		if mnt.kernels() {
			continue
		}
		if last {
			s.do("remount "+mnt.path+" read-only", func() error { return s.m.RemountReadOnly(mnt.path) })
			s.do("unmount "+mnt.path, func() error { return s.m.Unmount(mnt.path, true) })
			continue
		}
		var err error
		if !s.do("unmount "+mnt.path, func() error { // busy is no error yet
			if err = s.m.Unmount(mnt.path, false); errors.Is(err, unix.EBUSY) {
				return nil
			}
			return err
		}) || err != nil {
			busy++
		}
	}
	if !last {
		s.detachLoops()
	}
	return busy
}

func (s *shutdown) detachLoops() {
	for _, dev := range s.m.Loops() {
		s.do("detach "+dev, func() error { return s.m.DetachLoop(dev) })
	}
}

// end ends the machine, in the tree's own order: sync, sysrq u (remount everything read-only, even what is busy), remount
// the root read-only to wait for that, sysrq o (power off) or b (reboot); where sysrq does not work, by system call.
func (s *shutdown) end(how ending) {
	within(s.patience, "sync", s.say, s.m.Sync)
	within(s.patience, "sysrq u", s.say, func() error { return s.m.Sysrq('u') })
	within(s.patience, "remount /", s.say, func() error { return s.m.RemountReadOnly("/") })
	if how == reboot {
		if !within(s.patience, "reboot", s.say, s.m.Reboot) {
			within(s.patience, "sysrq b", s.say, func() error { return s.m.Sysrq('b') })
		}
		return
	}
	if !within(s.patience, "sysrq o", s.say, func() error { return s.m.Sysrq('o') }) {
		within(s.patience, "power off", s.say, s.m.PowerOff)
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
			swaps = append(swaps, unescapeMount(fields[0]))
		}
	}
	return swaps
}

// mounted is one mount.
type mounted struct {
	path, fsType string
}

// kernels reports a mount that holds nobody's data, and that the agent needs to the end: the root, and the kernel's own.
func (m mounted) kernels() bool {
	switch m.fsType {
	case "proc", "sysfs", "devtmpfs", "devpts", "rootfs":
		return true
	}
	return m.path == "/"
}

// mountsIn lists what is mounted, from the format of /proc/self/mounts.
func mountsIn(r io.Reader) []mounted {
	var mounts []mounted
	in := bufio.NewScanner(r)
	for in.Scan() {
		if fields := strings.Fields(in.Text()); len(fields) > 2 {
			mounts = append(mounts, mounted{path: unescapeMount(fields[1]), fsType: fields[2]})
		}
	}
	return mounts
}

// unescapeMount undoes what the kernel does to blanks and backslashes in /proc/self/mounts and /proc/swaps: three octal
// digits behind a backslash (fs/proc_namespace.c, mangle).
func unescapeMount(s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if code, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out = append(out, byte(code))
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}
