// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// Frames with the data behind them are what Write writes.
func TestFrames(t *testing.T) {
	for _, sizes := range [][]int{{}, {0}, {1}, {3, 0, 5000, 7}} {
		var entries []Entry
		for i, size := range sizes {
			entries = append(entries, BytesEntry(strings.Repeat("n", i+1), bytes.Repeat([]byte{byte(i + 1)}, size)))
		}
		var want bytes.Buffer
		wantSummary, err := Write(t.Context(), &want, entries)
		if err != nil {
			t.Fatal(err)
		}
		summary, frames, err := Frames(entries)
		if err != nil || summary != wantSummary {
			t.Fatalf("frames of %d: %+v, %v, want %+v", len(sizes), summary, err, wantSummary)
		}
		got := make([]byte, summary.Size)
		for i, f := range frames {
			copy(got[f.Offset:], f.Head)
			if i == len(entries) {
				break
			}
			src, err := entries[i].Open()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(src, got[f.Offset+int64(len(f.Head)):][:entries[i].Size]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%d entries: frames differ from what Write writes", len(sizes))
		}
	}
	if _, _, err := Frames([]Entry{BytesEntry("a/b", nil)}); !errors.Is(err, ErrName) {
		t.Errorf("bad name: %v", err)
	}
}
