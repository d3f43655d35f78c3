// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import "strings"

// expandShortFlags rewrites what rootfs.py's command line has and kong cannot have: options of two letters behind one
// dash, values after "-X=", and several mirrors after one -m. Everything after "--" stays as it is. args is without the
// program's name.
func expandShortFlags(args []string) []string {
	out := make([]string, 0, len(args))
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch arg {
		case "--":
			return append(append(out, arg), args...)
		case "-m", "--mirrors":
			mirrors := 0
			for mirrors < len(args) && !strings.HasPrefix(args[mirrors], "-") {
				out = append(out, "--mirrors", args[mirrors])
				mirrors++
			}
			if mirrors == 0 {
				out = append(out, arg) // kong says that a value is missing
			}
			args = args[mirrors:]
		default:
			out = append(out, longName(arg))
		}
	}
	return out
}

// longName is arg with the long name of an option that has two letters, or one and "=": argparse takes what follows the
// "=" as the value, kong the "=" as well.
func longName(arg string) string {
	name, value, hasValue := strings.Cut(arg, "=")
	if hasValue {
		name = oneLetter(name)
	}
	switch name {
	case "-bw":
		name = "--bwrap"
	case "-qc":
		name = "--qemu-cmd"
	case "-qr":
		name = "--qemu-ram"
	case "-qs":
		name = "--target-size"
	case "-qk":
		name = "--kernel"
	}
	if hasValue {
		name += "=" + value
	}
	return name
}

// oneLetter is the long name of an option of one letter that has a value, and every other name as it is.
func oneLetter(name string) string {
	switch name {
	case "-a":
		return "--arch"
	case "-m":
		return "--mirrors"
	case "-o":
		return "--out"
	case "-r":
		return "--repo"
	case "-s":
		return "--swap"
	case "-t":
		return "--target"
	}
	return name
}
