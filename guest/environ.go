// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stepEnvironment is what a step starts with. In the tree it is the child of a bash that the kernel has started: that
// passes on what the kernel gave it (HOME, TERM, and every parameter of the command line that the kernel does not know),
// and adds what it keeps for itself. shell is the path of the step's own bash, as that first one would have found it.
func stepEnvironment(kernel []string, shell string) []string {
	if len(kernel) == 0 { // lost over a switch of the root
		kernel = []string{"HOME=/", "TERM=linux"}
	}
	own := []string{"PWD=/", "SHLVL=1", "_=" + shell}
	env := slices.DeleteFunc(slices.Clone(kernel), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "OLDPWD" || slices.ContainsFunc(own, func(o string) bool { return strings.HasPrefix(o, name+"=") })
	})
	return append(env, own...)
}

// life is what one life of the agent hands to the next over a switch of the root, where nothing else is left of it.
type life struct {
	boot    string   // boot ID
	seq     uint64   // of the last event
	environ []string // what the kernel gave
}

// bytes is a life as text: a line of ID and number, then a line for each variable. Neither has a newline in it: the
// kernel's command line is one line.
func (l life) bytes() []byte {
	return fmt.Appendf(nil, "%s %d\n%s", l.boot, l.seq, strings.Join(l.environ, "\n"))
}

// parseLife reads what bytes has written.
func parseLife(text string) (l life, ok bool) {
	first, rest, _ := strings.Cut(text, "\n")
	if n, _ := fmt.Sscan(first, &l.boot, &l.seq); n != 2 {
		return life{}, false
	}
	l.environ = slices.DeleteFunc(strings.Split(rest, "\n"), func(v string) bool { return !strings.Contains(v, "=") })
	return l, true
}

// plainly opens a step's terminal once more as the kernel opens a first process's console: without O_LARGEFILE, which Go
// sets for every file on a machine of 32 bits, and which a step can see.
func plainly(f *os.File) (*os.File, error) {
	path, err := unix.BytePtrFromString(f.Name())
	if err != nil {
		return f, err
	}
	here := unix.AT_FDCWD
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(path)), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return nil, errors.Join(&os.PathError{Op: "open", Path: f.Name(), Err: errno}, f.Close())
	}
	return os.NewFile(fd, f.Name()), f.Close()
}

// likeConsole makes a step's terminal behave as the console does, where a step would be otherwise: the same modes, and
// the same size. What cannot be read stays as it is.
func likeConsole(terminal *os.File) {
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer console.Close()
	copyTerminal(terminal, console.Fd())
}

// copyTerminal gives to one terminal the modes and the size of another.
func copyTerminal(to *os.File, from uintptr) {
	if modes, err := unix.IoctlGetTermios(int(from), unix.TCGETS); err == nil {
		_ = unix.IoctlSetTermios(int(to.Fd()), unix.TCSETS, modes)
	}
	if size, err := unix.IoctlGetWinsize(int(from), unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(to.Fd()), unix.TIOCSWINSZ, size)
	}
}
