// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
)

const kib = 1024

// maxKiB bounds a size in KiB: the programs of the tree keep it in a C int, and nothing here has that many bytes.
const maxKiB = 1<<31 - 1

// FiwixScript is what jump/fiwix.sh says: how large the ramdisk is, and what Fiwix is booted with.
type FiwixScript struct {
	// Makes says that the script makes a ramdisk. If so and Ramdisk is zero, the size is the program's default.
	Makes bool
	// Ramdisk is the ramdisk's size in bytes; zero if the script gives none.
	Ramdisk Number
	// KexecWindow is the size of the second ramdisk in bytes; zero if there is no kexec_size= anywhere.
	KexecWindow Number
	// CommandLines are Fiwix' command lines, one for each kexec-fiwix.
	CommandLines []CommandLine
	// Kernel and Initramfs are the sizes in bytes that a comment of the script gives for the jump to Linux, with a
	// date; zero if there is no such comment.
	Kernel, Initramfs Number
}

// CommandLine is a kernel's command line and where it stands.
type CommandLine struct {
	Text   string `json:"text"`
	Source string `json:"source"` // such as "steps/jump/fiwix.sh:18"
}

// ParseFiwixScript reads jump/fiwix.sh, as it is in the tree or as the host has rewritten it. It looks for
//
//	make_fiwix_initrd [-s KIB] FILE
//	kexec-fiwix KERNEL ... -c "... kexec_size=KIB ..."
//
// wherever they stand, and for a comment such as "Initrd = ~183 MB, kernel = ~10.5MB". Errors are *ParseError: a string
// without an end, a size that is no number, and two different sizes, since only one can be budgeted.
func ParseFiwixScript(name string, r io.Reader) (FiwixScript, error) {
	text, err := readText(name, r)
	if err != nil {
		return FiwixScript{}, err
	}
	all, err := commands(name, text)
	if err != nil {
		return FiwixScript{}, err
	}
	s := FiwixScript{}
	for _, c := range all {
		switch path.Base(c.words[0]) {
		case "make_fiwix_initrd":
			err = s.initrd(name, c)
		case "kexec-fiwix":
			err = s.kexec(name, c)
		}
		if err != nil {
			return FiwixScript{}, err
		}
	}
	s.Kernel, s.Initramfs = windowComment(name, text)
	return s, nil
}

// initrd takes a make_fiwix_initrd, whose last -s counts.
func (s *FiwixScript) initrd(name string, c command) error {
	s.Makes = true
	for i := 1; i < len(c.words); i++ {
		if c.words[i] != "-s" {
			continue
		}
		i++
		if i == len(c.words) {
			return parseErrorf(name, c.line, "make_fiwix_initrd -s without a size in KiB")
		}
		if err := setSize(&s.Ramdisk, name, c.line, "make_fiwix_initrd -s", c.words[i]); err != nil {
			return err
		}
	}
	return nil
}

// kexec takes a kexec-fiwix, whose last -c counts.
func (s *FiwixScript) kexec(name string, c command) error {
	line := ""
	for i := 1; i < len(c.words)-1; i++ {
		if c.words[i] == "-c" {
			line = c.words[i+1]
			i++
		}
	}
	if line == "" {
		return nil
	}
	s.CommandLines = append(s.CommandLines, CommandLine{Text: line, Source: at(name, c.line)})
	for _, arg := range fiwixArguments(line) {
		if value, ok := strings.CutPrefix(arg, "kexec_size="); ok {
			if err := setSize(&s.KexecWindow, name, c.line, "kexec_size=", value); err != nil {
				return err
			}
		}
	}
	return nil
}

// setSize stores a size in KiB, once.
func setSize(n *Number, name string, line int, what, value string) error {
	size, err := strconv.ParseUint(value, 10, 31)
	if err != nil || size == 0 || size > maxKiB {
		return parseErrorf(name, line, "%s %q: must be a number of KiB from 1 to %d", what, clip(value), maxKiB)
	}
	if n.Value != 0 && n.Value != int64(size)*kib {
		return parseErrorf(name, line, "%s %d: %s has %d, and only one size can be budgeted", what, size, n.Source,
			n.Value/kib)
	}
	if n.Value == 0 {
		*n = Number{Value: int64(size) * kib, Basis: FromTree, Source: at(name, line)}
	}
	return nil
}

// fiwixArguments cuts a command line as Fiwix does (kernel/multiboot.c, parse_cmdline): at blanks, but not between the
// first pair of quotes.
func fiwixArguments(line string) []string {
	var args []string
	start, quotes := 0, 0
	for i := 0; i <= len(line); i++ {
		switch {
		case i < len(line) && line[i] == '"':
			quotes++
		case i == len(line) || (line[i] == ' ' && quotes != 1):
			if start < i {
				args = append(args, line[start:i])
			}
			start = i + 1
		}
	}
	return args
}

// windowRE is the comment of the tree's authors about the jump to Linux; they write MB and mean MiB, as the line above
// it shows ("199680 = 195 MB").
var windowRE = regexp.MustCompile(`(?i)^#.*\binitr(?:d|amfs)` + megabytes + `.*\bkernel` + megabytes)

const megabytes = `\s*=\s*~?\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*Mi?B\b`

func windowComment(name, text string) (kernel, initramfs Number) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		m := windowRE.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		source := at(name, number) + " (comment)"
		return Number{Value: mebibytes(m[2]), Basis: FromTree, Source: source},
			Number{Value: mebibytes(m[1]), Basis: FromTree, Source: source}
	}
	return Number{}, Number{}
}

// mebibytes is the number of bytes of a decimal number of MiB that windowRE has admitted.
func mebibytes(text string) int64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return int64(f * (1 << 20))
}

// clip shortens what is quoted from a file.
func clip(text string) string {
	const longest = 60
	if len(text) > longest {
		return text[:longest] + "..."
	}
	return text
}
