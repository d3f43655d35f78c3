// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// sandbox is QEMU's own seccomp filter: a guest that has taken QEMU over starts no program and gains no right.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// firstFD is the first descriptor that QEMU inherits for a socket; they are numbered in the order of sockets.
const firstFD = 3

// Argv is the complete command line, program name first, for valid options. It depends on nothing but o.
//
// Three arguments are there always: -no-reboot, because a guest that reboots has ended its run, -no-user-config, because
// a run must not depend on files that no report mentions, and -sandbox. Network card and control are sockets that QEMU
// inherits, as descriptors from 3 on; serial ports are named pipes.
func (o Options) Argv() []string {
	argv := []string{o.Binary, "-no-user-config", "-sandbox", sandbox}
	if o.NoDefaults {
		argv = append(argv, "-nodefaults")
	}
	if o.Machine != "" {
		argv = append(argv, "-machine", o.Machine)
	}
	argv = append(argv, "-accel", string(o.Accel))
	if o.CPU != "" {
		argv = append(argv, "-cpu", o.CPU)
	}
	argv = append(argv, "-m", strconv.Itoa(o.MemoryMiB)+"M", "-smp", strconv.Itoa(o.Cores))
	argv = append(argv, o.bootArgs()...)
	argv = append(argv, driveArgs(o.Drives)...)
	argv = append(argv, o.socketArgs()...)
	argv = append(argv, "-no-reboot", "-display", "none", "-monitor", "none")
	return append(argv, o.Extra...)
}

func (o Options) bootArgs() []string {
	var args []string
	if o.Kernel != "" {
		args = append(args, "-kernel", o.Kernel)
	}
	if o.Initrd != "" {
		args = append(args, "-initrd", o.Initrd)
	}
	if o.Append != "" {
		args = append(args, "-append", o.Append)
	}
	return args
}

func driveArgs(drives []Drive) []string {
	var args []string
	ahci, usb := 0, 0
	for i, d := range drives {
		id := fmt.Sprintf("drive%d", i)
		args = append(args, "-drive", d.option(id))
		switch d.Interface {
		case InterfaceIDE, InterfaceVirtio:
		case InterfaceAHCI:
			if ahci%6 == 0 { // QEMU's controller has six ports
				args = append(args, "-device", fmt.Sprintf("ahci,id=ahci%d", ahci/6))
			}
			args = append(args, "-device", fmt.Sprintf("ide-hd,drive=%s,bus=ahci%d.%d", id, ahci/6, ahci%6))
			ahci++
		case InterfaceUSB:
			if usb == 0 {
				args = append(args, "-device", "usb-ehci,id=usb0")
			}
			args = append(args, "-device", fmt.Sprintf("usb-storage,drive=%s,bus=usb0.0", id))
			usb++
		case InterfaceNVMe:
			args = append(args, "-device", fmt.Sprintf("nvme,drive=%s,serial=kindling%d", id, i))
		}
	}
	return args
}

// option is the value of -drive.
func (d Drive) option(id string) string {
	parts := []string{d.Chain.Options()}
	switch d.Interface {
	case InterfaceIDE, InterfaceVirtio:
		parts = append(parts, "if="+string(d.Interface))
	default:
		parts = append(parts, "if=none")
	}
	parts = append(parts, "id="+id)
	if d.ReadOnly {
		parts = append(parts, "readonly=on")
	}
	if d.Snapshot {
		parts = append(parts, "snapshot=on")
	}
	return strings.Join(parts, ",")
}

// port is the path of a serial port's pipes, without their endings.
func (o Options) port(i int) string { return filepath.Join(o.PortDir, fmt.Sprintf("serial%d", i)) }

// socketArgs connect the machine with the pipes of its ports and the sockets that QEMU inherits.
func (o Options) socketArgs() []string {
	fd := firstFD
	next := func() string { fd++; return strconv.Itoa(fd - 1) }
	var args []string
	for i := range o.Ports {
		id := fmt.Sprintf("serial%d", i)
		args = append(args, "-chardev", "pipe,id="+id+",path="+strings.ReplaceAll(o.port(i), ",", ",,"), "-serial", "chardev:"+id)
	}
	if o.Ports == 0 {
		args = append(args, "-serial", "none")
	}
	if o.NIC == nil {
		args = append(args, "-nic", "none")
	} else {
		args = append(args, "-netdev", "stream,id=net0,server=off,addr.type=fd,addr.str="+next(),
			"-device", o.NIC.Model+",netdev=net0")
	}
	if o.Control {
		args = append(args, "-chardev", "socket,id=control,fd="+next(), "-mon", "chardev=control,mode=control")
	}
	if o.Incoming {
		args = append(args, "-incoming", "fd:"+next())
	}
	return args
}
