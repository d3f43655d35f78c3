// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import "time"

// The phases that the host names itself.
const (
	PhaseStart  = "start"  // from the start of QEMU to the first milestone: firmware, boot loader
	PhaseKernel = "kernel" // from Linux' banner to the agent's first event
)

// The phases that the agent's events name, as far as the host knows more of them than the name. Others may come, from
// events or from Rules.
const (
	PhaseInit      = "init"            // mounts, modules, console, entropy
	PhaseInitramfs = "linux-initramfs" // steps, the root still in memory
	PhaseDisk      = "linux-disk"      // steps, the root on the target disk
	PhaseShutdown  = "shutdown"        // from the result to the end of the machine
)

// Rule is what the host knows about a phase.
type Rule struct {
	Phase string
	// Milestone is how a console line begins (after the kernel's time stamp, if any) that says the phase has begun;
	// empty: only events say so. Milestones are looked for in the order of the rules, each once, and only until the
	// guest's first event.
	Milestone string
	// Patience is the longest silence, no event and no byte on the console, before scaling; 0 means Options.Patience.
	Patience time.Duration
	// Cause is what usually is wrong when this phase goes silent, for the user.
	Cause string
}

// Options bound a run in time and its output in size. Start from DefaultOptions.
type Options struct {
	Rules    []Rule
	Patience time.Duration // for phases without a rule of their own
	Scale    float64       // multiplies every Patience; for TCG
	Limit    time.Duration // for the whole run, not scaled; 0: none
	Signs    []Sign        // console lines that end a run before its first event
	Attended bool          // a person is at the console: silence before the first event is theirs to judge

	PowerOff   time.Duration // from the final event to the end of QEMU
	PanicGrace time.Duration // from a kernel panic to stopping QEMU: for the rest of its text

	MaxSteps   int   // steps in the report and log files; more are counted only
	MaxStepLog int64 // bytes in one step's log
	MaxOutput  int64 // bytes in console log, event log and step logs together; a guest that writes more is stopped
}

// silentStep is the usual cause of a hang in a phase that runs steps.
const silentStep = "a step waits for input, for the network or for a disk, or loops in silence"

// DefaultOptions are fit for a run of the demo tree and for a real one. tcg says that the guest is emulated.
func DefaultOptions(tcg bool) Options {
	o := Options{
		Rules: []Rule{
			{Phase: PhaseStart, Patience: 30 * time.Second,
				Cause: "the firmware finds nothing to boot, or the kernel has no console on the first serial port"},
			{Phase: PhaseKernel, Milestone: "Linux version ", Patience: 30 * time.Second,
				Cause: "the kernel waits for its root, or /init does not start"},
			{Phase: PhaseInit, Patience: time.Minute, Cause: "a module or a device does not answer"},
			{Phase: PhaseInitramfs, Patience: 30 * time.Minute, Cause: silentStep},
			{Phase: PhaseDisk, Patience: 30 * time.Minute, Cause: silentStep},
			{Phase: PhaseShutdown, Patience: 2 * time.Minute, Cause: "a disk does not take what is to be written"},
		},
		Patience:   time.Minute,
		Scale:      1,
		PowerOff:   30 * time.Second,
		PanicGrace: 3 * time.Second,
		MaxSteps:   5000,
		MaxStepLog: 16 << 20,
		MaxOutput:  2 << 30,
	}
	if tcg {
		const slowdown = 4 // an estimate: TCG costs more than that, and patience is generous already
		o.Scale, o.PowerOff = slowdown, slowdown*o.PowerOff
	}
	return o
}

// rule is what is known about a phase; the zero rule's patience becomes the default.
func (o Options) rule(phase string) Rule {
	for _, r := range o.Rules {
		if r.Phase == phase {
			return r
		}
	}
	return Rule{Phase: phase}
}

// patience is the longest silence in a phase, scaled.
func (o Options) patience(phase string) time.Duration {
	p := o.rule(phase).Patience
	if p == 0 {
		p = o.Patience
	}
	if o.Scale > 0 {
		p = time.Duration(float64(p) * o.Scale)
	}
	return p
}
