// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"kindling/steps"
)

var update = flag.Bool("update", false, "write the golden files anew; compare them with the C program's by hand")

// smallTree is testdata/tree.txtar.
func smallTree(t testing.TB) fstest.MapFS {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "tree.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{}
	for _, f := range archive.Files {
		tree[f.Name] = &fstest.MapFile{Data: f.Data, Mode: 0o644}
	}
	return tree
}

// parseConfig parses a configuration that has to be right.
func parseConfig(t testing.TB, text string) *steps.Config {
	t.Helper()
	cfg, err := steps.ParseConfig("bootstrap.cfg", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// newPlan plans root of tree with a configuration, both of which have to be right.
func newPlan(t testing.TB, tree fs.FS, root, config string) *steps.Plan {
	t.Helper()
	plan, err := steps.NewPlan(tree, root, parseConfig(t, config))
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestScriptsGolden compares what is generated with testdata/scripts. Those of the root "steps" have been compared with
// the output of live-bootstrap's seed/script-generator.c for the same input.
func TestScriptsGolden(t *testing.T) {
	tree := smallTree(t)
	names, err := filepath.Glob(filepath.Join("testdata", "scripts", "*.txtar"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			root := steps.MainRoot
			if _, other, found := strings.Cut(string(archive.Comment), "\nroot: "); found {
				root = strings.TrimSpace(other)
			}
			plan := newPlan(t, tree, root, string(archive.Files[0].Data))
			files, err := plan.Scripts(tree["steps/env"].Data)
			if err != nil {
				t.Fatal(err)
			}
			got := &txtar.Archive{Comment: archive.Comment, Files: archive.Files[:1:1]}
			for _, f := range files {
				if f.Mode != 0o644 {
					t.Errorf("%s has mode %o", f.Path, f.Mode)
				}
				got.Files = append(got.Files, txtar.File{Name: f.Path, Data: f.Data})
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" && !*update {
				t.Errorf("scripts (-want +got):\n%s", diff)
			}
		})
	}
}

// A tree of before February 2025 has its own line before the trap of interactive scripts.
func TestScriptsOldTrap(t *testing.T) {
	const interactive = "KERNEL_BOOTSTRAP=True\nCHROOT=False\nINTERACTIVE=True\n"
	for line, want := range map[string]string{
		`fputs("set -E\ntrap 'env PS1=`:            "set -E\ntrap ",
		`fputs("set -eEo pipefail\ntrap 'env PS1=`: "set -eEo pipefail\ntrap ",
	} {
		tree := smallTree(t)
		tree[steps.GeneratorPath] = &fstest.MapFile{Data: []byte(line)}
		for root, script := range map[string]string{steps.MainRoot: "/steps/2.sh", "steps-extra": "/steps-extra/0.sh"} {
			files, err := newPlan(t, tree, root, interactive).Scripts(tree["steps/env"].Data)
			if err != nil {
				t.Fatal(err)
			}
			var traps int
			for _, f := range files {
				traps += bytes.Count(f.Data, []byte("\n"+want))
			}
			if traps == 0 {
				t.Errorf("%s: no script has %q; %s is\n%s", root, want, script, content(t, files, script))
			}
		}
	}
}

func TestScriptsLongUninstall(t *testing.T) {
	words := strings.Repeat(" /usr/share/some/file", 1000)
	tree := fstest.MapFS{"steps/manifest": {Data: []byte("build: bash-1\nuninstall:" + words + "\n")}}
	files, err := newPlan(t, tree, steps.MainRoot, "").Scripts(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nuninstall" + words + "\n"; !bytes.HasSuffix(content(t, files, "/steps/1.sh"), []byte(want)) {
		t.Error("the list of 1000 names is not in the script as a whole")
	}
}

// content is the content of one of files.
func content(t *testing.T, files []steps.File, path string) []byte {
	t.Helper()
	for _, f := range files {
		if f.Path == path {
			return f.Data
		}
	}
	t.Fatalf("%s has not been generated", path)
	return nil
}

func TestScriptsEnvErrors(t *testing.T) {
	tests := []struct {
		name, env, want string
	}{
		{"no newline", "A=1\nB=2", "steps/env:2: "},
		{"zero byte", "A=1\nB=2\nC\x00\n", "steps/env:3: "},
		{"too large", strings.Repeat("#\n", steps.MaxFile/2+1), "steps/env: larger than"},
	}
	plan := newPlan(t, fstest.MapFS{"steps/manifest": {}}, steps.MainRoot, "")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files, err := plan.Scripts([]byte(test.env))
			var parse *steps.ParseError
			if !errors.As(err, &parse) || !strings.HasPrefix(err.Error(), test.want) || files != nil {
				t.Errorf("error %v, want one that begins with %q", err, test.want)
			}
		})
	}
}
