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

	"kindling/host/planview"
	"kindling/steps"
)

var update = flag.Bool("update", false, "write the golden files anew")

// newView is the view of a small plan.
func newView(t *testing.T, facts planview.Facts) *planview.View {
	t.Helper()
	sum := func(digit string) string { return " " + strings.Repeat(digit, 64) }
	tree := fstest.MapFS{
		"steps/manifest": {Data: []byte("build: a\njump: fiwix\nimprove: import_payload\nbuild: b\njump: linux\n" +
			"jump: move_disk\nuninstall: b /usr/bin/x\nbuild: c ( CHROOT == True )\nimprove: get_network ( NETWORK )\nbuild: ab\n")},
		"steps/a/sources":  {Data: []byte("f http://x/a" + sum("a") + "\n")},
		"steps/b/sources":  {Data: []byte("g http://x/git~1 _" + sum("b") + " b\n")},
		"steps/c/sources":  {Data: []byte("f http://x/c" + sum("c") + "\n")},
		"steps/ab/sources": {Data: []byte("f http://y/a" + sum("a") + "\nf http://x/d" + sum("d") + "\n")},
	}
	cfg, err := steps.ParseConfig("c", strings.NewReader("KERNEL_BOOTSTRAP=True\nMIRRORS=\"http://m <&>\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := steps.NewPlan(tree, steps.MainRoot, cfg)
	if err != nil {
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
	}{
		{"payload", planview.Facts{
			Tree: "/tree", Mode: "qemu", Payload: true, Warnings: []string{"something about options"},
			Media: steps.MediaOptions{ExternalSources: true, Payload: true},
		}},
		{"network", planview.Facts{Tree: "/tree", Mode: "bare-metal"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			view := newView(t, test.facts)
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
