// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import "strings"

// The two results of a comparison, as the tree writes them in bootstrap.cfg.
const (
	valueTrue  = "True"
	valueFalse = "False"
)

// Logic is a condition, or the right side of a define. Its grammar is that of seed/script-generator.c, where brackets
// never nest and every word stands between single spaces:
//
//	predicate = "(" logic ")"
//	logic     = name                          (a constant, never looked up)
//	          | name ("==" | "!=") value [("||" | "&&") logic]
//
// A chain is evaluated from the right: a && b || c means a && (b || c).
type Logic struct {
	Terms []Term // at least one
}

// Term is one comparison of a Logic, or, as the last one, a constant.
type Term struct {
	Name  string // the variable; without Op the constant itself
	Op    string // "==", "!=", or "" for a constant
	Value string // what the variable is compared with
	Join  string // "||" or "&&" towards the next Term; "" for the last
}

// Eval gives the value of the logic: "True" or "False", or the constant if it is nothing else. get is asked for the
// value of a variable and answers "" for one that is not set.
func (l Logic) Eval(get func(name string) string) string {
	result := ""
	for i := len(l.Terms) - 1; i >= 0; i-- {
		value := l.Terms[i].eval(get)
		switch l.Terms[i].Join {
		case "||":
			value = truth(value == valueTrue || result == valueTrue)
		case "&&":
			value = truth(value == valueTrue && result == valueTrue)
		}
		result = value
	}
	return result
}

// Holds reports whether the logic is "True".
func (l Logic) Holds(get func(name string) string) bool { return l.Eval(get) == valueTrue }

// String is the predicate as it stands in a manifest, with its brackets.
func (l Logic) String() string {
	words := []string{"("}
	for _, t := range l.Terms {
		words = append(words, t.Name)
		if t.Op != "" {
			words = append(words, t.Op, t.Value)
		}
		if t.Join != "" {
			words = append(words, t.Join)
		}
	}
	return strings.Join(append(words, ")"), " ")
}

func (t Term) eval(get func(name string) string) string {
	switch t.Op {
	case "==":
		return truth(get(t.Name) == t.Value)
	case "!=":
		return truth(get(t.Name) != t.Value)
	default:
		return t.Name
	}
}

func truth(b bool) string {
	if b {
		return valueTrue
	}
	return valueFalse
}

// ParseLogic parses a condition with its brackets. Its errors have no file name and no line; ParseManifest adds both.
func ParseLogic(text string) (Logic, error) {
	tokens, msg := tokenize(text)
	if msg == "" && len(tokens) == 0 {
		msg = "empty condition: write ( NAME == value )"
	}
	if msg != "" {
		return Logic{}, &ParseError{File: "condition", Msg: msg}
	}
	logic, rest, msg := parseLogic(tokens)
	if msg == "" && len(rest) > 0 {
		msg = "unexpected " + quote(rest[0]) + " after the closing bracket: remove it"
	}
	if msg != "" {
		return Logic{}, &ParseError{File: "condition", Msg: msg}
	}
	return logic, nil
}

// parseLogic takes a bracketed logic off the front of tokens; msg says what is wrong with it, or is "".
func parseLogic(tokens []string) (logic Logic, rest []string, msg string) {
	if len(tokens) == 0 || tokens[0] != "(" {
		return Logic{}, nil, "unexpected " + quote(first(tokens)) +
			": a condition begins with \"(\" and has spaces around each word, as in ( NAME == value )"
	}
	rest = tokens[1:]
	for {
		var term Term
		term, rest, msg = parseTerm(rest)
		if msg != "" {
			return Logic{}, nil, msg
		}
		logic.Terms = append(logic.Terms, term)
		if term.Join == "" {
			return logic, rest, ""
		}
	}
}

// parseTerm takes one term and the word after it ("||", "&&" or the closing bracket) off the front of tokens.
func parseTerm(tokens []string) (term Term, rest []string, msg string) {
	if len(tokens) == 0 || isOperator(tokens[0]) {
		return Term{}, nil, "a name is missing in the condition before " + quote(first(tokens)) +
			": write ( NAME == value ), without inner brackets"
	}
	term.Name = tokens[0]
	tokens = tokens[1:]
	switch first(tokens) {
	case ")":
		return term, tokens[1:], ""
	case "==", "!=":
	default:
		return Term{}, nil, "expected == or != after " + quote(term.Name) + ", found " + quote(first(tokens)) +
			": write ( NAME == value )"
	}
	if !isVariableName(term.Name) {
		return Term{}, nil, quote(term.Name) + " is no name of a variable: the variable stands to the left of " +
			tokens[0]
	}
	if len(tokens) < 2 || isOperator(tokens[1]) {
		return Term{}, nil, "a value is missing after " + quote(term.Name+" "+tokens[0]) + ": write ( NAME == value )"
	}
	term.Op, term.Value = tokens[0], tokens[1]
	tokens = tokens[2:]
	switch first(tokens) {
	case ")":
		return term, tokens[1:], ""
	case "||", "&&":
		term.Join = tokens[0]
		return term, tokens[1:], ""
	case "":
		return Term{}, nil, "the closing bracket is missing: end the condition with \" )\""
	default:
		return Term{}, nil, "expected || or && or ) after " + quote(term.Value) + ", found " + quote(tokens[0])
	}
}

func isOperator(token string) bool {
	switch token {
	case "(", ")", "==", "!=", "||", "&&":
		return true
	}
	return false
}

// first is the first token, or "" for the end of the line.
func first(tokens []string) string {
	if len(tokens) == 0 {
		return ""
	}
	return tokens[0]
}

// isVariableName reports whether a shell can have a variable of that name.
func isVariableName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		case i > 0 && '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return s != ""
}
