// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
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
		name, root, console string
		ended               error
		status              event.Status
		text                string
	}{
		{"success", done, "bye\n", nil, event.StatusOK, ""},
		{"no marker", t.TempDir(), "one\ntwo\r\n\n", nil, event.StatusFailed, "it ended without having reached its last step: two"},
		{"failure", done, "bwrap: \x1b[1mno\n", ended, event.StatusFailed, "exit status 1: bwrap: no"},
		{"silent failure", done, "", ended, event.StatusFailed, "exit status 1"},
		{"long console", done, strings.Repeat("x\n", 9000) + "last", ended, event.StatusFailed, "exit status 1: last"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			console := filepath.Join(t.TempDir(), "console.log")
			if err := os.WriteFile(console, []byte(tt.console), 0o600); err != nil {
				t.Fatal(err)
			}
			e, err := event.Decode(finalEvent(tt.ended, tt.root, lastConsoleLine(console)))
			if err != nil || e.Status != tt.status {
				t.Errorf("event %+v, %v", e, err)
			}
			if diff := cmp.Diff(tt.text, e.Text); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
	if got := lastConsoleLine(filepath.Join(done, "absent")); got != "" {
		t.Errorf("no console says %q", got)
	}
}
