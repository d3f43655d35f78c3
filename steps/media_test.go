// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

// place is what a test compares of a distfile.
type place struct {
	Name   string
	Medium steps.Medium
	Again  steps.Medium
	Late   bool
	Active bool
}

func places(t *testing.T, plan *steps.Plan, opt steps.MediaOptions) []place {
	t.Helper()
	files, err := plan.Distfiles(opt)
	if err != nil {
		t.Fatal(err)
	}
	var out []place
	for _, f := range files {
		out = append(out, place{strings.TrimSuffix(f.Name, ".tar.gz"), f.Medium, f.Again, f.Late, f.Active})
	}
	return out
}

// letterTree has packages of one letter; each needs one file, ab needs those of a and b.
func letterTree(manifest string) fstest.MapFS {
	tree := treeOf(manifest)
	for _, letters := range []string{"a", "b", "c", "d", "e", "ab"} {
		var lines strings.Builder
		for _, letter := range strings.Split(letters, "") {
			fmt.Fprintf(&lines, "f https://a.example/%s.tar.gz %s\n", letter, strings.Repeat(letter, 64))
		}
		tree["steps/"+letters+"/sources"] = &fstest.MapFile{Data: []byte(lines.String())}
	}
	return tree
}

func TestDistfilesMedia(t *testing.T) {
	const (
		init, early, payload = steps.MediumInit, steps.MediumPayloadEarly, steps.MediumPayload
		external, network    = steps.MediumExternal, steps.MediumNetwork
		kernels              = "KERNEL_BOOTSTRAP=True\nCHROOT=False\n"
		whole                = "build: a\njump: fiwix\nbuild: b\njump: linux\njump: move_disk\nbuild: c\n" +
			"improve: get_network\nbuild: d ( CHROOT == True )\nbuild: ab\n"
	)
	all := steps.MediaOptions{ExternalSources: true, Payload: true}
	with := func(stage steps.PayloadStage) steps.MediaOptions {
		return steps.MediaOptions{ExternalSources: true, Payload: true, PayloadStage: stage}
	}
	tests := []struct {
		name, manifest, config string
		opt                    steps.MediaOptions
		want                   []place
	}{
		{"two parts", whole, kernels, all, []place{
			{"a", init, payload, true, true}, {"b", early, "", true, true},
			{"c", payload, "", true, true}, {"d", payload, "", true, false},
		}},
		{"explicit auto", "build: a\n", kernels, with(steps.PayloadStageAuto), []place{{"a", init, "", false, true}}},
		{"all at once", whole, kernels, with(steps.PayloadStageFiwix), []place{
			{"a", init, "", false, true}, {"b", early, "", false, true},
			{"c", early, "", false, true}, {"d", early, "", false, false},
		}},
		{"on Linux only", whole, kernels, with(steps.PayloadStageLinux), []place{
			{"a", init, payload, true, true}, {"b", init, payload, true, true},
			{"c", payload, "", true, true}, {"d", payload, "", true, false},
		}},
		{"payload and network", whole, kernels, steps.MediaOptions{Payload: true}, []place{
			{"a", init, payload, true, true}, {"b", early, "", true, true},
			{"c", payload, "", true, true}, {"d", network, "", false, false},
		}},
		{"external disk", whole, kernels, steps.MediaOptions{ExternalSources: true}, []place{
			{"a", init, "", false, true}, {"b", init, "", false, true},
			{"c", init, "", false, true}, {"d", external, "", false, false},
		}},
		{"network", whole, kernels, steps.MediaOptions{}, []place{
			{"a", init, "", false, true}, {"b", init, "", false, true},
			{"c", init, "", false, true}, {"d", network, "", false, false},
		}},
		{"own kernel has no payload", whole, "CHROOT=False\n", all, []place{
			{"a", init, "", false, true}, {"b", init, "", false, true},
			{"c", init, "", false, true}, {"d", init, "", false, false},
		}},
		{"chroot and network", whole, "CHROOT=True\n", steps.MediaOptions{}, []place{
			{"a", init, "", false, true}, {"b", init, "", false, true},
			{"c", init, "", false, true}, {"d", network, "", false, true},
		}},
		{
			"import_payload decides", "build: a\njump: fiwix\nbuild: b\nimprove: import_payload\nbuild: c\njump: linux\nbuild: d\n",
			kernels, all, []place{
				{"a", init, "", false, true}, {"b", init, "", false, true},
				{"c", early, "", false, true}, {"d", payload, "", true, true},
			},
		},
		{
			"no Fiwix", "build: a\njump: linux\njump: move_disk\nimprove: import_payload_rest\nbuild: b\n" +
				"improve: get_network\nbuild: c\n",
			kernels, steps.MediaOptions{Payload: true}, []place{
				{"a", init, "", false, true}, {"b", payload, "", true, true}, {"c", network, "", false, true},
			},
		},
		{"no Linux", "build: a\njump: fiwix\nbuild: b\n", kernels, all, []place{
			{"a", init, "", false, true}, {"b", early, "", false, true},
		}},
		{"no jump", "build: a\nbuild: b\n", kernels, all, []place{
			{"a", init, "", false, true}, {"b", init, "", false, true},
		}},
		{"a jump that is not made", "build: a\njump: fiwix\nbuild: b\njump: linux ( False )\nbuild: c\n", kernels, all, []place{
			{"a", init, "", false, true}, {"b", early, "", false, true}, {"c", early, "", false, true},
		}},
		{"no sources needed between", "jump: fiwix\nbuild: a\njump: linux\nbuild: none\njump: move_disk\nbuild: b\n", kernels, all, []place{
			{"a", early, "", false, true}, {"b", payload, "", true, true},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := places(t, newPlan(t, letterTree(test.manifest), steps.MainRoot, test.config), test.opt)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("places (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDistfilesExtraRoot(t *testing.T) {
	const kernels = "KERNEL_BOOTSTRAP=True\n"
	tests := []struct {
		name, config string
		opt          steps.MediaOptions
		want         steps.Medium
	}{
		{"payload", kernels, steps.MediaOptions{ExternalSources: true, Payload: true}, steps.MediumPayload},
		{"external", kernels, steps.MediaOptions{ExternalSources: true}, steps.MediumExternal},
		{"network", kernels, steps.MediaOptions{Payload: true}, steps.MediumNetwork},
		{"chroot", "CHROOT=True\n", steps.MediaOptions{ExternalSources: true}, steps.MediumInit},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan := newPlan(t, smallTree(t), "steps-extra", test.config)
			files, err := plan.Distfiles(test.opt)
			if err != nil || len(files) != 1 || files[0].Medium != test.want {
				t.Errorf("files %+v, error %v, want one on %s", files, err, test.want)
			}
		})
	}
}

// TestDistfilesOrigins has one file from two places.
func TestDistfilesOrigins(t *testing.T) {
	files, err := newPlan(t, smallTree(t), steps.MainRoot, "").Distfiles(steps.MediaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name != "shared.txt" {
			continue
		}
		var urls []string
		for _, s := range f.Sources {
			urls = append(urls, s.URL)
		}
		want := []string{"https://example.org/shared.txt", "https://mirror.example.org/shared.txt"}
		if diff := cmp.Diff(want, urls); diff != "" {
			t.Errorf("origins (-want +got):\n%s", diff)
		}
		if f.NeededBy != "kernel-1.0" || f.Line != 4 || f.Active != true {
			t.Errorf("needed by %s, line %d, active %t", f.NeededBy, f.Line, f.Active)
		}
		return
	}
	t.Error("shared.txt is missing")
}

func TestDistfilesErrors(t *testing.T) {
	sum := func(digit string) string { return strings.Repeat(digit, 64) + "\n" }
	conflict := treeOf("build: p\nbuild: q\n", "steps/p/sources", "f http://x/one "+sum("1"),
		"steps/q/sources", "f http://x/two "+sum("2")+"f http://x/one "+sum("2"))
	_, err := newPlan(t, conflict, steps.MainRoot, "").Distfiles(steps.MediaOptions{})
	checkParseError(t, err, "steps/q/sources:2: ", `"one" has another sha256 than in steps/p/sources`)

	gap := letterTree("build: a\njump: fiwix\njump: linux\nbuild: b\njump: move_disk\n")
	plan := newPlan(t, gap, steps.MainRoot, "KERNEL_BOOTSTRAP=True\n")
	_, err = plan.Distfiles(steps.MediaOptions{ExternalSources: true, Payload: true})
	checkParseError(t, err, "steps/manifest:4: ", "needs distfiles between jump: linux and the late payload import")
	if _, err := plan.Distfiles(steps.MediaOptions{ExternalSources: true}); err != nil {
		t.Errorf("without a payload: %v", err)
	}

	if _, err := plan.Distfiles(steps.MediaOptions{PayloadStage: "later"}); err == nil {
		t.Error("a payload stage that does not exist is accepted")
	}
}

func TestCounts(t *testing.T) {
	for _, config := range []string{"", "CHROOT=True\n", "KERNEL_BOOTSTRAP=True\n"} {
		want := steps.Counts{
			All:           steps.Count{Lines: 12, Files: 11},
			BeforeNetwork: &steps.Count{Lines: 10, Files: 9},
			BeforeLinux:   &steps.Count{Lines: 8, Files: 8},
			BeforeFiwix:   &steps.Count{Lines: 3, Files: 3},
		}
		if diff := cmp.Diff(want, newPlan(t, smallTree(t), steps.MainRoot, config).Counts()); diff != "" {
			t.Errorf("counts with %q (-want +got):\n%s", config, diff)
		}
	}
	none := newPlan(t, treeOf("improve: x\n"), steps.MainRoot, "").Counts()
	if diff := cmp.Diff(steps.Counts{}, none); diff != "" {
		t.Errorf("counts of nothing (-want +got):\n%s", diff)
	}
}
