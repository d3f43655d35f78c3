// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

func TestConfig(t *testing.T) {
	const text = "A=1\nDISK=sda\nMIRRORS=\"http://a http://b\"\nEMPTY=\nQ='x y'\nE=a=b\nDISK=sda1\nP=\"a\"b\"c\"\n"
	c := parseConfig(t, text)
	if diff := cmp.Diff(text, string(c.Bytes())); diff != "" {
		t.Errorf("bytes (-want +got):\n%s", diff)
	}
	tests := []struct {
		name, get, first string
		set              bool
	}{
		{"A", "1", "1", true},
		{"DISK", "sda1", "sda", true}, // the last one for a shell, the first one for the generator
		{"MIRRORS", "http://a http://b", `"http://a http://b"`, true},
		{"EMPTY", "", "", true},
		{"Q", "x y", "'x y'", true},
		{"E", "a=b", "a=b", true},
		{"P", `"a"b"c"`, `"a"b"c"`, true},
		{"UNSET", "", "", false},
	}
	for _, test := range tests {
		got, set := c.Lookup(test.name)
		if got != test.get || set != test.set || c.Get(test.name) != test.get {
			t.Errorf("%s is %q (%t), want %q (%t)", test.name, got, set, test.get, test.set)
		}
		if got := c.First(test.name); got != test.first {
			t.Errorf("first %s is %q, want %q", test.name, got, test.first)
		}
	}
}

func TestConfigSet(t *testing.T) {
	c := parseConfig(t, "A=1\nB=2\nA=3\n")
	other := c.Clone()
	c.Set("A", "x")
	c.Set("C", "y")
	if diff := cmp.Diff("A=x\nB=2\nA=x\nC=y\n", string(c.Bytes())); diff != "" {
		t.Errorf("after Set (-want +got):\n%s", diff)
	}
	c.Variables()[0].Value = "changed"
	if c.First("A") != "x" {
		t.Error("Variables is no copy")
	}
	if diff := cmp.Diff("A=1\nB=2\nA=3\n", string(other.Bytes())); diff != "" {
		t.Errorf("the clone changed (-want +got):\n%s", diff)
	}
}

func TestParseConfigLongestLine(t *testing.T) {
	for length, ok := range map[int]bool{2046: true, 2047: false} {
		_, err := steps.ParseConfig("c", strings.NewReader("A="+strings.Repeat("x", length-2)+"\n"))
		if (err == nil) != ok {
			t.Errorf("a line of %d bytes: error %v", length, err)
		}
	}
}

// TestParseConfigErrors has each bad text behind one good line.
func TestParseConfigErrors(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"no equals", "B\n", "no \"=\""},
		{"empty line", "\nB=1\n", "no \"=\""},
		{"comment", "# B=1\n", "no name of a variable"},
		{"no name", "=1\n", "no name of a variable"},
		{"space in name", "B =1\n", "no name of a variable"},
		{"digit first", "1B=1\n", "no name of a variable"},
		{"no newline", "B=12", "does not end in a newline"},
		{"too long", "B=" + strings.Repeat("x", 2045) + "\n", "longer than 2046 bytes"},
		{"carriage return", "B=1\r\n", "carriage return"},
		{"zero byte", "B=\x00\n", "control character"},
		{"not UTF-8", "B=\xff\n", "not UTF-8"},
		{"space", "B=1 2\n", "has an unquoted \" \""},
		{"tab", "B=1\t2\n", "has an unquoted"},
		{"semicolon", "B=1;reboot\n", "has an unquoted \";\""},
		{"command", "B=$(reboot)\n", "runs a command"},
		{"command in quotes", "B=\"$(reboot)\"\n", "runs a command"},
		{"old command", "B=\"`reboot`\"\n", "runs a command"},
		{"backslash", "B=\\\n", "has a backslash"},
		{"open quote", "B=\"1\n", "quote that is not closed"},
		{"open single quote", "B='1\n", "quote that is not closed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := steps.ParseConfig("dir/bootstrap.cfg", strings.NewReader("A=1\n"+test.text))
			checkParseError(t, err, "dir/bootstrap.cfg:2: ", test.want)
		})
	}
}

// TestDefine holds what define() of seed/script-generator.c does with the configuration, its oddities included.
func TestDefine(t *testing.T) {
	tests := []struct {
		name, config, manifest, want string
	}{
		{"new", "A=1\n", "define: B = 2\n", "A=1\nB=2\n"},
		{"again", "A=1\nB=1\n", "define: B = 2\n", "A=1\nB=2\n"},
		{"the first is never found", "A=1\n", "define: A = 2\n", "A=1\nA=2\n"},
		{"what it appended is found", "A=1\n", "define: A = 2\ndefine: A = 3\n", "A=1\nA=3\n"},
		{"conditions see the first", "A=1\n", "define: A = 2\ndefine: B = yes ( A == 1 )\n", "A=1\nA=2\nB=yes\n"},
		{"empty configuration", "", "define: A = 1\n", "A=1\nA=1\n"},
		{"empty configuration, again", "", "define: A = 1\ndefine: A = 2\n", "A=1\nA=2\n"},
		{"condition", "A=1\n", "define: B = 2 ( A == 2 )\n", "A=1\n"},
		{"logic", "A=1\n", "define: B = ( A == 1 )\ndefine: C = ( A != 1 )\n", "A=1\nB=True\nC=False\n"},
		{"logic with condition", "A=1\n", "define: B = ( A == 1 ) ( A == 2 )\n", "A=1\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan := newPlan(t, treeOf(test.manifest), steps.MainRoot, test.config)
			if diff := cmp.Diff(test.want, string(plan.Config.Bytes())); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}
