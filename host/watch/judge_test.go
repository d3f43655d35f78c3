// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/report"
	"kindling/internal/event"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// play feeds a recorded stream: one line a happening, "SECONDS KIND REST" with the kinds
//
//	e {json}    an event line        c text   a console line      b     bytes without a line end
//	t           nothing but time     i        the user's interrupt    f N   N bytes free on the host's disk
//	x text      the end of QEMU, "exit status 0" or whatever; it ends the stream
//
// It returns the verdict and the judge. stop is when the judge first wanted QEMU stopped, -1 for never.
func play(t *testing.T, o Options, stream string) (v Verdict, j *Judge, stop float64) {
	t.Helper()
	j, stop = NewJudge(o, t0), -1
	for line := range strings.SplitSeq(stream, "\n") {
		var seconds float64
		var kind string
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if _, err := fmt.Sscan(line, &seconds, &kind); err != nil {
			t.Fatalf("stream line %q: %v", line, err)
		}
		_, rest, _ := strings.Cut(line, " "+kind)
		rest = strings.TrimPrefix(rest, " ")
		now := t0.Add(time.Duration(seconds * float64(time.Second)))
		switch kind {
		case "e":
			if e, err := event.Decode([]byte(rest)); err != nil {
				j.BadEvent(now, err)
			} else {
				j.Event(now, e)
			}
		case "c":
			j.Console(now, rest)
		case "b":
			j.Alive(now)
		case "t":
			j.Tick(now)
		case "i":
			j.Interrupt(now)
		case "f":
			free, err := strconv.ParseUint(rest, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			j.Room(now, free)
		case "x":
			return j.Finish(now, rest, ""), j, stop
		default:
			t.Fatalf("stream line %q", line)
		}
		if stop < 0 && j.StopWanted() {
			stop = seconds
		}
	}
	t.Fatal("the stream has no end")
	return v, j, stop
}

// boot is how every recorded run begins; the numbers go on from 7.
const boot = `
0.1 c SeaBIOS (version 1.16.2)
1.0 c [    0.000000] Linux version 6.1.0-39-686 (debian-kernel@lists.debian.org)
5.0 e {"seq":1,"ms":4000,"kind":"phase","name":"mounts"}
5.2 e {"seq":2,"ms":4200,"kind":"plan","total":3,"done":1}
5.3 e {"seq":3,"ms":4300,"kind":"phase","name":"steps"}
5.4 e {"seq":4,"ms":4400,"kind":"step","step":"002-build-a","name":"build: a","n":2,"status":"start"}
6.4 e {"seq":5,"ms":5400,"kind":"step","step":"002-build-a","name":"build: a","n":2,"status":"ok","duration_ms":990}
6.5 e {"seq":6,"ms":5500,"kind":"step","step":"003-build-b","name":"build: b","n":3,"status":"start"}
`

func testOptions() Options {
	o := DefaultOptions(false)
	o.Patience, o.PowerOff, o.PanicGrace = 10*time.Second, 5*time.Second, 2*time.Second
	o.Rules = append(o.Rules[:2:2], Rule{Phase: "steps", Patience: 20 * time.Second, Cause: "a loop"})
	return o
}

const (
	stepOK     = `7 e {"seq":7,"kind":"step","step":"003-build-b","n":3,"status":"ok","duration_ms":500}` + "\n"
	stepFailed = `7 e {"seq":7,"kind":"step","step":"003-build-b","n":3,"status":"failed","exit":2,"duration_ms":500}` +
		"\n"
	doneOK    = `8 e {"seq":8,"kind":"done","status":"ok"}` + "\n"
	panicLine = `[    9.123456] Kernel panic - not syncing: sysrq triggered crash`
)

// A phase with much patience has less while there is no room.
func TestFullPatience(t *testing.T) {
	o := testOptions()
	o.Rules[2].Patience = time.Hour
	_, _, stop := play(t, o, boot+"7 f 0\n100 t\n126.6 t\n200 x signal terminated")
	if stop != 126.6 {
		t.Errorf("stopped at %v", stop)
	}
}

func TestVerdict(t *testing.T) {
	tests := []struct {
		name   string
		stream string
		want   Verdict
		notes  []string // parts of the notes, in order
		stop   float64  // when QEMU had to be stopped; 0: never
	}{
		{name: "success",
			stream: boot + stepOK + doneOK + "9 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"}},
		{name: "success, QEMU crashed afterwards",
			stream: boot + stepOK + doneOK + "9 x signal killed",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes:  []string{"QEMU did not end cleanly after the final event: signal killed"}},
		{name: "success, no power-off",
			stream: boot + stepOK + doneOK + "12 t\n12.5 c still here\n13.1 t\n14 x signal terminated",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes:  []string{"did not power off within 5s after the final event and was stopped"}, stop: 13.1},
		{name: "host's disk full, and silence",
			stream: boot + "7 f 4194303\n8 b\n20 t\n26 f 0\n29 t\n30 x signal terminated",
			want: Verdict{Result: report.ResultInternal, Phase: "steps", Step: "003-build-b", Reason: "no space left on the host's disk",
				Line: "the disk of the run folder is full in phase steps, step 3 of 3 (build: b)"},
			notes: []string{"the disk of the run folder is full (4095 KiB free)"}, stop: 29},
		{name: "host's disk full, room again, but the machine stays stopped",
			stream: boot + "7 f 0\n8 f 99999999\n29 t\n30 x signal terminated",
			want: Verdict{Result: report.ResultInternal, Phase: "steps", Step: "003-build-b", Reason: "no space left on the host's disk",
				Line: "the disk of the run folder is full in phase steps, step 3 of 3 (build: b)"},
			notes: []string{"is full (0 KiB free)"}, stop: 29},
		{name: "host's disk full for a while, which the machine did not meet",
			stream: boot + "7 f 0\n8 b\n9 f 99999999\n29 t\n30 x signal terminated",
			want: Verdict{Result: report.ResultHang, Phase: "steps", Step: "003-build-b", Reason: "no sign of life for 21s",
				Line: "hang: no sign of life for 21s in phase steps, step 3 of 3 (build: b); usual cause: a loop"},
			notes: []string{"is full (0 KiB free)"}, stop: 29},
		{name: "host's disk full, and the final event lost",
			stream: boot + "7 f 0\n8 b\n9 x exit status 0",
			want: Verdict{Result: report.ResultInternal, Phase: "steps", Step: "003-build-b", Reason: "no space left on the host's disk",
				Line: "the disk of the run folder is full in phase steps, step 3 of 3 (build: b)"},
			notes: []string{"is full (0 KiB free)"}},
		{name: "host's disk full, success all the same",
			stream: boot + "7 f 0\n" + strings.ReplaceAll(stepOK, "7 e", "7.5 e") + doneOK + "9 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes:  []string{"is full (0 KiB free)"}},
		{name: "success that does not fit",
			stream: boot + doneOK + "9 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes: []string{"success although step 3 of 3 (build: b) has not ended",
				"success with 2 of 3 steps"}},
		{name: "step failed",
			stream: boot + stepFailed + `7.5 e {"seq":8,"kind":"phase","name":"shutdown"}
				8 e {"seq":9,"kind":"done","status":"failed","reason":"step","step":"003-build-b","exit":2,"text":"no such file"}
				9 x exit status 0`,
			want: Verdict{Result: report.ResultStep, Phase: "steps", Step: "003-build-b", Reason: "no such file",
				Line: "step 3 of 3 (build: b) failed with exit status 2 in phase steps: no such file"}},
		{name: "step failed, done names no step",
			stream: boot + stepFailed + `8 e {"seq":8,"kind":"done","status":"failed","reason":"step"}` + "\n9 x exit status 0",
			want: Verdict{Result: report.ResultStep, Phase: "steps", Step: "003-build-b",
				Line: "step 3 of 3 (build: b) failed with exit status 2 in phase steps"}},
		{name: "step failed, repeated, succeeded",
			stream: boot + stepFailed + `7.1 e {"seq":8,"kind":"step","step":"003-build-b","status":"start"}
				7.9 e {"seq":9,"kind":"step","step":"003-build-b","status":"ok"}
				8 e {"seq":10,"kind":"done","status":"ok"}
				9 x exit status 0`,
			want: Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"}},
		{name: "after script failed",
			stream: boot + stepOK + `7.1 e {"seq":8,"kind":"phase","name":"after"}
				7.2 e {"seq":9,"kind":"step","step":"after-50-sign.sh","name":"after: 50-sign.sh","status":"start"}
				7.3 e {"seq":10,"kind":"step","step":"after-50-sign.sh","status":"failed","exit":7}
				8 e {"seq":11,"kind":"done","status":"failed","reason":"after"}
				9 x exit status 0`,
			want: Verdict{Result: report.ResultAfter, Phase: "after", Step: "after-50-sign.sh",
				Line: "after script: step after: 50-sign.sh failed with exit status 7 in phase after"}},
		{name: "payload cut short",
			stream: `1 e {"seq":1,"kind":"phase","name":"payload"}
				2 e {"seq":2,"kind":"payload","name":"payload","done":10,"total":100}
				3 e {"seq":3,"kind":"phase","name":"payload","status":"failed"}
				3.5 e {"seq":4,"kind":"phase","name":"shutdown"}
				4 e {"seq":5,"kind":"done","status":"failed","reason":"payload","text":"sdb: file 3 is cut short"}
				5 x exit status 0`,
			want: Verdict{Result: report.ResultPayload, Phase: "payload", Reason: "sdb: file 3 is cut short",
				Line: "payload import failed in phase payload: sdb: file 3 is cut short"}},
		{name: "after script failed, as the agent says it",
			stream: boot + stepFailed + `7.5 e {"seq":8,"kind":"phase","name":"shutdown"}
				8 e {"seq":9,"kind":"done","status":"failed","reason":"after","step":"003-build-b","name":"improve: after","exit":2,"text":"after script 50-sign.sh: exit status 2"}
				9 x exit status 0`,
			want: Verdict{Result: report.ResultAfter, Phase: "steps", Step: "003-build-b",
				Reason: "after script 50-sign.sh: exit status 2",
				Line: "step 3 of 3 (build: b) failed with exit status 2 in phase steps: " +
					"after script 50-sign.sh: exit status 2"}},
		{name: "step failed, nothing but its exit status is known",
			stream: boot + stepFailed +
				`8 e {"seq":9,"kind":"done","status":"failed","reason":"step","exit":2,"text":"exit status 2"}` +
				"\n9 x exit status 0",
			want: Verdict{Result: report.ResultStep, Phase: "steps", Step: "003-build-b", Reason: "exit status 2",
				Line: "step 3 of 3 (build: b) failed with exit status 2 in phase steps"}},
		{name: "agent failed between steps",
			stream: boot + stepOK + `7.5 e {"seq":8,"kind":"phase","name":"shutdown"}
				8 e {"seq":9,"kind":"done","status":"failed","reason":"internal","text":"write journal: no space left"}
				9 x exit status 0`,
			want: Verdict{Result: report.ResultInternal, Phase: "steps", Reason: "write journal: no space left",
				Line: "the agent in the guest failed in phase steps: write journal: no space left"}},
		{name: "agent failed",
			stream: boot + `7 e {"seq":7,"kind":"done","status":"failed","reason":"internal","text":"panic: oh"}` +
				"\n8 x exit status 0",
			want: Verdict{Result: report.ResultInternal, Phase: "steps", Step: "003-build-b", Reason: "panic: oh",
				Line: "the agent in the guest failed in phase steps, step 3 of 3 (build: b): panic: oh"}},
		{name: "failed without a reason",
			stream: `1 e {"seq":1,"kind":"done","status":"failed"}` + "\n2 x exit status 0",
			want: Verdict{Result: report.ResultInternal, Phase: "start",
				Line: "the agent in the guest failed in phase start"}},
		{name: "panic, QEMU reboots",
			stream: boot + "9 c " + panicLine + "\n10 x exit status 0",
			want: Verdict{Result: report.ResultPanic, Phase: "steps", Step: "003-build-b",
				Reason: "Kernel panic - not syncing: sysrq triggered crash",
				Line: "kernel panic in phase steps, step 3 of 3 (build: b): " +
					"Kernel panic - not syncing: sysrq triggered crash"}},
		{name: "panic, QEMU stays",
			stream: "1 c Kernel panic - not syncing: VFS: Unable to mount root fs\n2 t\n3 t\n4 x signal terminated",
			want: Verdict{Result: report.ResultPanic, Phase: "start",
				Reason: "Kernel panic - not syncing: VFS: Unable to mount root fs",
				Line:   "kernel panic in phase start: Kernel panic - not syncing: VFS: Unable to mount root fs"}, stop: 3},
		{name: "panic after an unfinished line",
			stream: "1 c ./configure: checking[    2.000000][    T1] Kernel panic - not syncing: x\n2 x exit status 0",
			want: Verdict{Result: report.ResultPanic, Phase: "start", Reason: "Kernel panic - not syncing: x",
				Line: "kernel panic in phase start: Kernel panic - not syncing: x"}},
		{name: "panic after success",
			stream: boot + stepOK + doneOK + "9 c " + panicLine + "\n9.5 t\n11.5 t\n12 x exit status 0",
			want: Verdict{Result: report.ResultPanic, Phase: "steps",
				Reason: "Kernel panic - not syncing: sysrq triggered crash",
				Line: "kernel panic in phase steps: Kernel panic - not syncing: sysrq triggered crash; " +
					"the guest had reported success before"},
			notes: []string{"the kernel panicked: "}, stop: 11.5},
		{name: "panic after a failure",
			stream: boot + stepFailed + `8 e {"seq":8,"kind":"done","status":"failed","reason":"step"}` + "\n9 c " +
				panicLine + "\n10 x exit status 0",
			want: Verdict{Result: report.ResultStep, Phase: "steps", Step: "003-build-b",
				Line: "step 3 of 3 (build: b) failed with exit status 2 in phase steps"},
			notes: []string{"the kernel panicked: "}},
		{name: "panic that is a step's own text",
			stream: boot + "6.6 c Kernel panic - not syncing: quoted\n12 t\n" + stepOK + doneOK + "9 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"}},
		{name: "panic that is a step's own text, with a time stamp",
			stream: boot + "6.6 c [    6.500000] Kernel panic - not syncing: quoted\n6.7 t\n" + stepOK + doneOK +
				"9 x exit status 0",
			want:  Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes: []string{"but the guest went on: Kernel panic - not syncing: quoted"}},
		{name: "panic without a time stamp, then silence",
			stream: boot + "6.6 c Kernel panic - not syncing: odd\n12 t\n27 t\n28 x signal terminated",
			want: Verdict{Result: report.ResultPanic, Phase: "steps", Step: "003-build-b",
				Reason: "Kernel panic - not syncing: odd",
				Line:   "kernel panic in phase steps, step 3 of 3 (build: b): Kernel panic - not syncing: odd"}, stop: 27},
		{name: "panic quoted in the middle of a line",
			stream: boot + `6.6 c  panic("Kernel panic - not syncing: %s")` + "\n10 t\n" + stepOK + doneOK + "9 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"}},
		{name: "panic in the middle of a line, then the end",
			stream: "1 c foo Kernel panic - not syncing: x\n2 x exit status 0",
			want: Verdict{Result: report.ResultPanic, Phase: "start", Reason: "foo Kernel panic - not syncing: x",
				Line: "kernel panic in phase start: foo Kernel panic - not syncing: x"}},
		{name: "oops, then silence",
			stream: boot + "8 c [    7.000000] BUG: unable to handle page fault for address: 0000dead\n" +
				"29 t\n30 x signal terminated",
			want: Verdict{Result: report.ResultPanic, Phase: "steps", Step: "003-build-b",
				Reason: "BUG: unable to handle page fault for address: 0000dead",
				Line: "kernel panic in phase steps, step 3 of 3 (build: b): " +
					"BUG: unable to handle page fault for address: 0000dead"},
			notes: []string{"the kernel said: BUG: unable"}, stop: 29},
		{name: "oops, then success",
			stream: boot + "6.6 c [    7.000000] Oops: 0000 [#1]\n" + stepOK + doneOK + "9 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes:  []string{"the kernel said: Oops: 0000 [#1]"}},
		{name: "hang in a step",
			stream: boot + "26 t\n26.6 t\n27 x signal terminated",
			want: Verdict{Result: report.ResultHang, Phase: "steps", Step: "003-build-b", Reason: "no sign of life for 20.1s",
				Line: "hang: no sign of life for 20.1s in phase steps, step 3 of 3 (build: b); usual cause: a loop"}, stop: 26.6},
		{name: "hang in a step while the network lives",
			stream: boot + "20 e {\"seq\":7,\"kind\":\"net\",\"text\":\"eth0: lease\"}\n26 t\n26.6 t\n27 x signal terminated",
			want: Verdict{Result: report.ResultHang, Phase: "steps", Step: "003-build-b", Reason: "no sign of life for 20.1s",
				Line: "hang: no sign of life for 20.1s in phase steps, step 3 of 3 (build: b); usual cause: a loop"}, stop: 26.6},
		{name: "no hang while a step waits for the network",
			stream: boot + "20 e {\"seq\":7,\"kind\":\"net\",\"step\":\"003-build-b\",\"text\":\"eth0: lease\"}\n39 t\n" +
				"39.5 e {\"seq\":8,\"kind\":\"step\",\"step\":\"003-build-b\",\"n\":3,\"status\":\"ok\"}\n" +
				"39.6 e {\"seq\":9,\"kind\":\"done\",\"status\":\"ok\"}\n40 x exit status 0",
			want: Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"}},
		{name: "no hang while the console lives",
			stream: boot + "26 c tick\n45 b\n64 t\n" + strings.Replace(doneOK, "8 e", "64.5 e", 1) + "65 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes:  []string{"has not ended", "2 of 3 steps"}},
		{name: "malformed events are no sign of life",
			stream: "1 e {\"seq\":1,\"kind\":\"phase\",\"name\":\"net\"}\n9 e rubbish\n11.5 t\n12 x signal terminated",
			want: Verdict{Result: report.ResultHang, Phase: "net", Reason: "no sign of life for 10.5s",
				Line: "hang: no sign of life for 10.5s in phase net"},
			notes: []string{"event line 2: malformed event"}, stop: 11.5},
		{name: "hang in the firmware",
			stream: "31 t\n32 x signal terminated",
			want: Verdict{Result: report.ResultHang, Phase: "start", Reason: "no sign of life for 31s",
				Line: "hang: no sign of life for 31s in phase start; usual cause: the firmware finds nothing to boot, " +
					"or the kernel has no console on the first serial port"}, stop: 31},
		{name: "QEMU ended",
			stream: boot + "7 x signal killed",
			want: Verdict{Result: report.ResultQEMU, Phase: "steps", Step: "003-build-b", Reason: "signal killed",
				Line: "QEMU ended (signal killed) without a final event in phase steps, step 3 of 3 (build: b)"}},
		{name: "QEMU ended cleanly is no success",
			stream: boot + stepOK + "8 x exit status 0",
			want: Verdict{Result: report.ResultQEMU, Phase: "steps", Reason: "exit status 0",
				Line: "QEMU ended (exit status 0) without a final event in phase steps"}},
		{name: "QEMU ended after a failed step",
			stream: boot + stepFailed + "8 x exit status 0",
			want: Verdict{Result: report.ResultQEMU, Phase: "steps", Step: "003-build-b", Reason: "exit status 0",
				Line: "QEMU ended (exit status 0) without a final event in phase steps, after step 3 of 3 (build: b) " +
					"had failed with exit status 2"}},
		{name: "interrupted",
			stream: boot + "7 i\n7.1 t\n8 x signal terminated",
			want: Verdict{Result: report.ResultInterrupted, Phase: "steps", Step: "003-build-b",
				Line: "interrupted in phase steps, step 3 of 3 (build: b)"}, stop: 7},
		{name: "interrupted while powering off",
			stream: boot + stepOK + doneOK + "8.5 i\n9 x signal terminated",
			want:   Verdict{Result: report.ResultInterrupted, Phase: "steps", Line: "interrupted in phase steps"}, stop: 8.5},
		{name: "interrupted after a failure",
			stream: boot + stepFailed + `8 e {"seq":8,"kind":"done","status":"failed","reason":"step"}` +
				"\n8.5 i\n14 t\n15 x signal terminated",
			want: Verdict{Result: report.ResultStep, Phase: "steps", Step: "003-build-b",
				Line: "step 3 of 3 (build: b) failed with exit status 2 in phase steps"}, stop: 14},
		{name: "interrupted after a panic",
			stream: "1 c Kernel panic - not syncing: x\n1.5 i\n3.5 t\n4 x signal terminated",
			want: Verdict{Result: report.ResultPanic, Phase: "start", Reason: "Kernel panic - not syncing: x",
				Line: "kernel panic in phase start: Kernel panic - not syncing: x"}, stop: 3.5},
		{name: "two final events, the failure counts",
			stream: boot + stepOK + doneOK +
				`8.1 e {"seq":9,"kind":"done","status":"failed","reason":"step","name":"build: c"}` + "\n9 x exit status 0",
			want:  Verdict{Result: report.ResultStep, Phase: "steps", Line: "build: c failed in phase steps"},
			notes: []string{"more than one final event"}},
		{name: "events after the final one",
			stream: boot + stepOK + doneOK + `8.1 e {"seq":9,"kind":"phase","name":"more"}` + "\n9 x exit status 0",
			want:   Verdict{Result: report.ResultOK, Phase: "steps", Line: "the run ended successfully"},
			notes:  []string{"a phase event came after the final one"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, j, stop := play(t, testOptions(), tt.stream)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
			if tt.stop == 0 {
				tt.stop = -1
			}
			if stop != tt.stop {
				t.Errorf("stop wanted at %v, want %v", stop, tt.stop)
			}
			if len(j.notes) != len(tt.notes) {
				t.Fatalf("notes %q, want %q", j.notes, tt.notes)
			}
			for i, part := range tt.notes {
				if !strings.Contains(j.notes[i], part) {
					t.Errorf("note %q, want %q", j.notes[i], part)
				}
			}
		})
	}
}

// With a person at the console nothing is a hang while the guest waits for that person, nor before its first event.
func TestAttended(t *testing.T) {
	const (
		asks    = `7.1 e {"seq":8,"kind":"prompt","status":"start","text":"build: b failed"}` + "\n"
		again   = `900 e {"seq":9,"kind":"prompt","status":"start","text":"build: b failed"}` + "\n"
		goesOn  = `5000 e {"seq":10,"kind":"prompt","status":"ok","text":"skip"}` + "\n"
		skipped = `5000 e {"seq":11,"kind":"step","step":"003-build-b","name":"build: b","n":3,"status":"skipped"}` + "\n"
		silent  = `26 e {"seq":7,"kind":"pace","step":"003-build-b","text":"has printed nothing for 10 minutes","duration_ms":600000}` + "\n"
	)
	for _, tt := range []struct {
		name, stream string
		unattended   bool
		result       report.Result
		line         string
		stop         float64
		notes        int
	}{
		{"hours, then skipped", boot + stepFailed + asks + "800 t\n" + again + "4999 t\n" + goesOn + skipped +
			"5001 e {\"seq\":12,\"kind\":\"done\",\"status\":\"ok\"}\n5002 x exit status 0", false,
			report.ResultOK, "the run ended successfully, without what was skipped by hand: step 3 of 3 (build: b)", -1, 1},
		{"nobody there", boot + stepFailed + asks + "20 c tick\n27.2 t\n28 x signal terminated", true, report.ResultHang,
			"hang: the guest waits for a person, and nobody is there (--interactive): build: b failed in phase steps; usual cause: a loop", 27.2, 1},
		{"a hang after the answer", boot + stepFailed + asks + goesOn + "5021 t\n5022 x signal terminated", false, report.ResultHang,
			"hang: no sign of life for 21s in phase steps; usual cause: a loop", 5021, 1},
		{"a prompt of the tree's own, before the first event", "1 c Linux version 4.14\n5000 t\n5001 x signal killed", false, report.ResultQEMU,
			"QEMU ended (signal killed) without a final event in phase kernel", -1, 0},
		{"a guest that says that it hangs, hangs", boot + silent + "26.6 t\n27 x signal terminated", false, report.ResultHang,
			"hang: no sign of life for 20.1s in phase steps, step 3 of 3 (build: b); usual cause: a loop", 26.6, 1},
	} {
		o := testOptions()
		o.Attended = !tt.unattended
		got, j, stop := play(t, o, tt.stream)
		if got.Result != tt.result || got.Line != tt.line || stop != tt.stop || len(j.notes) != tt.notes {
			t.Errorf("%s: %s, %q, stop at %v, notes %q", tt.name, got.Result, got.Line, stop, j.notes)
		}
	}
}

func TestLimit(t *testing.T) {
	o := testOptions()
	o.Limit = 7 * time.Second
	got, _, stop := play(t, o, boot+"6.9 t\n7.1 t\n8 x signal terminated")
	want := Verdict{Result: report.ResultHang, Phase: "steps", Step: "003-build-b",
		Reason: "the run's limit of 7s is over",
		Line:   "hang: the run's limit of 7s is over in phase steps, step 3 of 3 (build: b)"}
	if diff := cmp.Diff(want, got); diff != "" || stop != 7.1 {
		t.Errorf("stop at %v, verdict (-want +got):\n%s", stop, diff)
	}
}

func TestPatienceScaled(t *testing.T) {
	o := testOptions()
	o.Scale = 4
	for phase, want := range map[string]time.Duration{"steps": 80 * time.Second, "never heard of": 40 * time.Second} {
		if got := o.patience(phase); got != want {
			t.Errorf("patience(%s) = %v, want %v", phase, got, want)
		}
	}
}

func TestSequence(t *testing.T) {
	tests := []struct {
		name string
		seqs []uint64
		want Counts
	}{
		{"in order", []uint64{1, 2, 3}, Counts{Read: 3}},
		{"gap", []uint64{1, 2, 6}, Counts{Read: 3, Missing: 3}},
		{"gap at the start", []uint64{3}, Counts{Read: 1, Missing: 2}},
		{"duplicate", []uint64{1, 2, 2, 3}, Counts{Read: 4, Duplicate: 1}},
		{"late", []uint64{1, 3, 2, 4}, Counts{Read: 4, Missing: 1, Duplicate: 1}},
		{"second boot", []uint64{1, 2, 3, 1, 2}, Counts{Read: 5}},
		{"one twice", []uint64{1, 1}, Counts{Read: 2, Duplicate: 1}},
		{"unnumbered", []uint64{0, 1, 0, 2}, Counts{Read: 4}},
		{"absurd", []uint64{1, 1 << 63, 1<<64 - 1}, Counts{Read: 3, Missing: 2 * (1<<31 - 1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := NewJudge(testOptions(), t0)
			for _, seq := range tt.seqs {
				j.Event(t0, event.Event{Seq: seq, Kind: event.KindLog})
			}
			if diff := cmp.Diff(tt.want, j.counts); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestView(t *testing.T) {
	_, j, _ := play(t, testOptions(), boot+`
		6.6 e {"seq":7,"kind":"log","step":"003-build-b","text":"cc -c b.c"}
		6.7 c tcc: warning
		7 e {"seq":8,"kind":"payload","name":"late","done":30,"total":100}
		9 t
		9.5 x exit status 0`)
	want := View{
		Elapsed: 9500 * time.Millisecond, Phase: "steps", PhaseElapsed: 4200 * time.Millisecond,
		Step: "003-build-b", StepName: "build: b", StepNumber: 3, StepElapsed: 3 * time.Second, Steps: 3, StepsDone: 2,
		Import: Import{Name: "late", Done: 30, Total: 100}, LogTail: []string{"cc -c b.c"}, Silent: 2500 * time.Millisecond,
		Marks: []Mark{
			{Kind: MarkPhase, Name: "start"},
			{Kind: MarkPhase, At: time.Second, Name: "kernel", Text: "start", Duration: time.Second},
			{Kind: MarkPhase, At: 5 * time.Second, Name: "mounts", Text: "kernel", Duration: 4 * time.Second},
			{Kind: MarkPhase, At: 5300 * time.Millisecond, Name: "steps", Text: "mounts", Duration: 300 * time.Millisecond},
			{Kind: MarkStep, At: 6400 * time.Millisecond, Name: "build: a", Number: 2, Total: 3, Status: event.StatusOK,
				Duration: 990 * time.Millisecond},
			{Kind: MarkImport, At: 7 * time.Second, Name: "late", Bytes: 30, Size: 100},
		},
	}
	if diff := cmp.Diff(want, j.View()); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
}

// Downloads and imports have a rate, and no download makes more than one line; the output shown is the step's own.
func TestRate(t *testing.T) {
	_, j, _ := play(t, testOptions(), boot+`
		6.6 e {"seq":7,"kind":"log","step":"003-build-b","text":"1"}
		7 e {"seq":8,"kind":"net","status":"start","name":"b.tar","done":1000,"total":9000}
		8 e {"seq":9,"kind":"net","status":"start","name":"b.tar","done":1500,"total":9000}
		11 e {"seq":10,"kind":"net","status":"start","name":"b.tar","done":9000,"total":9001}
		11.1 x exit status 0`)
	v := j.View()
	if want := (Import{Name: "downloading b.tar", Done: 9000, Total: 9001, Rate: 2000}); v.Import != want {
		t.Errorf("import %+v, want %+v", v.Import, want)
	}
	if len(v.Marks) != 5 {
		t.Errorf("marks: %v", v.Marks)
	}
	for i := range 9 {
		j.Event(t0, event.Event{Seq: uint64(20 + i), Kind: event.KindLog, Text: fmt.Sprint(i)})
	}
	if got, want := j.View().LogTail, []string{"4", "5", "6", "7", "8"}; !slices.Equal(got, want) {
		t.Errorf("output %q, want %q", got, want)
	}
	j.Event(t0, event.Event{Seq: 30, Kind: event.KindStep, Step: "004-build-c", Status: event.StatusStart})
	if v := j.View(); len(v.LogTail) > 0 {
		t.Errorf("another step's output: %q", v.LogTail)
	}
}

func TestImport(t *testing.T) {
	j := NewJudge(testOptions(), t0)
	send := func(step, name string, done, total int64) {
		j.Event(t0, event.Event{Kind: event.KindPayload, Step: step, Name: name, Done: done, Total: total})
	}
	send("a", "", 0, 1000)
	send("a", "one.tar", 100, 1000)
	send("a", "two.tar", 300, 1000)
	send("a", "three.tar", 400, 1000)
	if diff := cmp.Diff(Import{Name: "three.tar", Done: 400, Total: 1000}, j.View().Import); diff != "" {
		t.Errorf("import (-want +got):\n%s", diff)
	}
	send("a", "four.tar", 900, 1000)
	j.Event(t0, event.Event{Kind: event.KindStep, Step: "a", Status: event.StatusOK})
	if diff := cmp.Diff(Import{}, j.View().Import); diff != "" {
		t.Errorf("after the step (-want +got):\n%s", diff)
	}
	send("b", "root filesystem", 5000, 0)
	send("c", "five.tar", 1000, 1000)
	send("c", "absurd", 2000, 1000)
	var got []Mark
	for _, m := range j.View().Marks {
		if m.Kind == MarkImport {
			got = append(got, m)
		}
	}
	want := []Mark{
		{Kind: MarkImport, Name: "two.tar", Bytes: 300, Size: 1000},
		{Kind: MarkImport, Name: "four.tar", Bytes: 900, Size: 1000},
		{Kind: MarkImport, Name: "five.tar", Bytes: 1000, Size: 1000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
}

func TestAccount(t *testing.T) {
	v, j, _ := play(t, testOptions(), boot+`6.6 e rubbish
		6.7 e {"kind":"step","step":"../x","status":"ok"}
		`+stepFailed+`8 e {"seq":9,"kind":"done","status":"failed","reason":"step"}`+"\n9 x exit status 0")
	var got report.Report
	j.Account(&got, v)
	sec := func(s float64) report.Seconds { return report.Seconds(s * float64(time.Second)) }
	want := report.Report{
		Result: report.ResultStep, ExitStatus: 10, Line: v.Line, Phase: "steps", Step: "003-build-b",
		Started: t0, Ended: t0.Add(9 * time.Second), Duration: sec(9), Planned: 3,
		Phases: []report.Phase{{Name: "start", Duration: sec(1)}, {Name: "kernel", Start: sec(1), Duration: sec(4)},
			{Name: "mounts", Start: sec(5), Duration: sec(0.3)}, {Name: "steps", Start: sec(5.3), Duration: sec(3.7)}},
		Steps: []report.Step{
			{Number: 2, ID: "002-build-a", Name: "build: a", Status: "ok", Start: sec(5.4), Duration: sec(0.99)},
			{Number: 3, ID: "003-build-b", Name: "build: b", Status: "failed", Exit: 2, Start: sec(6.5), Duration: sec(0.5)},
		},
		Events: report.Events{Read: 9, Malformed: 1, Missing: 1, BadStepIDs: 1},
		Notes:  j.notes,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestGuestTimeNotBelieved(t *testing.T) {
	_, j, _ := play(t, testOptions(), boot+
		`7 e {"seq":7,"kind":"step","step":"003-build-b","status":"ok","duration_ms":9000000}`+"\n8 x exit status 0")
	if got := j.steps["003-build-b"].duration; got != 500*time.Millisecond {
		t.Errorf("duration %v, want 500ms", got)
	}
}

func TestFlood(t *testing.T) {
	j := NewJudge(testOptions(), t0)
	j.Flood(t0.Add(time.Second))
	if !j.StopWanted() {
		t.Error("the machine goes on")
	}
	v := j.Finish(t0.Add(2*time.Second), "signal terminated", "")
	if v.Result != report.ResultInternal || !strings.Contains(v.Line, "the run's limit of 2147483648 bytes") {
		t.Errorf("verdict %+v", v)
	}
}

// TestBounded feeds more of everything than a judge may remember.
func TestBounded(t *testing.T) {
	o := testOptions()
	o.MaxSteps = 50
	j := NewJudge(o, t0)
	long := strings.Repeat("ä", 2000)
	for i := range 2_000 {
		id := fmt.Sprintf("step-%d", i)
		for _, e := range []event.Event{
			{Kind: event.KindPhase, Name: fmt.Sprint(long, i)},
			{Kind: event.KindStep, Step: id, Name: long, Status: event.StatusStart},
			{Kind: event.KindStep, Step: id, Name: long, Status: event.StatusFailed, Text: long},
			{Kind: event.KindNote, Text: long},
			{Kind: event.KindNet, Text: long},
			{Kind: event.KindPayload, Name: id, Done: 1, Total: 1},
		} {
			j.Event(t0, e)
		}
		j.Console(t0, long)
		j.BadEvent(t0, event.ErrMalformed)
	}
	v := j.Finish(t0, "exit status 0", long)
	if len(j.order) > 50 || len(j.steps) > 50 || len(j.phases) > maxPhases || len(j.notes) > maxNotes+1 ||
		len(j.marks) > 4*50+maxPhases+maxNotes || len(v.Line) > 2000 {
		t.Errorf("steps %d/%d, phases %d, notes %d, marks %d, line %d bytes",
			len(j.order), len(j.steps), len(j.phases), len(j.notes), len(j.marks), len(v.Line))
	}
	if last := j.notes[len(j.notes)-1]; !strings.Contains(last, "beyond the limits were left out") {
		t.Errorf("last note %q", last)
	}
}

// FuzzJudge feeds lines to a judge as they come from the two files: no panic, a clean one-line verdict, bounded lists.
func FuzzJudge(f *testing.F) {
	for line := range strings.SplitSeq(strings.TrimSpace(boot+stepFailed+doneOK), "\n") {
		if _, text, found := strings.Cut(line, " e "); found {
			if _, err := event.Decode([]byte(text)); err != nil {
				f.Fatalf("seed %q: %v", text, err)
			}
			f.Add(text+"\n"+text, panicLine)
		}
	}
	f.Add(`{"kind":"done","status":"ok"}`, "\x1b[31mKernel panic - not syncing: \u202e")
	f.Fuzz(func(t *testing.T, events, console string) {
		o := testOptions()
		o.MaxSteps = 10
		j, now := NewJudge(o, t0), t0
		for line := range strings.SplitSeq(events, "\n") {
			now = now.Add(time.Second)
			if e, err := event.Decode([]byte(line)); err != nil {
				j.BadEvent(now, err)
			} else {
				j.Event(now, e)
			}
			j.Tick(now)
			if j.View().Elapsed < 0 {
				t.Error("negative time")
			}
		}
		for line := range strings.SplitSeq(console, "\n") {
			j.Console(now, line)
		}
		v := j.Finish(now, "exit status 1", console)
		if v.Line != event.Clean(v.Line) || v.Line == "" || len(v.Line) > 3000 || strings.Contains(v.Line, "\n") {
			t.Errorf("line %q", v.Line)
		}
		if len(j.order) > 10 || len(j.phases) > maxPhases || len(j.notes) > maxNotes+1 {
			t.Error("too much is remembered")
		}
		if v.Result == report.ResultOK && !strings.Contains(events, "done") {
			t.Error("success out of nothing")
		}
	})
}
