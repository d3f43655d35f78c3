// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

func TestParseManifest(t *testing.T) {
	const text = "# comment\n" +
		"\n" +
		"build: a-1 ( A == B && C != D || True ) # ü\n" +
		"improve: deep/b#comment\n" +
		"jump: linux \n" +
		"uninstall: x /usr/bin/y ( A == B )\n" +
		"define: N = v ( A == B )\n" +
		"define: N = ( word )"
	aIsB := steps.Logic{Terms: []steps.Term{{Name: "A", Op: "==", Value: "B"}}}
	want := steps.Manifest{
		Name: "m",
		Directives: []steps.Directive{
			{Kind: steps.KindBuild, Name: "a-1", Line: 3, Predicate: &steps.Logic{Terms: []steps.Term{
				{Name: "A", Op: "==", Value: "B", Join: "&&"},
				{Name: "C", Op: "!=", Value: "D", Join: "||"},
				{Name: "True"},
			}}},
			{Kind: steps.KindImprove, Name: "deep/b", Line: 4},
			{Kind: steps.KindJump, Name: "linux", Line: 5},
			{Kind: steps.KindUninstall, Name: "x", Args: []string{"x", "/usr/bin/y"}, Line: 6, Predicate: &aIsB},
			{Kind: steps.KindDefine, Name: "N", Constant: "v", Line: 7, Predicate: &aIsB},
			{Kind: steps.KindDefine, Name: "N", Line: 8, Logic: &steps.Logic{Terms: []steps.Term{{Name: "word"}}}},
		},
	}
	got, err := steps.ParseManifest("m", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	const lines = "build: a-1 ( A == B && C != D || True )\nimprove: deep/b\njump: linux\n" +
		"uninstall: x /usr/bin/y ( A == B )\ndefine: N = v ( A == B )\ndefine: N = ( word )\n"
	if diff := cmp.Diff(lines, string(got.Bytes())); diff != "" {
		t.Errorf("as bytes (-want +got):\n%s", diff)
	}
}

func TestParseManifestWarnings(t *testing.T) {
	const text = "build: a ( True )\nbuild: b ( BUILD_B )\nbuild: c ( A == B && BUILD_C )\n"
	m, err := steps.ParseManifest("m", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`m:2: "BUILD_B" in the condition is a constant, not the variable: write BUILD_B == True if that is meant`,
		`m:3: "BUILD_C" in the condition is a constant, not the variable: write BUILD_C == True if that is meant`,
	}
	if diff := cmp.Diff(want, m.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestParseManifestErrors has each bad line as the third one.
func TestParseManifestErrors(t *testing.T) {
	tests := []struct {
		line, want string
	}{
		{"build:", "a name is missing"},
		{"build: ", "a name is missing"},
		{"build: # a", "a name is missing"},
		{"build: ( A == B )", "a name is missing"},
		{"build: a b", `unexpected "b": a condition begins with "("`},
		{"build: a (A == B )", `unexpected "(A"`},
		{"build: a ( A == B ) c", `unexpected "c" after the closing bracket`},
		{"build: a ( A == B ) ( C == D )", `unexpected "(" after the closing bracket`},
		{"build: a/b", `"a/b" is no name`},
		{"build: ..", `".." is no name`},
		{"build: -rf", `"-rf" is no name`},
		{"build: $(reboot)", `is no name`},
		{"improve: a/../b", `is no name`},
		{"improve: /a", `is no name`},
		{"improve: a/", `is no name`},
		{"jump:", "a name is missing"},
		{"build a", `unknown directive "build"`},
		{"build:a", `unknown directive "build:a"`},
		{"rebuild: a", `unknown directive "rebuild:"`},
		{"( A == B )", `unknown directive "("`},
		{" build: a", "a space at the beginning"},
		{" ", "a space at the beginning"},
		{"build:  a", "two spaces in column 7"},
		{"build: a  # comment", "two spaces in column 9"},
		{"build: a  ", "two spaces in column 9"},
		{"build:\ta", "a tab in column 7"},
		{"build: a\r", "a carriage return"},
		{"# a\x00b", "a control character (0x00 in column 4)"},
		{"# \xff", "bytes that are not UTF-8"},
		{"build: ä", "not ASCII in column 8"},
		{"build: " + strings.Repeat("a", 64), "has 64 bytes: a word may have 63"},
		{"build: a ( )", "a name is missing in the condition"},
		{"build: a (", "a name is missing in the condition"},
		{"build: a ( A", "expected == or != after"},
		{"build: a ( A = B )", `expected == or != after "A", found "="`},
		{"build: a ( A ==", "a value is missing"},
		{"build: a ( A == )", "a value is missing"},
		{"build: a ( A == ) )", "a value is missing"},
		{"build: a ( A == B", "the closing bracket is missing"},
		{"build: a ( A == B C )", `expected || or && or ) after "B", found "C"`},
		{"build: a ( A == B && )", "a name is missing in the condition"},
		{"build: a ( ( A == B ) )", "without inner brackets"},
		{"build: a ( 1 == 1 )", "no name of a variable"},
		{"build: a ( == == B )", "a name is missing in the condition"},
		{"uninstall:", "a name is missing after uninstall:"},
		{"uninstall: ( A == B )", "a name is missing after uninstall:"},
		{"uninstall: a ( A == B ) c", `unexpected "c"`},
		{"uninstall: a ;reboot", `has a ';'`},
		{"define:", "no name of a variable"},
		{"define: A", `has no "="`},
		{"define: A= B", "no name of a variable"},
		{"define: A == B", `has no "="`},
		{"define: A =", `has no value after "="`},
		{"define: A = ( B == C", "the closing bracket is missing"},
		{"define: A = b c", `unexpected "c"`},
		{"define: A = b;c", `define of A: the value has an unquoted ";"`},
		{"define: A = ( b;c )", `define of A: the value has an unquoted ";"`},
		{"define: 1A = b", "no name of a variable"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			_, err := steps.ParseManifest("dir/manifest", strings.NewReader("# one\nbuild: two\n"+test.line+"\nbuild: x\n"))
			checkParseError(t, err, "dir/manifest:3: ", test.want)
		})
	}
}

// checkParseError wants a one-line ParseError that begins with prefix and contains part.
func checkParseError(t *testing.T, err error, prefix, part string) {
	t.Helper()
	var parse *steps.ParseError
	if !errors.As(err, &parse) {
		t.Fatalf("error %v, want a ParseError", err)
	}
	if text := err.Error(); !strings.HasPrefix(text, prefix) || !strings.Contains(text, part) || strings.Contains(text, "\n") {
		t.Errorf("error %q, want one line that begins with %q and contains %q", text, prefix, part)
	}
}

func TestParseManifestTooLarge(t *testing.T) {
	_, err := steps.ParseManifest("m", strings.NewReader(strings.Repeat("#\n", steps.MaxFile/2+1)))
	checkParseError(t, err, "m: ", "larger than")
}

func TestLogicEval(t *testing.T) {
	variables := map[string]string{"T": "True", "F": "False", "ONE": "1"}
	get := func(name string) string { return variables[name] }
	tests := []struct {
		logic, want string
	}{
		{"( T == True )", "True"},
		{"( T != True )", "False"},
		{"( UNSET == True )", "False"},
		{"( UNSET != True )", "True"},
		{"( ONE == 1 )", "True"},
		{"( True )", "True"},
		{"( T )", "T"}, // a constant: the variable is not looked up
		{"( T == True || F == True )", "True"},
		{"( F == True || T == True )", "True"},
		{"( F == True || F == True )", "False"},
		{"( T == True && F == True )", "False"},
		{"( T == True && T == True )", "True"},
		{"( T == True && True )", "True"},
		{"( T == True && ONE )", "False"},
		// From the right: a || (b && c), a && (b || c).
		{"( T == True || T == True && F == True )", "True"},
		{"( F == True && F == True || T == True )", "False"},
		{"( F == True && T == True || T == True )", "False"},
		{"( T == True && F == True || T == True )", "True"},
	}
	for _, test := range tests {
		t.Run(test.logic, func(t *testing.T) {
			logic, err := steps.ParseLogic(test.logic)
			if err != nil {
				t.Fatal(err)
			}
			if got := logic.Eval(get); got != test.want {
				t.Errorf("value %q, want %q", got, test.want)
			}
			if got := logic.Holds(get); got != (test.want == "True") {
				t.Errorf("holds: %t", got)
			}
			if got := logic.String(); got != test.logic {
				t.Errorf("string %q", got)
			}
		})
	}
}

func TestParseLogicErrors(t *testing.T) {
	for _, text := range []string{"", "A", "( A == B ) C", "( A", "# ( A == B )", "( A == B )  "} {
		_, err := steps.ParseLogic(text)
		checkParseError(t, err, "condition: ", "")
	}
}
