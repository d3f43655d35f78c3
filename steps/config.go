// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"bytes"
	"io"
	"slices"
	"strings"
)

// maxConfigLine is the longest line of bootstrap.cfg without its newline, in bytes: seed/script-generator.c reads it
// with fgets into 2048, and takes what is left of a longer one for a line of its own.
const maxConfigLine = 2046

// The variables of bootstrap.cfg on which the plan itself depends.
const (
	varChroot          = "CHROOT"
	varKernelBootstrap = "KERNEL_BOOTSTRAP"
	varInteractive     = "INTERACTIVE"
)

// Variable is one line of bootstrap.cfg.
type Variable struct {
	Name  string
	Value string // as written, with its quotes if it has any
}

// Config is bootstrap.cfg: NAME=VALUE lines in order.
//
// A name may stand there more than once (the tree's move_disk appends a second DISK). The C generator then goes by the
// first one, a shell that sources the file by the last one; predicates are evaluated with First, and Get is what steps
// see. The zero value is an empty configuration.
type Config struct {
	vars []Variable
}

// ParseConfig reads bootstrap.cfg. Each line is NAME=VALUE, where VALUE is one word for the shell. Errors are
// *ParseError with name and line: lines without "=", empty ones and comments (the C program stops there), lines over
// 2046 bytes (it reads them as two), a last line without newline (it drops its last character), and values at which a
// shell that sources the file would stumble.
func ParseConfig(name string, r io.Reader) (*Config, error) {
	data, err := readLimited(name, r)
	if err != nil {
		return nil, err
	}
	config := &Config{}
	number := 0
	for line := range strings.SplitAfterSeq(string(data), "\n") {
		number++
		if line == "" {
			break // behind the last newline
		}
		variable, msg := parseVariable(line)
		if msg != "" {
			return nil, parseErrorf(name, number, "%s", msg)
		}
		config.vars = append(config.vars, variable)
	}
	return config, nil
}

// PlainConfig reads the lines of a bootstrap.cfg that ParseConfig takes. The other lines of a guest's (comments, or what
// else its shell understands) are the business of that shell.
func PlainConfig(name string, data []byte) (*Config, error) {
	var plain []byte
	for line := range bytes.Lines(data) {
		line = append(bytes.TrimRight(line, "\r\n"), '\n')
		if _, err := ParseConfig(name, bytes.NewReader(line)); err == nil {
			plain = append(plain, line...)
		}
	}
	return ParseConfig(name, bytes.NewReader(plain))
}

// parseVariable parses one line with its newline.
func parseVariable(line string) (v Variable, msg string) {
	line, terminated := strings.CutSuffix(line, "\n")
	name, value, found := strings.Cut(line, "=")
	switch bad := badByte(line); {
	case bad != "":
		return Variable{}, bad
	case len(line) > maxConfigLine:
		return Variable{}, "the line is longer than 2046 bytes: the bootstrap would read it as two"
	case !found:
		return Variable{}, "no \"=\" in " + quote(line) + ": each line is NAME=VALUE, without empty lines and comments"
	case !isVariableName(name):
		return Variable{}, quote(name) + " is no name of a variable: letters, digits and _ are possible"
	case !terminated:
		return Variable{}, "the last line does not end in a newline: the bootstrap would drop its last character"
	}
	if msg := checkValue(value); msg != "" {
		return Variable{}, "the value of " + quote(name) + " " + msg
	}
	return Variable{Name: name, Value: value}, ""
}

// checkValue says why value is not one plain word for a shell that sources "NAME=value", or "". Configuration is data: what
// is not a literal, $NAME or ${NAME} is refused, in single quotes too, because a shell that evaluates a value once more
// ($((NAME)), eval, PS4) would run it.
func checkValue(value string) string {
	quoted := byte(0)
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '`' || strings.HasPrefix(value[i:], "$("):
			return "runs a command: write the result instead"
		case c == '$':
			n := variableLength(value[i:])
			if n == 0 {
				return "has a \"$\" that is neither $NAME nor ${NAME}: write the result instead"
			}
			i += n - 1
		case c == '\\':
			return "has a backslash: remove it"
		case c == quoted:
			quoted = 0
		case quoted != 0:
		case c == '"' || c == '\'':
			quoted = c
		case strings.IndexByte(" \t;&|<>()*?[{~", c) >= 0:
			return "has an unquoted " + quote(string(c)) + ": put the value in double quotes"
		}
	}
	if quoted != 0 {
		return "has a quote that is not closed: close it"
	}
	return ""
}

// variableLength is the length of the $NAME or ${NAME} that text begins with, or 0.
func variableLength(text string) int {
	if rest, braced := strings.CutPrefix(text, "${"); braced {
		name, _, closed := strings.Cut(rest, "}")
		if !closed || !isVariableName(name) {
			return 0
		}
		return len("${}") + len(name)
	}
	n := 1
	for n < len(text) && isVariableName(text[1:n+1]) {
		n++
	}
	if n == 1 {
		return 0
	}
	return n
}

// Get is the value of name as a shell sees it that sources the file: the last one, without the quotes around all of
// it. It is "" if name is not set.
func (c *Config) Get(name string) string {
	value, _ := c.Lookup(name)
	return value
}

// Lookup is Get, and reports whether name is set at all.
func (c *Config) Lookup(name string) (string, bool) {
	for _, v := range slices.Backward(c.vars) {
		if v.Name == name {
			return unquote(v.Value), true
		}
	}
	return "", false
}

// First is the value of name as the generator and its predicates see it: the first one, as written. It is "" if name
// is not set.
func (c *Config) First(name string) string {
	for _, v := range c.vars {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// Set gives name the value, in all places where it stands, or at the end. The caller quotes a value that is more than
// one word for the shell.
func (c *Config) Set(name, value string) {
	found := false
	for i := range c.vars {
		if c.vars[i].Name == name {
			c.vars[i].Value, found = value, true
		}
	}
	if !found {
		c.vars = append(c.vars, Variable{Name: name, Value: value})
	}
}

// Unset removes all lines of name.
func (c *Config) Unset(name string) {
	c.vars = slices.DeleteFunc(c.vars, func(v Variable) bool { return v.Name == name })
}

// define does what define() of seed/script-generator.c does, which never looks at the first variable: a define of that
// one is appended, later ones then change the appended line. In an empty configuration it even writes it twice.
func (c *Config) define(name, value string) {
	if len(c.vars) == 0 {
		c.vars = append(c.vars, Variable{Name: name, Value: value})
	}
	for i := 1; i < len(c.vars); i++ {
		if c.vars[i].Name == name {
			c.vars[i].Value = value
			return
		}
	}
	c.vars = append(c.vars, Variable{Name: name, Value: value})
}

// Variables is a copy of all lines, in order.
func (c *Config) Variables() []Variable { return slices.Clone(c.vars) }

// Clone is an independent copy.
func (c *Config) Clone() *Config { return &Config{vars: slices.Clone(c.vars)} }

// Bytes is the file: a line for each variable, in order.
func (c *Config) Bytes() []byte {
	var out []byte
	for _, v := range c.vars {
		out = append(out, v.Name...)
		out = append(out, '=')
		out = append(out, v.Value...)
		out = append(out, '\n')
	}
	return out
}

// unquote removes the quotes if one pair of them surrounds the whole value.
func unquote(value string) string {
	if len(value) < 2 {
		return value
	}
	q := value[0]
	inner := value[1 : len(value)-1]
	if (q == '"' || q == '\'') && value[len(value)-1] == q && strings.IndexByte(inner, q) < 0 {
		return inner
	}
	return value
}
