// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package control is how other kindlings reach a run that is under way: a unix socket in its folder.
//
// A client sends one line. "stop" ends the run as Ctrl-C would. "attach" asks for how the run stands: one JSON document a
// line, whenever something has changed. Either way the server closes the connection when the run is over. Both sides
// check by SO_PEERCRED that the other one is the same user, and no process ID is ever read from a file. The package knows
// nothing of runs; it is called by cmd/host.
package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxRequest   = 64       // bytes of a client's line
	maxDocument  = 64 << 20 // bytes of a document
	maxClients   = 32
	requestTime  = 5 * time.Second // for a client to send its line
	writeTime    = 5 * time.Second // for a client to take a document
	documentTime = time.Second
)

// ErrPeer is a process of another user at the other end.
var ErrPeer = errors.New("control socket: another user's process")

// ErrNoRun is a folder in which no run listens.
var ErrNoRun = errors.New("no run is under way")

// Handler is the run.
type Handler struct {
	Stop func() // ends the run; returns at once
	// Document is how the run stands, as one line of JSON without its newline, and nil when it is as before: seen is
	// what the client was given last, nil at first.
	Document func(seen any) (line []byte, state any)
}

// Server listens for clients.
type Server struct {
	handler  Handler
	listener *net.UnixListener
	done     chan struct{}
	clients  sync.WaitGroup
	slots    chan struct{}
	name     string
}

// Listen makes the socket name in the folder. A socket left by a dead run is replaced: the caller holds the folder's
// lock.
func Listen(dir, name string, h Handler) (*Server, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer folder.Close()
	path := within(folder, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // the path is good only while folder is open
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	s := &Server{handler: h, listener: l, done: make(chan struct{}), slots: make(chan struct{}, maxClients), name: dir + "/" + name}
	s.clients.Add(1)
	go s.accept()
	return s, nil
}

// within is a path to a file in an open folder that fits into the 108 bytes of a socket's address, however long the
// folder's own path is.
func within(folder *os.File, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(folder.Fd())) + "/" + name
}

// Close ends all connections and removes the socket.
func (s *Server) Close() error {
	close(s.done)
	err := s.listener.Close()
	s.clients.Wait()
	if removed := os.Remove(s.name); removed != nil && !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}

func (s *Server) accept() {
	defer s.clients.Done()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			return // Close
		}
		select {
		case s.slots <- struct{}{}:
		default:
			_ = conn.Close() // too many at once
			continue
		}
		s.clients.Add(1)
		go func() {
			defer s.clients.Done()
			defer func() { <-s.slots }()
			defer conn.Close()
			s.serve(conn)
		}()
	}
}

// serve answers one client. What goes wrong with it is its own business.
func (s *Server) serve(conn *net.UnixConn) {
	if checkPeer(conn) != nil || conn.SetReadDeadline(time.Now().Add(requestTime)) != nil {
		return
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadString('\n')
	if err != nil {
		return
	}
	gone := make(chan struct{})
	switch strings.TrimSuffix(line, "\n") {
	case "stop":
		s.handler.Stop()
		<-s.done
	case "attach":
		go func() { // a client sends nothing more: what comes is its end
			_ = conn.SetReadDeadline(time.Time{})
			_, _ = conn.Read(make([]byte, 1))
			close(gone)
		}()
		s.stream(conn, gone)
	}
}

func (s *Server) stream(conn *net.UnixConn, gone <-chan struct{}) {
	ticker := time.NewTicker(documentTime)
	defer ticker.Stop()
	var seen any
	for over := false; ; {
		line, state := s.handler.Document(seen)
		if seen = state; line != nil {
			_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := conn.Write(append(line, '\n')); err != nil {
				return
			}
		}
		if over {
			return
		}
		select {
		case <-gone:
			return
		case <-s.done:
			over = true // once more, for how it ended
		case <-ticker.C:
		}
	}
}

// checkPeer reports a process of another user at the other end. Root may be there: it could do everything anyway.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || failed != nil {
		return fmt.Errorf("control socket: peer: %w", errors.Join(err, failed))
	}
	return samePeer(cred.Uid, os.Geteuid())
}

func samePeer(uid uint32, euid int) error {
	if int(uid) != euid && uid != 0 {
		return fmt.Errorf("%w: user %d", ErrPeer, uid)
	}
	return nil
}

// dial connects to the run of a folder. ErrNoRun: no process listens there.
func dial(dir, name, request string) (*net.UnixConn, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer folder.Close()
	path := within(folder, name)
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("control socket: %s/%s is not a socket", dir, name)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: %s", ErrNoRun, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	err = checkPeer(conn)
	if err == nil {
		_, err = io.WriteString(conn, request+"\n")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Stop ends the run of a folder and waits until it is over, or ctx ends.
func Stop(ctx context.Context, dir, name string) error {
	conn, err := dial(dir, name, "stop")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("wait for the end of the run: %w", err)
	}
	return nil
}

// Attach gives every document about the run of a folder to each, until the run is over or ctx ends, which is not an error.
func Attach(ctx context.Context, dir, name string, each func(line []byte) error) error {
	conn, err := dial(dir, name, "attach")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 64<<10), maxDocument)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}
