// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

// The environment variables that name a real live-bootstrap checkout and the digests of its generated scripts. Neither
// can be part of this repository; without them the tests of testdata/tree still cover every branch.
const (
	envTree   = "KINDLING_TREE"
	envOracle = "KINDLING_ORACLE"
)

// oracle is a file of digests: what the tree's seed/script-generator.c writes, by configuration.
type oracle struct {
	Tree           string `json:"tree"`
	Configurations map[string]struct {
		Config string            `json:"bootstrap.cfg"`
		SHA256 map[string]string `json:"sha256"`
	} `json:"configurations"`
}

// realTree opens what the environment names, or skips and says how to run the test.
func realTree(t *testing.T) fs.FS {
	t.Helper()
	dir := os.Getenv(envTree)
	if dir == "" {
		t.Logf("set %s=DIR (a live-bootstrap checkout) to run this test", envTree)
		t.Skipf("%s is not set", envTree)
	}
	return os.DirFS(dir)
}

func realOracle(t *testing.T) oracle {
	t.Helper()
	name := os.Getenv(envOracle)
	if name == "" {
		t.Logf("set %s=FILE (digests of generated scripts, JSON) to run this test", envOracle)
		t.Skipf("%s is not set", envOracle)
	}
	data, err := os.ReadFile(filepath.Clean(name))
	if err != nil {
		t.Fatal(err)
	}
	var o oracle
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	if len(o.Configurations) == 0 {
		t.Fatalf("%s: no configurations", name)
	}
	return o
}

func digests(files []steps.File) map[string]string {
	sums := map[string]string{}
	for _, f := range files {
		sums[f.Path] = fmt.Sprintf("%x", sha256.Sum256(f.Data))
	}
	return sums
}

func TestRealTreeOracle(t *testing.T) {
	tree, o := realTree(t), realOracle(t)
	env, err := fs.ReadFile(tree, "steps/env")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := fs.ReadFile(tree, "steps/manifest")
	if err != nil {
		t.Fatal(err)
	}
	overlaid, err := steps.WithPayloadImport("steps/manifest", manifest)
	if err != nil {
		t.Fatal(err)
	}
	for name, conf := range o.Configurations {
		t.Run(name, func(t *testing.T) {
			cfg, err := steps.ParseConfig("bootstrap.cfg", strings.NewReader(conf.Config))
			if err != nil {
				t.Fatal(err)
			}
			// The payload imports must leave no trace as long as PAYLOAD_REQUIRED is not set.
			for _, text := range [][]byte{manifest, overlaid} {
				m, err := steps.ParseManifest("steps/manifest", bytes.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				plan, err := steps.NewPlanOf(m, tree, steps.MainRoot, cfg)
				if err != nil {
					t.Fatal(err)
				}
				files, err := plan.Scripts(env)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(conf.SHA256, digests(files)); diff != "" {
					t.Errorf("digests (-oracle +ours):\n%s", diff)
				}
			}
		})
	}
}

// TestRealTreeCounts holds the numbers of live-bootstrap 984b8322, which are the same for every configuration.
func TestRealTreeCounts(t *testing.T) {
	tree := realTree(t)
	for _, config := range []string{"KERNEL_BOOTSTRAP=True\nCHROOT=False\n", "CHROOT=True\n", ""} {
		cfg, err := steps.ParseConfig("bootstrap.cfg", strings.NewReader(config))
		if err != nil {
			t.Fatal(err)
		}
		plan, err := steps.NewPlan(tree, steps.MainRoot, cfg)
		if err != nil {
			t.Fatal(err)
		}
		want := steps.Counts{
			All:           steps.Count{Lines: 312, Files: 310},
			BeforeNetwork: &steps.Count{Lines: 73, Files: 71},
			BeforeLinux:   &steps.Count{Lines: 72, Files: 70},
			BeforeFiwix:   &steps.Count{Lines: 8, Files: 6},
		}
		if diff := cmp.Diff(want, plan.Counts()); diff != "" {
			t.Errorf("counts with %q (-want +got):\n%s", config, diff)
		}
	}
}

func TestRealTreeMedia(t *testing.T) {
	tree := realTree(t)
	tests := []struct {
		name   string
		config string
		opt    steps.MediaOptions
		want   map[steps.Medium]int
		again  string
	}{
		{
			"payload", "KERNEL_BOOTSTRAP=True\nCHROOT=False\n",
			steps.MediaOptions{ExternalSources: true, Payload: true},
			map[steps.Medium]int{steps.MediumInit: 6, steps.MediumPayloadEarly: 64, steps.MediumPayload: 240}, "",
		},
		{
			"payload at once", "KERNEL_BOOTSTRAP=True\nCHROOT=False\n",
			steps.MediaOptions{ExternalSources: true, Payload: true, PayloadStage: steps.PayloadStageFiwix},
			map[steps.Medium]int{steps.MediumInit: 6, steps.MediumPayloadEarly: 304}, "",
		},
		{
			"payload on Linux only", "KERNEL_BOOTSTRAP=True\nCHROOT=False\n",
			steps.MediaOptions{ExternalSources: true, Payload: true, PayloadStage: steps.PayloadStageLinux},
			map[steps.Medium]int{steps.MediumInit: 70, steps.MediumPayload: 240},
			"automake-1.16.3.tar.xz musl-1.2.5.tar.gz",
		},
		{
			"external disk", "KERNEL_BOOTSTRAP=True\nCHROOT=False\n",
			steps.MediaOptions{ExternalSources: true},
			map[steps.Medium]int{steps.MediumInit: 71, steps.MediumExternal: 239}, "",
		},
		{
			"network", "KERNEL_BOOTSTRAP=True\nCHROOT=False\n", steps.MediaOptions{},
			map[steps.Medium]int{steps.MediumInit: 71, steps.MediumNetwork: 239}, "",
		},
		{
			"chroot", "CHROOT=True\n", steps.MediaOptions{ExternalSources: true},
			map[steps.Medium]int{steps.MediumInit: 310}, "",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := steps.ParseConfig("bootstrap.cfg", strings.NewReader(test.config))
			if err != nil {
				t.Fatal(err)
			}
			plan, err := steps.NewPlan(tree, steps.MainRoot, cfg)
			if err != nil {
				t.Fatal(err)
			}
			files, err := plan.Distfiles(test.opt)
			if err != nil {
				t.Fatal(err)
			}
			got := map[steps.Medium]int{}
			var again []string
			for _, f := range files {
				got[f.Medium]++
				if f.Again != "" {
					again = append(again, f.Name)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("files by medium (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.again, strings.Join(again, " ")); diff != "" {
				t.Errorf("files needed again on Linux (-want +got):\n%s", diff)
			}
		})
	}
}
