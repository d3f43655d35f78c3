// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/guest/journal"
	"kindling/internal/event"
	"kindling/steps"
)

// A move that fails when the disk has the journal already goes on in memory, with the journal that is there; neither says
// that it went well, and the disk holds no run.
func TestMoveFailsAtItsEnd(t *testing.T) {
	memory, root := t.TempDir(), t.TempDir()
	a := testAgent(t, io.Discard, io.Discard)
	move := steps.Step{Number: 2, At: 2, Kind: steps.KindJump, Name: "move_disk"}
	begun := event.Event{Kind: event.KindStep, Step: move.ID(), Number: 2, Status: event.StatusStart}
	var err error
	if a.journal, a.state, err = journal.Open(filepath.Join(memory, journalPath)); err != nil {
		t.Fatal(err)
	}
	if err := a.journal.Append(begun); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time just as the first
		onDisk := filepath.Join(root, journalPath)
		if err := os.MkdirAll(filepath.Dir(onDisk), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := replaceFile(onDisk, filepath.Join(memory, journalPath), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := a.adopt(root); err != nil {
			t.Fatal(err)
		}
		if a.root != root || a.switchTo != root {
			t.Errorf("adopted: root %q, switches to %q", a.root, a.switchTo)
		}
		if err := a.endFailed(move, 0, inStep(io.ErrShortWrite, move)); err != nil {
			t.Fatal(err)
		}
		if a.root != "/" || a.switchTo != "" {
			t.Errorf("forsaken: root %q, switches to %q", a.root, a.switchTo)
		}
		for _, path := range []string{onDisk, filepath.Join(memory, journalPath)} {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			state, err := journal.Read(f)
			f.Close()
			if err != nil || state.Failed != move.ID() || state.Done[move.ID()] || state.Bad != 0 {
				t.Errorf("%s: %+v, %v", path, state, err)
			}
		}
		left, err := os.ReadFile(onDisk)
		if err != nil {
			t.Fatal(err)
		}
		if moved, err := movedTo(bytes.NewReader(left)); err != nil || moved {
			t.Errorf("the disk holds a run: %v, %v", moved, err)
		}
		if err := a.journal.Append(begun); err != nil { // the step is tried again
			t.Fatal(err)
		}
	}
}

// What is on a partition moves to external/. What a move has left there goes when it is tried again, external/ stays.
func TestRoomForRoot(t *testing.T) {
	root := t.TempDir()
	put := func(names ...string) {
		t.Helper()
		for _, name := range names {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("photos/cat", "usr/theirs", "lost+found/x", "external/distfiles/a")
	if err := moveToExternal(root); err != nil {
		t.Fatal(err)
	}
	put("usr/bin/ours", "init", "external/distfiles/b")
	if err := aside(root, os.RemoveAll); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"external/distfiles/a", "external/distfiles/b", "external/photos/cat", "external/usr/theirs", "lost+found/x"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	put("usr/again")
	if err = moveToExternal(root); err == nil || !strings.Contains(err.Error(), "usr") {
		t.Errorf("what is in the way was not named: %v", err)
	}
}
