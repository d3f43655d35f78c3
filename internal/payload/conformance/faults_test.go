// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/payload"
)

const (
	errnoIO    = 5
	errnoSpace = 28
)

// TestFailingCalls lets each system call of the C program fail, each time it is made. Whatever fails, the program must
// say so in one line or be none the worse, and leave nothing behind that is not right under its name.
func TestFailingCalls(t *testing.T) {
	three := threeFiles()
	world := scratch(t)
	image := filepath.Join(world, "image")
	if err := os.WriteFile(image, container(true, withSums(three...)...), 0o644); err != nil {
		t.Fatal(err)
	}
	forEachDriver(t, func(t *testing.T, driver string) {
		for _, call := range []string{
			"open", "read", "write", "close", "fsync", "rename", "unlink", "lstat", "stat", "statfs", "mkdir", "chdir",
		} {
			t.Run(call, func(t *testing.T) {
				for n := 1; n < 50; n++ {
					if !failCall(t, driver, image, fmt.Sprintf("%s:%d:%d", call, n, errnoIO), three) {
						if n == 1 {
							t.Errorf("%s is never called", call)
						}
						return
					}
				}
			})
		}
	})
}

// failCall runs one import with a fault and reports whether the fault came up.
func failCall(t *testing.T, driver, image, fault string, files []file) bool {
	t.Helper()
	var call string
	var at, number int
	if _, err := fmt.Sscanf(strings.ReplaceAll(fault, ":", " "), "%s %d %d", &call, &at, &number); err != nil {
		t.Fatal(err)
	}
	base := scratch(t)
	before := tree{"dst/agent": "file wrong", "dst/" + files[1].name: "file " + files[1].data}
	if call != "mkdir" {
		before.plant(t, base)
	}
	v := runJobs(t, driver, base, []job{{fault: fault, args: []string{"--device", image, filepath.Join(base, "dst")}}})[0]
	if v.calls < at {
		if !v.accepted(t) {
			t.Errorf("%s: never reached, yet refused: %s", fault, v.stderr)
		}
		return false
	}
	// the other calls are made to look at a file that is there, too, which is then taken for wrong and replaced
	mustBeSaid := []string{"write", "fsync", "rename", "unlink", "lstat", "statfs", "mkdir", "chdir"}
	if v.accepted(t) && slices.Contains(mustBeSaid, call) {
		t.Errorf("%s: nothing was said", fault)
	}
	allowed := holding(files...)
	for name, what := range snapshot(t, base) {
		wrong := name == "dst/agent" && what == "file wrong"
		stuck := name == "dst/"+payload.TempName && call == "unlink"
		if allowed[name] != what && !wrong && !stuck {
			t.Errorf("%s: left behind %s", fault, name)
		}
	}
	if v.accepted(t) {
		if diff := cmp.Diff(allowed, snapshot(t, base)); diff != "" {
			t.Errorf("%s: accepted, but (-want +got):\n%.1000s", fault, diff)
		}
	}
	return true
}

// TestSpace lets the destination be as small as it can be, and one block smaller.
func TestSpace(t *testing.T) {
	files := []file{{name: "f", data: noise(10_000, 1)}, {name: "g", data: noise(2048, 2)}}
	base := scratch(t)
	image := filepath.Join(base, "image")
	if err := os.WriteFile(image, container(true, withSums(files...)...), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		free int64
		args []string
		opt  payload.ImportOptions
		ok   bool
	}{
		{free: 10_240, ok: true},
		{free: 9_216},
		{free: 20_480, args: []string{"--bytes", "12048"}, opt: payload.ImportOptions{Bytes: 12_048}, ok: true},
		{free: 11_264, args: []string{"--bytes", "12048"}, opt: payload.ImportOptions{Bytes: 12_048}},
	}
	forEachDriver(t, func(t *testing.T, driver string) {
		for i, c := range cases {
			dst := filepath.Join(t.TempDir(), "dst")
			args := append([]string{"--device", image}, append(c.args, dst)...)
			v := runJobs(t, driver, base, []job{{fault: fmt.Sprintf("free:%d", c.free), args: args}})[0]
			if v.accepted(t) != c.ok {
				t.Errorf("case %d: %s", i, v.stderr)
			}
			if !c.ok && !strings.Contains(v.stderr, "not enough space") {
				t.Errorf("case %d: %s", i, v.stderr)
			}
			c.opt.Free = func(string) (int64, int64, error) { return c.free, 1024, nil }
			f, err := os.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			goDst := filepath.Join(t.TempDir(), "dst")
			_, err = payload.Import(t.Context(), f, goDst, c.opt)
			if (err == nil) != c.ok {
				t.Errorf("case %d: Import: %v", i, err)
			}
			if diff := cmp.Diff(snapshot(t, goDst), snapshot(t, dst)); diff != "" {
				t.Errorf("case %d (-go +c):\n%.1000s", i, diff)
			}
			f.Close()
		}
		dst := filepath.Join(t.TempDir(), "dst")
		full := fmt.Sprintf("write:1:%d", errnoSpace)
		v := runJobs(t, driver, base, []job{{fault: full, args: []string{"--device", image, dst}}})[0]
		if v.accepted(t) || !strings.Contains(v.stderr, "f: offset") || !strings.Contains(v.stderr, "file system is full") {
			t.Errorf("a full disk: %s", v.stderr)
		}
		if left := snapshot(t, dst); len(left) != 0 {
			t.Errorf("a full disk leaves %v", left)
		}
	})
}

// TestUnreadable lets a disk fail in the middle of a file: the line must say which file, where and what.
func TestUnreadable(t *testing.T) {
	base := scratch(t)
	image := filepath.Join(base, "image")
	if err := os.WriteFile(image, container(true, file{name: "large", data: noise(4<<20, 1)}), 0o644); err != nil {
		t.Fatal(err)
	}
	forEachDriver(t, func(t *testing.T, driver string) {
		args := []string{"--device", image, filepath.Join(t.TempDir(), "dst")}
		v := runJobs(t, driver, base, []job{{fault: fmt.Sprintf("read:3:%d", errnoIO), args: args}})[0]
		// the first two reads, one to see whether it is a payload and one that fills the buffer, end at 1 MiB
		want := fmt.Sprintf("payload-import: large: offset %d: %s cannot be read: input/output error (", 1<<20, image)
		if v.accepted(t) || !strings.HasPrefix(v.stderr, want) {
			t.Errorf("got %q, want %q", v.stderr, want)
		}
	})
}

// TestReach gives the C program a kernel that wraps, as Fiwix does at 4 GiB, here much earlier.
func TestReach(t *testing.T) {
	a, b, c := file{name: "a", data: noise(100_000, 1)}, file{name: "b", data: noise(100_000, 2)}, file{name: "c", data: "c"}
	image := container(true, withSums(a, b, c)...)
	_, listed, err := payload.List(strings.NewReader(string(image)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	end := listed[1].Offset + listed[1].Size
	cases := []struct {
		name  string
		reach int64
		args  []string
		line  string // of the failure, "" for none
		want  tree
	}{
		{name: "all within", reach: int64(len(image)), want: holding(a, b, c)},
		{name: "b ends at it", reach: end, args: []string{"--count", "2"}, want: holding(a, b)},
		{name: "b ends behind it", reach: end - 1, line: "b: offset", want: holding(a)},
		{name: "c is passed over to", reach: end - 1, args: []string{"--skip", "2"}, line: "cannot read", want: holding()},
		{name: "the head of c is behind it", reach: end, line: "cannot read", want: holding(a, b)},
	}
	forEachDriver(t, func(t *testing.T, driver string) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				base := t.TempDir()
				args := append(append([]string{"--device", path}, tc.args...), filepath.Join(base, "dst"))
				v := runJobs(t, driver, base, []job{{fault: fmt.Sprintf("reach:%d", tc.reach), args: args}})[0]
				if v.accepted(t) != (tc.line == "") || !strings.Contains(v.stderr, tc.line) {
					t.Errorf("standard error: %q, want %q", v.stderr, tc.line)
				}
				if diff := cmp.Diff(tc.want, snapshot(t, base)); diff != "" {
					t.Errorf("directory (-want +got):\n%.1000s", diff)
				}
			})
		}
	})
}
