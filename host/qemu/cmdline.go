// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxCmdline is the longest kernel command line, in bytes: COMMAND_LINE_SIZE of Linux on x86
// (arch/x86/include/asm/setup.h) is 2048 with its NUL.
const MaxCmdline = 2047

// ErrCmdline is what every error about a kernel command line is.
var ErrCmdline = errors.New("kernel command line")

// Cmdline is a Linux kernel command line. A root on a disk always gets `rootwait`, because disks (USB above all) show
// up when they like; `panic=` is always given, because without it a kernel that panics sits there for ever.
type Cmdline struct {
	Root  string   // "/dev/sda1"; empty: an initramfs, and no rootwait
	Panic int      // seconds from a panic to the reboot that ends QEMU; 0: one second, negative: at once
	Args  []string // everything else, in order; what follows an argument "--" is for init
}

// Render gives the command line. Errors: an argument that cannot be written (control characters, double quotes) and a
// line longer than MaxCmdline.
func (c Cmdline) Render() (string, error) {
	var words []string
	if c.Root != "" {
		words = append(words, "root="+c.Root)
	}
	seconds := c.Panic
	if seconds == 0 {
		seconds = 1
	}
	if !hasPanic(c.Args) {
		words = append(words, "panic="+strconv.Itoa(seconds))
	}
	for _, arg := range append(words, c.Args...) {
		if strings.ContainsFunc(arg, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '"' }) || arg == "" {
			return "", fmt.Errorf("%w: argument %q cannot be written", ErrCmdline, arg)
		}
	}
	words = withRootwait(append(words, c.Args...))
	for i, arg := range words {
		words[i] = quoteArg(arg)
	}
	line := strings.Join(words, " ")
	if len(line) > MaxCmdline {
		return "", fmt.Errorf("%w: %d bytes, Linux takes %d", ErrCmdline, len(line), MaxCmdline)
	}
	return line, nil
}

// dashesRE finds the "--" that ends the kernel's own arguments.
var dashesRE = regexp.MustCompile(`(?:^|\s)(--)(?:\s|$)`)

// EnsureRootwait gives line with `rootwait` added when its root= names a disk and it is not there yet. Everything else
// stays as it is, spaces included; the addition stands before a "--", which ends the kernel's own arguments.
func EnsureRootwait(line string) string {
	words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n\f\r", r) })
	if slices.Equal(words, withRootwait(slices.Clone(words))) {
		return line
	}
	if at := dashesRE.FindStringSubmatchIndex(line); at != nil {
		return strings.TrimRight(line[:at[2]], " ") + " rootwait " + line[at[2]:]
	}
	return strings.TrimRight(line, " ") + " rootwait"
}

// withRootwait inserts `rootwait` into the kernel's own arguments where a root on a disk needs it.
func withRootwait(words []string) []string {
	own := words
	if i := slices.Index(words, "--"); i >= 0 {
		own = words[:i]
	}
	root := ""
	for _, word := range own {
		if word == "rootwait" {
			return words
		}
		if value, ok := strings.CutPrefix(word, "root="); ok {
			root = value // the kernel takes the last one
		}
	}
	if !diskRoot(root) {
		return words
	}
	return slices.Insert(words, len(own), "rootwait")
}

// diskRoot reports whether root, the value of root=, is a device that may appear late.
func diskRoot(root string) bool {
	for _, prefix := range []string{"/dev/ram", "/dev/nfs", "/dev/root", "/dev/cifs"} {
		if strings.HasPrefix(root, prefix) {
			return false
		}
	}
	return root != ""
}

func hasPanic(args []string) bool {
	for _, arg := range args {
		if arg == "--" {
			return false
		}
		if strings.HasPrefix(arg, "panic=") {
			return true
		}
	}
	return false
}

// quoteArg puts the value of an argument with spaces in double quotes, as the kernel's parse_args reads them.
func quoteArg(arg string) string {
	if !strings.Contains(arg, " ") {
		return arg
	}
	if name, value, ok := strings.Cut(arg, "="); ok && !strings.Contains(name, " ") {
		return name + `="` + value + `"`
	}
	return `"` + arg + `"`
}
