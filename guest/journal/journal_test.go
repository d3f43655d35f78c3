// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/event"
)

func step(id string, s event.Status) event.Event {
	return event.Event{Kind: event.KindStep, Step: id, Status: s}
}

func text(t *testing.T, events ...event.Event) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, e := range events {
		line, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		buf.Write(line)
	}
	return buf.Bytes()
}

func TestRead(t *testing.T) {
	done := func(s event.Status) event.Event { return event.Event{Kind: event.KindDone, Status: s} }
	for _, tt := range []struct {
		name   string
		events []event.Event
		want   State
	}{
		{"empty", nil, State{}},
		{"cut short", []event.Event{step("a", "start"), step("a", "ok"), step("b", "start")},
			State{Done: map[string]bool{"a": true}, Started: "b"}},
		{"failed", []event.Event{step("a", "start"), step("a", "failed"), done("failed")},
			State{Failed: "a", Result: "failed"}},
		{"failed, then good", []event.Event{step("a", "start"), step("a", "failed"), done("failed"),
			{Kind: event.KindPlan}, step("a", "start"), step("a", "ok"), done("ok")},
			State{Done: map[string]bool{"a": true}, Result: "ok"}},
		{"failed, then skipped by hand", []event.Event{step("a", "start"), step("a", "failed"), step("a", "skipped"), step("b", "start")},
			State{Done: map[string]bool{"a": true}, Started: "b"}},
		{"done once, started again", []event.Event{step("a", "ok"), step("a", "start")}, State{Started: "a"}},
	} {
		data := text(t, tt.events...)
		tt.want.Size = int64(len(data))
		if tt.want.Done == nil {
			tt.want.Done = map[string]bool{}
		}
		got, err := Read(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, d)
		}
	}
}

// A power cut can end the file at any byte: what stood in whole lines must be read, and nothing else.
func TestReadCutAnywhere(t *testing.T) {
	data := text(t, step("a", "start"), step("a", "ok"), step("b", "start"))
	for n := range data {
		got, err := Read(bytes.NewReader(data[:n]))
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if want := int64(bytes.LastIndexByte(data[:n], '\n') + 1); got.Size != want {
			t.Errorf("cut at %d: size %d, want %d", n, got.Size, want)
		}
	}
}

// Lines that cannot be read are counted and passed over; what stands around them counts.
func TestReadMalformed(t *testing.T) {
	for name, bad := range map[string]string{
		"not an event": "{}\n", "a kind of a later version": `{"kind":"mood"}` + "\n", "binary": "\x00\xff\n",
		"too long": strings.Repeat("x", 3*event.MaxLine) + "\n",
	} {
		data := append(text(t, step("a", "start")), bad...)
		data = append(data, text(t, step("a", "ok"), step("b", "start"))...)
		got, err := Read(bytes.NewReader(data))
		want := State{Done: map[string]bool{"a": true}, Started: "b", Bad: 1, Size: int64(len(data))}
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, d)
		}
	}
}

// A full disk leaves no part of a line, and the journal can be used again when there is room.
func TestAppendOnFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Append(step("a", "start")); err != nil {
		t.Fatal(err)
	}
	whole := j.file
	if j.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(step("a", "ok")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	j.file = whole
	if err := j.Append(step("a", "failed")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s, err := Read(f); err != nil || s.Failed != "a" || s.Bad != 0 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func FuzzRead(f *testing.F) {
	line, err := event.Encode(step("a", "ok"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data))
		if err != nil || s.Size > int64(len(data)) {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

func TestAppendAfterCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "journal")
	j, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Append(step("a", "start")), j.Append(step("a", "ok")), j.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-5], 0o644); err != nil {
		t.Fatal(err)
	}
	j, state, err := Open(path)
	if err != nil || state.Started != "a" {
		t.Fatalf("got %+v, %v", state, err)
	}
	if err := errors.Join(j.Append(step("a", "ok")), j.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after repair: %q, %v, want %q", got, err, data)
	}
}
