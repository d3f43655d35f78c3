// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A run that is killed behind its jumps goes on from each of them, in folders of their own, to the same end; from one of
// them twice, so that starting from a checkpoint does not use it up.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	killed := killedRun(t)
	list, err := exec.Command(filepath.Join(bin, "kindling"), "checkpoints", killed).CombinedOutput()
	if err != nil || strings.Count(string(list), "MiB") != 2 || !strings.Contains(string(list), "linux-initramfs") {
		t.Errorf("list: %v\n%s", err, list)
	}
	for _, name := range []string{"linux", "disk", "disk"} {
		f := boot(t, "--from", name, killed)
		f.sound()
		f.contains("what is said", f.stderr, "going on from "+name)
		if t.Failed() {
			return
		}
	}
}

// killedRun is the folder of a run that was killed (kill -9, so that nothing could be put in order) when it lived on
// its disk and both checkpoints were kept.
func killedRun(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd, dir := command(ctx, t, "--checkpoints", "on")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "checkpoint disk: kept in") {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the run has ended: %v\n%s\n%s", err, text, said.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	gone(t, dir)
	return dir
}

// gone waits until the machine of a run whose kindling was killed has ended.
func gone(t *testing.T, dir string) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); len(machines(t, dir)) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("QEMU outlives a killed kindling: %v", machines(t, dir))
		}
	}
}
