// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// repository writes the index of a flat repository of the packages in dir (one-line style "deb ... ./") and gives the
// source list that names it.
func repository(t *testing.T, dir, uri string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	var index strings.Builder
	for _, file := range files {
		control, err := exec.CommandContext(t.Context(), "dpkg-deb", "--field", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		sum, size, err := hashFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&index, "%sFilename: ./%s\nSize: %d\nSHA256: %s\n\n", control, filepath.Base(file), size, sum)
	}
	if err := os.WriteFile(filepath.Join(dir, "Packages"), []byte(index.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "test.list")
	if err := os.WriteFile(list, fmt.Appendf(nil, "deb [trusted=yes] %s ./\n", uri), 0o644); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAptConfig(t *testing.T) {
	conf := aptConfig("/c/apt/i386", "i386", "/c/own.list")
	for _, want := range []string{
		`Dir::State "/c/apt/i386/state";`, `Dir::State::status "/c/apt/i386/state/status";`,
		`Dir::Cache "/c/apt/i386/cache";`, `APT::Architecture "i386";`, `#clear APT::Update::Post-Invoke;`,
		`Dir::Etc::sourcelist "/c/own.list";`, `APT::Get::AllowUnauthenticated "false";`,
	} {
		if !strings.Contains(conf, want) {
			t.Errorf("configuration lacks %s", want)
		}
	}
	if conf := aptConfig("/c", "amd64", ""); strings.Contains(conf, "Dir::Etc") {
		t.Errorf("the host's sources are not used:\n%s", conf)
	}
}

func TestOpenRefusesPathsThatBreakTheConfiguration(t *testing.T) {
	for _, dir := range []string{`/tmp/a"b`, "/tmp/a\nb", `/tmp/a\b`} {
		if _, err := Open(dir); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open(%q): %v", dir, err)
		}
		if _, err := Open("/tmp/x", WithSourceList(dir)); err == nil {
			t.Errorf("WithSourceList(%q) accepted", dir)
		}
	}
}

func openWith(t *testing.T, list string) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"), WithSourceList(list))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAptFromLocalRepository(t *testing.T) {
	s, r := testShelf(t)
	makeDeb(t, s.dir, "linux-image-6.1.0-9-686", "6.1.9-1", "", pkgFiles{
		"boot/vmlinuz-6.1.0-9-686":                "kernel",
		"lib/modules/6.1.0-9-686/modules.order":   "",
		"lib/modules/6.1.0-9-686/modules.builtin": "",
	})
	makeDeb(t, s.dir, "linux-image-686", "6.1.9-1", "linux-image-6.1.0-9-686 (= 6.1.9-1)", pkgFiles{"etc/x": "meta"})
	server := httptest.NewServer(http.FileServer(http.Dir(s.dir)))
	t.Cleanup(server.Close)
	c := openWith(t, repository(t, s.dir, server.URL))

	var lines []string
	tree, err := c.tree(t.Context(), "test", r, func(line string) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	if got := readTree(t, tree.Dir)["usr/bin/bash"]; got != "bash" {
		t.Errorf("bash is %q", got)
	}
	want, err := inspect(t.Context(), filepath.Join(s.dir, "shell_1:2.0-1_i386.deb"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Package, tree.Packages[0]); diff != "" {
		t.Errorf("package (-want +got):\n%s", diff)
	}
	if !strings.Contains(strings.Join(lines, "\n"), "shell") {
		t.Errorf("progress names no package: %q", lines)
	}
	k, err := c.Kernel(t.Context(), "i386", nil)
	if err != nil {
		t.Fatal(err)
	}
	if k.Release != "6.1.0-9-686" {
		t.Errorf("kernel %+v", k)
	}

	r.Packages = append(r.Packages, "no-such-package")
	_, err = c.tree(t.Context(), "test", r, nil)
	if !errors.Is(err, ErrFetch) || !strings.Contains(err.Error(), "no-such-package") ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("missing package: %v", err)
	}
}

// A mirror in the middle of an update serves a package with another content at first.
func TestAptTriesAgain(t *testing.T) {
	s, r := testShelf(t)
	var served atomic.Int32
	files := http.FileServer(http.Dir(s.dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, ".deb") && served.Add(1) == 1 {
			http.Error(w, "not yet", http.StatusNotFound)
			return
		}
		files.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	if _, err := openWith(t, repository(t, s.dir, server.URL)).tree(t.Context(), "test", r, nil); err != nil {
		t.Fatal(err)
	}
	if served.Load() < 3 {
		t.Errorf("%d requests for packages", served.Load())
	}
}

// A second source that is out of reach must not matter as long as the first has all that is wanted.
func TestAptToleratesABrokenSource(t *testing.T) {
	s, r := testShelf(t)
	broken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(broken.Close)
	list := repository(t, s.dir, "copy:"+s.dir)
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, "deb "+broken.URL+" bookworm main\n"...)
	if err := os.WriteFile(list, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var lines []string
	c := openWith(t, list)
	if _, err := c.tree(t.Context(), "test", r, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	if last := strings.Join(lines, "\n"); !strings.Contains(last, "warning: package lists for i386 are incomplete") {
		t.Errorf("no warning in the progress:\n%s", last)
	}
	r.Packages = append(r.Packages, "absent")
	_, err = c.tree(t.Context(), "test", r, nil)
	if err == nil || !strings.Contains(err.Error(), "absent") || !strings.Contains(err.Error(), broken.URL) {
		t.Errorf("package that only the broken source could have: %v", err)
	}
}

// A mirror that never answers: the end of the context ends apt and all its children at once.
func TestAptIsKilledWithItsContext(t *testing.T) {
	asked := make(chan struct{}, 100)
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-stop
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(stop) })
	_, r := testShelf(t)
	c := openWith(t, repository(t, t.TempDir(), server.URL))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	start := time.Now()
	_, err := c.tree(ctx, "test", r, nil)
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "\n") {
		t.Errorf("cancelled fetch: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("cancelled fetch took %s", took)
	}
	if diff := cmp.Diff([]string{lockName}, names(t, c.dir)); diff != "" {
		t.Errorf("cache folder (-want +got):\n%s", diff)
	}
}

func TestProgramKillsItsWholeGroup(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	script := `sleep 600 & echo $! > ` + pidFile + `; echo started; wait`
	err := program{path: "/bin/sh", args: []string{"-c", script}}.run(ctx, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled program: %v", err)
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(data), &pid); err != nil {
		t.Fatal(err)
	}
	// A killed process closes its files, which ends run, shortly before it counts as ended.
	for deadline := time.Now().Add(10 * time.Second); !ended(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("child %d of the killed program still runs", pid)
		}
	}
}

// ended reports a process that is gone or only waits to be reaped.
func ended(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, found := strings.Cut(string(data), ") ")
	return err != nil || found && strings.HasPrefix(state, "Z")
}

func TestProgramOutput(t *testing.T) {
	sh := func(script string) program { return program{path: "/bin/sh", args: []string{"-c", script}} }
	var lines []string
	each := func(line string) { lines = append(lines, line) }
	if err := sh(`printf 'a\rb\n\n\033[2Jc\n'; printf d >&2`).run(t.Context(), each); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	err := sh(`echo 'E: no such thing'; exit 100`).run(t.Context(), nil)
	var exit *exec.ExitError
	if err == nil || err.Error() != "sh: no such thing" || !errors.As(err, &exit) || exit.ExitCode() != 100 {
		t.Errorf("failing program: %v", err)
	}
	if err := sh(`exit 3`).run(t.Context(), nil); err == nil || err.Error() != "sh: exit status 3" {
		t.Errorf("silent failing program: %v", err)
	}
	if _, err := sh(`yes`).output(t.Context()); !errors.Is(err, errTooMuch) {
		t.Errorf("endless output: %v", err)
	}
	if _, err := find("no-such-program-x", "some-package"); err == nil || !strings.Contains(err.Error(), "some-package") {
		t.Errorf("missing program: %v", err)
	}
	lines = nil
	if err := sh(`head -c 100000 /dev/zero | tr '\0' x; seq 1000`).run(t.Context(), each); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1000 || len(lines[0]) != maxOutputLine {
		t.Errorf("%d lines, the first of %d bytes", len(lines), len(lines[0]))
	}
}
