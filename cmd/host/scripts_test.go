// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// runVerb runs one of the verbs plan and scripts as main does.
func runVerb(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	var grammar struct {
		Plan    planCmd    `cmd:""`
		Scripts scriptsCmd `cmd:""`
	}
	var out bytes.Buffer
	parser, err := kong.New(&grammar, kong.Exit(func(int) { t.Error("kong wants to exit") }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(&out, (*io.Writer)(nil)))
	if err != nil {
		t.Fatal(err)
	}
	verb, err := parser.Parse(expandShortFlags(args))
	if err != nil {
		return "", usageError("%s", err)
	}
	err = verb.Run()
	return out.String(), err
}

// smallTree is the tree of the tests of package steps, unpacked.
func smallTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	unpack(t, dir, filepath.Join("..", "..", "steps", "testdata", "tree.txtar"))
	for _, name := range []string{
		"builder-hex0/builder-hex0-x86-stage1.hex0", "builder-hex0/builder-hex0-x86-stage2.hex0", "seed/seed.kaem",
		"seed/stage0-posix/x86/hex0_x86.hex0", "seed/stage0-posix/x86/kaem-minimal.hex0",
		"seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed", "seed/stage0-posix/M2libc/x86.c",
		"steps/seed-1.0/pass1.kaem", "steps/kernel-1.0/pass1.kaem", "steps/make-1.0/pass1.kaem", "steps/bash-2.05b/pass1.kaem",
		"steps/make-1.0/pass2.sh", "steps/make-1.0/pass3.sh", "steps/make-1.0/pass4.sh", "steps/make-1.0/pass5.sh",
		"steps/tool-1.0/pass1.sh", "steps/linux-4.14/pass1.sh", "steps/wide-1.0/pass1.sh", "steps/bash-5.2.15/pass1.sh", "steps/late-1.0/pass1.sh",
		"steps/improve/reconfigure.sh", "steps/improve/setup_repo.sh", "steps/improve/open_console.sh",
		"steps/improve/deep/inside.sh", "steps/improve/get_network.sh", "steps/improve/after.sh", "steps/jump/break.sh",
		"steps/jump/fiwix.sh", "steps/jump/linux.sh", "steps/jump/move_disk.sh", "steps-extra/extra-1.0/pass1.sh",
		"steps-extra/improve/local_files.sh", "steps-extra/jump/again.sh", "steps-extra/bash-9.0/pass1.sh",
	} {
		writeTestFile(t, filepath.Join(dir, name), "")
	}
	writeTestFile(t, filepath.Join(dir, "seed/stage0-posix/kaem.x86"), "./x86/artifact/hex0 ./M2libc/x86.c\n")
	return dir
}

func unpack(t *testing.T, dir, archive string) {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		writeTestFile(t, filepath.Join(dir, f.Name), string(f.Data))
	}
}

func writeTestFile(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readFolder is what stands below dir, by path from "/" on.
func readFolder(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		files["/"+name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestScriptsVerb compares what is written with the golden files of package steps.
func TestScriptsVerb(t *testing.T) {
	tree := smallTree(t)
	for _, test := range []struct{ golden, root string }{
		{"qemu-interactive", ""}, {"chroot-pass1", "/steps"}, {"extra-root", "/steps-extra"},
	} {
		t.Run(test.golden, func(t *testing.T) {
			golden := t.TempDir()
			unpack(t, golden, filepath.Join("..", "..", "steps", "testdata", "scripts", test.golden+".txtar"))
			config := filepath.Join(t.TempDir(), "bootstrap.cfg")
			if err := os.Rename(filepath.Join(golden, "bootstrap.cfg"), config); err != nil {
				t.Fatal(err)
			}
			parent := t.TempDir()
			out := filepath.Join(parent, "out")
			args := []string{"scripts", "--tree", tree, "--config", config, "--out", out}
			if test.root != "" {
				args = append(args, "--root", test.root)
			}
			if _, err := runVerb(t.Context(), t, args...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(readFolder(t, golden), readFolder(t, out)); diff != "" {
				t.Errorf("scripts (-want +got):\n%s", diff)
			}
			onlyEntry(t, parent, "out")
		})
	}
}

// onlyEntry checks that nothing temporary is left in dir; "" wants nothing at all.
func onlyEntry(t *testing.T, dir, want string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("left in the folder: %q, want %q", got, want)
	}
}

func TestScriptsIntoEmptyFolder(t *testing.T) {
	tree, out := smallTree(t), t.TempDir()
	config := filepath.Join(t.TempDir(), "c")
	writeTestFile(t, config, "CHROOT=True\n")
	if _, err := runVerb(t.Context(), t, "scripts", "--tree", tree, "--config", config, "--out", out); err != nil {
		t.Fatal(err)
	}
	if len(readFolder(t, out)) == 0 {
		t.Error("nothing was written")
	}
	_, err := runVerb(t.Context(), t, "scripts", "--tree", tree, "--config", config, "--out", out)
	checkUsage(t, err, "is not empty")
}

// checkUsage wants an error of bad usage or input, in one line with part.
func checkUsage(t *testing.T, err error, part string) {
	t.Helper()
	var exit *exitError
	if !errors.As(err, &exit) || exit.status != statusUsage {
		t.Fatalf("error %v, want one of bad usage", err)
	}
	if text := err.Error(); !strings.Contains(text, part) || strings.Contains(text, "\n") {
		t.Errorf("error %q, want one line with %q", text, part)
	}
}

func TestScriptsErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, tree, config string) // makes one thing wrong
		root   string
		want   string
	}{
		{"manifest", func(t *testing.T, tree, _ string) {
			writeTestFile(t, filepath.Join(tree, "steps", "manifest"), "build: a\nbiuld: b\n")
		}, "/steps", "steps/manifest:2: unknown directive"},
		{"sources", func(t *testing.T, tree, _ string) {
			writeTestFile(t, filepath.Join(tree, "steps", "make-1.0", "sources"), "f http://x/y abc\n")
		}, "/steps", "steps/make-1.0/sources:1: \"abc\" is no sha256"},
		{"config", func(t *testing.T, _, config string) {
			writeTestFile(t, config, "A=1\nB\n")
		}, "/steps", "c:2: no \"=\""},
		{"no config", func(t *testing.T, _, config string) {
			if err := os.Remove(config); err != nil {
				t.Fatal(err)
			}
		}, "/steps", "no such file"},
		{"empty nested submodule", func(t *testing.T, tree, _ string) {
			emptyFolder(t, filepath.Join(tree, "seed/stage0-posix/M2libc"))
		}, "/steps", "M2libc is empty: fetch the submodules (git submodule update --init --recursive)"},
		{"no env", func(t *testing.T, tree, _ string) {
			if err := os.Remove(filepath.Join(tree, "steps", "env")); err != nil {
				t.Fatal(err)
			}
		}, "/steps", "steps/env: no such file"},
		{"cut env", func(t *testing.T, tree, _ string) {
			writeTestFile(t, filepath.Join(tree, "steps", "env"), "A=1\nB=2")
		}, "/steps", "steps/env:2: the last line does not end"},
		{"no tree", func(t *testing.T, tree, _ string) {
			if err := os.RemoveAll(tree); err != nil {
				t.Fatal(err)
			}
		}, "/steps", "no such file"},
		{"not a tree", func(t *testing.T, tree, _ string) {
			if err := os.RemoveAll(filepath.Join(tree, "steps")); err != nil {
				t.Fatal(err)
			}
		}, "/steps", "there is no steps/manifest: name the top folder of a checkout"},
		{"manifest outside of the tree", func(t *testing.T, tree, _ string) {
			manifest := filepath.Join(tree, "steps", "manifest")
			if err := errors.Join(os.Remove(manifest), os.Symlink("/etc/passwd", manifest)); err != nil {
				t.Fatal(err)
			}
		}, "/steps", "path escapes"},
		{"no such root", func(*testing.T, string, string) {}, "/steps-none", "steps-none/manifest: no such file"},
		{"root outside of the tree", func(*testing.T, string, string) {}, "/../etc", "must be one folder"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree, parent := smallTree(t), t.TempDir()
			config := filepath.Join(t.TempDir(), "c")
			writeTestFile(t, config, "A=1\n")
			test.change(t, tree, config)
			_, err := runVerb(t.Context(), t, "scripts", "--tree", tree, "--config", config,
				"--out", filepath.Join(parent, "out"), "--root", test.root)
			checkUsage(t, err, test.want)
			onlyEntry(t, parent, "")
		})
	}
}

func TestScriptsOutErrors(t *testing.T) {
	tree := smallTree(t)
	config := filepath.Join(t.TempDir(), "c")
	writeTestFile(t, config, "A=1\n")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeTestFile(t, file, "")
	_, err := runVerb(t.Context(), t, "scripts", "--tree", tree, "--config", config, "--out", file)
	checkUsage(t, err, "not a directory")
	onlyEntry(t, dir, "file")

	_, err = runVerb(t.Context(), t, "scripts", "--tree", tree, "--config", config, "--out", filepath.Join(dir, "a", "b"))
	if err == nil {
		t.Error("a folder in a folder that does not exist is accepted")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = runVerb(ctx, t, "scripts", "--tree", tree, "--config", config, "--out", filepath.Join(dir, "out"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	onlyEntry(t, dir, "file")
}

// TestScriptsRealTree runs the verb on a real checkout for every configuration of an oracle file.
func TestScriptsRealTree(t *testing.T) {
	tree, oracleFile := os.Getenv("KINDLING_TREE"), os.Getenv("KINDLING_ORACLE")
	if tree == "" || oracleFile == "" {
		t.Log("set KINDLING_TREE=DIR (a live-bootstrap checkout) and KINDLING_ORACLE=FILE (digests) to run this test")
		t.Skip("KINDLING_TREE or KINDLING_ORACLE is not set")
	}
	data, err := os.ReadFile(filepath.Clean(oracleFile))
	if err != nil {
		t.Fatal(err)
	}
	var oracle struct {
		Configurations map[string]struct {
			Config string            `json:"bootstrap.cfg"`
			SHA256 map[string]string `json:"sha256"`
		} `json:"configurations"`
	}
	if err := json.Unmarshal(data, &oracle); err != nil || len(oracle.Configurations) == 0 {
		t.Fatalf("parse %s: %d configurations, %v", oracleFile, len(oracle.Configurations), err)
	}
	for name, conf := range oracle.Configurations {
		dir := t.TempDir()
		config, out := filepath.Join(dir, "bootstrap.cfg"), filepath.Join(dir, "out")
		writeTestFile(t, config, conf.Config)
		if _, err := runVerb(t.Context(), t, "scripts", "--tree", tree, "--config", config, "--out", out); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for path, data := range readFolder(t, out) {
			got[path] = fmt.Sprintf("%x", sha256.Sum256([]byte(data)))
		}
		if diff := cmp.Diff(conf.SHA256, got); diff != "" {
			t.Errorf("%s: digests (-oracle +ours):\n%s", name, diff)
		}
	}
}
