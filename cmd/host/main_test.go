// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the program itself a command of the scripts in testdata/script.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kindling": main})
}

// TestCommandLine runs the scripts. They have one command of their own: "status N PROGRAM ARGS...", which fails unless
// the program ends with that exit status.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": status},
	})
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit interface{ ExitCode() int }
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func TestVersionText(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	tests := []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"nothing known", debug.BuildInfo{}, "development"},
		{"no repository", debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "(devel)"}},
			"development go1.26.0"},
		{"release", debug.BuildInfo{
			GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.0"},
			Settings: []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef"),
				setting("vcs.time", "2026-01-02T03:04:05Z"), setting("vcs.modified", "false")},
		}, "v1.2.0 commit 0123456789ab (2026-01-02T03:04:05Z) go1.26.0"},
		{"no release yet", debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20260102030405-0123456789ab+dirty"}}, "development"},
		{"modified", debug.BuildInfo{Settings: []debug.BuildSetting{
			setting("vcs.revision", "abc"), setting("vcs.time", "T"), setting("vcs.modified", "true")}},
			"development commit abc (T, modified)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, versionText(&tt.info)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneLine(t *testing.T) {
	err := errors.Join(usageError("tree %q: \x1b[31mred\u202e", "x"), fmt.Errorf("second: %w", io.EOF))
	if diff := cmp.Diff(`tree "x": red; second: EOF`, oneLine(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var known *exitError
	if !errors.As(err, &known) || known.status != statusUsage {
		t.Errorf("status of %v is lost", err)
	}
}

// TestUntilSignal sends each signal to the test itself and expects the context to end.
func TestUntilSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			ctx, stop := untilSignal(t.Context())
			defer stop()
			if err := syscall.Kill(os.Getpid(), sig); err != nil {
				t.Fatal(err)
			}
			if sig == syscall.SIGHUP && signal.Ignored(sig) { // the tests run under nohup, as a run may
				if ctx.Err() != nil {
					t.Errorf("nohup has it ignored, and the context ends: %v", ctx.Err())
				}
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
				t.Error("the context goes on")
			}
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("context: %v", ctx.Err())
			}
		})
	}
}

// TestClosedPipe writes to a pipe that nobody reads any more, as behind "| head": the end, without a word.
func TestClosedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	words, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = words.Close() }()
	for _, args := range [][]string{{"version"}, {"man"}, {"completion", "bash"}} {
		if got := execute(args, streams{out: w, err: words}); got != statusPipe {
			t.Errorf("%q: exit status %d, want %d", args, got, statusPipe)
		}
	}
	if said, err := os.ReadFile(words.Name()); err != nil || len(said) > 0 {
		t.Errorf("it says %q, %v", said, err)
	}
	// Another pipe is another matter.
	broken := &fs.PathError{Op: "write", Path: "/some/pipe", Err: syscall.EPIPE}
	if status, line := statusOf(broken, w); status != statusInternal || line == "" {
		t.Errorf("another pipe: %d, %q", status, line)
	}
}
