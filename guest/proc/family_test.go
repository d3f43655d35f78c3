// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// subreaper makes orphans of this test's processes its children, as those of a machine are PID 1's.
func subreaper(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}

// 10,000 orphans in a row, among them children of our own: all are reaped, and no status is lost or mixed up.
func TestManyOrphans(t *testing.T) {
	subreaper(t)
	r := running(t)
	const orphans = 10_000
	before := r.Orphans()
	storm := sh(t, r, fmt.Sprintf("i=0; while [ $i -lt %d ]; do (: &); i=$((i+1)); done", orphans))
	for range 20 {
		if s, err := sh(t, r, "exit 7").Wait(context.Background(), time.Second); err != nil || s.Exit != 7 {
			t.Errorf("a child in the storm: %v, %v", s, err)
		}
	}
	if s, err := storm.Wait(context.Background(), time.Second); err != nil || !s.OK() {
		t.Fatalf("the storm: %v, %v", s, err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for r.Orphans()-before < orphans && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if got := r.Orphans() - before; got != orphans {
		t.Errorf("%d orphans reaped, want %d", got, orphans)
	}
	all, err := listProcesses()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.ppid == os.Getpid() {
			t.Errorf("left behind: %+v", e)
		}
	}
}

// What a step has started ends with it, whatever it has done to get away; what was there before, and what else the
// reaper has started, stays.
func TestEndFindsTheWholeFamily(t *testing.T) {
	subreaper(t)
	r := running(t)
	dir := t.TempDir()
	note := func(name string) string { return "echo $$ > " + filepath.Join(dir, name) + ";" }
	old := sh(t, r, "(sh -c '"+note("old")+" exec sleep 300' &) ; exit 0")
	if s, err := old.Wait(context.Background(), time.Second); err != nil || !s.OK() {
		t.Fatal(s, err)
	}
	oldPID := waitFor(t, dir, "old")
	time.Sleep(30 * time.Millisecond) // start times count in ticks of 10 ms
	step := sh(t, r, "sh -c '"+note("child")+" exec sleep 300' & "+
		"setsid sh -c '"+note("session")+" exec sleep 300' & "+
		"(setsid sh -c '"+note("deaf")+` trap "" TERM HUP; while :; do sleep 1; done' &) ; `+
		"(setsid sh -c '"+note("stopped")+" kill -STOP $$; sleep 300' &) ; exec sleep 300")
	other := sh(t, r, note("other")+" exec sleep 300")
	var mine []int
	for _, name := range []string{"child", "session", "deaf", "stopped"} {
		mine = append(mine, waitFor(t, dir, name))
	}
	otherPID := waitFor(t, dir, "other")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if s, err := step.Wait(ctx, 500*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || s.OK() {
		t.Errorf("got %v, %v", s, err)
	}
	for _, pid := range mine {
		if alive(pid) {
			t.Errorf("process %d has got away", pid)
		}
	}
	for _, pid := range []int{oldPID, otherPID} {
		if !alive(pid) {
			t.Errorf("process %d was no business of the step", pid)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	if _, err := other.Wait(context.Background(), time.Second); err != nil {
		t.Error(err)
	}
}

// waitFor waits for the process that writes its ID into a file.
func waitFor(t *testing.T, dir, name string) int {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if pid, bad := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && bad == nil {
			return pid
		}
	}
	t.Fatalf("process %s has not begun", name)
	return 0
}

func alive(pid int) bool {
	e, err := readStat(pid)
	return err == nil && !e.ended
}

func TestFamily(t *testing.T) {
	const reaper = 1
	leader := entry{pid: 50, start: 100}
	others := map[int]bool{50: false, 40: true, 60: true}
	for _, tt := range []struct {
		name string
		all  []entry
		want []int
	}{
		{"leader and child", []entry{{pid: 50, ppid: 1, start: 100}, {pid: 51, ppid: 50, start: 101}}, []int{50, 51}},
		{"a zombie counts no more", []entry{{pid: 50, ppid: 1, start: 100, ended: true}}, nil},
		{"its number is somebody else's now", []entry{{pid: 50, ppid: 1, start: 99}}, nil},
		{"orphan of an orphan", []entry{{pid: 70, ppid: 1, session: 70, start: 120}, {pid: 71, ppid: 70, start: 121}}, []int{70, 71}},
		{"a daemon of an earlier step, and its child", []entry{{pid: 30, ppid: 1, start: 90}, {pid: 72, ppid: 30, start: 120}}, nil},
		{"a console, its child, its orphan", []entry{{pid: 60, ppid: 1, session: 60, start: 105}, {pid: 73, ppid: 60, session: 60, start: 120},
			{pid: 74, ppid: 1, pgrp: 74, session: 60, start: 121}}, nil},
		{"kernel threads", []entry{{pid: 2, ppid: 0}, {pid: 75, ppid: 2, start: 130}}, nil},
		{"the reaper itself", []entry{{pid: 1, ppid: 0, start: 200, pgrp: 50}}, nil},
		{"a parent that is gone", []entry{{pid: 76, ppid: 999, start: 130}}, nil},
		{"a loop", []entry{{pid: 77, ppid: 78, start: 130}, {pid: 78, ppid: 77, start: 130}}, nil},
	} {
		if d := cmp.Diff(tt.want, family(tt.all, leader, reaper, others)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, d)
		}
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 5 4 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0\n"
	for _, name := range []string{"sh", "a) S 9 9 9 (b", ")", "", "((", "x y"} {
		got, err := parseStat("7 (" + name + ")" + tail)
		if want := (entry{pid: 7, ppid: 1, pgrp: 5, session: 4, start: 777}); err != nil || got != want {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
	for cut := range len("7 (sh)" + tail[:len(tail)-8]) {
		if got, err := parseStat(("7 (sh)" + tail)[:cut]); err == nil {
			t.Errorf("cut at %d: %+v", cut, got)
		}
	}
	if self, err := readStat(os.Getpid()); err != nil || self.pid != os.Getpid() || self.ppid != os.Getppid() {
		t.Errorf("our own: %+v, %v", self, err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (sh) S 1 5 4 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := parseStat(text); err == nil && e.pid == 0 && !strings.Contains(text, "0") {
			t.Errorf("%q: %+v", text, e)
		}
	})
}
