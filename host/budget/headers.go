// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Defines are the macros of C headers, as the preprocessor would leave them behind, conditions aside.
type Defines map[string]Define

// Define is what a header says about one macro.
type Define struct {
	Value  string // without comments; empty for a macro without a value
	Undef  bool   // the last word is #undef
	Source string // file and line
	Basis  Basis
}

var defineRE = regexp.MustCompile(`^\s*#\s*(define|undef)\s+([A-Za-z_][A-Za-z0-9_]*)(?:\s+(.*))?$`)

// maxDefines bounds what one set of headers may define; Fiwix' headers have a few hundred.
const maxDefines = 20_000

// Read adds what a header says to what earlier ones said: the last word counts, as in the preprocessor. #if and #ifdef
// are not evaluated, and macros with arguments are left out.
func (d Defines) Read(name string, basis Basis, r io.Reader) error {
	text, err := readText(name, r)
	if err != nil {
		return err
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		m := defineRE.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		if len(d) >= maxDefines {
			return parseErrorf(name, number, "more than %d macros: not the headers that are meant", maxDefines)
		}
		d[m[2]] = Define{Value: withoutComment(m[3]), Undef: m[1] == "undef", Source: at(name, number), Basis: basis}
	}
	return nil
}

// withoutComment cuts comments off the value of a macro.
func withoutComment(value string) string {
	for _, mark := range []string{"/*", "//"} {
		if before, _, found := strings.Cut(value, mark); found {
			value = before
		}
	}
	return strings.TrimSpace(value)
}

// Number is the value of a macro that is a number, or the name of one that is. Not found: it is no such thing.
func (d Defines) Number(name string) (n Number, found bool) {
	def, ok := d[name]
	for range 8 { // a macro that names itself ends here
		if !ok || def.Undef {
			return Number{}, false
		}
		value := strings.Trim(def.Value, "()")
		if v, err := strconv.ParseUint(strings.TrimRight(value, "uUlL"), 0, 32); err == nil {
			return Number{Value: int64(v), Basis: def.Basis, Source: def.Source + " (" + name + ")"}, true
		}
		next, known := d[value]
		def, ok = next, known
	}
	return Number{}, false
}

// Switch says whether a macro is defined; known is false if no header says anything about it.
func (d Defines) Switch(name string) (on, known bool, source Define) {
	def, ok := d[name]
	return ok && !def.Undef, ok, def
}
