// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"bytes"
	"slices"
)

// The improvements that import the payload, in two parts, and the variable of bootstrap.cfg that switches them on.
const (
	improveImport     = "import_payload"
	improveImportRest = "import_payload_rest"

	VarPayloadRequired = "PAYLOAD_REQUIRED"
)

// WithPayloadImport is the manifest with the payload imports in their places, each only if PAYLOAD_REQUIRED is True:
// import_payload after each jump: fiwix, and import_payload_rest after each jump: move_disk (without one, after each
// jump: linux). Every other byte stays as it is, so with PAYLOAD_REQUIRED unset the generated scripts stay as well. A
// manifest that has one of the two directives already does not get that one again. name is for errors.
//
// The error is a *ParseError: the manifest cannot be parsed, or has no place for an import.
func WithPayloadImport(name string, manifest []byte) ([]byte, error) {
	m, err := ParseManifest(name, bytes.NewReader(manifest))
	if err != nil {
		return nil, err
	}
	imports, err := m.payloadImports()
	if err != nil {
		return nil, err
	}
	insert := map[int]string{}
	for _, d := range imports {
		insert[d.Line] = d.String() + " " + d.Predicate.String() + "\n"
	}
	return insertLines(manifest, insert), nil
}

// WithPayloadImport is the same for a parsed manifest. The new directives carry the line of the jump before them, so
// that all lines stay those of the file.
func (m Manifest) WithPayloadImport() (Manifest, error) {
	imports, err := m.payloadImports()
	if err != nil {
		return Manifest{}, err
	}
	directives := m.Directives
	m.Directives = nil
	for _, d := range directives {
		m.Directives = append(m.Directives, d)
		for _, added := range imports {
			if added.Line == d.Line {
				m.Directives = append(m.Directives, added)
			}
		}
	}
	return m, nil
}

// payloadImports are the directives to insert, each with the line of the jump that it follows.
func (m Manifest) payloadImports() ([]Directive, error) {
	var imports []Directive
	present := false
	place := func(improve string, jumps ...string) {
		if slices.ContainsFunc(m.Directives, isDirective(KindImprove, improve)) {
			present = true
			return
		}
		for _, jump := range jumps {
			if lines := m.linesOf(isDirective(KindJump, jump)); len(lines) > 0 {
				for _, line := range lines {
					imports = append(imports, Directive{
						Kind: KindImprove, Name: improve, Line: line,
						Predicate: &Logic{Terms: []Term{{Name: VarPayloadRequired, Op: "==", Value: valueTrue}}},
					})
				}
				return
			}
		}
	}
	place(improveImport, jumpFiwix)
	place(improveImportRest, jumpMoveDisk, jumpLinux)
	if len(imports) == 0 && !present {
		return nil, parseErrorf(m.Name, 0, "no jump: fiwix, jump: linux or jump: move_disk: "+
			"a payload has no place to be imported, do without one")
	}
	return imports, nil
}

// linesOf are the numbers of the lines of the directives that match.
func (m Manifest) linesOf(match func(Directive) bool) []int {
	var lines []int
	for _, d := range m.Directives {
		if match(d) {
			lines = append(lines, d.Line)
		}
	}
	return lines
}

// insertLines puts whole lines behind those with the given 1-based numbers.
func insertLines(text []byte, insert map[int]string) []byte {
	var out []byte
	number := 0
	for line := range bytes.SplitAfterSeq(text, []byte("\n")) {
		number++
		out = append(out, line...)
		if added := insert[number]; added != "" {
			if !bytes.HasSuffix(line, []byte("\n")) {
				out = append(out, '\n')
			}
			out = append(out, added...)
		}
	}
	return out
}
