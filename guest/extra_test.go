// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/guest/journal"
	"kindling/internal/event"
	"kindling/steps"
)

// put writes a file below a folder that stands for the root of the guest.
func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// The plan of an extra root is that of the moment in which it was first asked for.
func TestPlanExtra(t *testing.T) {
	root, kept := t.TempDir(), t.TempDir()
	put(t, root, "steps-lfs/manifest", "define: A = ( yes )\nbuild: one-1 ( MODE == first )\nbuild: two-1 ( MODE != first )\n")
	put(t, root, "steps-lfs/one-1/sources", "f https://a.example/one.tar "+strings.Repeat("1", 64)+"\n")
	config := func(mode string) *steps.Config {
		c := &steps.Config{}
		c.Set("MODE", mode)
		return c
	}
	for _, mode := range []string{"first", "second"} {
		p, err := planExtra(root, kept, "lfs", config(mode))
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Steps) != 1 || p.Steps[0].ID() != "lfs.001-build-one-1-pass1" || p.Steps[0].Sources[0].Name != "one.tar" {
			t.Errorf("%s: %v", mode, p.Steps)
		}
		if diff := cmp.Diff([]steps.Variable{{Name: "A", Value: "yes"}}, p.Defined); diff != "" {
			t.Errorf("defined (-want +got)\n%s", diff)
		}
		put(t, root, "steps-lfs/manifest", "build: three-1\n")
	}
	for name, want := range map[string]string{"gone": "extra root gone is asked for", "../x": "lower-case"} {
		if _, err := planExtra(root, kept, name, config("first")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// extraPlan is a main plan with one extra root behind it.
func extraOrder(t *testing.T) []steps.Step {
	t.Helper()
	root := t.TempDir()
	put(t, root, "steps-lfs/manifest", "build: one-1\nimprove: after\njump: move_disk\n")
	extra, err := planExtra(root, root, "lfs", &steps.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return steps.InOrder(plan(t, "jump: linux", "jump: move_disk", "improve: after"), []*steps.Plan{extra}, nil)
}

// A run goes on inside of an extra root, and one that was asked for when all was done already is entered directly.
func TestWhereExtra(t *testing.T) {
	order := extraOrder(t)
	ids := map[string]bool{}
	for _, s := range order {
		ids[s.ID()] = true
	}
	done := func(but ...string) map[string]bool {
		m := map[string]bool{}
		for id := range ids {
			m[id] = true
		}
		for _, id := range but {
			if !m[id] {
				t.Fatalf("there is no step %s in %v", id, order)
			}
			delete(m, id)
		}
		return m
	}
	for _, tt := range []struct {
		name  string
		state journal.State
		want  decision
	}{
		{"main steps are done", journal.State{Done: done("lfs.001-build-one-1-pass1", "lfs.002-improve-after", "lfs.003-jump-move_disk", "003-improve-after")},
			decision{placeResume, 2}},
		{"in the middle", journal.State{Done: done("lfs.002-improve-after", "lfs.003-jump-move_disk", "003-improve-after"), Started: "lfs.002-improve-after"},
			decision{placeResume, 3}},
		{"asked for later", journal.State{Done: done("lfs.001-build-one-1-pass1", "lfs.002-improve-after", "lfs.003-jump-move_disk"), Result: event.StatusOK},
			decision{placeResume, 2}},
		{"all done", journal.State{Done: done(), Result: event.StatusOK}, decision{placeFinished, 6}},
	} {
		got, err := where(situation{plan: order, state: tt.state})
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
	if _, err := where(situation{plan: order[2:5]}); !errors.Is(err, errNoLinux) {
		t.Errorf("extra steps alone: %v", err)
	}
}

// What the main root's directives of that name are, an extra root's are not.
func TestExtraIsNotNative(t *testing.T) {
	for _, s := range extraOrder(t) {
		_, native := nativeOf(s)
		if want := s.Root == ""; native != want {
			t.Errorf("%s: native %t, want %t", s.ID(), native, want)
		}
		repo := "external/repo"
		if s.Root != "" {
			repo += "-lfs"
		}
		if got := repoOf(s); got != repo {
			t.Errorf("%s: repository %s, want %s", s.ID(), got, repo)
		}
	}
}

// A jump of an extra root that was begun is behind the machine when it runs again; one that has failed is not.
func TestMendExtraJump(t *testing.T) {
	order := extraOrder(t)
	jump := order[4]
	for _, tt := range []struct {
		state journal.State
		want  bool
	}{
		{journal.State{}, false}, {journal.State{Failed: jump.ID()}, false}, {journal.State{Started: jump.ID()}, true},
	} {
		a := newAgent()
		a.state = tt.state
		if done, err := a.mend(jump); err != nil || done != tt.want {
			t.Errorf("%+v: %t, %v, want %t", tt.state, done, err, tt.want)
		}
	}
	a := newAgent()
	a.state.Started = order[1].ID()
	if done, err := a.mend(order[1]); err != nil || done {
		t.Errorf("the main root's own jump: %t, %v", done, err)
	}
}
