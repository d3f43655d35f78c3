// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources is where the C files are, seen from this package.
const sources = "../../../cmd/payload-import"

// strict is how the C program is gated: nothing that is not C89.
var strict = []string{"-std=c89", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"}

// compiler is one way to build the C program.
type compiler struct {
	name string
	args []string
}

// compilers are all ways to build it that are required to be there in CI.
func compilers() []compiler {
	sanitized := append([]string{"gcc"}, strict...)
	sanitized = append(sanitized, "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
	return []compiler{
		{name: "gcc", args: sanitized},
		{name: "tcc", args: []string{"tcc", "-Wall"}},
	}
}

// buildDir holds what build has compiled; TestMain makes and removes it, so that each program is compiled once.
var buildDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "payload-conformance-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		buildDir = dir
		return m.Run()
	}())
}

// build compiles a C file of the program's folder, unless that has been done, and returns the path of the result.
func (c compiler) build(t testing.TB, source string) string {
	t.Helper()
	if _, err := exec.LookPath(c.args[0]); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is required when CI is set: %v", c.args[0], err)
		}
		t.Skipf("SKIPPED: no %s on this machine, the C importer is not tested with it", c.args[0])
	}
	program := filepath.Join(buildDir, c.name+"-"+strings.TrimSuffix(source, ".c"))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	args := append(slices.Clone(c.args[1:]), "-o", program, filepath.Join(sources, source))
	out, err := exec.CommandContext(t.Context(), c.args[0], args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("%s %s: %v\n%s", c.args[0], strings.Join(args, " "), err, out)
	}
	return program
}

// sanitizerStatus is what a program exits with when a sanitizer has found something.
const sanitizerStatus = 99

// command returns a command whose sanitizers cannot be mistaken for a verdict.
func command(t testing.TB, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), program, args...)
	// leaks are not looked for: the program allocates nothing, and looking doubles the time of a short run
	status := fmt.Sprintf("exitcode=%d:detect_leaks=0", sanitizerStatus)
	cmd.Env = append(os.Environ(), "ASAN_OPTIONS="+status, "UBSAN_OPTIONS="+status+":print_stacktrace=1")
	return cmd
}

// verdict is how a run of the C program ended.
type verdict struct {
	status int
	calls  int    // how often the call that was to fail was made (jobs only)
	stderr string // one line, without its end
	stdout string // not for jobs
}

// accepted reports whether the run succeeded; every way to fail but the one promised fails the test.
func (v verdict) accepted(t testing.TB) bool {
	t.Helper()
	switch {
	case v.status == 0 && v.stderr == "":
		return true
	case v.status == 1 && strings.HasPrefix(v.stderr, "payload-import: ") && !strings.Contains(v.stderr, "\n"):
		return false
	}
	t.Fatalf("exit status %d, standard error:\n%s", v.status, v.stderr)
	return false
}

// run runs the program itself.
func run(t testing.TB, program string, args ...string) verdict {
	t.Helper()
	cmd := command(t, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", program, err)
	}
	return verdict{
		status: cmd.ProcessState.ExitCode(),
		stderr: strings.TrimSuffix(stderr.String(), "\n"),
		stdout: stdout.String(),
	}
}

// job is one run of the C program within the test driver.
type job struct {
	fault string // "-" for none
	args  []string
}

// runJobs runs many jobs in the make-believe machine at world and returns a verdict for each.
func runJobs(t testing.TB, driver, world string, jobs []job) []verdict {
	t.Helper()
	var in bytes.Buffer
	for _, j := range jobs {
		fmt.Fprintf(&in, "%s\t%s\n", j.fault, strings.Join(j.args, "\t"))
	}
	cmd := command(t, driver, "jobs", world)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s jobs: %v\n%s", driver, err, out)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(jobs) {
		t.Fatalf("%d verdicts for %d jobs", len(lines), len(jobs))
	}
	verdicts := make([]verdict, len(lines))
	for i, l := range lines {
		f := strings.SplitN(l, "\t", 3)
		status, err1 := strconv.Atoi(f[0])
		calls, err2 := strconv.Atoi(f[1])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("verdict %q: %v", l, err)
		}
		text := strings.ReplaceAll(strings.TrimSuffix(f[2], "\x01"), "\x01", "\n")
		verdicts[i] = verdict{status: status, calls: calls, stderr: text}
	}
	return verdicts
}

// scratch returns a directory for many small files: in memory where there is such a place.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "payload-conformance-") //nolint:usetesting // in memory, where t.TempDir is not
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}
