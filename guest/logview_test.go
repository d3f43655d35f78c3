// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kindling/guest/journal"
	"kindling/internal/event"
)

func TestShowLog(t *testing.T) {
	root := t.TempDir()
	if err := ShowLog(&strings.Builder{}, root, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no journal: %v", err)
	}
	j, _, err := journal.Open(filepath.Join(root, journalPath))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []event.Event{
		{Kind: event.KindPlan, Name: "boot", Total: 9},
		{Kind: event.KindStep, Number: 7, Step: "007-improve-x", Name: "improve: x", Status: event.StatusStart},
	} {
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(j.Close(), os.MkdirAll(filepath.Join(root, logDir), 0o755),
		os.WriteFile(filepath.Join(root, logDir, "007-improve-x.log"), []byte("what it said\x1b[1m\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{"": "running", "7": "what it said\n", "improve: x": "what it said\n"} {
		var out strings.Builder
		if err := ShowLog(&out, root, strings.FieldsFunc(args, func(rune) bool { return false })); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: %q", args, out.String())
		}
	}
	for _, args := range [][]string{{"8"}, {"7", "7"}} {
		if err := ShowLog(&strings.Builder{}, root, args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
