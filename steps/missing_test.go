// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestMissing(t *testing.T) {
	tree := fstest.MapFS{
		"steps/manifest": {Data: []byte("build: here-1.0\nbuild: gone-1.0\nimprove: here\nimprove: gone\njump: gone\nimprove: ours\n" +
			"uninstall: gone-1.0\nbuild: off-1.0 ( X == True )\n")},
		"steps/here-1.0/pass1.kaem": {}, "steps/improve/here.sh": {},
	}
	plan, err := NewPlan(tree, MainRoot, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"steps/manifest:2: build: gone-1.0: the tree has no steps/gone-1.0",
		"steps/manifest:4: improve: gone: the tree has no steps/improve/gone.sh",
		"steps/manifest:5: jump: gone: the tree has no steps/jump/gone.sh",
	}
	if d := cmp.Diff(want, plan.Missing(tree, func(s Step) bool { return s.Name == "ours" })); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
