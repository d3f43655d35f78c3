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
	Ports    []*net.UnixConn // serial ports, COM1 first; a machine waits where nobody reads
	Network  *net.UnixConn   // Ethernet frames, each behind its length as 4 bytes, big-endian (QEMU's net/stream.c)
	Control  *net.UnixConn   // QEMU Machine Protocol
	Incoming *net.UnixConn   // takes the state of a machine that is restored
	Output   *os.File        // what QEMU itself prints
}

// connect makes the sockets and gives the machine's ends of them, in the order in which socketArgs numbers them.
func (o Options) connect() (s *Sockets, theirs []*os.File, err error) {
	s = &Sockets{Ports: make([]*net.UnixConn, o.Ports)}
	ends := make([]**net.UnixConn, 0, o.Ports+3)
	for i := range s.Ports {
		ends = append(ends, &s.Ports[i])
	}
	for _, optional := range []struct {
		wanted bool
		end    **net.UnixConn
	}{{o.NIC != nil, &s.Network}, {o.Control, &s.Control}, {o.Incoming, &s.Incoming}} {
		if optional.wanted {
			ends = append(ends, optional.end)
		}
	}
	for _, end := range ends {
		ours, other, err := socketPair()
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("connect a machine: %w", err), s.Close(), closeAll(theirs))
		}
		*end, theirs = ours, append(theirs, other)
	}
	return s, theirs, nil
}

// Close closes all of them.
func (s *Sockets) Close() error {
	var errs []error
	for _, c := range append([]*net.UnixConn{s.Network, s.Control, s.Incoming}, s.Ports...) {
		if c != nil {
			errs = append(errs, ignoreClosed(c.Close()))
		}
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
