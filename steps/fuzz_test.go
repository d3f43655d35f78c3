// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

// FuzzManifest parses, plans and generates; what parses must plan, have unique IDs, and survive the payload rewrite.
func FuzzManifest(f *testing.F) {
	tree := smallTree(f)
	seed := []string{
		string(tree["steps/manifest"].Data), string(tree["steps-extra/manifest"].Data),
		"build: a\njump: fiwix\njump: linux\njump: move_disk\n", "jump: linux", "uninstall: a /b ( A == B && True )\n",
	}
	for _, text := range seed {
		if _, err := steps.ParseManifest("seed", strings.NewReader(text)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := steps.ParseManifest("m", bytes.NewReader(text))
		if err != nil {
			checkParseError(t, err, "m:", "")
			return
		}
		plan, err := steps.NewPlanOf(m, fstest.MapFS{}, steps.MainRoot, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := steps.ParseManifest("m", bytes.NewReader(m.Bytes()))
		if err != nil || !bytes.Equal(again.Bytes(), m.Bytes()) {
			t.Errorf("%v; written and read again:\n%s\nwant\n%s", err, again.Bytes(), m.Bytes())
		}
		ids := map[string]bool{}
		for _, s := range plan.Steps {
			ids[s.ID()] = true
		}
		if len(ids) != len(plan.Steps) {
			t.Errorf("%d IDs for %d steps", len(ids), len(plan.Steps))
		}
		files, err := plan.Scripts(nil)
		if err != nil {
			t.Fatal(err)
		}
		rewritten, err := steps.WithPayloadImport("m", text)
		if err != nil {
			return
		}
		checkSameScripts(t, files, rewritten)
	})
}

// checkSameScripts checks that manifest generates files as long as PAYLOAD_REQUIRED is not set.
func checkSameScripts(t *testing.T, files []steps.File, manifest []byte) {
	t.Helper()
	if bytes.Contains(manifest, []byte("define: "+steps.VarPayloadRequired)) {
		return
	}
	m, err := steps.ParseManifest("rewritten", bytes.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := steps.NewPlanOf(m, fstest.MapFS{}, steps.MainRoot, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := plan.Scripts(nil)
	if diff := cmp.Diff(files, again); diff != "" || err != nil {
		t.Errorf("scripts after the rewrite (-want +got), %v:\n%s", err, diff)
	}
}

// FuzzPredicate checks that what parses prints as it was written and has a value.
func FuzzPredicate(f *testing.F) {
	for _, text := range []string{"( A == B )", "( A != B && C == D || True )", "( word )"} {
		if _, err := steps.ParseLogic(text); err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		logic, err := steps.ParseLogic(text)
		if err != nil {
			checkParseError(t, err, "condition: ", "")
			return
		}
		again, err := steps.ParseLogic(logic.String())
		if diff := cmp.Diff(logic, again); diff != "" || err != nil {
			t.Errorf("printed and parsed (-want +got), %v:\n%s", err, diff)
		}
		value := logic.Eval(func(string) string { return "" })
		if len(logic.Terms) > 1 && value != "True" && value != "False" {
			t.Errorf("value %q", value)
		}
	})
}

// FuzzConfig checks that what parses is written as it was.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{"", "A=1\n", "A=\nB=\"x y\"\nB='z'\nC=a=b\n"} {
		parseConfig(f, text)
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := steps.ParseConfig("c", bytes.NewReader(text))
		if err != nil {
			checkParseError(t, err, "c:", "")
			return
		}
		if diff := cmp.Diff(string(text), string(cfg.Bytes())); diff != "" {
			t.Errorf("written again (-want +got):\n%s", diff)
		}
		for _, v := range cfg.Variables() {
			if _, ok := cfg.Lookup(v.Name); !ok {
				t.Errorf("%s is not found", v.Name)
			}
		}
	})
}

// FuzzSources checks that names are safe and checksums are such.
func FuzzSources(f *testing.F) {
	for name, file := range smallTree(f) {
		if !strings.HasSuffix(name, "/sources") {
			continue
		}
		if _, err := steps.ParseSources(name, bytes.NewReader(file.Data)); err != nil {
			f.Fatal(err)
		}
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sources, err := steps.ParseSources("s", bytes.NewReader(text))
		if err != nil {
			checkParseError(t, err, "s:", "")
			return
		}
		for _, s := range sources {
			if s.Name == "" || s.Name == "." || s.Name == ".." || strings.ContainsAny(s.Name, "/ \x00\n") ||
				len(s.SHA256) != 64 || s.URL == "" || s.Line < 1 {
				t.Errorf("accepted %+v", s)
			}
		}
	})
}
