// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"fmt"
	"io"
	"strings"
)

// maxToken is the longest word of a manifest, in bytes: seed/script-generator.c reads each into 64 bytes with a final
// zero, and runs over the end of them when a word is longer.
const maxToken = 63

// Manifest is a parsed manifest: what may have to be done, in order, not yet evaluated.
type Manifest struct {
	Name       string // the file name that errors carry
	Directives []Directive
	// Warnings are lines that are valid and probably not meant, each as "name:line: ...".
	Warnings []string
}

// Directive is one line of a manifest.
type Directive struct {
	Kind Kind
	Name string   // package, improvement, jump, variable; of an uninstall the first argument
	Args []string // the whole list of an uninstall, otherwise nil

	// The right side of a define: Logic if it stands in brackets, Constant otherwise.
	Constant string
	Logic    *Logic

	Predicate *Logic // nil: always
	Line      int    // 1-based
}

// arg is what the C program calls the primary argument; passes are counted by it.
func (d Directive) arg() string {
	if d.Kind == KindUninstall {
		return strings.Join(d.Args, " ")
	}
	return d.Name
}

// String is the directive without its predicate, as in "build: bash-2.05b".
func (d Directive) String() string { return string(d.Kind) + ": " + d.arg() }

// line is the directive as a line of a manifest, with its predicate and without the newline.
func (d Directive) line() string {
	text := d.String()
	if d.Kind == KindDefine {
		text += " = " + d.Constant
		if d.Logic != nil {
			text += d.Logic.String()
		}
	}
	if d.Predicate != nil {
		text += " " + d.Predicate.String()
	}
	return text
}

// Bytes is a manifest with the same directives, one on each line, without comments: ParseManifest reads it.
func (m Manifest) Bytes() []byte {
	var out []byte
	for _, d := range m.Directives {
		out = append(append(out, d.line()...), '\n')
	}
	return out
}

// ParseManifest reads a manifest in the language of seed/script-generator.c:
//
//	directive = ("build:" | "improve:" | "jump:") name [predicate]
//	          | "uninstall:" name {name} [predicate]
//	          | "define:" name "=" (value | predicate) [predicate]
//
// Words stand between single spaces and have 63 bytes at most; "#" begins a comment anywhere in a line. An uninstall
// may have any number of names. Errors are *ParseError with name and line; everything that the C program would crash
// on or silently misread (missing or extra words, tabs, double spaces, long words, unknown directives) is one.
func ParseManifest(name string, r io.Reader) (Manifest, error) {
	data, err := readLimited(name, r)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Name: name}
	number := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		number++
		tokens, msg := tokenize(line)
		if msg != "" {
			return Manifest{}, parseErrorf(name, number, "%s", msg)
		}
		if len(tokens) == 0 {
			continue
		}
		directive, msg := parseDirective(tokens)
		if msg != "" {
			return Manifest{}, parseErrorf(name, number, "%s", msg)
		}
		directive.Line = number
		m.Directives = append(m.Directives, directive)
		m.warn(directive)
	}
	return m, nil
}

// warn notes conditions that can never change: a bare name is a constant, its variable is never looked up.
func (m *Manifest) warn(d Directive) {
	if d.Predicate == nil {
		return
	}
	last := d.Predicate.Terms[len(d.Predicate.Terms)-1]
	if last.Op == "" && last.Name != valueTrue && last.Name != valueFalse {
		m.Warnings = append(m.Warnings, fmt.Sprintf(
			"%s:%d: %s in the condition is a constant, not the variable: write %s == True if that is meant",
			m.Name, d.Line, quote(last.Name), last.Name))
	}
}

// tokenize splits a line into words; none for an empty line or one that is all comment. msg says what is wrong, or "".
func tokenize(line string) (tokens []string, msg string) {
	if bad := badByte(line); bad != "" {
		return nil, bad
	}
	text, _, _ := strings.Cut(line, "#")
	if text == "" {
		return nil, ""
	}
	for i := 0; i < len(text); i++ {
		if text[i] == '\t' {
			return nil, fmt.Sprintf("a tab in column %d: words stand between single spaces", i+1)
		}
		if text[i] > '~' {
			return nil, fmt.Sprintf("a character that is not ASCII in column %d: only comments may have such", i+1)
		}
	}
	// The C program takes one space as the end of a word, so a single one at the end of the line adds nothing.
	tokens = strings.Split(strings.TrimSuffix(text, " "), " ")
	column := 1
	for _, token := range tokens {
		switch {
		case token == "" && column == 1:
			return nil, "a space at the beginning of the line: remove it"
		case token == "":
			return nil, fmt.Sprintf("two spaces in column %d: words stand between single spaces", column-1)
		case len(token) > maxToken:
			return nil, fmt.Sprintf("%s has %d bytes: a word may have %d", quote(token), len(token), maxToken)
		}
		column += len(token) + 1
	}
	return tokens, ""
}

// parseDirective makes a directive of the words of one line; tokens is not empty.
func parseDirective(tokens []string) (d Directive, msg string) {
	keyword, rest := tokens[0], tokens[1:]
	kind, colon := strings.CutSuffix(keyword, ":")
	d.Kind = Kind(kind)
	switch {
	case !colon:
	case d.Kind == KindBuild || d.Kind == KindImprove || d.Kind == KindJump:
		return parseNamed(d, rest)
	case d.Kind == KindUninstall:
		return parseUninstall(d, rest)
	case d.Kind == KindDefine:
		return parseDefine(d, rest)
	}
	return Directive{}, "unknown directive " + quote(keyword) +
		": lines begin with build:, improve:, jump:, uninstall: or define: and a space"
}

func parseNamed(d Directive, tokens []string) (Directive, string) {
	if len(tokens) == 0 || isOperator(tokens[0]) {
		return Directive{}, fmt.Sprintf("a name is missing after %s:", d.Kind)
	}
	d.Name = tokens[0]
	if msg := checkName(d.Name, d.Kind != KindBuild); msg != "" {
		return Directive{}, msg
	}
	return parsePredicate(d, tokens[1:])
}

func parseUninstall(d Directive, tokens []string) (Directive, string) {
	for len(tokens) > 0 && tokens[0] != "(" {
		if i := strings.IndexAny(tokens[0], ";&|<>()`\\\"'!"); i >= 0 {
			return Directive{}, fmt.Sprintf("%s has a %q, which the shell would interpret: remove it",
				quote(tokens[0]), tokens[0][i])
		}
		d.Args = append(d.Args, tokens[0])
		tokens = tokens[1:]
	}
	if len(d.Args) == 0 {
		return Directive{}, "a name is missing after uninstall:"
	}
	d.Name = d.Args[0]
	return parsePredicate(d, tokens)
}

func parseDefine(d Directive, tokens []string) (Directive, string) {
	if len(tokens) == 0 || !isVariableName(tokens[0]) {
		return Directive{}, quote(first(tokens)) + " is no name of a variable: write define: NAME = value"
	}
	d.Name = tokens[0]
	if len(tokens) < 2 || tokens[1] != "=" {
		return Directive{}, fmt.Sprintf("define of %s has no \"=\" between spaces: write define: NAME = value", d.Name)
	}
	if len(tokens) < 3 {
		return Directive{}, fmt.Sprintf("define of %s has no value after \"=\"", d.Name)
	}
	if tokens[2] == "(" {
		logic, rest, msg := parseLogic(tokens[2:])
		if msg != "" {
			return Directive{}, msg
		}
		// Only a lone constant becomes the value itself; in a chain it is compared with True.
		if len(logic.Terms) == 1 && logic.Terms[0].Op == "" {
			msg = checkValue(logic.Terms[0].Name)
		}
		if msg != "" {
			return Directive{}, fmt.Sprintf("define of %s: the value %s", d.Name, msg)
		}
		d.Logic = &logic
		return parsePredicate(d, rest)
	}
	d.Constant = tokens[2]
	if msg := checkValue(d.Constant); msg != "" {
		return Directive{}, fmt.Sprintf("define of %s: the value %s", d.Name, msg)
	}
	return parsePredicate(d, tokens[3:])
}

// parsePredicate takes the optional condition at the end of a line.
func parsePredicate(d Directive, tokens []string) (Directive, string) {
	if len(tokens) == 0 {
		return d, ""
	}
	logic, rest, msg := parseLogic(tokens)
	if msg != "" {
		return Directive{}, msg
	}
	if len(rest) > 0 {
		return Directive{}, "unexpected " + quote(rest[0]) + " after the closing bracket: remove it"
	}
	d.Predicate = &logic
	return d, ""
}

// checkName says why s cannot be the name of a package, an improvement or a jump, or "". It becomes a path below the
// root, a word in scripts and a part of file names.
func checkName(s string, slashes bool) string {
	parts := []string{s}
	if slashes {
		parts = strings.Split(s, "/")
	}
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || part[0] == '-' || strings.ContainsFunc(part, notNameRune) {
			return quote(s) + " is no name: letters, digits and . _ + - ~ @ are possible"
		}
	}
	return ""
}

func notNameRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("._+-~@", r)
}
