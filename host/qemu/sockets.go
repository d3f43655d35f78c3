// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Sockets are this program's ends of what the machine is connected with; what the options do not ask for is nil. Whoever
// starts a machine closes them with Close, after the machine has ended.
type Sockets struct {
	Ports    []*Port       // serial ports, COM1 first
	Network  *net.UnixConn // Ethernet frames, each after its length as 4 bytes, big-endian (QEMU's net/stream.c)
	Control  *net.UnixConn // QEMU Machine Protocol
	Incoming *net.UnixConn // takes the state of a machine that is restored
	Output   *os.File      // what QEMU itself prints
}

// Port is a serial port: two named pipes. QEMU writes a serial port byte by byte, and Linux' driver waits 10 ms for the
// port before it writes over what is still there (wait_for_xmitr). A pipe has room for a MiB of such bytes, a unix socket
// for some 300. A machine waits where the pipe is full. There is no end of file: the machine's end is the process's.
type Port struct {
	*os.File          // what the machine writes
	Input    *os.File // what it reads
	names    []string
}

// portSize is the room of a pipe, in bytes: what Linux gives every user (/proc/sys/fs/pipe-max-size).
const portSize = 1 << 20

// newPort makes the pipes path.in and path.out in the place of whatever has these names.
func newPort(path string) (_ *Port, err error) {
	p := &Port{names: []string{path + ".in", path + ".out"}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("serial port: %w", err), p.Close())
		}
	}()
	for i, end := range []**os.File{&p.Input, &p.File} {
		if err := os.Remove(p.names[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := unix.Mkfifo(p.names[i], 0o600); err != nil {
			return nil, fmt.Errorf("%s: %w", p.names[i], err)
		}
		// For reading and writing, so that no open waits for the other side.
		if *end, err = os.OpenFile(p.names[i], os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0); err != nil {
			return nil, err
		}
		_, _ = unix.FcntlInt((*end).Fd(), unix.F_SETPIPE_SZ, portSize) // less room works, too
	}
	return p, nil
}

// Write implements io.Writer: it types.
func (p *Port) Write(b []byte) (int, error) { return p.Input.Write(b) }

// Close closes and removes the pipes.
func (p *Port) Close() error {
	var errs []error
	for _, f := range []*os.File{p.File, p.Input} {
		if f != nil {
			errs = append(errs, ignoreClosed(f.Close()))
		}
	}
	for _, name := range p.names {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// connect makes the pipes and sockets, and gives the machine's ends of the sockets, in the order in which socketArgs
// numbers them.
func (o Options) connect() (s *Sockets, theirs []*os.File, err error) {
	s = &Sockets{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("connect a machine: %w", err), s.Close(), closeAll(theirs))
		}
	}()
	for i := range o.Ports {
		port, err := newPort(o.port(i))
		if err != nil {
			return s, theirs, err
		}
		s.Ports = append(s.Ports, port)
	}
	for _, optional := range []struct {
		wanted bool
		end    **net.UnixConn
	}{{o.NIC != nil, &s.Network}, {o.Control, &s.Control}, {o.Incoming, &s.Incoming}} {
		if !optional.wanted {
			continue
		}
		ours, other, err := socketPair()
		if err != nil {
			return s, theirs, err
		}
		*optional.end, theirs = ours, append(theirs, other)
	}
	return s, theirs, nil
}

// Close closes all of them.
func (s *Sockets) Close() error {
	var errs []error
	for _, c := range []*net.UnixConn{s.Network, s.Control, s.Incoming} {
		if c != nil {
			errs = append(errs, ignoreClosed(c.Close()))
		}
	}
	for _, p := range s.Ports {
		errs = append(errs, p.Close())
	}
	if s.Output != nil {
		errs = append(errs, ignoreClosed(s.Output.Close()))
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// socketPair makes two connected stream sockets; both are closed in programs that are started, unless passed on.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	file, theirs := os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")
	conn, err := net.FileConn(file)
	err = errors.Join(err, file.Close())
	if err == nil {
		if unixConn, ok := conn.(*net.UnixConn); ok {
			return unixConn, theirs, nil
		}
		err = errors.New("not a unix socket")
	}
	return nil, nil, errors.Join(err, theirs.Close())
}

func closeAll[T io.Closer](list []T) error {
	var errs []error
	for _, c := range list {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
