// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package doctor finds out what a host can and cannot do for Kindling, and which command mends what is missing.
//
// Every finding is a value: what was looked at, what was found, who needs it, what to do. The package changes nothing
// and decides nothing for a run; where a run makes the same decision (KVM or TCG), both ask the same function. The host
// is behind an interface; System is the real one. It is called by cmd/host.
package doctor

import (
	"context"
	"fmt"

	"kindling/host/qemu"
)

// State is how something stands.
type State string

// The states. What is Missing keeps the embedded default from running; what is Limited keeps some verb from working, or
// makes it slow.
const (
	OK      State = "ok"
	Limited State = "limited"
	Missing State = "missing"
)

// Finding is one thing that was looked at. Its JSON form has stable names.
type Finding struct {
	ID     string `json:"id"` // stable, such as "kvm"
	State  State  `json:"state"`
	What   string `json:"what"`          // what was looked at, for a person
	Found  string `json:"found"`         // one line
	For    string `json:"for,omitempty"` // what needs it
	Remedy string `json:"remedy,omitempty"`
}

// Report is everything that was looked at.
type Report struct {
	// Ready says that the embedded default, "kindling run", can run here.
	Ready    bool      `json:"ready"`
	Findings []Finding `json:"findings"`
}

// Options say what to look at.
type Options struct {
	QEMU      string // program that runs the machine
	MemoryMiB int    // of the guest
	Runs      string // where run folders go
	Cache     string // where Debian's packages go
}

// Host is what is asked of a machine.
type Host interface {
	// Program finds a program as Kindling does when it starts one.
	Program(name string) (path string, err error)
	// Output is the first line that a program prints, on whichever stream; an error has its words.
	Output(ctx context.Context, argv ...string) (string, error)
	// Memory is how many bytes can be had without swapping.
	Memory() (int64, error)
	// Free is how many bytes a folder, or the one that it will be made in, has left for this user; an error if the
	// user cannot write there.
	Free(dir string) (int64, error)
	// Text is a short file of the system, "" if it cannot be read.
	Text(path string) string
	// KVM tries KVM with a real machine.
	KVM(ctx context.Context, program string) qemu.KVM
	// Packages says what the cache of Debian's packages has: the release of its i386 kernel, and the userland.
	Packages(cache string) (kernel string, userland bool)
	// Agent is nil if the agent for the embedded default is there and right.
	Agent() (path string, err error)
	// Root says that this user may do everything.
	Root() bool
}

// Examine looks at everything. It takes a second, and more where KVM does not answer.
func Examine(ctx context.Context, h Host, o Options) Report {
	e := &examination{ctx: ctx, host: h, o: o}
	for _, look := range []func(){
		e.agent, e.machine, e.kvm, e.memory, e.packages, e.space, e.tools, e.namespaces, e.root,
	} {
		look()
	}
	r := Report{Ready: true, Findings: e.findings}
	for _, f := range r.Findings {
		r.Ready = r.Ready && f.State != Missing
	}
	return r
}

// examination is one under way.
type examination struct {
	ctx      context.Context //nolint:containedctx // lives for one Examine
	host     Host
	o        Options
	cached   bool // the cache has all packages of the embedded default
	findings []Finding
}

func (e *examination) add(f Finding) { e.findings = append(e.findings, f) }

// install is the command that brings a Debian package.
func (e *examination) install(name string) string { return e.asRoot("apt-get install " + name) }

// asRoot is a command as this user has to give it.
func (e *examination) asRoot(command string) string {
	if e.host.Root() {
		return command
	}
	return "sudo " + command
}

// size writes bytes for a person.
func size(n int64) string {
	const gib, mib = 1 << 30, 1 << 20
	if n >= gib {
		return fmt.Sprintf("%.1f GiB", float64(n)/gib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}
