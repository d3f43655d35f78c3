// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kindling/guest/journal"
	"kindling/internal/event"
	"kindling/internal/ext4"
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
		if got, err := movedTo(bytes.NewReader(journalOf(t, tt.events...))); got != tt.want || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
}

// journalOf is a journal with some events.
func journalOf(t *testing.T, events ...event.Event) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	j, _, err := journal.Open(path)
	for _, e := range events {
		err = errors.Join(err, j.Append(e))
	}
	if err = errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sbin runs a program of the system's on a disk image, with commands for it.
func sbin(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join("/sbin", name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q (the Makefile installs it): %v\n%s", name, args, err, out)
	}
	return string(out)
}

// runImage is a partition with a run whose own journal is what now says; so says the journal of its filesystem, before
// that it was what old says.
func runImage(t *testing.T, old, now []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	path, src := filepath.Join(dir, "fs.img"), filepath.Join(dir, "src")
	block := make([]byte, 1024)
	if copy(block, now) < len(now) || len(old) != len(now) {
		t.Fatal("no journal for this test")
	}
	err := os.MkdirAll(filepath.Join(src, home), 0o755)
	for name, data := range map[string][]byte{"src" + planConfig: nil, "src" + selfPath: nil, "src" + journalPath: old, "block": block} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	sbin(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "metadata_csum", "-d", src, path, "4M")
	fields := strings.Fields(sbin(t, "bmap "+journalPath+" 0\n", "debugfs", "-f", "-", path))
	log := "jw -b " + fields[len(fields)-1] + " " + filepath.Join(dir, "block") + "\njc\n"
	// The superblock stands in the journal, too, as of a filesystem in use: debugfs makes it on a copy.
	clean, err := os.ReadFile(path)
	used := filepath.Join(dir, "used.img")
	if err := errors.Join(err, os.WriteFile(used, clean, 0o644)); err != nil {
		t.Fatal(err)
	}
	sbin(t, "jo -c -v 3\n"+log, "debugfs", "-w", "-f", "-", used)
	data, err := os.ReadFile(used)
	super := filepath.Join(dir, "super")
	if err := errors.Join(err, os.WriteFile(super, data[superblock:2*superblock], 0o644)); err != nil {
		t.Fatal(err)
	}
	sbin(t, "jo -c -v 3\njw -b 1 "+super+"\n"+log, "debugfs", "-w", "-f", "-", path)
	if data, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return data
}

// superblock is where a filesystem has its superblock, and how long that is.
const superblock = 1024

// A run is known by what its disk has said last, in whatever state a power cut has left the filesystem; what Linux refuses
// for that is mended, and what it refuses for another reason is left alone. (Every Linux refuses a torn superblock.)
func TestTornRun(t *testing.T) {
	move := func(status event.Status, text string) []byte {
		return journalOf(t, event.Event{Kind: event.KindStep, Number: 5, Step: "005-jump-move_disk", Name: "jump: move_disk", Status: status, Text: text})
	}
	moving, moved := move(event.StatusStart, "-"), move(event.StatusOK, "----") // of one size
	arrived, there := runImage(t, moving, moved), runImage(t, moved, moved)
	for _, tt := range []struct {
		name  string
		image []byte
		torn  func(commit int) int // the byte that is wrong, given where the last commit block is
		holds bool
		what  string
		fails string
	}{
		{"nothing", arrived, nil, true, "", ""},
		{"the superblock", arrived, func(int) int { return superblock + 0x89 }, true, "the superblock", ""},
		{"the beginning of the commit block", arrived, func(commit int) int { return commit + 0x37 }, false, "", "filesystem is damaged"},
		{"the same in a later transaction", there, func(commit int) int { return commit + 0x37 }, true, "", "filesystem is damaged"},
		{"a block of a whole transaction", there, func(commit int) int { return commit - 1000 }, true, "", "filesystem is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := bytes.Clone(tt.image)
			commit := bytes.LastIndex(data, []byte("\xc0\x3b\x39\x98\x00\x00\x00\x02"))
			if commit < 0 {
				t.Fatal("no commit block")
			}
			if tt.torn != nil {
				data[tt.torn(commit)] ^= 0xff
			}
			device, file := loopOf(t, data)
			if holds, err := holdsRun(t.Context(), device); holds != tt.holds || err != nil {
				t.Errorf("holds a run: %t, %v", holds, err)
			}
			at := t.TempDir()
			torn, err := mountRun(t.Context(), device, at)
			if err == nil {
				defer func() {
					if err := unix.Unmount(at, 0); err != nil {
						t.Error(err)
					}
				}()
			}
			if tt.fails != "" {
				if after, readErr := os.ReadFile(file); err == nil || !strings.Contains(err.Error(), tt.fails) || readErr != nil || !bytes.Equal(after, data) {
					t.Errorf("%v, want %q, and the disk as it was", err, tt.fails)
				}
				return
			}
			if err != nil || torn != tt.what {
				t.Fatalf("mount: torn %q, %v, want %q", torn, err, tt.what)
			}
			if got, err := os.ReadFile(filepath.Join(at, journalPath)); err != nil || !bytes.Equal(got, moved) {
				t.Errorf("%q, %v, want %q", got, err, moved)
			}
		})
	}
}

// What cannot be read to its end may hold a run, and so is not written over; what has none can be.
func TestHoldsRunInDoubt(t *testing.T) {
	src := t.TempDir()
	if err := os.MkdirAll(filepath.Join(src, home), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fs.img")
	for _, tt := range []struct {
		name, features, change string
		err                    error
	}{
		{"no run", "^inline_data", "stat /", nil},
		{"a feature that is not known", "inline_data", "stat /", ext4.ErrUnsupported},
		{"a damaged folder", "^inline_data", "sif " + home + " block[0] 1", ext4.ErrCorrupt},
	} {
		sbin(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", tt.features, "-d", src, path, "4M")
		sbin(t, tt.change+"\n", "debugfs", "-w", "-f", "-", path)
		if holds, err := holdsRun(t.Context(), path); holds || !errors.Is(err, tt.err) {
			t.Errorf("%s: %t, %v, want %v", tt.name, holds, err, tt.err)
		}
	}
}

// loopOf gives a loop device with some data, and its file.
func loopOf(t *testing.T, data []byte) (device, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "losetup", "-f", "--show", file).Output()
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skipf("loop devices need root: %v", err)
		}
		t.Fatal(err)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "-d", device).Run(); err != nil {
			t.Error(err)
		}
	})
	return device, file
}
