// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/event"
)

// TestFinalEvent: a root that did not end well takes the last line of its console along, which may be all there is.
func TestFinalEvent(t *testing.T) {
	done := t.TempDir()
	if err := os.Mkdir(filepath.Join(done, "kindling"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(done, doneMarker), []byte("ok\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := errors.New("exit status 1")
	for _, tt := range []struct {
		name, root, said string
		ended            error
		status           event.Status
		text             string
	}{
		{"success", done, "bye", nil, event.StatusOK, ""},
		{"no marker", t.TempDir(), "two", nil, event.StatusFailed, "it ended without having reached its last step: two"},
		{"failure", done, "bwrap: no", ended, event.StatusFailed, "exit status 1: bwrap: no"},
		{"silent failure", done, "", ended, event.StatusFailed, "exit status 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, err := os.OpenRoot(tt.root)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			e := finalEvent(tt.ended, root, tt.said)
			if e.Status != tt.status {
				t.Errorf("event %+v", e)
			}
			if diff := cmp.Diff(tt.text, e.Text); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}
