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
			"uninstall: gone-1.0\nbuild: off-1.0 ( X == True )\nbuild: here-1.0\nbuild: bash-2.05b\nbuild: here-1.0\nbuild: late-1.0\n" +
			"build: late-1.0\nbuild: usual-1.0\n")},
		"steps/here-1.0/pass1.kaem": {}, "steps/improve/here.sh": {}, "steps/bash-2.05b/pass1.kaem": {},
		"steps/late-1.0/pass1.sh": {}, "steps/usual-1.0/mk/main.mk": {}, "steps/here-1.0/pass3.kaem": {},
	}
	plan, err := NewPlan(tree, MainRoot, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"steps/manifest:2: build: gone-1.0: the tree has no steps/gone-1.0",
		"steps/manifest:4: improve: gone: the tree has no steps/improve/gone.sh",
		"steps/manifest:5: jump: gone: the tree has no steps/jump/gone.sh",
		"steps/manifest:9: build: here-1.0: the tree has no steps/here-1.0/pass2.kaem",
		"steps/manifest:11: build: here-1.0: the tree has no steps/here-1.0/pass3.sh",
		"steps/manifest:13: build: late-1.0: the tree has no steps/late-1.0/pass2.sh",
	}
	if d := cmp.Diff(want, plan.Missing(tree, func(s Step) bool { return s.Name == "ours" })); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
