// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"slices"
	"strings"
	"time"

	"kindling/host/report"
)

// The phases of a bootstrap of the kernels, before Linux. There are no events yet: the host reads them off the console.
const (
	PhaseHexLoad    = "builder-hex0-load" // builder-hex0 reads the files of the first medium
	PhaseStage0     = "stage0"            // stage0-posix, from hex0 to M2-Mesoplanet, and its checksums
	PhaseSeed       = "seed"              // the tree's configurator and script generator
	PhaseKaem       = "builder-hex0-steps"
	PhaseSteps      = "steps" // on a Linux, without the agent
	PhaseMes        = "mes"
	PhaseTcc        = "tcc" // compiled by MesCC
	PhaseFiwixBuild = "fiwix-build"
	PhaseRamdisk    = "fiwix-ramdisk" // make_fiwix_initrd
	PhaseJumpFiwix  = "jump-fiwix"
	PhaseFiwixBoot  = "fiwix-boot"
	PhaseFiwix      = "fiwix" // steps
	PhaseImport     = "payload-import"
	PhaseJumpLinux  = "jump-linux"
	PhaseKexecLinux = "kexec-linux"
)

// TreeFacts are what the patience with a bootstrap of the kernels depends on.
type TreeFacts struct {
	TCG bool // the guest is emulated
	// LargestFile is the size in bytes of the largest file on the first medium: builder-hex0 loads it without a word.
	LargestFile int64
	// Ramdisk is the size in bytes of the image that make_fiwix_initrd fills with zeros without a word.
	Ramdisk int64
}

// Rates in bytes a second below which nothing has been seen to work. builder-hex0 loads 30 to 60 KB/s under TCG, and
// make_fiwix_initrd, which takes 8 hours there for 1,381,376 KiB, writes 49 KB/s. KVM is at least ten times as fast.
const (
	slowestTCG = 20_000
	slowestKVM = 200_000
)

// TreeOptions are the options for a run that bootstraps its kernels: DefaultOptions with a rule for each phase before
// Linux, and with the signs that one of these phases has failed. Patience is already scaled.
func TreeOptions(f TreeFacts) Options {
	o := DefaultOptions(f.TCG)
	rate := int64(slowestKVM)
	if f.TCG {
		rate = slowestTCG
	}
	o = beforeLinux(o, treePhases(), f.TCG)
	for i, r := range o.Rules {
		switch r.Phase {
		case PhaseStart:
			o.Rules[i].Cause = "nothing to boot on the first disk, or a BIOS whose console is not the first serial port " +
				"(QEMU: -machine graphics=off)"
		case PhaseHexLoad:
			o.Rules[i].Patience += silence(f.LargestFile, rate)
		case PhaseRamdisk:
			o.Rules[i].Patience += silence(f.Ramdisk, rate)
		}
	}
	return o
}

// HostedOptions are the options for a run of a real tree on a Linux that is there already: a kernel that was given, a
// chroot, or bubblewrap. Patience is already scaled.
func HostedOptions(tcg bool) Options { return beforeLinux(DefaultOptions(tcg), hostedPhases(), tcg) }

// beforeLinux puts phases between the start and the agent's first event.
func beforeLinux(o Options, phases []treePhase, tcg bool) Options {
	var before, after []Rule
	for _, r := range o.Rules {
		switch {
		case r.Phase == PhaseStart:
			before = append(before, scaled(r, o.Scale))
		case r.Phase != PhaseKernel:
			after = append(after, scaled(r, o.Scale))
		}
	}
	for _, p := range phases {
		r := Rule{Phase: p.phase, Milestone: p.milestone, Patience: p.kvm, Cause: p.cause}
		if tcg {
			r.Patience = p.tcg
		}
		before = append(before, r)
	}
	o.Rules = slices.Concat(before, after)
	o.Patience, o.Scale = time.Duration(float64(o.Patience)*o.Scale), 1
	o.Signs = treeSigns()
	return o
}

// scaled is a rule with its patience multiplied.
func scaled(r Rule, scale float64) Rule {
	r.Patience = time.Duration(float64(r.Patience) * scale)
	return r
}

// silence is how long bytes take at a rate, at most a week.
func silence(bytes, rate int64) time.Duration {
	const most = 7 * 24 * 3600
	return time.Duration(min(max(bytes, 0)/rate, most)) * time.Second
}

// treePhase is one phase before Linux. milestone is how the console line begins that says it has begun: kaem, with set
// -x, prints each command as " +> WORD WORD " (mescc-tools, Kaem/kaem.c), and the kernels print what they print. Lines
// may be cut at 80 columns by the BIOS, so no milestone is longer.
type treePhase struct {
	phase, milestone string
	kvm, tcg         time.Duration // the longest silence
	cause            string
}

const (
	causeMemory = "a limit of builder-hex0, which checks none: too many or too large files on the first medium, or too " +
		"little memory (kindling plan shows the budgets)"
	causeMesCC  = causeSilent + "; otherwise " + causeMemory
	causeSilent = "MesCC compiles for most of an hour without a word (under TCG for most of a day)"
	causeFiwix  = "a program loops or waits, or every program faults because the ramdisk ends near 128 to 132 MiB"
)

// treePhases are the phases in the order in which they come. Patience is a multiple of what was measured: stage0 takes
// 3.5 minutes natively and 12 under TCG, mes 28 minutes and tcc-0.9.26 40 minutes natively, of which single commands of
// MesCC take the most.
func treePhases() []treePhase {
	const m, h = time.Minute, time.Hour
	return []treePhase{
		{PhaseHexLoad, "src", m, 5 * m, "the image is cut or damaged, or a very large file on it is being read"},
		{PhaseStage0, "/bootstrap-seeds/POSIX/x86/kaem-optional-seed", 10 * m, 40 * m, causeMemory},
		{PhaseSeed, " +> catm seed-full.kaem", 10 * m, 40 * m, "the configurator waits for input, or " + causeMemory},
		{PhaseKaem, " +> kaem --file /steps/0.sh", 20 * m, 90 * m, causeMemory},
		{PhaseMes, " +> pkg=mes-", 3 * h, 24 * h, causeMesCC},
		{PhaseTcc, " +> pkg=tcc-0.9.26", 3 * h, 24 * h, causeMesCC},
		{PhaseFiwixBuild, " +> pkg=fiwix-", 20 * m, 2 * h, causeMemory},
		{PhaseRamdisk, " +> make_fiwix_initrd", 20 * m, h, "the image of Fiwix' root is written without a word, under TCG " +
			"for 8 hours; otherwise it and the files exceed builder-hex0's file area"},
		{PhaseJumpFiwix, " +> kexec-fiwix", 5 * m, 20 * m, "too much was brought along: files, memory or the memory map " +
			"are not as kexec-fiwix assumes"},
		{PhaseFiwixBoot, "                    Fiwix kernel v", 3 * m, 15 * m, "no memory is left beside the ramdisk, a " +
			"command line of more than 255 bytes, or a disk that does not answer"},
		{PhaseFiwix, "mounted root device", 2 * h, 12 * h, causeFiwix},
		{PhaseImport, " +> payload-import", 2 * h, 12 * h, "the payload disk does not answer (Fiwix sees ATA/IDE disks " +
			"only: use --payload-stage linux for others), or, behind the import, a step does not end"},
		{PhaseFiwix, " +> pkg=make-", 2 * h, 12 * h, causeFiwix},
		{PhaseJumpLinux, "kindling: kexec window:", 10 * m, 2 * h, "kernel and initramfs are being copied; otherwise they " +
			"do not fit the window"},
		// Fiwix' linux_trampoline clears all memory below the window byte by byte: 1.8 MB a second under TCG.
		{PhaseKexecLinux, "kexec_linux: ", 3 * m, 2 * h, "Fiwix clears 1.5 GB without a word (a quarter of an hour and more " +
			"under TCG); otherwise kernel and initramfs were cut because they did not fit the kexec window"},
		{PhaseKernel, "Linux version ", 3 * m, 40 * m, "the kernel unpacks the initramfs; otherwise it was cut at the " +
			"end of the kexec window, or /init does not start"},
	}
}

// hostedPhases are those of a run on a Linux that is there already. Behind jump: linux another one is booted.
func hostedPhases() []treePhase {
	const m, h = time.Minute, time.Hour
	return []treePhase{
		{PhaseKernel, "Linux version ", 3 * m, 40 * m, "the kernel waits for its root, or /init does not start"},
		{PhaseStage0, " +> ./bootstrap-seeds/POSIX/", 10 * m, 40 * m, "too little memory, or a processor that cannot run 32-bit programs"},
		{PhaseSeed, " +> catm seed-full.kaem", 10 * m, 40 * m, "the configurator waits for input"},
		{PhaseSteps, " +> kaem --file /steps/0.sh", 2 * h, 12 * h, silentStep},
		{PhaseMes, " +> pkg=mes-", 3 * h, 24 * h, causeSilent},
		{PhaseTcc, " +> pkg=tcc-0.9.26", 3 * h, 24 * h, causeSilent},
		{PhaseSteps, " +> pkg=make-", 2 * h, 12 * h, silentStep},
		{PhaseKernel, "Linux version ", 3 * m, 40 * m, "the kernel waits for its root, or /init does not start"},
	}
}

// Sign is a line of the console that means that a run has failed, in phases that have no events to say so.
type Sign struct {
	Line   string        // how the line begins
	Result report.Result // what the run ends with
	Means  string        // for the user
}

// treeSigns are the last words of what runs before Linux.
func treeSigns() []Sign {
	return []Sign{
		{"ABORTING HARD", report.ResultStep, "kaem stopped at a command that failed"},
		{"kindling: kernel and initramfs exceed", report.ResultStep, "jump: linux was not tried"},
		{"PANIC: in ", report.ResultPanic, "Fiwix panicked"},
		{"**    Safe to Power Off    **", report.ResultStep, "Fiwix has stopped"},
		{"Build finished.", report.ResultStep, "builder-hex0 is done: kaem ended before jump: fiwix"},
	}
}

// kaemCommand is how kaem begins the line in which it prints a command; importerSays how the importer begins its lines.
const (
	kaemCommand  = " +> "
	importerSays = "payload-import: "
)

// lastWords is what the console said last, as far as it explains a failure before the first event.
type lastWords struct {
	command  string // of kaem
	importer string
	line     string // the one before
}

// early takes a console line of the time before the first event: it may be a sign that all is over.
func (j *Judge) early(line string) {
	if len(j.o.Signs) == 0 || j.counts.Read > 0 {
		return
	}
	if j.cause == causeSign {
		if j.signMore == "" {
			j.signMore = line
		}
		return
	}
	for _, s := range j.o.Signs {
		if j.cause == causeNone && strings.HasPrefix(line, s.Line) {
			j.endBySign(s, line)
			return
		}
	}
	switch {
	case strings.HasPrefix(line, kaemCommand):
		j.words.command = strings.TrimSpace(strings.TrimPrefix(line, kaemCommand))
	case strings.HasPrefix(line, importerSays):
		j.words.importer = line
	}
	j.words.line = line
}

// endBySign ends a run by a sign. An import that failed is a matter of the payload.
func (j *Judge) endBySign(s Sign, line string) {
	said := line
	if s.Result == report.ResultStep && j.words.line != "" {
		said = j.words.line
	}
	if strings.HasPrefix(j.words.command, "payload-import ") && s.Result == report.ResultStep {
		s.Result, s.Means = report.ResultPayload, "payload import failed"
		if j.words.importer != "" {
			said = j.words.importer
		}
	}
	j.signSeen = s
	j.decide(causeSign, said)
}

// signVerdict is the verdict of a run that ended by a sign.
func (j *Judge) signVerdict(v *Verdict) {
	v.Result = j.signSeen.Result
	if v.Result == report.ResultPanic && j.signMore != "" {
		j.said += " " + j.signMore
	}
	v.Reason = j.said
	v.Line = j.signSeen.Means + j.where() + ": " + j.said
	if j.words.command != "" && v.Result != report.ResultPanic {
		v.Line += "; last command: " + j.words.command
	}
}
