// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

// Every module that is linked into Kindling's programs has a licence that SPDX names.
func TestProgramsHaveLicences(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: builds the programs; -short is set")
	}
	dir := t.TempDir()
	var programs []string
	for _, name := range []string{"host", "init"} {
		program := filepath.Join(dir, name)
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "kindling/cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		programs = append(programs, program)
	}
	var out bytes.Buffer
	if err := run(programs, &out); err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&out, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	for _, c := range *bom.Components {
		if c.Licenses == nil || len(*c.Licenses) != 1 {
			t.Errorf("%s: licences %v", c.Name, c.Licenses)
			continue
		}
		l := (*c.Licenses)[0]
		if l.License != nil {
			t.Logf("%s: %s", c.Name, l.License.ID)
		} else {
			t.Logf("%s: %s", c.Name, l.Expression)
		}
	}
}

func TestLicencesOf(t *testing.T) {
	goroot, err := moduleDirs()
	if err != nil {
		t.Fatal(err)
	}
	bsd, err := os.ReadFile(filepath.Join(goroot["std"], "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	unlicense := "This is free and unencumbered software released into the public domain.\n"
	for what, tt := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"one":           {map[string]string{"LICENSE": string(bsd), "README": "x"}, []string{"BSD-3-Clause"}},
		"another name":  {map[string]string{"license.md": string(bsd)}, []string{"BSD-3-Clause"}},
		"the same text": {map[string]string{"LICENSE": string(bsd), "COPYING": string(bsd)}, []string{"BSD-3-Clause"}},
		"none":          {map[string]string{"README": string(bsd)}, nil},
		"unknown":       {map[string]string{"LICENSE": "All rights reserved. Ask us."}, nil},
		"mostly other":  {map[string]string{"LICENSE": unlicense + strings.Repeat("But not on Mondays. ", 50)}, nil},
		"one of two":    {map[string]string{"LICENSE": string(bsd), "LICENSE.extra": "Ask us."}, nil},
	} {
		dir := t.TempDir()
		for name, text := range tt.files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := licencesOf(dir)
		if diff := cmp.Diff(tt.want, got); diff != "" || (tt.want == nil) != errors.Is(err, errLicence) {
			t.Errorf("%s: %v (-want +got)\n%s", what, err, diff)
		}
	}
}
