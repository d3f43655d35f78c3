// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"path/filepath"
	"testing"

	"kindling/guest/journal"
	"kindling/internal/event"
)

// A disk onto which a move was cut short holds no run, though it may have a journal already.
func TestMovedTo(t *testing.T) {
	move := func(status event.Status) event.Event {
		return event.Event{Kind: event.KindStep, Number: 5, Step: "005-jump-move_disk", Name: "jump: move_disk", Status: status}
	}
	next := event.Event{Kind: event.KindStep, Number: 6, Step: "006-build-x-pass1", Name: "build: x", Status: event.StatusStart}
	for name, tt := range map[string]struct {
		events []event.Event
		want   bool
	}{
		"cut in the move":   {[]event.Event{move(event.StatusStart)}, false},
		"the move failed":   {[]event.Event{move(event.StatusStart), move(event.StatusFailed)}, false},
		"moved":             {[]event.Event{move(event.StatusStart), move(event.StatusOK)}, true},
		"cut in a step":     {[]event.Event{move(event.StatusStart), move(event.StatusOK), next}, true},
		"never had to move": {[]event.Event{next}, true},
	} {
		path := filepath.Join(t.TempDir(), "journal")
		j, _, err := journal.Open(path)
		for _, e := range tt.events {
			err = errors.Join(err, j.Append(e))
		}
		if err = errors.Join(err, j.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := movedTo(path); got != tt.want || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
	if got, err := movedTo(filepath.Join(t.TempDir(), "none")); got || err != nil {
		t.Errorf("no journal: %t, %v", got, err)
	}
}
