// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kindling/host/report"
)

// seed is the first program of a chroot in these tests, in the place of the tree's kaem-optional-seed: it reads what to
// do from the tree's manifest, which such a program does as well in its way.
const seed = `package main

import ("fmt"; "net"; "os"; "os/exec"; "strings"; "time")

func main() {
	manifest, err := os.ReadFile("/steps/manifest")
	if err != nil { panic(err) }
	_, what, _ := strings.Cut(string(manifest), "# do: ")
	what, _, _ = strings.Cut(what, "\n")
	fmt.Println("the seed runs:", what)
	if host, found := strings.CutPrefix(what, "break out to "); found {
		breakOut(strings.Fields(host))
		what = "finish"
	}
	switch what {
	case "finish":
		if err := os.MkdirAll("/kindling", 0o755); err != nil { panic(err) }
		if err := os.WriteFile("/kindling/done", []byte("ok\n"), 0o644); err != nil { panic(err) }
	case "run after.sh":
		cmd := exec.Command("/usr/bin/bash", "-c", "set -e\n. /steps/bootstrap.cfg\n. /steps/env\n. /steps/improve/after.sh")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil { fmt.Println(err); os.Exit(3) }
	case "fail":
		os.Exit(3)
	case "wait":
		time.Sleep(time.Hour)
	}
}

func breakOut(host []string) {
	failed := false
	reached := func(what string, err error) {
		if err == nil { fmt.Println("reached:", what); failed = true }
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil { panic(err) }
	if !strings.Contains(string(status), "CapEff:\t0000000000000000") { reached("capabilities", nil) }
	for _, name := range []string{"/proc/sys/kernel/core_pattern", "/sys/module/printk/parameters/time", "/proc/sysrq-trigger", "/dev/tty"} {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		reached(name, err)
		if err == nil { f.Close() }
	}
	_, err = net.DialTimeout("unix", "@" + host[0], time.Second)
	reached("an abstract socket", err)
	_, err = net.DialTimeout("tcp", host[1], time.Second)
	reached("the host's loopback", err)
	entries, err := os.ReadDir("/proc")
	if err != nil { panic(err) }
	for _, e := range entries {
		if line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && strings.Contains(string(line), "vm.test") { reached("processes of the host", nil) }
	}
	if failed { os.Exit(4) }
}
`

// chrootTree makes a tree whose seed does one thing.
func chrootTree(t *testing.T, do string) string {
	t.Helper()
	tree := t.TempDir()
	files := map[string]string{
		"steps/manifest":   "build: one-1.0\nimprove: after\n# do: " + do + "\n",
		"steps/env":        "DISTFILES=/external/distfiles\n",
		"steps/helpers.sh": "", "steps/configurator": "", "steps/one-1.0/pass1.kaem": "", "steps/improve/after.sh": "",
		"steps/jump/fiwix.sh": "", "seed/seed.kaem": "", "seed/preseeded.kaem": "", "seed/stage0-posix/kaem.x86": "",
		"builder-hex0/builder-hex0-x86-stage1.hex0": "", "builder-hex0/builder-hex0-x86-stage2.hex0": "",
	}
	for name, data := range files {
		path := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte(seed), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(tree, "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed")
	cmd := exec.Command("go", "build", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return tree
}

// A chroot, or bubblewrap, has no event port: its exit status and the marker of its last step decide.
func TestChroot(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to run this test as root")
		}
		t.Skip("chroot needs root; CI has it")
	}
	needs(t, "bwrap")
	t.Parallel()
	abstract, err := net.Listen("unix", fmt.Sprintf("@kindling-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	loopback, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { abstract.Close(); loopback.Close() })
	escape := fmt.Sprintf("break out to kindling-test-%d %s", os.Getpid(), loopback.Addr())
	for _, tt := range []struct {
		mode   string
		do     string
		status int
		line   string
	}{
		{"--chroot", "finish", 0, ""},
		{"--chroot", "fail", 10, "exit status 3"},
		{"--chroot", "stop half-way", 10, "without having reached its last step"},
		{"--chroot", "wait", 130, "interrupted"},
		{"--bwrap", "finish", 0, ""},
		{"--bwrap", "fail", 10, "exit status 3"},
		{"--bwrap", escape, 0, ""},
	} {
		t.Run(tt.mode+" "+tt.do, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			dir := filepath.Join(t.TempDir(), "run")
			cmd := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "run", "--tree", chrootTree(t, tt.do), tt.mode, "--run", dir)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if tt.status == 130 {
				waitFor(ctx, t, filepath.Join(dir, "console.log"), "the seed runs")
				if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != tt.status || !strings.Contains(stderr.String(), tt.line) {
				t.Errorf("status %d, want %d:\n%s", got, tt.status, stderr.String())
			}
			r, err := report.Read(filepath.Join(dir, "report.json"))
			if err != nil || r.ExitStatus != tt.status {
				t.Errorf("report: %d, %v", r.ExitStatus, err)
			}
			if out, _ := exec.Command("pgrep", "-f", "^/bootstrap-seeds/POSIX/x86/kaem-optional-seed").Output(); tt.status == 130 && len(out) > 0 {
				t.Errorf("left behind: %s", out)
			}
		})
	}
}

// waitFor waits until a file contains text.
func waitFor(ctx context.Context, t *testing.T, path, text string) {
	t.Helper()
	for ctx.Err() == nil {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), text) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s never said %q", path, text)
}
