// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTrial boots the machine that counts, in the real QEMU: twice the work takes longer, which is what the trial is
// about.
func TestTrial(t *testing.T) {
	if _, err := exec.LookPath(BinaryX8664); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs QEMU: %v", err)
		}
		t.Skipf("SKIPPED, not tested: %v", err)
	}
	took, err := trial(t.Context(), BinaryX8664, AccelTCG)
	if err != nil || took < 10*time.Millisecond || took > TrialLimit {
		t.Errorf("trial under TCG: %s, %v", took, err)
	}
}

// TestTrialFails has programs in the place of QEMU that do not do what the machine would.
func TestTrialFails(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	program := func(script string) string {
		path := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, script := range map[string]string{
		"ended with exit status 1: cannot open": "echo cannot open >&2; echo more >&2; exit 1",
		"ended without having counted":          "printf b; exit 33",
		"ended with no error: ":                 "printf ab",
	} {
		if _, err := trial(t.Context(), program(script), AccelKVM); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %q", script, err, want)
		}
	}
	if took, err := trial(t.Context(), program("printf a; sleep 0.05; printf b; exit 33"), AccelKVM); err != nil ||
		took < 40*time.Millisecond {
		t.Errorf("a good one: %s, %v", took, err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("time is over"))
	defer cancel()
	if _, err := trial(ctx, program("exec sleep 60"), AccelKVM); err == nil || err.Error() != "time is over" {
		t.Errorf("one without end: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "kindling-trial-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestMeasure has every outcome of a trial.
func TestMeasure(t *testing.T) {
	const slow, fast = 400 * time.Millisecond, 40 * time.Millisecond
	broken := errors.New("did not end")
	for _, tt := range []struct {
		name     string
		tcg, kvm any
		before   error
		want     string
	}{
		{"fast", slow, fast, nil, ""},
		{"slow", fast, slow, nil, "KVM cannot be used: a trial machine counts slower than under TCG (400ms against 40ms)"},
		{"stuck", slow, broken, nil, "KVM cannot be used: a trial machine: did not end (under TCG it counts in 400ms)"},
		{"no QEMU", broken, fast, nil, "KVM cannot be used: the trial does not run under TCG either: did not end"},
		{"known before", slow, broken, ErrNoKVM, "KVM cannot be used"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := KVM{Obstacle: tt.before}
			k.measure(func(a Accel) (time.Duration, error) {
				answer := tt.kvm
				if a == AccelTCG {
					answer = tt.tcg
				}
				if err, bad := answer.(error); bad {
					return 0, err
				}
				return answer.(time.Duration), nil
			})
			got := ""
			if k.Obstacle != nil {
				got = k.Obstacle.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if k.Obstacle != nil && !errors.Is(k.Obstacle, ErrNoKVM) {
				t.Errorf("%v is not ErrNoKVM", k.Obstacle)
			}
		})
	}
}

func TestTrialSector(t *testing.T) {
	s := trialSector(0x01020304)
	if len(s) != 512 || s[510] != 0x55 || s[511] != 0xaa || !strings.Contains(string(s), "\x66\xb9\x04\x03\x02\x01") {
		t.Errorf("sector % x", s[:32])
	}
}
