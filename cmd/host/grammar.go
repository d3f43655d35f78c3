// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

// What kong says, where a user would wonder.
var (
	noVerbRE  = regexp.MustCompile(`^expected one of "`)
	noArgRE   = regexp.MustCompile(`^expected ("<.*)$`)
	noFlagRE  = regexp.MustCompile(`^missing flags: (.*)$`)
	noValueRE = regexp.MustCompile(`^(--?[^:]+): expected .* value but got "EOL" \(<EOL>\)$`)
	enumRE    = regexp.MustCompile(`^(\S+) must be one of (.*) but got (".*")$`)
)

// grammarLine is a mistake in the command line in one line: what is wrong, and where to read on.
func grammarLine(err error) string {
	text, verb := err.Error(), ""
	var node *kong.Node
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil {
		node = parse.Context.Model.Node
		for _, p := range parse.Context.Path {
			if p.Command != nil {
				node, verb = p.Command, verbPath(p.Command)
			}
		}
	}
	switch {
	case noVerbRE.MatchString(text) && node != nil:
		var names []string
		for _, child := range node.Children {
			if !child.Hidden {
				names = append(names, child.Name)
			}
		}
		text = "no verb: give one of " + strings.Join(names, ", ")
	case noArgRE.MatchString(text):
		text = "needs " + strings.NewReplacer(`"`, "", "<", "", ">", "").Replace(strings.ToUpper(noArgRE.FindStringSubmatch(text)[1]))
	case noFlagRE.MatchString(text):
		text = "needs " + noFlagRE.FindStringSubmatch(text)[1]
	case noValueRE.MatchString(text):
		text = noValueRE.FindStringSubmatch(text)[1] + " needs a value"
	case enumRE.MatchString(text):
		m := enumRE.FindStringSubmatch(text)
		choice := strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(m[2], `"",`), `"`, ""), ",", ", ")
		text = fmt.Sprintf("%s: %s is none of %s", m[1], m[3], choice)
	}
	if verb != "" && !strings.HasPrefix(text, verb) {
		text = verb + ": " + text
	}
	return fmt.Sprintf("%s; see '%s --help'", text, strings.TrimSpace("kindling "+verb))
}
