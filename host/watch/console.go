// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"regexp"
	"strings"
)

// Linux begins each message on the console with its time, as "[    4.717000] ", with CONFIG_PRINTK_CALLER also the
// caller, as "[    T1] " (kernel/printk/printk.c, print_prefix). A message can follow text that somebody else left
// unfinished on the line; without a time stamp it is believed at the start of a line only, and only where the kernel
// writes none, because a build's log may well quote the same words.
const stamp = `(?:^|\[ *[0-9]+\.[0-9]{6}\](?:\[ *[A-Z][0-9]+\])? )`

var (
	stampRE = regexp.MustCompile(`^\[ *[0-9]+\.[0-9]{6}\](?:\[ *[A-Z][0-9]+\])? `)
	// the same anywhere in a line
	anyStampRE = regexp.MustCompile(`\[ *[0-9]+\.[0-9]{6}\](?:\[ *[A-Z][0-9]+\])? `)
	// kernel/panic.c: pr_emerg("Kernel panic - not syncing: %s\n", buf)
	panicRE = regexp.MustCompile(stamp + `(Kernel panic - not syncing.*)`)
	// arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c and traps.c, lib/bug.c
	oopsRE = regexp.MustCompile(stamp +
		`((?:BUG: unable to handle|BUG: kernel NULL pointer|Oops: |general protection fault|kernel BUG at ).*)`)
)

const panicWords = "Kernel panic - not syncing"

// stamped reports whether a line begins with the kernel's time stamp.
func stamped(line string) bool { return stampRE.MatchString(line) }

// kernelWords is what a console line means coming from the kernel.
type kernelWords struct {
	panic  string // the panic message
	oops   string // the first line of an oops
	quoted bool   // the words of a panic, but not where the kernel writes them
}

// kernelSays reads a console line. stamps says that this kernel writes time stamps.
func kernelSays(line string, stamps bool) kernelWords {
	if stamps && !anyStampRE.MatchString(line) {
		return kernelWords{quoted: strings.Contains(line, panicWords)}
	}
	if m := panicRE.FindStringSubmatch(line); m != nil {
		return kernelWords{panic: m[1]}
	}
	if m := oopsRE.FindStringSubmatch(line); m != nil {
		return kernelWords{oops: m[1]}
	}
	return kernelWords{quoted: strings.Contains(line, panicWords)}
}

// withoutStamp gives a line without the kernel's time stamp.
func withoutStamp(line string) string { return line[len(stampRE.FindString(line)):] }

// firstLine is how a kernel's console begins. A BIOS that is not done with its own line is cut off by it.
const firstLine = "[    0.000000] Linux version "

// withoutBIOS is a line without what a BIOS has left before the kernel's first.
func withoutBIOS(line string) string { return line[max(0, strings.Index(line, firstLine)):] }
