// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package planview_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/host/budget"
	"kindling/host/planview"
	"kindling/steps"
)

var update = flag.Bool("update", false, "write the golden files anew")

// newView is the view of a small plan.
func newView(t *testing.T, facts planview.Facts, extra ...string) *planview.View {
	t.Helper()
	sum := func(digit string) string { return " " + strings.Repeat(digit, 64) }
	tree := fstest.MapFS{
		"steps/manifest": {Data: []byte("build: a\njump: fiwix\nimprove: import_payload\nbuild: b\njump: linux\n" +
			"jump: move_disk\nuninstall: b /usr/bin/x\nbuild: c ( CHROOT == True )\nimprove: get_network ( NETWORK )\nbuild: ab\n")},
		"steps/a/sources":      {Data: []byte("f http://x/a" + sum("a") + "\n")},
		"steps/b/sources":      {Data: []byte("g http://x/git~1 _" + sum("b") + " b\n")},
		"steps/c/sources":      {Data: []byte("f http://x/c" + sum("c") + "\n")},
		"steps-lfs/manifest":   {Data: []byte("define: LFS = ( True )\nbuild: b\nimprove: note\n")},
		"steps-lfs/b/sources":  {Data: []byte("f http://x/e" + sum("e") + "\n")},
		"steps-top/manifest":   {Data: []byte("build: ab ( LFS == True )\n")},
		"steps-top/ab/sources": {Data: []byte("f http://y/a" + sum("a") + "\n")},
		"steps/ab/sources":     {Data: []byte("f http://y/a" + sum("a") + "\nf http://x/d" + sum("d") + "\n")},
	}
	cfg, err := steps.ParseConfig("c", strings.NewReader("KERNEL_BOOTSTRAP=True\nMIRRORS=\"http://m <&>\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := steps.NewPlan(tree, steps.MainRoot, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if facts.Extra, err = steps.NewExtraPlans(tree, extra, plan.Config); err != nil {
		t.Fatal(err)
	}
	view, err := planview.New(plan, facts)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func TestView(t *testing.T) {
	tests := []struct {
		name  string
		facts planview.Facts
		extra []string
	}{
		{"extra", planview.Facts{
			Tree: "/tree", Mode: "qemu", Payload: true, Media: steps.MediaOptions{ExternalSources: true, Payload: true},
		}, []string{"lfs", "top"}},
		{"payload", planview.Facts{
			Tree: "/tree", Mode: "qemu", Payload: true, Warnings: []string{"something about options"},
			Media: steps.MediaOptions{ExternalSources: true, Payload: true}, Budgets: smallBudgets(),
			BaseTarball: &planview.BaseTarball{Why: "no room"},
		}, nil},
		{"network", planview.Facts{Tree: "/tree", Mode: "bare-metal"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			view := newView(t, test.facts, test.extra...)
			var text, object bytes.Buffer
			if err := errors.Join(view.Text(&text), view.JSON(&object)); err != nil {
				t.Fatal(err)
			}
			compareGolden(t, test.name+".txt", text.Bytes())
			compareGolden(t, test.name+".json", object.Bytes())
			var back planview.View
			if err := json.Unmarshal(object.Bytes(), &back); err != nil {
				t.Errorf("the JSON form does not parse: %v", err)
			}
		})
	}
}

// smallBudgets has a row of each certainty.
func smallBudgets() *budget.Report {
	number := func(n int64) *int64 { return &n }
	return &budget.Report{
		Rows: []budget.Row{
			{
				ID: "builder-hex0.files", Kernel: "builder-hex0", What: "files", Unit: "files", Limit: 14_332,
				LimitBasis: budget.FromTree, LimitSource: "builder-hex0/README.md:1", Known: number(2), Used: number(20),
				Left: number(14_312), Certainty: budget.Estimate, UsedSource: "a document", Verdict: budget.OK, Advice: "less",
			},
			{
				ID: "builder-hex0.parents", Kernel: "builder-hex0", What: "parents", Unit: "bytes", Limit: 603_979_775,
				LimitBasis: budget.Assumed, LimitSource: "a document", Certainty: budget.Unknown, Verdict: budget.NotKnown,
			},
			{
				ID: "fiwix.import", Kernel: "fiwix", What: "import", Unit: "bytes", Limit: 1000, LimitBasis: budget.FromTree,
				LimitSource: "fiwix.sh:2", Known: number(1001), Used: number(1001), Left: number(-1),
				Certainty: budget.AtLeast, AtLeast: true, Verdict: budget.Over,
			},
		},
		Largest: []budget.Item{{Path: "/external/distfiles/a", Size: 1000}}, Unknown: []string{"/external/distfiles/b"},
		Warnings: []string{"budget: the size of 1 file is not known"},
	}
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestEmptyListsAreLists keeps programs from meeting null where they expect a list.
func TestEmptyListsAreLists(t *testing.T) {
	plan, err := steps.NewPlan(fstest.MapFS{"steps/manifest": {}}, steps.MainRoot, nil)
	if err != nil {
		t.Fatal(err)
	}
	view, err := planview.New(plan, planview.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := view.JSON(&out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config", "media", "kernels", "steps", "distfiles", "warnings"} {
		if !strings.Contains(out.String(), `"`+name+`": []`) {
			t.Errorf("%s is not [] in %s", name, out.String())
		}
	}
	if err := view.Text(&out); err != nil {
		t.Error(err)
	}
}

func TestNewPassesErrorsOn(t *testing.T) {
	plan, err := steps.NewPlan(fstest.MapFS{"steps/manifest": {}}, steps.MainRoot, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := planview.New(plan, planview.Facts{Media: steps.MediaOptions{PayloadStage: "x"}}); err == nil {
		t.Error("no error for a payload stage that does not exist")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWriteErrors(t *testing.T) {
	view := newView(t, planview.Facts{})
	if view.Text(brokenPipe{}) == nil || view.JSON(brokenPipe{}) == nil {
		t.Error("a write error is lost")
	}
}
