// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import "math"

// Basis says where a number comes from.
type Basis string

// The bases.
const (
	FromTree     Basis = "tree"     // read out of a file of the tree
	FromDistfile Basis = "distfile" // read out of Fiwix' own archive
	FromOptions  Basis = "options"  // given by the user: the machine's memory
	Assumed      Basis = "assumed"  // not found: a documented default
	Measured     Basis = "measured" // no file says it: measured once, docs/budgets.md says how
)

// Number is a limit and where it comes from.
type Number struct {
	Value  int64
	Basis  Basis
	Source string // file and line, such as "steps/jump/fiwix.sh:12", or the document of an assumed number
}

// Unlimited is the value of a limit that does not exist in this tree.
const Unlimited = math.MaxInt64

// Limits are the limits of the early kernels, in bytes unless a comment says otherwise. ReadLimits fills all of them.
type Limits struct {
	HexFiles     Number // files that can be created (a count)
	HexBytes     Number // all files together, as the README has it
	HexAreaStart Number // physical address of the files' area
	HexAreaEnd   Number // first address behind it
	HexName      Number // a file's path, its NUL included
	HexArg       Number // an argument of a process, its NUL included
	HexProcess   Number // memory of one process
	HexParents   Number // memory of all suspended parents
	HexRAM       Number // memory of the machine

	Ramdisk     Number // the image that make_fiwix_initrd makes: Fiwix' root
	RamdiskAddr Number // physical address where kexec-fiwix puts it
	KexecWindow Number // the second ramdisk: kernel, initramfs and the 8 bytes with their sizes

	CommandLine    Number // Fiwix' command line, its NUL included
	CommandLineArg Number // one argument of it, its NUL included
	FiwixMemory    Number // what Fiwix uses of the machine's memory
	FiwixFiles     Number // open files in all (a count)
	FiwixProcFiles Number // open files of one process (a count)
	FiwixProcs     Number // processes (a count)
	FiwixReach     Number // offset from which on reads of a disk wrap to 0; may be Unlimited

	// LinuxKernel and LinuxInitramfs are what the tree's authors saw in the window: an estimate.
	LinuxKernel, LinuxInitramfs Number
	// CommandLines are Fiwix' command lines as the tree has them.
	CommandLines []CommandLine
}

// Documents of the assumed numbers.
const (
	docHex0  = "builder-hex0 a2781242"
	docTree  = "live-bootstrap 984b8322"
	docFiwix = "Fiwix 1.5.0-lb1"
)

// assumed are the numbers of the versions that are named in them. Each is replaced by what the tree says, where the
// tree says anything.
func assumed() Limits {
	number := func(value int64, doc string) Number { return Number{Value: value, Basis: Assumed, Source: doc} }
	return Limits{
		HexFiles:     number(14_332, docHex0+" README.md"),
		HexBytes:     number(1_811_939_328, docHex0+" README.md"),
		HexAreaStart: number(0x5400_0000, docHex0+" memory map"),
		HexAreaEnd:   number(0xBC00_0000, docHex0+" memory map"),
		HexName:      number(kib, docHex0+" README.md"),
		HexArg:       number(256, docHex0+" README.md"),
		HexProcess:   number(670_793_728, docHex0+" README.md"),
		HexParents:   number(603_979_775, docHex0+" README.md"),
		HexRAM:       number(4<<30, docHex0+" README.md"),

		Ramdisk:     number(1_381_376*kib, docTree+" steps/jump/fiwix.sh"),
		RamdiskAddr: number(0x1C_6000, docTree+" kexec-fiwix.c"),
		KexecWindow: number(199_680*kib, docTree+" steps/jump/fiwix.sh"),

		CommandLine:    number(256, docFiwix+" include/fiwix/limits.h (NAME_MAX + 1)"),
		CommandLineArg: number(100, docFiwix+" include/fiwix/kparms.h (CMDL_ARG_LEN)"),
		FiwixMemory:    number(2<<30, docTree+" custom_config.h (CONFIG_VM_SPLIT22)"),
		FiwixFiles:     number(4096, docTree+" custom_config.h (NR_OPENS)"),
		FiwixProcFiles: number(4096, docTree+" custom_limits.h (OPEN_MAX)"),
		FiwixProcs:     number(4096, docTree+" custom_config.h (NR_PROCS)"),
		FiwixReach:     number(4<<30, docTree+" custom_config.h (CONFIG_OFFSET64 off)"),

		LinuxKernel:    number(10<<20+1<<19, docTree+" steps/jump/fiwix.sh (comment)"),
		LinuxInitramfs: number(183<<20, docTree+" steps/jump/fiwix.sh (comment)"),
	}
}

// headers takes what Fiwix' headers say. A macro that no header names leaves its number as it is.
func (l *Limits) headers(d Defines) {
	for _, n := range []struct {
		to    *Number
		macro string
		plus  int64
	}{
		{&l.CommandLine, "NAME_MAX", 1}, // char kernel_cmdline[NAME_MAX + 1], filled by strcpy
		{&l.CommandLineArg, "CMDL_ARG_LEN", 0},
		{&l.FiwixFiles, "NR_OPENS", 0},
		{&l.FiwixProcFiles, "OPEN_MAX", 0},
		{&l.FiwixProcs, "NR_PROCS", 0},
	} {
		if value, found := d.Number(n.macro); found {
			value.Value += n.plus
			*n.to = value
		}
	}
	// include/fiwix/linker.h: the kernel's half of the address space, which has to map all memory it uses.
	if split, known, where := d.Switch("CONFIG_VM_SPLIT22"); known {
		l.FiwixMemory = Number{Value: 1 << 30, Basis: where.Basis, Source: where.Source + " (CONFIG_VM_SPLIT22 off)"}
		if split {
			l.FiwixMemory = Number{Value: 2 << 30, Basis: where.Basis, Source: where.Source + " (CONFIG_VM_SPLIT22)"}
		}
	}
	// include/fiwix/types.h: without it a file offset has 32 bits.
	if wide, known, where := d.Switch("CONFIG_OFFSET64"); known {
		l.FiwixReach = Number{Value: 4 << 30, Basis: where.Basis, Source: where.Source + " (CONFIG_OFFSET64 off)"}
		if wide {
			l.FiwixReach = Number{Value: Unlimited, Basis: where.Basis, Source: where.Source + " (CONFIG_OFFSET64)"}
		}
	}
}

// script takes what jump/fiwix.sh says.
func (l *Limits) script(s FiwixScript) {
	for _, n := range []struct{ to, from *Number }{
		{&l.Ramdisk, &s.Ramdisk}, {&l.KexecWindow, &s.KexecWindow},
		{&l.LinuxKernel, &s.Kernel}, {&l.LinuxInitramfs, &s.Initramfs},
	} {
		if n.from.Value != 0 {
			*n.to = *n.from
		}
	}
	l.CommandLines = s.CommandLines
}
