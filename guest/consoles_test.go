// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kindling/steps"
)

func TestConsoleOf(t *testing.T) {
	for family, want := range map[steps.Family]string{steps.FamilyEarlyBash: "/dev/tty2", steps.FamilyBash: "/dev/tty3"} {
		if got := consoleOf(steps.Step{Family: family}); got != want {
			t.Errorf("%s: %s, want %s", family, got, want)
		}
	}
}

// A console is a session of its own on its terminal, nobody waits for it, and there is one at a time.
func TestOpenConsole(t *testing.T) {
	k, path := newTerminal(t)
	a := testAgent(t, io.Discard, io.Discard)
	if said := a.openConsoleAt(t.Context(), path); !strings.HasPrefix(said, "console on "+path+" (process ") {
		t.Fatal(said)
	}
	k.expect("# ")
	if said := a.openConsoleAt(t.Context(), path); said != "the console on "+path+" is open already" {
		t.Error(said)
	}
	k.types("tty; [ $(ps -o sid= -p $$) = $$ ] && echo lea''der; echo in $PWD; exit\n")
	k.expect(path)
	k.expect("leader")
	k.expect("in /") // this machine has no /steps
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if used, err := inUse(path); err != nil || !used {
			break
		}
	}
	if said := a.openConsoleAt(t.Context(), path); !strings.HasPrefix(said, "console on "+path) {
		t.Error(said)
	}
	k.expect("# ")
	k.types("exit\n")
}

// A machine without virtual terminals goes on, whatever stands in their place.
func TestNoConsole(t *testing.T) {
	a := testAgent(t, io.Discard, io.Discard)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "tty2"): "no console: this machine has no ", file: "no terminal", dir: "is a directory", "/dev/null": "inappropriate ioctl",
	} {
		if said := a.openConsoleAt(t.Context(), path); !strings.Contains(said, want) || strings.Contains(said, "\n") {
			t.Errorf("%s: %q", path, said)
		}
	}
}

// Without INTERACTIVE there is no console, even where the plan has the step.
func TestConsoleOfAnotherRun(t *testing.T) {
	cfg, err := steps.PlainConfig(configPath, []byte("INTERACTIVE=False\n"))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	if err := openVT(t.Context(), &job{config: cfg, log: &log}); err != nil || log.String() != "no console: the run is not interactive\n" {
		t.Errorf("%q, %v", log.String(), err)
	}
}
