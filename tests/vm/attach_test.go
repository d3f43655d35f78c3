// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kindling/host/report"
)

// A terminal that closes costs its picture, not the run: who attaches later sees it to its end, with its result.
func TestClosedTerminal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd, dir := command(ctx, t)
	terminal, _, shown := onTerminal(ctx, t, cmd)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil { // what the kernel sends with it
		t.Fatal(err)
	}
	if err := terminal.Close(); err != nil {
		t.Fatal(err)
	}
	<-shown
	var out, said bytes.Buffer
	attach := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "attach", dir)
	attach.Stdout, attach.Stderr = &out, &said
	err := attach.Run()
	f := &finished{t: t, dir: dir, status: attach.ProcessState.ExitCode(), stdout: out.String(), stderr: said.String()}
	if err != nil {
		t.Fatalf("attach: %v\n%s\n%s", err, &out, &said)
	}
	_ = cmd.Wait()
	if f.report, err = report.Read(filepath.Join(dir, "report.json")); err != nil {
		t.Fatal(err)
	}
	f.sound()
	f.contains("what attach shows", f.stdout, "phase linux-initramfs", "phase linux-disk", "improve: after")
	f.contains("what attach says", f.stderr, "report: ")
}

// A run in the background is told from another process to end, and who watches it learns that.
func TestDetachAndStop(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd, dir := command(ctx, t, "--detach")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || strings.TrimSpace(string(out)) != dir {
		t.Fatalf("detach: %v, %q\n%s", err, out, &said)
	}
	kindling := filepath.Join(bin, "kindling")
	attach := exec.CommandContext(ctx, kindling, "attach", "--json", dir)
	events, err := attach.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := attach.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(events)
	planned := false
	for !planned && lines.Scan() {
		planned = strings.Contains(lines.Text(), `"kind":"plan"`)
	}
	if !planned {
		t.Error("no plan among the events")
	}
	if out, err := exec.CommandContext(ctx, kindling, "stop", dir).CombinedOutput(); err != nil {
		t.Errorf("stop: %v\n%s", err, out)
	}
	if _, err := io.Copy(io.Discard, events); err != nil { // what the scanner has left
		t.Error(err)
	}
	_ = attach.Wait()
	if status := attach.ProcessState.ExitCode(); status != 130 {
		t.Errorf("attach ended with %d", status)
	}
	if r, err := report.Read(filepath.Join(dir, "report.json")); err != nil || r.Result != report.ResultInterrupted {
		t.Errorf("report: %q, %v", r.Result, err)
	}
	if left := machines(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	log, err := os.ReadFile(filepath.Join(dir, "kindling.log"))
	if err != nil || !strings.Contains(string(log), "interrupted") {
		t.Errorf("its own words: %v, %q", err, log)
	}
	if again, err := exec.CommandContext(ctx, kindling, "stop", dir).CombinedOutput(); err == nil || !strings.Contains(string(again), "it is over") {
		t.Errorf("stopped again: %v, %s", err, again)
	}
}
