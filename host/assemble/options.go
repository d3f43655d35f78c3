// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"errors"

	"kindling/host/options"
)

// Options say what to assemble.
type Options struct {
	Boot    options.Rootfs  // rootfs.py's options
	Payload options.Payload // whether and how distfiles travel in a payload image
	Extra   options.Extra   // extra roots
	Net     options.Net     // how the agent configures the guest's network

	Tree      string // the live-bootstrap checkout; it is only read
	Distfiles string // folder of the distfiles; "" for that of the tree

	// Agent is the program that becomes PID 1 on Linux, built for i686; "" leaves the tree's own scripts in charge. It
	// has no place in a chroot or in bubblewrap.
	Agent string
	// Importer is the source of payload-import.
	Importer []byte
	// DoneEvent has the last after script tell the host that all went well. An agent does that anyway, and without one
	// a payload implies it.
	DoneEvent bool
	// Initramfs makes an initramfs of what is on the disk, besides that disk; --kernel only.
	Initramfs bool
}

// panicSeconds is when a Linux that has panicked restarts, in QEMU, which ends with -no-reboot then. A real machine shows
// the panic instead.
const panicSeconds = 10

// agent reports whether an agent is taken along.
func (o *Options) agent() bool { return o.Agent != "" && (o.Boot.Qemu || o.Boot.BareMetal) }

// payload reports whether there will be a payload image.
func (o *Options) payload() bool { return o.Payload.Wanted(&o.Boot) }

// done reports whether the overlay tells the host that all is done.
func (o *Options) done() bool { return !o.agent() && (o.DoneEvent || o.payload()) }

// panic is the number of seconds for the kernel's panic=, or 0.
func (o *Options) panic() int {
	if o.Boot.Qemu && (o.agent() || o.payload() || o.DoneEvent) {
		return panicSeconds
	}
	return 0
}

// reuse reports whether an earlier target folder only gets its distfiles, as later stages of the tree's own CI want it.
func (o *Options) reuse() bool {
	return o.Boot.Bwrap && o.Boot.InternalCI != "" && o.Boot.InternalCI != "pass1"
}

// validate reports the first thing that cannot be as it stands.
func (o *Options) validate() error {
	if err := errors.Join(o.Boot.Validate(), o.Payload.Check(&o.Boot), o.Extra.Check(), o.Net.Check(o.agent())); err != nil {
		return err
	}
	switch {
	case o.payload() && o.Boot.EarlyPreseed != "":
		return errors.New("--early-preseed and a payload exclude each other: a preseeded start skips the point where the " +
			"payload is imported; give --payload=off or leave out --early-preseed")
	case o.payload() && len(o.Importer) == 0:
		return errors.New("a payload needs the source of payload-import: this program was built without it")
	case o.Initramfs && (o.Boot.Kernel == "" || o.Boot.Mode() == options.ModeChroot || o.Boot.Mode() == options.ModeBwrap):
		return errors.New("--initramfs: only a kernel of your own (--kernel) can boot one")
	}
	return nil
}
