// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"os"
	"os/exec"
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
		{"transformation", "B=${X@P}\n", "neither $NAME nor ${NAME}"},
		{"transformation in quotes", "B=\"${X@P}\"\n", "neither $NAME nor ${NAME}"},
		{"old arithmetic", "B=$[A]\n", "neither $NAME nor ${NAME}"},
		{"old arithmetic with a command", "B=\"$[a[$(reboot)]]\"\n", "neither $NAME nor ${NAME}"},
		{"arithmetic", "B=$((1))\n", "runs a command"},
		{"subscript", "B=${X[$(reboot)]}\n", "neither $NAME nor ${NAME}"},
		{"default", "B=${X:-$(reboot)}\n", "neither $NAME nor ${NAME}"},
		{"assignment", "B=${X:=y}\n", "neither $NAME nor ${NAME}"},
		{"indirection", "B=${!X}\n", "neither $NAME nor ${NAME}"},
		{"length", "B=${#X}\n", "neither $NAME nor ${NAME}"},
		{"command of bash 5.3", "B=\"${ reboot; }\"\n", "neither $NAME nor ${NAME}"},
		{"open brace", "B=\"${X\"\n", "neither $NAME nor ${NAME}"},
		{"empty name", "B=${}\n", "neither $NAME nor ${NAME}"},
		{"ANSI quotes", "B=$'x'\n", "neither $NAME nor ${NAME}"},
		{"translation", "B=$\"x\"\n", "neither $NAME nor ${NAME}"},
		{"parameter", "B=$1\n", "neither $NAME nor ${NAME}"},
		{"process number", "B=\"$$\"\n", "neither $NAME nor ${NAME}"},
		{"lone dollar", "B=5$\n", "neither $NAME nor ${NAME}"},
		{"command for a second evaluation", "B='a[$(reboot)]'\n", "runs a command"},
		{"old command for a second evaluation", "B='`reboot`'\n", "runs a command"},
		{"transformation for a second evaluation", "B='${X@P}'\n", "neither $NAME nor ${NAME}"},
		{"home", "B=~root\n", "has an unquoted \"~\""},
		{"home in the middle", "B=/x:~\n", "has an unquoted \"~\""},
		{"any name", "B=/*\n", "has an unquoted \"*\""},
		{"any letter", "B=/?\n", "has an unquoted \"?\""},
		{"one of some letters", "B=[ab]\n", "has an unquoted \"[\""},
		{"braces", "B={a,b}\n", "has an unquoted \"{\""},
		{"array", "B=(a)\n", "has an unquoted \"(\""},
		{"process", "B=<(reboot)\n", "has an unquoted \"<\""},
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

// A literal and a variable are what a value may have.
func TestParseConfigAccepts(t *testing.T) {
	for _, value := range []string{
		"", "sda1", "$A", "${A}", "\"$A/${B_1}x\"", "$A$B", "\"http://m/~user?a=b*[c]{d,e}\"", "'~ * ? [a] {b}'", "'$A'", "a=b#c", "_",
	} {
		c := parseConfig(t, "A=1\nB="+value+"\n")
		if c.First("B") != value {
			t.Errorf("%q is read as %q", value, c.First("B"))
		}
	}
}

// What is accepted runs nothing and expands to nothing but variables in a real shell, not even when it is evaluated again.
func FuzzConfigValue(f *testing.F) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		f.Skip("no bash")
	}
	for _, value := range []string{"x", "$A", "\"${A} b\"", "'a'b", "${A@P}", "$[A]", "'a[$(echo x)]'"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		c, err := steps.ParseConfig("c", strings.NewReader("B="+value+"\n"))
		if err != nil {
			return
		}
		plain := strings.NewReplacer("\"", "", "'", "").Replace(c.First("B"))
		want := os.Expand(plain, func(string) string { return "" })
		if strings.Contains(value, "'") && strings.ContainsAny(value, "$\"") {
			return // what is a variable, and which quotes are literals, depends on the others
		}
		cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", "B="+value+"\nprintf %s \"$B\"")
		cmd.Env, cmd.Dir = []string{"PATH=/nonexistent", "LC_ALL=C"}, t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%q is %q in bash, %v, want %q", value, out, err, want)
		}
	})
}
