// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"fmt"
	"slices"
	"strings"
)

// Rows that others decide by.
const (
	RowRamdisk     = kernelFiwix + ".ramdisk"
	RowKexecWindow = kernelLinux + ".kexec-window"
)

// The kernels of the rows, by the names that plans use.
const (
	kernelHex0  = "builder-hex0"
	kernelFiwix = "fiwix"
	kernelLinux = "linux"
)

// The units of the rows.
const (
	unitBytes = "bytes"
	unitFiles = "files"
	unitProcs = "processes"
)

// Input is what a bootstrap brings along.
type Input struct {
	Limits Limits
	// First is what is on the first medium.
	First Usage
	// CommandLines are those that Fiwix is booted with, after all rewriting by the host (a panic=, for instance); nil:
	// those that the tree has. ParseFiwixScript reads them out of the rewritten script.
	CommandLines []CommandLine
	// Payload is what payload-import brings under Fiwix; nil: nothing.
	Payload *Payload
	// Added are files that are still in the ramdisk when Linux is built, beyond those of the tree's own run: the agent,
	// the base tarball, and with payload stage "fiwix" the distfiles that only Linux needs.
	Added []Item
	// Removed are distfiles that the tree's own run would pack into the initramfs and this one removes before.
	Removed []Item
	// HexBuilds and FiwixBuilds are the packages built on the two kernels, by name.
	HexBuilds, FiwixBuilds []string
	// Machine is the machine's memory, as far as it is known.
	Machine Machine
}

// Payload is the part of a payload image that Fiwix reads.
type Payload struct {
	// Files are the files that are imported.
	Files []Item
	// End is the offset in the image behind the last byte that Fiwix reads, or UnknownSize. EarlyEnd computes it.
	End int64
}

// EarlyEnd is the offset behind the last of the first files of an image in LBPAYLD1 format, from the names and sizes
// of these files in their order, SHA256SUMS included; UnknownSize if a size is. All names lists the image's files
// without SHA256SUMS, which lists them: its size follows from them.
func EarlyEnd(all []string, early []Item) int64 {
	const head, entry, sum = 16, 16, 64 + 2 + 1 // per image, per file, per line of SHA256SUMS
	sums := int64(0)
	for _, name := range all {
		sums = add(sums, int64(len(name))+sum)
	}
	end := add(head+entry+int64(len("SHA256SUMS")), sums)
	for _, file := range early {
		if file.Size < 0 {
			return UnknownSize
		}
		end = add(end, add(entry+int64(len(file.Path)), file.Size))
	}
	return end
}

// Compute holds the input against its limits. It does no more than add and compare: every input has a report.
func Compute(in Input) *Report {
	if in.CommandLines == nil {
		in.CommandLines = in.Limits.CommandLines
	}
	c := computer{in: in, report: &Report{
		Rows: []Row{}, Largest: append([]Item{}, in.First.Largest...),
		Unknown: append([]string{}, in.First.Unknown...), Warnings: []string{},
	}}
	c.products, c.missing = made(in.HexBuilds)
	c.sumPayload()
	c.hex0()
	c.hex0Processes()
	c.fiwixRamdisk()
	c.fiwixMemory()
	c.fiwixCommandLine()
	c.fiwixTables()
	c.linux()
	c.warn()
	return c.report
}

type computer struct {
	in       Input
	report   *Report
	products product
	missing  []string // builds without an estimate

	payload        int64 // bytes imported under Fiwix, as far as sizes are known
	payloadUnknown bool
}

// draft is a row in the making.
type draft struct {
	id, kernel, what, unit string

	limit     Number
	known     int64 // what is certainly used
	estimated int64 // what comes on top by estimate
	atLeast   bool  // sizes are missing in known
	source    string
	advice    string
}

func (c *computer) row(d draft) {
	used := add(d.known, d.estimated)
	left := d.limit.Value - used
	row := Row{
		ID: d.kernel + "." + d.id, Kernel: d.kernel, What: d.what, Unit: d.unit,
		Limit: d.limit.Value, LimitBasis: d.limit.Basis, LimitSource: d.limit.Source,
		Known: &d.known, Used: &used, Left: &left, UsedSource: d.source,
		Certainty: Exact, AtLeast: d.atLeast, Verdict: OK, Advice: d.advice,
	}
	switch {
	case d.estimated > 0:
		row.Certainty = Estimate
	case d.atLeast:
		row.Certainty = AtLeast
	}
	switch {
	case d.known > d.limit.Value:
		row.Verdict = Over
	case row.Certainty == Estimate && max(left, -left) < d.limit.Value/100:
		row.Verdict = Tight
	case left < 0:
		row.Verdict = ProbablyOver
	}
	c.report.Rows = append(c.report.Rows, row)
}

// unknownRow is a limit of which nobody can say before the run how much is used.
func (c *computer) unknownRow(id, kernel, what, unit string, limit Number) {
	c.report.Rows = append(c.report.Rows, Row{
		ID: kernel + "." + id, Kernel: kernel, What: what, Unit: unit, Limit: limit.Value, LimitBasis: limit.Basis,
		LimitSource: limit.Source, Certainty: Unknown, UsedSource: "depends on what runs", Verdict: NotKnown,
	})
}

func (c *computer) sumPayload() {
	if c.in.Payload == nil {
		return
	}
	for _, file := range c.in.Payload.Files {
		if file.Size < 0 {
			c.payloadUnknown = true
			c.report.Unknown = append(c.report.Unknown, file.Path)
			continue
		}
		c.payload = add(c.payload, file.Size)
	}
}

func (c *computer) unknownSizes() bool { return len(c.in.First.Unknown) > 0 }

const adviceFirst = "carry fewer or smaller files on the first medium (a payload image takes distfiles off it)"

// area is what the files' area holds for certain when make_fiwix_initrd has run: all files and the image.
func (c *computer) area() int64 { return add(c.in.First.Bytes, c.in.Limits.Ramdisk.Value) }

func (c *computer) hex0() {
	l, first := c.in.Limits, c.in.First
	c.row(draft{
		id: "files", kernel: kernelHex0, what: "files", unit: unitFiles, limit: l.HexFiles,
		known: first.Files, estimated: c.products.files, source: "records of the first medium; " + sourceProducts,
		advice: adviceFirst,
	})
	c.row(draft{
		id: "bytes", kernel: kernelHex0, what: "all files, Fiwix image included", unit: unitBytes, limit: l.HexBytes,
		known: c.area(), estimated: c.products.bytes, atLeast: c.unknownSizes(),
		source: "first medium, and the ramdisk that make_fiwix_initrd makes; " + sourceProducts, advice: adviceFirst,
	})
	area := Number{
		Value: l.HexAreaEnd.Value - l.HexAreaStart.Value, Basis: l.HexAreaEnd.Basis, Source: l.HexAreaEnd.Source,
	}
	c.row(draft{
		id: "area", kernel: kernelHex0, what: "file area, Fiwix image included", unit: unitBytes, limit: area,
		known: c.area(), estimated: c.products.bytes, atLeast: c.unknownSizes(),
		source: "first medium, and the ramdisk that make_fiwix_initrd makes; " + sourceProducts, advice: adviceFirst,
	})
	c.row(draft{
		id: "name", kernel: kernelHex0, what: "longest path, with NUL", unit: unitBytes, limit: l.HexName,
		known: int64(len(first.LongestPath)) + 1, source: clip(first.LongestPath), advice: "shorten the path",
	})
}

// hex0Processes are the limits of builder-hex0's processes. make_fiwix_initrd is the greedy one: it reads every file
// into memory, and free does nothing in that C library.
func (c *computer) hex0Processes() {
	l := c.in.Limits
	const argument = "longest argument, with NUL"
	if longest := longestLine(c.in.CommandLines); longest.Text == "" {
		c.unknownRow("argument", kernelHex0, argument, unitBytes, l.HexArg)
	} else {
		c.row(draft{
			id: "argument", kernel: kernelHex0, what: argument, unit: unitBytes, limit: l.HexArg,
			known: int64(len(longest.Text)) + 1, source: longest.Source + ", kexec-fiwix -c",
			advice: "shorten the command line",
		})
	}
	c.row(draft{
		id: "process", kernel: kernelHex0, what: "memory of one process", unit: unitBytes,
		limit: l.HexProcess, known: c.in.First.Bytes, estimated: c.products.bytes, atLeast: c.unknownSizes(),
		source: "make_fiwix_initrd keeps every file it has read; " + sourceProducts, advice: adviceFirst,
	})
	c.unknownRow("parents", kernelHex0, "memory of suspended parents", unitBytes, l.HexParents)
	memory := l.HexRAM
	if low := c.in.Machine.Low; low > 0 {
		memory = Number{Value: low, Basis: FromOptions, Source: c.in.Machine.Source}
	}
	c.row(draft{
		id: "memory", kernel: kernelHex0, what: "memory below 4 GiB", unit: unitBytes,
		limit: memory, known: add(l.HexAreaStart.Value, c.area()), estimated: c.products.bytes, atLeast: c.unknownSizes(),
		source: "files begin at " + fmt.Sprintf("%#x", l.HexAreaStart.Value) + "; " + sourceProducts,
		advice: "give the machine more memory below 4 GiB (--qemu-ram)",
	})
}

// fiwixRamdisk are the limits of the ramdisk: what is put into it at once, what it holds at its fullest, and where it
// ends.
func (c *computer) fiwixRamdisk() {
	l := c.in.Limits
	imported := add(c.in.First.Bytes, c.payload)
	unknown := c.unknownSizes() || c.payloadUnknown
	c.row(draft{
		id: "import", kernel: kernelFiwix, what: "ramdisk after the import", unit: unitBytes, limit: l.Ramdisk,
		known: imported, estimated: add(c.products.bytes, l.Ramdisk.Value/inodeShare), atLeast: unknown,
		source: "first medium, files imported under Fiwix; inode tables, " + sourceProducts,
		advice: "import less under Fiwix (--payload-stage auto)",
	})
	if slices.ContainsFunc(c.in.FiwixBuilds, func(b string) bool { return strings.HasPrefix(b, linuxBuild) }) {
		c.row(draft{
			id: "ramdisk", kernel: kernelFiwix, what: "ramdisk at its fullest", unit: unitBytes,
			limit: l.Ramdisk, known: sizes(c.in.Added), estimated: ramdiskFull, source: sourceRamdisk,
			advice: "a larger make_fiwix_initrd -s, or fewer files that stay",
		})
	} else {
		c.unknownRow("ramdisk", kernelFiwix, "ramdisk at its fullest", unitBytes, l.Ramdisk)
	}
	c.ramdiskEnd()
}

// ramdiskEnd is a limit of its own kind: the distance of the ramdisk's end from the addresses where it must not be.
func (c *computer) ramdiskEnd() {
	end := add(c.in.Limits.RamdiskAddr.Value, c.in.Limits.Ramdisk.Value)
	row := Row{
		ID: kernelFiwix + ".ramdisk-end", Kernel: kernelFiwix, What: "ramdisk's end, not at 127 to 133 MiB",
		Unit: unitBytes, Limit: badRamdiskTo, LimitBasis: Measured, LimitSource: sourceBadRamdisk,
		Known: &end, Used: &end, Certainty: Exact, Verdict: OK,
		UsedSource: c.in.Limits.RamdiskAddr.Source + ", " + c.in.Limits.Ramdisk.Source,
		Advice:     "choose another size for make_fiwix_initrd -s",
	}
	left := end - badRamdiskTo
	if end < badRamdiskFrom {
		row.Limit, left = badRamdiskFrom, badRamdiskFrom-end
	}
	if left < 0 {
		row.Verdict = Over
		row.overText = fmt.Sprintf("the ramdisk ends at %s bytes, between %s and %s, where every program faults",
			count(end), count(badRamdiskFrom), count(badRamdiskTo))
	}
	row.Left = &left
	c.report.Rows = append(c.report.Rows, row)
}

// fiwixMemory is what programs have beside the two ramdisks.
func (c *computer) fiwixMemory() {
	l := c.in.Limits
	limit := l.FiwixMemory
	if low := c.in.Machine.Low; low > 0 && low < limit.Value {
		limit = Number{Value: low, Basis: FromOptions, Source: c.in.Machine.Source}
	}
	c.row(draft{
		id: "memory", kernel: kernelFiwix, what: "memory, the rest is for programs", unit: unitBytes, limit: limit,
		known: add(l.Ramdisk.Value, l.KexecWindow.Value), estimated: fiwixTables, source: sourceFiwixTables,
		advice: "a smaller ramdisk (make_fiwix_initrd -s), or more memory",
	})
}

// fiwixCommandLine are the limits of Fiwix' command line: the whole is copied unchecked into NAME_MAX+1 bytes
// (kernel/multiboot.c), and an argument that is too long is dropped with a warning that nobody sees.
func (c *computer) fiwixCommandLine() {
	const whole, part = "command line, with NUL", "its longest argument, with NUL"
	l := c.in.Limits
	line := longestLine(c.in.CommandLines)
	if line.Text == "" {
		c.unknownRow("command-line", kernelFiwix, whole, unitBytes, l.CommandLine)
		c.unknownRow("argument", kernelFiwix, part, unitBytes, l.CommandLineArg)
		return
	}
	longest := ""
	for _, other := range c.in.CommandLines {
		for _, arg := range fiwixArguments(other.Text) {
			if len(arg) > len(longest) {
				longest = arg
			}
		}
	}
	c.row(draft{
		id: "command-line", kernel: kernelFiwix, what: whole, unit: unitBytes, limit: l.CommandLine,
		known: int64(len(line.Text)) + 1, source: line.Source,
		advice: "shorten the command line",
	})
	c.row(draft{
		id: "argument", kernel: kernelFiwix, what: part, unit: unitBytes, limit: l.CommandLineArg,
		known: int64(len(longest)) + 1, source: clip(longest),
		advice: "shorten the argument: Fiwix ignores one that is too long",
	})
}

// fiwixTables are the limits of Fiwix' tables and of its reach on a disk.
func (c *computer) fiwixTables() {
	l := c.in.Limits
	c.unknownRow("open-files", kernelFiwix, "open files", unitFiles, l.FiwixFiles)
	c.unknownRow("process-files", kernelFiwix, "open files of one process", unitFiles, l.FiwixProcFiles)
	c.unknownRow("processes", kernelFiwix, "processes", unitProcs, l.FiwixProcs)
	if c.in.Payload == nil || l.FiwixReach.Value == Unlimited {
		return
	}
	if c.in.Payload.End < 0 {
		c.row(draft{
			id: "reach", kernel: kernelFiwix, what: "end of the payload's early part", unit: unitBytes,
			limit: l.FiwixReach, known: c.payload, atLeast: true, source: "files imported under Fiwix",
			advice: "import less under Fiwix (--payload-stage auto)",
		})
		return
	}
	c.row(draft{
		id: "reach", kernel: kernelFiwix, what: "end of the payload's early part", unit: unitBytes,
		limit: l.FiwixReach, known: c.in.Payload.End, source: "layout of the payload image",
		advice: "import less under Fiwix (--payload-stage auto)",
	})
}

// linux is the window through which kernel and initramfs go, behind the 8 bytes with their sizes.
func (c *computer) linux() {
	const lengths = 8
	l := c.in.Limits
	packed := l.LinuxInitramfs.Value
	for _, file := range c.in.Added {
		size := max(file.Size, 0)
		if !strings.HasPrefix(file.Path, distfilesDir) && file.Path != BaseTarballPath { // those are packed already
			size = size / 100 * packedPercent
		}
		packed = add(packed, size)
	}
	packed = max(0, packed-sizes(c.in.Removed))
	c.row(draft{
		id: "kexec-window", kernel: kernelLinux, what: "kexec window", unit: unitBytes,
		limit: l.KexecWindow, known: lengths, estimated: add(l.LinuxKernel.Value, packed),
		source: l.LinuxKernel.Source + ", plus the agent packed, minus distfiles removed; measured again before the jump",
		advice: "remove files before jump: linux, or a larger kexec_size",
	})
}

// sizes adds up the known sizes.
func sizes(items []Item) int64 {
	total := int64(0)
	for _, item := range items {
		total = add(total, max(item.Size, 0))
	}
	return total
}

// longestLine is the longest command line, the first of several; empty if there is none.
func longestLine(lines []CommandLine) CommandLine {
	var longest CommandLine
	for _, line := range lines {
		if len(line.Text) > len(longest.Text) {
			longest = line
		}
	}
	return longest
}

// warn says in words what the rows show and what they leave out.
func (c *computer) warn() {
	say := func(format string, args ...any) {
		c.report.Warnings = append(c.report.Warnings, fmt.Sprintf(format, args...))
	}
	for _, row := range c.report.Rows {
		switch row.Verdict {
		case ProbablyOver:
			say("budget: %s", row.complaint())
		case Tight:
			say("budget: %s: %s: tight, by estimate %s of %s %s used (%s)", row.Kernel, row.What, count(*row.Used),
				count(row.Limit), row.Unit, row.UsedSource)
		}
	}
	if n := len(c.report.Unknown); n > 0 {
		say("budget: the sizes of %d files are not known: give --distfiles for real ones", n)
	}
	if len(c.missing) > 0 {
		say("budget: no estimate for the products of %s", strings.Join(c.missing, ", "))
	}
}
