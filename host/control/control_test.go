// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const name = "control"

// folder is one whose path is too long for a socket's address.
func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStop(t *testing.T) {
	dir, stopped := folder(t), make(chan struct{})
	s, err := Listen(dir, name, Handler{Stop: func() { close(stopped) }})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", info, err)
	}
	over := make(chan error, 1)
	go func() { over <- Stop(t.Context(), dir, name) }()
	<-stopped
	select {
	case err := <-over:
		t.Errorf("stop does not wait for the end: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
	if err := Stop(t.Context(), dir, name); !errors.Is(err, ErrNoRun) {
		t.Errorf("after the end: %v", err)
	}
}

// A socket that a killed run has left is replaced; a client gets ErrNoRun.
func TestLeftBehind(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := Attach(t.Context(), dir, name, nil); !errors.Is(err, ErrNoRun) {
		t.Errorf("attach: %v", err)
	}
	s, err := Listen(dir, name, Handler{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAttach(t *testing.T) {
	dir := folder(t)
	var state atomic.Int64
	s, err := Listen(dir, name, Handler{Document: func(seen any) ([]byte, any) {
		now := state.Load()
		if seen == now {
			return nil, seen
		}
		return fmt.Appendf(nil, "%d", now), now
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	over := make(chan error, 1)
	go func() {
		over <- Attach(t.Context(), dir, name, func(line []byte) error { got <- string(line); return nil })
	}()
	if line := <-got; line != "0" {
		t.Errorf("first %q", line)
	}
	state.Store(7)
	if err := s.Close(); err != nil { // how it ended is told, too
		t.Fatal(err)
	}
	if line := <-got; line != "7" {
		t.Errorf("last %q", line)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if s, err = Listen(dir, name, Handler{Document: func(any) ([]byte, any) { return nil, nil }}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := Attach(ctx, dir, name, func([]byte) error { return nil }); err != nil {
		t.Errorf("the end of the watching is an error: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Clients that say nothing, or nonsense, or do not read delay no other client.
func TestBadClients(t *testing.T) {
	dir := t.TempDir()
	s, err := Listen(dir, name, Handler{
		Stop:     func() { t.Error("stopped") },
		Document: func(any) ([]byte, any) { return make([]byte, 1<<20), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "kill 1\n", "stop now\n", strings.Repeat("x", 1000), "attach\n"} {
		conn, err := net.Dial("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2*writeTime + requestTime):
		t.Error("clients hold up the end")
	}
}

// A file in the socket's place is not talked to; another user's process neither.
func TestPeer(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/elsewhere", filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), dir, name); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a link: %v", err)
	}
	for uid, ok := range map[uint32]bool{1000: true, 0: true, 1001: false} {
		if err := samePeer(uid, 1000); (err == nil) != ok || err != nil && !errors.Is(err, ErrPeer) {
			t.Errorf("user %d: %v", uid, err)
		}
	}
}
