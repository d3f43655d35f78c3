// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"testing"
	"time"
)

func TestDue(t *testing.T) {
	s := Settings{Renew: 30 * time.Minute, Rebind: 52 * time.Minute, Lease: time.Hour}
	for _, tt := range []struct {
		age  time.Duration
		want task
		left time.Duration
	}{
		{0, taskWait, 30 * time.Minute},
		{30*time.Minute - 1, taskWait, 1},
		{30 * time.Minute, taskRenew, 22 * time.Minute},
		{52*time.Minute - time.Second, taskRenew, time.Second},
		{52 * time.Minute, taskRebind, 8 * time.Minute},
		{time.Hour - 1, taskRebind, 1},
		{time.Hour, taskExpire, 0},
		{100 * time.Hour, taskExpire, 0},
	} {
		if got, left := due(s, tt.age); got != tt.want || left != tt.left {
			t.Errorf("age %s: got %d for %s, want %d for %s", tt.age, got, left, tt.want, tt.left)
		}
	}
}

func TestPauseBetween(t *testing.T) {
	for _, tt := range []struct{ left, lease, want time.Duration }{
		{22 * time.Minute, time.Hour, 11 * time.Minute},      // half of what is left
		{90 * time.Second, time.Hour, time.Minute},           // but at least a minute
		{20 * time.Second, time.Hour, 20 * time.Second},      // and never beyond the end
		{4 * time.Second, 10 * time.Second, 2 * time.Second}, // a short lease
		{time.Second, 32 * time.Second, time.Second},         // at least a sixteenth of it
		{0, time.Hour, time.Millisecond},                     // no tight loop
		{-time.Second, 10 * time.Second, time.Millisecond},   // nor when it is late
		{36 * time.Hour, 7 * 24 * time.Hour, 18 * time.Hour}, // a long one
		{3 * time.Second, 10 * time.Second, 1500 * time.Millisecond},
	} {
		if got := pauseBetween(tt.left, tt.lease); got != tt.want {
			t.Errorf("%s left of %s: got %s, want %s", tt.left, tt.lease, got, tt.want)
		}
	}
}

func TestPauseAfter(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 6: 32 * time.Second, 7: 64 * time.Second,
		8: 64 * time.Second, 1 << 30: 64 * time.Second,
	} {
		if got := pauseAfter(failures); got != want {
			t.Errorf("%d failures: got %s, want %s", failures, got, want)
		}
	}
}
