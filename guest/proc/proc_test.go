// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package proc

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sh starts a shell command under a running reaper.
func sh(t *testing.T, r *Reaper, script string) *Process {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	p, err := r.Start(Spec{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/", Files: []*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func running(t *testing.T) *Reaper {
	t.Helper()
	r := NewReaper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return r
}

func TestStatus(t *testing.T) {
	r := running(t)
	for _, tt := range []struct {
		script string
		want   Status
		text   string
	}{
		{"exit 0", Status{}, "exit status 0"},
		{"exit 3", Status{Exit: 3}, "exit status 3"},
		{"kill -9 $$", Status{Exit: 137, Signal: syscall.SIGKILL}, "killed by signal 9 (killed)"},
	} {
		got, err := sh(t, r, tt.script).Wait(context.Background(), time.Second)
		if err != nil || got != tt.want || got.String() != tt.text {
			t.Errorf("%q: got %+v %q %v, want %+v %q", tt.script, got, got, err, tt.want, tt.text)
		}
	}
}

// A child that ends before Start has returned must not be lost: many short ones at once would show it.
func TestManyShortChildren(t *testing.T) {
	r := running(t)
	var wg sync.WaitGroup
	for range 50 {
		p := sh(t, r, "exit 7")
		wg.Go(func() {
			if s, err := p.Wait(context.Background(), time.Second); err != nil || s.Exit != 7 {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
	wg.Wait()
}

func TestWaitEndsTheWholeGroup(t *testing.T) {
	r := running(t)
	p := sh(t, r, "trap '' TERM; sleep 60 & wait; sleep 60")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	s, err := p.Wait(ctx, 200*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || s.OK() {
		t.Fatalf("got %v, %v", s, err)
	}
	all, err := listProcesses()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.pgrp == p.Pid() && !e.ended {
			t.Errorf("left of the group: %+v", e)
		}
	}
}

func TestStartMissing(t *testing.T) {
	if _, err := running(t).Start(Spec{Path: "/does/not/exist", Args: []string{"x"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
