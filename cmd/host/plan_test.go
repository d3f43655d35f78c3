// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/planview"
)

// planJSON runs "kindling plan --json" and parses what it prints.
func planJSON(t *testing.T, args ...string) planview.View {
	t.Helper()
	out, err := runVerb(t.Context(), t, append([]string{"plan", "--json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var view planview.View
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		t.Fatalf("parse %s: %v", out, err)
	}
	return view
}

func TestPlanMedia(t *testing.T) {
	tree := smallTree(t)
	tests := []struct {
		args    string
		media   string // as "medium files", joined
		payload *planview.Payload
		imports int // steps that import a payload
	}{
		{
			"--qemu --external-sources", "init 3, payload-early 5, payload 4",
			&planview.Payload{Stage: "auto", EarlyFiles: 5, Files: 9}, 2,
		},
		{
			"-b --external-sources --payload-stage=fiwix", "init 3, payload-early 8",
			&planview.Payload{Stage: "fiwix", EarlyFiles: 8, Files: 8}, 2,
		},
		{"-q --external-sources --payload=off", "init 9, external 2", nil, 0},
		{"-q", "init 9, network 2", nil, 0},
		{"-bw --external-sources", "init 11", nil, 0},
		{"-q -qk k --external-sources", "init 11", nil, 0},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			view := planJSON(t, append([]string{"--tree", tree}, strings.Fields(test.args)...)...)
			if diff := cmp.Diff(test.media, mediaText(view.Media)); diff != "" {
				t.Errorf("media (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.payload, view.Payload); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
			imports := 0
			for _, s := range view.Steps {
				if strings.HasPrefix(s.Name, "import_payload") {
					imports++
				}
			}
			if imports != test.imports {
				t.Errorf("%d steps import a payload, want %d", imports, test.imports)
			}
		})
	}
}

// mediaText is "init 3, payload 8".
func mediaText(totals []planview.Total) string {
	var parts []string
	for _, m := range totals {
		parts = append(parts, fmt.Sprint(m.Medium, " ", m.Files))
	}
	return strings.Join(parts, ", ")
}

func TestPlanText(t *testing.T) {
	out, err := runVerb(t.Context(), t, "plan", "--tree", smallTree(t), "--chroot", "--root", "/steps-extra")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host: steps 1 to 4, 1 builds", "build: extra-1.0", "extra-1.0.tar.gz  network", "root steps-extra"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	tree := smallTree(t)
	bad := smallTree(t)
	writeTestFile(t, filepath.Join(bad, "steps", "manifest"), "build: a ( B = C )\n")
	flat := smallTree(t)
	writeTestFile(t, filepath.Join(flat, "steps", "manifest"), "build: a\n")
	tests := []struct {
		name, args, want string
	}{
		{"no tree", "--qemu", "--tree"},
		{"no mode", "--tree " + tree, "no mode"},
		{"two modes", "--tree " + tree + " -q -c", "exclude each other"},
		{"payload in chroot", "--tree " + tree + " -c --payload=on", "needs a kernel bootstrap"},
		{"missing tree", "--tree /does/not/exist -q", "no such file"},
		{"bad manifest", "--tree " + bad + " -q", "steps/manifest:1: expected == or != after \"B\""},
		{"no place for a payload", "--tree " + flat + " -q --external-sources", "steps/manifest: no jump: fiwix"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out, err := runVerb(t.Context(), t, append([]string{"plan"}, strings.Fields(test.args)...)...)
			checkUsage(t, err, test.want)
			if out != "" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// TestPlanRealTree holds the numbers of live-bootstrap 984b8322.
func TestPlanRealTree(t *testing.T) {
	tree := os.Getenv("KINDLING_TREE")
	if tree == "" {
		t.Log("set KINDLING_TREE=DIR (a live-bootstrap checkout) to run this test")
		t.Skip("KINDLING_TREE is not set")
	}
	view := planJSON(t, "--tree", tree, "--qemu", "--external-sources")
	want := planview.Counts{
		All:           planview.Count{Lines: 312, Files: 310},
		BeforeNetwork: &planview.Count{Lines: 73, Files: 71},
		BeforeLinux:   &planview.Count{Lines: 72, Files: 70},
		BeforeFiwix:   &planview.Count{Lines: 8, Files: 6},
	}
	if diff := cmp.Diff(want, view.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("init 6, payload-early 64, payload 240", mediaText(view.Media)); diff != "" {
		t.Errorf("media (-want +got):\n%s", diff)
	}
}
