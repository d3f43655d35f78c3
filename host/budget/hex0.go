// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"io"
	"regexp"
	"strconv"
	"strings"
)

// number is how builder-hex0's README writes numbers: 14332 and 1,811,939,328.
const number = `([0-9][0-9,]*)`

// hexReadme are the sentences of builder-hex0's README (Limitations, Machine Requirements) that give a limit.
var hexReadme = []struct {
	field func(*Limits) *Number
	re    *regexp.Regexp
	unit  int64 // multiplies the number
	plus  int64 // is added: the terminating NUL where the README does not count it
}{
	{func(l *Limits) *Number { return &l.HexFiles },
		regexp.MustCompile(`(?i)\bonly ` + number + ` files can be created`), 1, 0},
	{func(l *Limits) *Number { return &l.HexBytes },
		regexp.MustCompile(`(?i)\btotal size of all files cannot exceed ` + number + ` bytes`), 1, 0},
	{func(l *Limits) *Number { return &l.HexName },
		regexp.MustCompile(`(?i)\bfile name is limited to ` + number + `\s*K(?:i?B)? ?bytes`), kib, 0},
	{func(l *Limits) *Number { return &l.HexArg },
		regexp.MustCompile(`(?i)\bargument can only be ` + number + ` bytes long`), 1, 1},
	{func(l *Limits) *Number { return &l.HexProcess },
		regexp.MustCompile(`(?i)\beach process cannot exceed ` + number + ` bytes of memory`), 1, 0},
	{func(l *Limits) *Number { return &l.HexParents },
		regexp.MustCompile(`(?i)\bparent processes cannot exceed ` + number + ` bytes of memory`), 1, 0},
	{func(l *Limits) *Number { return &l.HexRAM },
		regexp.MustCompile(`(?i)^\W*` + number + `\s*Gi?B of memory`), 1 << 30, 0},
}

// ParseHexReadme reads the limits that builder-hex0's README states into l; those it does not state stay. Errors are
// *ParseError: a number that cannot be.
func ParseHexReadme(name string, r io.Reader, l *Limits) error {
	text, err := readText(name, r)
	if err != nil {
		return err
	}
	line := 0
	for sentence := range strings.Lines(text) {
		line++
		for _, limit := range hexReadme {
			m := limit.re.FindStringSubmatch(strings.TrimSpace(sentence))
			if m == nil {
				continue
			}
			value, err := strconv.ParseUint(strings.ReplaceAll(m[1], ",", ""), 10, 40)
			if err != nil || value == 0 || int64(value) > 1<<40/limit.unit {
				return parseErrorf(name, line, "%q is no limit of a kernel for 32 bits", clip(m[1]))
			}
			*limit.field(l) = Number{Value: int64(value)*limit.unit + limit.plus, Basis: FromTree, Source: at(name, line)}
		}
	}
	return nil
}

// mapRE is the line of the memory map in the comments of builder-hex0's source about the files' area:
// "# 54000000 - BBFFFFFF files (~1744MB)".
var mapRE = regexp.MustCompile(`^#\s*([0-9A-Fa-f]{5,16})\s*-\s*([0-9A-Fa-f]{5,16})\s+files\b`)

// ParseHexMap reads the area of all files' contents out of the comments of builder-hex0's stage 2 into l; without such
// a line nothing changes. Errors are *ParseError: addresses that cannot be.
func ParseHexMap(name string, r io.Reader, l *Limits) error {
	text, err := readText(name, r)
	if err != nil {
		return err
	}
	line := 0
	for comment := range strings.Lines(text) {
		line++
		m := mapRE.FindStringSubmatch(strings.TrimSpace(comment))
		if m == nil {
			continue
		}
		start, err1 := strconv.ParseUint(m[1], 16, 32)
		last, err2 := strconv.ParseUint(m[2], 16, 32)
		if err1 != nil || err2 != nil || start >= last {
			return parseErrorf(name, line, "%s to %s is no area of a kernel for 32 bits", clip(m[1]), clip(m[2]))
		}
		source := at(name, line) + " (memory map)"
		l.HexAreaStart = Number{Value: int64(start), Basis: FromTree, Source: source}
		l.HexAreaEnd = Number{Value: int64(last) + 1, Basis: FromTree, Source: source}
		return nil
	}
	return nil
}
