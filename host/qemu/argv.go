// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Argv is the complete command line, program name first, for valid options. It depends on nothing but o.
//
// Two arguments are there always: -no-reboot, because a guest that reboots has ended its run, and -no-user-config,
// because a run shall not depend on files that no report mentions.
func (o Options) Argv() []string {
	argv := []string{o.Binary, "-no-user-config"}
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
	argv = append(argv, o.nicArgs()...)
	argv = append(argv, o.serialArgs()...)
	argv = append(argv, "-no-reboot", "-display", "none")
	argv = append(argv, o.monitorArgs()...)
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
	parts := []string{"file=" + escape(localPath(d.Path)), "format=" + string(d.Format)}
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

func (o Options) nicArgs() []string {
	if o.NIC == nil {
		return []string{"-nic", "none"}
	}
	nic := "user,ipv6=off,model=" + o.NIC.Model
	if o.NIC.Restrict {
		nic += ",restrict=on"
	}
	return []string{"-nic", nic}
}

func (o Options) serialArgs() []string {
	if len(o.Serials) == 0 {
		return []string{"-serial", "none"}
	}
	var args []string
	for i, s := range o.Serials {
		id := fmt.Sprintf("serial%d", i)
		device := "file,id=" + id + ",path=" + escape(s.File)
		if s.Append {
			device += ",append=on"
		}
		if s.Stdio {
			device = "stdio,id=" + id + ",signal=off,logfile=" + escape(s.File) + ",logappend=" + onOff(s.Append)
		}
		args = append(args, "-chardev", device, "-serial", "chardev:"+id)
	}
	return args
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (o Options) monitorArgs() []string {
	args := []string{"-monitor", "none"}
	if o.Incoming != "" {
		args = append(args, "-incoming", o.Incoming)
	}
	if o.QMPSocket == "" {
		return args
	}
	return append(args,
		"-chardev", "socket,id=qmp,path="+escape(o.QMPSocket)+",server=on,wait=off",
		"-mon", "chardev=qmp,mode=control")
}

// escape doubles commas: that is how QEMU's option syntax writes one in a value (qemu(1), "-drive file=").
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// localPath keeps QEMU from reading the start of a relative path ("nbd:x", "json:{...}") as a block protocol.
func localPath(p string) string {
	if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "./") || strings.HasPrefix(p, "../") {
		return p
	}
	return "./" + p
}

var plainRE = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// ShellLine renders an argv as one line that can be pasted into a POSIX shell.
func ShellLine(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = arg
		if !plainRE.MatchString(arg) {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
