// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package report

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func seconds(s float64) Seconds { return Seconds(s * float64(time.Second)) }

// sample has every field.
func sample() Report {
	used := int64(12)
	return Report{
		Schema: Schema, Label: "demo", Result: ResultStep, ExitStatus: 10, Reason: "no such file",
		Line:  "step 2 of 2 (build: b) failed with exit status 2 in phase steps: no such file <&>",
		Phase: "steps", Step: "002-build-b", Log: "steps/002-build-b.log",
		Started:  time.Date(2026, 1, 2, 3, 4, 5, 123_000_000, time.UTC),
		Ended:    time.Date(2026, 1, 2, 3, 5, 5, 0, time.UTC),
		Duration: seconds(59.877),
		Phases: []Phase{
			{Name: "start", Duration: seconds(4.2)}, {Name: "steps", Start: seconds(4.2), Duration: seconds(55.677)},
		},
		Steps: []Step{
			{Number: 1, ID: "001-build-a", Name: "build: a", Status: "ok", Start: seconds(5), Duration: seconds(0.001)},
			{Number: 2, ID: "002-build-b", Name: "build: b", Status: "failed", Exit: 2, Start: seconds(6),
				Duration: seconds(40), Log: "steps/002-build-b.log"},
		},
		Planned:  2,
		Media:    []Medium{{Name: "payload", Path: "payload.img", Size: 8192, SHA256: strings.Repeat("ab", 32)}},
		Packages: []Package{{Name: "tcc", Version: "0.9.27", Architecture: "i386", SHA256: strings.Repeat("cd", 32)}},
		Versions: map[string]string{"kindling": "development", "qemu": "7.2.22"},
		Accel:    "tcg",
		Budgets: []Budget{{ID: "fiwix.open-files", Kernel: "fiwix", What: "open files", Unit: "files", Limit: 4096, Used: &used,
			Certainty: "exact", Verdict: "ok"}},
		Command: []string{"kindling", "run", "--tree", "a b"},
		Argv:    []string{"qemu-system-x86_64", "-append", "a b"},
		Events:  Events{Read: 9, Malformed: 1, Missing: 2, Duplicate: 3, BadStepIDs: 4},
		Notes:   []string{"running under TCG"},
	}
}

func TestGolden(t *testing.T) {
	golden := filepath.Join("testdata", "report.json")
	got, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got; -update rewrites, and think of Schema):\n%s", diff)
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	for name, r := range map[string]Report{"full": sample(), "empty": {}} {
		data, err := Encode(r)
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if name == "empty" { // lists and the map come back empty, not nil
			r = Report{Schema: Schema, Phases: []Phase{}, Steps: []Step{}, Media: []Medium{}, Packages: []Package{},
				Budgets: []Budget{}, Command: []string{}, Versions: map[string]string{}, Argv: []string{}, Notes: []string{}}
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("files left: %v, %v", entries, err)
	}
}

func TestTimesRounded(t *testing.T) {
	zone := time.FixedZone("", 3600)
	data, err := Encode(Report{Started: time.Date(2026, 1, 2, 3, 4, 5, 123_456_789, zone), Duration: Seconds(1234567891)})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"started": "2026-01-02T02:04:05.123Z"`, `"duration": 1.235,`} {
		if !strings.Contains(string(data), part) {
			t.Errorf("no %s in %s", part, data)
		}
	}
}

func TestReadErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no JSON": "x", "cut": `{"schema":1,"line":"a`, "another type": `{"schema":"1"}`,
		"seconds as text": `{"schema":1,"duration":"1 s"}`, "absurd seconds": `{"schema":1,"duration":1e300}`,
		"newer": `{"schema":2}`, "no schema": `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "report.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one that names the file", err)
			}
			if unknown := name == "newer" || name == "no schema"; errors.Is(err, ErrSchema) != unknown {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := Read(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Decode(make([]byte, MaxSize+1)); err == nil {
		t.Error("a document beyond MaxSize was read")
	}
}

// A link, a pipe or a folder with the name of a report is not read.
func TestReadForeign(t *testing.T) {
	dir := t.TempDir()
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink("/dev/zero", link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, dir} {
		if _, err := Read(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

// TestExitStatus holds the table that users' scripts depend on.
func TestExitStatus(t *testing.T) {
	want := map[Result]int{
		ResultOK: 0, ResultInternal: 1, ResultStep: 10, ResultAfter: 11, ResultPayload: 12, ResultPanic: 13, ResultHang: 14,
		ResultQEMU: 15, ResultInconsistent: 16, ResultInterrupted: 130, "": 1, "future": 1,
	}
	for r, status := range want {
		if got := r.ExitStatus(); got != status {
			t.Errorf("%q: %d, want %d", r, got, status)
		}
	}
}

func FuzzDecode(f *testing.F) {
	data, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := Decode(data); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema":1,"duration":0.0015,"started":"2026-01-02T03:04:05+01:00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(r)
		if err != nil {
			return // a year beyond 9999 or an offset that RFC 3339 has no form for
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}
