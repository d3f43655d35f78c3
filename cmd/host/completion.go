// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

//go:embed completion
var completionScripts embed.FS

// completionCmd is "kindling completion": the script with which a shell completes Kindling's command line.
type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Help implements kong.HelpProvider.
func (completionCmd) Help() string {
	return examples(
		"source <(kindling completion bash)", "switch completion on in this bash; in ~/.bashrc, in all of them",
		"kindling completion zsh > ~/.zfunc/_kindling", "the same for zsh, if ~/.zfunc is in $fpath",
		"kindling completion fish > ~/.config/fish/completions/kindling.fish", "and for fish",
	)
}

// Run writes the script.
func (c *completionCmd) Run(out io.Writer) error {
	script, err := completionScripts.ReadFile("completion/kindling." + c.Shell)
	if err != nil {
		return err
	}
	_, err = rawWriter(out).Write(script)
	return err
}

// completeVerb is what the scripts call: the shell's name, then the words behind "kindling" up to the one that is to be
// completed, which may be empty.
const completeVerb = "__complete"

// candidate is one way to go on.
type candidate struct{ word, help string }

// complete writes the candidates for a shell, one a line; none means that a file name is wanted, or anything.
func complete(model *kong.Node, args []string, out io.Writer) error {
	if len(args) == 0 {
		return usageError("%s: name a shell", completeVerb)
	}
	for _, c := range candidates(model, args[1:]) {
		line := c.word
		switch args[0] {
		case "zsh":
			line = strings.ReplaceAll(c.word, ":", `\:`) + ":" + c.help
		case "fish":
			line += "\t" + c.help
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// candidates are the words that the last of words can become, in order.
func candidates(model *kong.Node, words []string) []candidate {
	words = splitValues(words)
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	node, flag, position := walk(model, before)
	var found []candidate
	switch {
	case flag != nil:
		found = values(flag.Value)
	case strings.HasPrefix(last, "-"):
		found = flagsOf(node)
	case position < len(node.Positional):
		found = values(node.Positional[position])
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, candidate{child.Name, child.Help})
			}
		}
	}
	found = slices.DeleteFunc(found, func(c candidate) bool { return !strings.HasPrefix(c.word, last) })
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.word, b.word) })
	return found
}

// walk goes along the words and says where they lead: the verb, the flag that waits for its value (or nil), and how many
// positional arguments there are already.
func walk(node *kong.Node, words []string) (at *kong.Node, flag *kong.Flag, position int) {
	for _, word := range words {
		if flag != nil {
			flag = nil
			continue
		}
		if strings.HasPrefix(word, "-") {
			flag = flagNamed(node, word)
			continue
		}
		if i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word }); i >= 0 {
			node = node.Children[i]
			continue
		}
		position++
	}
	return node, flag, position
}

// flagNamed is the flag that a word names, if it takes a value.
func flagNamed(node *kong.Node, word string) *kong.Flag {
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if !f.IsBool() && (word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short)) {
				return f
			}
		}
	}
	return nil
}

func flagsOf(node *kong.Node) []candidate {
	var found []candidate
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			found = append(found, candidate{"--" + f.Name, f.Help})
		}
	}
	return found
}

// values are what a flag or an argument can be, if that is a closed list.
func values(v *kong.Value) []candidate {
	var found []candidate
	for _, word := range v.EnumSlice() {
		if word != "" {
			found = append(found, candidate{word, v.Help})
		}
	}
	return found
}

// splitValues makes "--name=value" two words, whether or not the shell has split it at "=" itself, as bash does.
func splitValues(words []string) []string {
	var out []string
	for i, word := range words {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case word == "=" && i == len(words)-1:
			out = append(out, "")
		case word == "=":
		case ok && strings.HasPrefix(word, "--"):
			out = append(out, name, value)
		default:
			out = append(out, word)
		}
	}
	return out
}
