// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openPort opens the serial line to the host. On a machine without one, writes to it fail; the run goes on.
func (a *agent) openPort() error {
	a.portOpen = true
	out, err := eventLine(a.cmdline.events)
	a.heard = out != io.Discard
	a.spawn("event port", func() {
		_, _ = io.WriteString(out, "\n") // ends a line that an earlier life may have left unfinished
		a.port.Run(context.Background(), out, func(err error) { a.say("%v: the host sees no more events", err) })
	})
	return err
}

// eventLine opens the serial line of that name; where there is none, events go nowhere. The line is the agent's alone,
// unless it is the console as well: its node in /dev goes, so that nothing else can take it for a terminal to write to. The
// descriptor is closed on exec, as all of Go's are: steps do not inherit it. A program of root that creates the node again
// can still write there.
func eventLine(name string) (io.Writer, error) {
	if name == "none" {
		return io.Discard, nil
	}
	path := "/dev/" + name
	shared := path == consoleDevice("/sys")
	var odd error // the port may work all the same
	if !shared {
		odd = restoreNode("/sys", path) // an earlier life of the agent has removed it
	}
	f, err := openSerial(path)
	if err != nil {
		return io.Discard, errors.Join(odd, err)
	}
	if !shared {
		odd = errors.Join(odd, hide(f))
	}
	return f, odd
}

// hide makes an open serial line this process's own.
func hide(f *os.File) error {
	if err := unix.IoctlSetInt(int(f.Fd()), unix.TIOCEXCL, 0); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return os.Remove(f.Name())
}

// restoreNode creates the node of a terminal that the kernel has. What else stands in its place goes: a shell that writes to
// a node which is not there creates a file.
func restoreNode(sys, path string) error {
	dev, err := terminalNumber(sys, filepath.Base(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the kernel has no such terminal, and opening it will fail
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Lstat(path, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == dev {
		return os.Chmod(path, 0o600)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(dev)); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return nil
}

// terminalNumber is the device number of a terminal, from /sys/class/tty/NAME/dev: "MAJOR:MINOR".
func terminalNumber(sys, name string) (uint64, error) {
	file := filepath.Join(sys, "class/tty", name, "dev")
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(data)), ":")
	first, err := strconv.ParseUint(major, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	second, err := strconv.ParseUint(minor, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return unix.Mkdev(uint32(first), uint32(second)), nil
}

// openSerial opens a serial line and makes it raw, so that the kernel neither echoes nor changes what is written.
func openSerial(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is not a serial port: %w", path, err), f.Close())
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB|unix.CSTOPB|unix.CRTSCTS|unix.CBAUD) | unix.CS8 | unix.CLOCAL | unix.CREAD | unix.B115200
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", path, err), f.Close())
	}
	return f, nil
}
