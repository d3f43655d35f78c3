// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package grub puts the kernel's command line in a grub.cfg right. The tree's `improve: make_bootable` takes over the
// command line of the kernel that is running, with everything in it that was meant for the bootstrap, or for another
// root. Text in, text out; package guest calls it behind that step.
package grub

import (
	"slices"
	"strings"
)

// initPath is what the kernel shall run: on a root that is no initramfs it does not look there by itself.
const initPath = "/init"

// Rewrite makes every line that loads Linux boot root (a device such as /dev/sda1, or PARTUUID=NUMBER), once, waiting for it to appear
// (a USB disk takes its time). What belongs to the run that wrote the file goes: Kindling's own parameters, panic=, which
// is set so that a panic ends a run, no_timer_check, which is for a virtual machine, and which root, initramfs and init
// that run had. All else stays as it is, and so does a line with a carriage return before its end. It reports how many
// lines it has found.
func Rewrite(text []byte, root string) ([]byte, int) {
	var out strings.Builder
	found := 0
	for line := range strings.SplitAfterSeq(string(text), "\n") {
		body := strings.TrimRight(line, "\r\n")
		end := line[len(body):]
		words, whole := split(body)
		// The second time, a carriage return that has become the last word would be a part of the line's end.
		if !whole || strings.Contains(body, "\r") || len(words) < 2 || !loadsLinux(words[0]) {
			out.WriteString(line)
			continue
		}
		found++
		indent, _, _ := strings.Cut(body, words[0])
		kernel := words[1]
		rest := slices.DeleteFunc(words[2:], ofTheRun)
		words = slices.Concat([]string{words[0], kernel, "root=" + root, "rootwait", "rw", "init=" + initPath}, rest)
		out.WriteString(indent + strings.Join(words, " ") + end)
	}
	return []byte(out.String()), found
}

// loadsLinux reports GRUB's commands for that: on a PC there are three.
func loadsLinux(command string) bool {
	return command == "linux" || command == "linux16" || command == "linuxefi"
}

// ofTheRun reports a parameter that says how the kernel that wrote the file was booted, or that Rewrite sets itself.
func ofTheRun(word string) bool {
	name, _, _ := strings.Cut(unquote(word), "=")
	switch name {
	case "root", "rootwait", "ro", "rw", "init", "rdinit", "initrd", "BOOT_IMAGE", "panic", "no_timer_check":
		return true
	}
	return strings.HasPrefix(name, "kindling.")
}

// split takes a line apart at blanks that are not inside of quotes. Words keep their quotes. A line whose quotes do not
// end on it is not whole: GRUB reads on in the next one.
func split(line string) (words []string, whole bool) {
	var word strings.Builder
	quote := byte(0)
	escaped := false
	for i := range len(line) {
		c := line[i]
		blank := c == ' ' || c == '\t'
		switch {
		case escaped:
			escaped = false
		case c == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && blank:
			if word.Len() > 0 {
				words = append(words, word.String())
				word.Reset()
			}
			continue
		}
		word.WriteByte(c)
	}
	if word.Len() > 0 {
		words = append(words, word.String())
	}
	return words, quote == 0 && !escaped
}

// unquote is a word without quotes and backslashes: enough to know its name.
func unquote(word string) string { return strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(word) }
