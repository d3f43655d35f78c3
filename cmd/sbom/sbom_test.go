// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

// two are programs as the toolchain would describe them, with a module that they share and one that is replaced.
func two() []program {
	shared := &debug.Module{Path: "example.org/shared", Version: "v1.2.3", Sum: "h1:abc="}
	return []program{
		{"kindling", strings.Repeat("0a", 32), &debug.BuildInfo{
			GoVersion: "go1.26.0", Deps: []*debug.Module{shared, {Path: "example.org/old", Version: "v1.0.0",
				Replace: &debug.Module{Path: "example.org/new", Version: "v2.0.0"}}},
			Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "amd64"}, {Key: "vcs.revision", Value: "0123"},
				{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}},
		}},
		{"kindling-init-386", strings.Repeat("0b", 32), &debug.BuildInfo{
			GoVersion: "go1.26.0", Deps: []*debug.Module{shared},
			Settings: []debug.BuildSetting{{Key: "GO386", Value: "softfloat"}},
		}},
	}
}

func TestDocument(t *testing.T) {
	var out bytes.Buffer
	if err := write(&out, document(two())); err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(out.Bytes()), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range *bom.Components {
		refs = append(refs, c.BOMRef)
	}
	want := []string{"pkg:golang/example.org/new@v2.0.0", "pkg:golang/example.org/shared@v1.2.3", "pkg:golang/std@1.26.0",
		"program:kindling", "program:kindling-init-386"}
	if diff := cmp.Diff(want, refs); diff != "" {
		t.Errorf("components (-want +got):\n%s", diff)
	}
	needs := map[string][]string{}
	for _, d := range *bom.Dependencies {
		needs[d.Ref] = *d.Dependencies
	}
	wantNeeds := map[string][]string{
		"kindling":                  {"program:kindling", "program:kindling-init-386"},
		"program:kindling":          {want[2], want[1], want[0]},
		"program:kindling-init-386": {want[2], want[1]},
	}
	if diff := cmp.Diff(wantNeeds, needs); diff != "" {
		t.Errorf("dependencies (-want +got):\n%s", diff)
	}
	if bom.Metadata.Timestamp != "2026-01-02T03:04:05Z" || bom.Metadata.Component.Version != "0123" {
		t.Errorf("metadata %+v", bom.Metadata)
	}
	// RFC 9562: version 8, variant 10.
	if s := bom.SerialNumber; len(s) != 45 || s[23] != '8' || !strings.ContainsRune("89ab", rune(s[28])) {
		t.Errorf("serial number %s", s)
	}
	var again bytes.Buffer
	if err := write(&again, document(two())); err != nil || again.String() != out.String() {
		t.Errorf("a second document differs: %v", err)
	}
}

// TestReadProgram reads this test, which is a Go program, and what is none.
func TestReadProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := readProgram(self)
	if err != nil || len(p.sha256) != 64 || len(p.modules()) < 2 {
		t.Errorf("this test: %+v, %v", p, err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][]string{{text}, {text + ".absent"}, {}} {
		var out bytes.Buffer
		if err := run(paths, &out); err == nil || out.Len() > 0 {
			t.Errorf("%q: %v, wrote %q", paths, err, out.String())
		}
	}
}
