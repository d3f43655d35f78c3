// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/rundir"
)

// contents gives the files in a folder by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

// stepLogs makes logs in a new run folder, and gives their folder.
func stepLogs(t *testing.T, maxFiles int, maxSize, all int64) (*StepLogs, string) {
	t.Helper()
	run, err := rundir.Create(rundir.Options{Path: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	logs, err := NewStepLogs(run, maxFiles, maxSize, &quota{all})
	if err != nil {
		t.Fatal(err)
	}
	return logs, run.At(rundir.Steps)
}

// All logs together have a limit, too.
func TestStepLogsQuota(t *testing.T) {
	logs, dir := stepLogs(t, 3, 100, 12)
	for _, id := range []string{"a", "b"} {
		if err := logs.Write(id, "0123456789"); err != nil {
			t.Fatal(err)
		}
	}
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a.log": "0123456789\n", "b.log": "[the log is longer than 0 bytes: the rest is left out]\n"}
	if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStepLogs(t *testing.T) {
	logs, dir := stepLogs(t, 3, 20, 1000)
	write := func(id, line string) {
		t.Helper()
		if err := logs.Write(id, line); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "first")
	write("b", "other")
	write("a", "second")
	for _, id := range []string{"../x", "/etc/x", "", ".", "..", "x/y", "x\ny", "-\x00"} {
		write(id, "never")
	}
	write("c", "0123456789")
	write("c", "0123456789") // too much
	write("c", "0")          // after that
	write("d", "one file too many")
	if err := logs.Flush(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"a.log": "first\nsecond\n", "b.log": "other\n",
		"c.log": "0123456789\n[the log is longer than 11 bytes: the rest is left out]\n",
	}
	if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := logs.Refused(); got != 11 {
		t.Errorf("refused %d lines, want 11", got)
	}
	if !logs.Has("a") || logs.Has("d") {
		t.Errorf("Has(a) = %v, Has(d) = %v", logs.Has("a"), logs.Has("d"))
	}
	if err := logs.Close(); err != nil {
		t.Error(err)
	}
}

// TestStepLogsConfined has a link in the folder that leads out of it.
func TestStepLogsConfined(t *testing.T) {
	logs, dir := stepLogs(t, 3, 20, 1000)
	outside := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "a.log")); err != nil {
		t.Fatal(err)
	}
	if err := logs.Write("a", "line"); err == nil {
		t.Error("a link out of the folder was followed")
	}
	if err := logs.Close(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "precious" {
		t.Errorf("outside: %q, %v", data, err)
	}
}

// TestStepLogsDescriptors writes to more steps than a process may have files open.
func TestStepLogsDescriptors(t *testing.T) {
	logs, _ := stepLogs(t, 5000, 100, 1<<20)
	for i := range 2000 {
		if err := logs.Write(fmt.Sprint("s", i), "line"); err != nil {
			t.Fatal(err)
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if len(fds) > 100 {
		t.Errorf("%d files are open", len(fds))
	}
	if err := logs.Close(); err != nil {
		t.Error(err)
	}
}
