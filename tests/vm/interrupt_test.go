// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"kindling/host/report"
)

// Ctrl-C on a terminal ends the run, with status 130, a report, and no QEMU left; the terminal has shown live progress.
func TestInterruptOnTerminal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd, dir := command(ctx, t)
	terminal, seen, shown := onTerminal(ctx, t, cmd)
	defer terminal.Close()
	if left := machines(t, dir); len(left) != 1 {
		t.Errorf("QEMU processes of a run under way: %v", left)
	}
	if _, err := terminal.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	<-shown
	if status := cmd.ProcessState.ExitCode(); status != 130 {
		t.Errorf("status %d, want 130:\n%s", status, seen)
	}
	if left := machines(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if r, err := report.Read(filepath.Join(dir, "report.json")); err != nil || r.Result != report.ResultInterrupted {
		t.Errorf("report: %q, %v", r.Result, err)
	}
	if !strings.Contains(seen.String(), "\x1b[") {
		t.Errorf("no live progress on a terminal:\n%q", seen)
	}
}

// transcript collects what a terminal shows.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// onTerminal starts a run on a terminal and waits until its agent is in memory. done is closed when nothing more is shown.
func onTerminal(ctx context.Context, t *testing.T, cmd *exec.Cmd) (terminal *os.File, seen *transcript, done <-chan struct{}) {
	t.Helper()
	cmd.Env = append(os.Environ(), "TERM=xterm")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	seen = &transcript{}
	reading := make(chan struct{})
	go func() { defer close(reading); _, _ = io.Copy(seen, terminal) }()
	for !strings.Contains(seen.String(), "linux-initramfs") {
		if ctx.Err() != nil {
			t.Fatalf("the guest never came up:\n%s", seen)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return terminal, seen, reading
}

// machines lists the processes whose command line names the run folder and that are QEMU.
func machines(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err == nil && bytes.HasPrefix(line, []byte("qemu-system")) && bytes.Contains(line, []byte(dir)) {
			found = append(found, f)
		}
	}
	return found
}
