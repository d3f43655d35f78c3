// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"kindling/host/imagefile"
)

// Binaries of the two x86 system emulators, as Debian's qemu-system-x86 names them.
const (
	BinaryX8664 = "qemu-system-x86_64"
	BinaryI386  = "qemu-system-i386"
)

// Limits of what Validate accepts.
const (
	maxMemoryMiB = 1 << 20 // 1 TiB
	maxCores     = 255     // what the pc machine takes (hw/i386/pc.c, max_cpus)
	maxIDE       = 4       // two channels with two drives each
	maxDrives    = 16
	maxPorts     = 4 // COM1 to COM4, all that an 8250 kernel looks for
	maxPath      = 4095
	maxLayers    = 64
)

// Accel says what runs the guest's instructions.
type Accel string

// The accelerators. AccelAuto is not for Argv: ResolveAccel turns it into one of the others.
const (
	AccelAuto Accel = "auto"
	AccelKVM  Accel = "kvm"
	AccelTCG  Accel = "tcg"
)

// Interface is how the guest sees a drive.
type Interface string

// The interfaces. Fiwix sees IDE only, Linux 4.14 of live-bootstrap all but virtio.
const (
	InterfaceIDE    Interface = "ide"    // the machine's own controller
	InterfaceAHCI   Interface = "ahci"   // an additional AHCI controller
	InterfaceUSB    Interface = "usb"    // usb-storage on an EHCI controller
	InterfaceNVMe   Interface = "nvme"   // one controller for each drive
	InterfaceVirtio Interface = "virtio" // virtio-blk-pci
)

// Drive is one disk. Drives keep their order: the first IDE drive is the guest's first disk.
type Drive struct {
	Chain     imagefile.Chain // the image, and what it is a layer over
	Interface Interface
	ReadOnly  bool // not for IDE and AHCI disks, which have no such thing: use Snapshot
	Snapshot  bool // the guest's writes go to a temporary overlay; the image is never altered
}

// Path is the image file that the guest's writes go to.
func (d Drive) Path() string {
	if len(d.Chain) == 0 {
		return ""
	}
	return d.Chain[0].Path
}

// NIC is the one network card. Its cable ends in Process.Network: QEMU itself opens no connection for the guest.
type NIC struct {
	Model string // "e1000", "virtio-net-pci", ...
}

// Options describe a machine. The zero value is not valid; Binary, MemoryMiB, Cores and Accel are always needed.
type Options struct {
	Binary    string // program name or path
	MemoryMiB int
	Cores     int
	Accel     Accel
	CPU       string // "-cpu"; empty: QEMU's default
	Machine   string // "-machine", such as "q35" or "pc,kernel-irqchip=split"; empty: QEMU's default
	// NoDefaults leaves out the devices QEMU adds unasked (VGA, floppy, CD-ROM), whose probing costs boot time.
	NoDefaults bool
	Kernel     string // direct boot; empty: the machine boots from its first disk
	Initrd     string
	Append     string // kernel command line, see Cmdline
	Drives     []Drive
	NIC        *NIC     // nil: no network card
	Ports      int      // serial ports, 8250, COM1 first: Process.Ports
	PortDir    string   // folder for the named pipes that they are
	Control    bool     // with a QEMU Machine Protocol: Process.Control
	Incoming   bool     // the machine's state comes from Process.Incoming; otherwise it starts anew
	Extra      []string // appended as they are
}

// ErrOptions is what every error of Validate is.
var ErrOptions = errors.New("QEMU options")

var (
	wordRE    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)
	machineRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._,=+-]{0,255}$`)
	cpuRE     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._,=+-]{0,999}$`)
)

// Validate checks the options without looking at the filesystem. The error names the first option that is wrong.
func (o Options) Validate() error {
	for _, check := range []func() error{
		o.checkMachine, o.checkBoot, o.checkDrives, o.checkPorts, o.checkExtra,
	} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrOptions, err)
		}
	}
	return nil
}

func (o Options) checkMachine() error {
	switch {
	case o.Binary == "":
		return errors.New("binary: empty")
	case o.MemoryMiB < 1 || o.MemoryMiB > maxMemoryMiB:
		return fmt.Errorf("memory: %d MiB is not between 1 and %d", o.MemoryMiB, maxMemoryMiB)
	case o.Cores < 1 || o.Cores > maxCores:
		return fmt.Errorf("cores: %d is not between 1 and %d", o.Cores, maxCores)
	case o.Accel == AccelAuto:
		return errors.New("accel: auto is not decided yet")
	case o.Accel != AccelKVM && o.Accel != AccelTCG:
		return fmt.Errorf("accel: %q is none of auto, kvm, tcg", o.Accel)
	case o.CPU != "" && !cpuRE.MatchString(o.CPU):
		return fmt.Errorf("cpu: %q is no CPU model", o.CPU)
	case o.Machine != "" && !machineRE.MatchString(o.Machine):
		return fmt.Errorf("machine: %q is no machine type", o.Machine)
	}
	return checkText("binary", o.Binary)
}

func (o Options) checkBoot() error {
	if o.Kernel == "" && o.Initrd != "" {
		return fmt.Errorf("initrd %s: there is no kernel to load it", o.Initrd)
	}
	if o.Kernel == "" && o.Append != "" {
		return errors.New("append: there is no kernel to read it")
	}
	if o.Kernel == "" && len(o.Drives) == 0 {
		return errors.New("nothing to boot: neither kernel nor drive")
	}
	if len(o.Append) > MaxCmdline {
		return fmt.Errorf("append: %d bytes, the kernel takes %d", len(o.Append), MaxCmdline)
	}
	for name, value := range map[string]string{"kernel": o.Kernel, "initrd": o.Initrd, "append": o.Append} {
		if err := checkText(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) checkDrives() error {
	if len(o.Drives) > maxDrives {
		return fmt.Errorf("drives: %d, at most %d", len(o.Drives), maxDrives)
	}
	ide := 0
	for i, d := range o.Drives {
		if err := d.check(); err != nil {
			return fmt.Errorf("drive %d: %w", i+1, err)
		}
		if d.Interface == InterfaceIDE {
			ide++
		}
	}
	if ide > maxIDE {
		return fmt.Errorf("drives: %d with interface ide, the machine has room for %d", ide, maxIDE)
	}
	return nil
}

func (d Drive) check() error {
	if len(d.Chain) == 0 || len(d.Chain) > maxLayers {
		return fmt.Errorf("%d layers, want 1 to %d", len(d.Chain), maxLayers)
	}
	for _, layer := range d.Chain {
		if err := checkPath("path", layer.Path); err != nil {
			return err
		}
		if layer.Format != imagefile.Raw && layer.Format != imagefile.QCOW2 {
			return fmt.Errorf("format: want raw or qcow2, got %q", layer.Format)
		}
	}
	switch d.Interface {
	case InterfaceIDE, InterfaceAHCI:
		if d.ReadOnly {
			return fmt.Errorf("%s: an %s disk cannot be read-only, use a snapshot", d.Path(), d.Interface)
		}
	case InterfaceUSB, InterfaceNVMe, InterfaceVirtio:
	default:
		return fmt.Errorf("interface: %q is none of ide, ahci, usb, nvme, virtio", d.Interface)
	}
	return nil
}

func (o Options) checkPorts() error {
	if o.Ports < 0 || o.Ports > maxPorts {
		return fmt.Errorf("serial ports: %d, want 0 to %d", o.Ports, maxPorts)
	}
	if o.Ports > 0 {
		if err := checkPath("folder of the serial ports", o.PortDir); err != nil {
			return err
		}
	}
	if o.NIC != nil && !wordRE.MatchString(o.NIC.Model) {
		return fmt.Errorf("network card: %q is not a model", o.NIC.Model)
	}
	if o.Incoming && !o.Control {
		return errors.New("incoming: a machine that is restored needs a control socket")
	}
	return nil
}

func (o Options) checkExtra() error {
	for i, arg := range o.Extra {
		if err := checkText(fmt.Sprintf("extra argument %d", i+1), arg); err != nil {
			return err
		}
	}
	return nil
}

func checkPath(what, value string) error {
	if value == "" {
		return fmt.Errorf("%s: empty path", what)
	}
	if len(value) > maxPath {
		return fmt.Errorf("%s: path of %d bytes, at most %d", what, len(value), maxPath)
	}
	return checkText(what, value)
}

// checkText refuses what cannot be an argument (NUL) or would break a line of output.
func checkText(what, value string) error {
	if i := strings.IndexFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%s: control character %q", what, value[i])
	}
	return nil
}
