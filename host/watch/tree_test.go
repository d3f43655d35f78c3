// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/report"
)

// chain has the shape of a console from builder-hex0 to Linux: what SeaBIOS, builder-hex0, kaem, Fiwix, the importer and
// Linux print around the milestones, with the noise that could be taken for one. Each line comes a second after the one
// before; the phase that it begins stands before the |.
const chain = `
                   |SeaBIOS (version 1.16.2)
                   |Booting from Hard Disk...
builder-hex0-load  |src
                   |/M2-Planet
                   |src
                   |/steps/make_fiwix_initrd.c
                   |hex0
                   |/x86/kaem-minimal.hex0 /bootstrap-seeds/POSIX/x86/kaem-optional-seed
stage0             |/bootstrap-seeds/POSIX/x86/kaem-optional-seed
                   |/kaem.x86
                   | +> ./bootstrap-seeds/POSIX/x86/kaem-optional-seed ./x86/mescc-tools-seed-kaem.k
                   |aem
                   | +> set -ex
                   | +> ./x86/bin/sha256sum -c x86.answers
                   |x86/bin/M2-Mesoplanet: OK
seed               | +> catm seed-full.kaem /steps/bootstrap.cfg /steps/env seed.kaem
                   | +> ./script-generator /steps/manifest
builder-hex0-steps | +> kaem --file /steps/0.sh
                   | +> KERNEL_BOOTSTRAP=True
                   | +> pkg=simple-patch-1.0
mes                | +> pkg=mes-0.27.1
tcc                | +> pkg=tcc-0.9.26
                   | +> pkg=tcc-0.9.27
fiwix-build        | +> pkg=fiwix-1.5.0-lb1
                   | +> pkg=lwext4-1.0.0-lb1
                   | +> pkg=kexec-fiwix-1.0
                   |/usr/bin/kexec-fiwix: OK
fiwix-ramdisk      | +> make_fiwix_initrd -s 1381376 /boot/fiwix.ext2
                   |copy_file: /steps/fiwix-1.5.0-lb1/pass1.kaem
                   |Fiwix ext2 initrd created successfully.
jump-fiwix         | +> kexec-fiwix /boot/fiwix -i /boot/fiwix.ext2 -m /e820 -c "fiwix console=/dev/tty
                   |kexec-fiwix: jumping to trampoline...
fiwix-boot         |                    Fiwix kernel v1.5.0 for i386 architecture
                   |                     Copyright (c) 2018-2023, Jordi Sanfeliu
                   |memory: total=2097152KB, user=393340KB, kernel=1703412KB, reserved=408KB
fiwix              |mounted root device (ext2 filesystem).
                   | +> set -ex
payload-import     | +> payload-import --id 5e8b --count 65 --bytes 8 /external/distfiles
                   |payload-import: /dev/hdb: 305 files, ID 5e8b
                   |payload-import: 1/65 kindling-init 4890750 bytes
fiwix              | +> pkg=make-3.82
                   | +> pkg=tcc-0.9.27
jump-linux         |kindling: kexec window: kernel 11000000 + initramfs 180000000 + 8 = 191000008 of 204472320 bytes
kexec-linux        |kexec_linux: kernel file size: 11000000
                   |kexec_linux: Valid kernel signature
kernel             |[    0.000000] Linux version 4.14.341-openela (user@host)
`

// chainUntil is the stream for play up to the line that begins the phase for the nth time, and the second of that line.
func chainUntil(t *testing.T, phase string) (stream string, last int) {
	t.Helper()
	for line := range strings.Lines(chain) {
		name, text, found := strings.Cut(strings.TrimRight(line, "\n"), "|")
		if !found {
			continue
		}
		last++
		stream += fmt.Sprintf("%d c %s\n", last, text)
		if name = strings.TrimSpace(name); name != "" && name == phase {
			return stream, last
		}
	}
	if phase != "" {
		t.Fatalf("no phase %q", phase)
	}
	return stream, last
}

// TestTreePhases wants every phase entered at its line, and at no other.
func TestTreePhases(t *testing.T) {
	want := []string{PhaseStart}
	for line := range strings.Lines(chain) {
		if name, _, found := strings.Cut(line, "|"); found && strings.TrimSpace(name) != "" {
			want = append(want, strings.TrimSpace(name))
		}
	}
	for _, tcg := range []bool{false, true} {
		stream, last := chainUntil(t, "")
		_, j, _ := play(t, TreeOptions(TreeFacts{TCG: tcg}), stream+fmt.Sprintf("%d x exit status 0", last+1))
		var got []string
		for _, p := range j.phases {
			got = append(got, p.name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("TCG %v (-want +got):\n%s", tcg, diff)
		}
	}
}

// TestTreePhasesSkipped wants a tree without a payload or with other packages to be followed all the same.
func TestTreePhasesSkipped(t *testing.T) {
	v, j, _ := play(t, TreeOptions(TreeFacts{}), `
1 c src
2 c                     Fiwix kernel v1.5.0 for i386 architecture
3 c mounted root device (ext2 filesystem).
4 c  +> pkg=gmake-5.0
5 c  +> pkg=mes-0.27.1
6 c [    0.000000] Linux version 4.14.341
7 e {"seq":1,"ms":1,"kind":"phase","name":"init","status":"start"}
8 e {"seq":2,"ms":1,"kind":"done","status":"ok"}
9 x exit status 0`)
	var got []string
	for _, p := range j.phases {
		got = append(got, p.name)
	}
	if diff := cmp.Diff([]string{"start", "builder-hex0-load", "fiwix-boot", "fiwix", "kernel", "init"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v.Result != report.ResultOK {
		t.Errorf("verdict %s", v.Line)
	}
}

// TestHostedPhases follows a run on a kernel that was given, to the tree's own kernel, and one in a chroot, which has neither;
// MesCC may be silent for hours in both.
func TestHostedPhases(t *testing.T) {
	const root = `
2 c  +> ./bootstrap-seeds/POSIX/x86/kaem-optional-seed ./x86/mescc-tools-seed-kaem.kaem
3 c  +> catm seed-full.kaem /steps/bootstrap.cfg /steps/env seed.kaem
4 c  +> kaem --file /steps/0.sh
5 c  +> pkg=mes-0.27.1
10000 c  +> pkg=tcc-0.9.26
20000 c  +> pkg=make-3.82`
	for _, tt := range []struct {
		name, before, after string
		want                []string
	}{
		{"an own kernel", "\n1 c Booting from ROM..\x1bc[    0.000000] Linux version 6.1.0", `
26000 c [    0.000000] Linux version 4.14.341
26001 e {"seq":1,"ms":1,"kind":"phase","name":"init","status":"start"}
26002 e {"seq":2,"ms":1,"kind":"done","status":"ok"}
26003 x exit status 0`, []string{"start", "kernel", "stage0", "seed", "steps", "mes", "tcc", "steps", "kernel", "init"}},
		{"a chroot", "", "\n26000 x exit status 0", []string{"start", "stage0", "seed", "steps", "mes", "tcc", "steps"}},
	} {
		_, j, _ := play(t, HostedOptions(false), tt.before+root+tt.after)
		var got []string
		for _, p := range j.phases {
			got = append(got, p.name)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A step of kaem that fails on a kernel that was given is that step's failure: the panic behind it is what becomes of a
// kernel whose init ends.
func TestHostedFailure(t *testing.T) {
	v, _, _ := play(t, HostedOptions(false), `
1 c [    0.000000] Linux version 6.1.0
2 c  +> ./bootstrap-seeds/POSIX/x86/kaem-optional-seed ./x86/mescc-tools-seed-kaem.kaem
3 c  +> ungz --file nyacc.tar.gz --output nyacc.tar
4 c bad header
5 c ABORTING HARD
5 c [  387.614096] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100
6 x exit status 0`)
	if v.Result != report.ResultStep || !strings.Contains(v.Line, "bad header; last command: ungz --file nyacc.tar.gz") {
		t.Errorf("%s: %s", v.Result, v.Line)
	}
}

// TestTreeHangs lets each phase go silent, and wants it named with its usual cause, not before its patience is over.
func TestTreeHangs(t *testing.T) {
	facts := TreeFacts{LargestFile: 3_329_116, Ramdisk: 1_381_376 << 10}
	tests := []struct {
		phase    string
		kvm, tcg time.Duration
		cause    string
	}{
		{PhaseStart, 30 * time.Second, 2 * time.Minute, "-machine graphics=off"},
		{PhaseHexLoad, 76 * time.Second, 466 * time.Second, "cut or damaged"},
		{PhaseStage0, 10 * time.Minute, 40 * time.Minute, "kindling plan shows the budgets"},
		{PhaseSeed, 10 * time.Minute, 40 * time.Minute, "configurator waits for input"},
		{PhaseKaem, 20 * time.Minute, 90 * time.Minute, "a limit of builder-hex0"},
		{PhaseMes, 3 * time.Hour, 24 * time.Hour, "MesCC"},
		{PhaseTcc, 3 * time.Hour, 24 * time.Hour, "MesCC"},
		{PhaseFiwixBuild, 20 * time.Minute, 2 * time.Hour, "a limit of builder-hex0"},
		{PhaseRamdisk, 20*time.Minute + 7072*time.Second, time.Hour + 70726*time.Second, "file area"},
		{PhaseJumpFiwix, 5 * time.Minute, 20 * time.Minute, "too much was brought along"},
		{PhaseFiwixBoot, 3 * time.Minute, 15 * time.Minute, "255 bytes"},
		{PhaseFiwix, 2 * time.Hour, 12 * time.Hour, "128 to 132 MiB"},
		{PhaseImport, 2 * time.Hour, 12 * time.Hour, "ATA/IDE"},
		{PhaseJumpLinux, 10 * time.Minute, 2 * time.Hour, "window"},
		{PhaseKexecLinux, 3 * time.Minute, 2 * time.Hour, "did not fit"},
		{PhaseKernel, 3 * time.Minute, 40 * time.Minute, "unpacks the initramfs"},
	}
	for _, test := range tests {
		for _, tcg := range []bool{false, true} {
			t.Run(fmt.Sprint(test.phase, " TCG ", tcg), func(t *testing.T) {
				facts.TCG = tcg
				patience := test.kvm
				if tcg {
					patience = test.tcg
				}
				stream, last := "0 t\n", 0
				if test.phase != PhaseStart {
					stream, last = chainUntil(t, test.phase)
				}
				over := last + int(patience.Seconds())
				stream += fmt.Sprintf("%d t\n%d t\n%d x signal: killed", over, over+1, over+2)
				v, _, stop := play(t, TreeOptions(facts), stream)
				if stop != float64(over+1) {
					t.Errorf("stopped at %v, want %d", stop, over+1)
				}
				if v.Result != report.ResultHang || v.Phase != test.phase || !strings.Contains(v.Line, test.cause) {
					t.Errorf("verdict %q in %s: %s", v.Result, v.Phase, v.Line)
				}
			})
		}
	}
}

// TestTreeHangsAfterLinux wants the phases of the agent to keep the patience that they have without a tree.
func TestTreeHangsAfterLinux(t *testing.T) {
	for _, tcg := range []bool{false, true} {
		tree, plain := TreeOptions(TreeFacts{TCG: tcg}), DefaultOptions(tcg)
		for _, phase := range []string{PhaseInit, PhaseInitramfs, PhaseDisk, PhaseShutdown, "some other"} {
			if got, want := tree.patience(phase), plain.patience(phase); got != want {
				t.Errorf("TCG %v: patience in %s is %s, want %s", tcg, phase, got, want)
			}
		}
	}
}

// TestTreeSlowSilence keeps the longest silences that were measured from being taken for hangs.
func TestTreeSlowSilence(t *testing.T) {
	for _, test := range []struct {
		name    string
		phase   string
		facts   TreeFacts
		silence time.Duration
	}{
		{"make_fiwix_initrd under TCG", PhaseRamdisk, TreeFacts{TCG: true, Ramdisk: 1_381_376 << 10}, 8 * time.Hour},
		{"97 MB of Linux in the first image, 30 KB/s", PhaseHexLoad, TreeFacts{TCG: true, LargestFile: 97_000_000}, 54 * time.Minute},
		{"MesCC natively", PhaseTcc, TreeFacts{}, 40 * time.Minute},
	} {
		stream, last := chainUntil(t, test.phase)
		end := last + int(test.silence.Seconds())
		v, _, stop := play(t, TreeOptions(test.facts), stream+fmt.Sprintf("%d t\n%d c alive\n%d x exit status 0", end, end, end+1))
		if stop >= 0 || v.Result == report.ResultHang {
			t.Errorf("%s: stopped at %v: %s", test.name, stop, v.Line)
		}
	}
}

func TestTreeSigns(t *testing.T) {
	tests := []struct {
		name, phase, stream string
		result              report.Result
		line                string
	}{
		{"kaem stops", PhaseFiwix, "c  +> sha256sum -c sources.SHA256SUM\nc make-3.82.tar.gz: FAILED\nc Subprocess error 1\nc ABORTING HARD\nc Subprocess error 1\nc ABORTING HARD",
			report.ResultStep, "kaem stopped at a command that failed in phase fiwix: Subprocess error 1; last command: sha256sum -c sources.SHA256SUM"},
		{"the importer fails", PhaseImport, "c payload-import: pkg.tar.gz: offset 4096000: the container is cut short\nc Subprocess error 1\nc ABORTING HARD",
			report.ResultPayload, "payload import failed in phase payload-import: payload-import: pkg.tar.gz: offset 4096000: the container is cut short"},
		{"Fiwix panics", PhaseFiwixBoot, "c PANIC: in init_trampoline()\nc unable to run init process.\nc\nc **    Safe to Power Off    **",
			report.ResultPanic, "Fiwix panicked in phase fiwix-boot: PANIC: in init_trampoline() unable to run init process."},
		{"builder-hex0 is done too early", PhaseKaem, "c cannot open file\nc Build finished.", report.ResultStep, "kaem ended before jump: fiwix"},
		{"the window is too small", PhaseJumpLinux, "c kindling: kernel and initramfs exceed the kexec window by 7 bytes, no jump",
			report.ResultStep, "jump: linux was not tried in phase jump-linux"},
		{"kexec to Linux fails", PhaseKexecLinux, "c kexec_linux: Invalid kernel signature\nc **    Safe to Power Off    **",
			report.ResultStep, "Fiwix has stopped in phase kexec-linux: kexec_linux: Invalid kernel signature"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stream, last := chainUntil(t, test.phase)
			for line := range strings.SplitSeq(test.stream, "\n") {
				stream += fmt.Sprintf("%d %s\n", last, line)
			}
			stream += fmt.Sprintf("%d t\n%d t\n%d x signal: killed", last+1, last+4, last+5)
			v, _, stop := play(t, TreeOptions(TreeFacts{}), stream)
			if v.Result != test.result || !strings.Contains(v.Line, test.line) {
				t.Errorf("verdict %q: %s", v.Result, v.Line)
			}
			if stop != float64(last+4) {
				t.Errorf("stopped at %v, want %d", stop, last+4)
			}
		})
	}
}

// TestTreeSignsOnlyBeforeEvents keeps the output of a build from ending a run.
func TestTreeSignsOnlyBeforeEvents(t *testing.T) {
	v, _, stop := play(t, TreeOptions(TreeFacts{}), boot+`
7 c ABORTING HARD
8 c PANIC: in a test()
9 e {"seq":7,"ms":1,"kind":"done","status":"ok"}
10 x exit status 0`)
	if v.Result != report.ResultOK || stop >= 0 {
		t.Errorf("verdict %s, stop %v", v.Line, stop)
	}
	v, _, _ = play(t, DefaultOptions(false), "1 c ABORTING HARD\n2 t\n3 x exit status 0")
	if v.Result != report.ResultQEMU {
		t.Errorf("without a tree: %s", v.Line)
	}
}

// TestTreeRulesAreComplete holds what the console and the user need of every rule.
func TestTreeRulesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range treePhases() {
		switch {
		case p.milestone == "" || len(p.milestone) > 79 || seen[p.milestone]:
			t.Errorf("%s: milestone %q", p.phase, p.milestone)
		case p.kvm <= 0 || p.tcg < p.kvm || p.cause == "":
			t.Errorf("%s: patience %s and %s, cause %q", p.phase, p.kvm, p.tcg, p.cause)
		}
		seen[p.milestone] = true
	}
	for _, size := range []int64{-1, 1 << 62} {
		if d := TreeOptions(TreeFacts{TCG: true, LargestFile: size}).patience(PhaseHexLoad); d <= 0 || d > 8*24*time.Hour {
			t.Errorf("patience %s for a file of %d bytes", d, size)
		}
	}
}
