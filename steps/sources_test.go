// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

var someSum = strings.Repeat("0123456789abcdef", 4)

func TestParseSources(t *testing.T) {
	text := "f https://a.example/x/one.tar.gz " + someSum + " \n" +
		"f http://a.example/two " + someSum + " two-1.0\n" +
		"g https://a.example/three.git~v3 https://a.example/three-3.tar.gz " + someSum + "\n" +
		"git git://a.example/four~abc _ " + someSum + " four.tar.gz\n" +
		"f _ " + someSum + " five\n"
	want := []steps.Source{
		{Type: "f", URL: "https://a.example/x/one.tar.gz", SHA256: someSum, Name: "one.tar.gz", Line: 1},
		{Type: "f", URL: "http://a.example/two", SHA256: someSum, Name: "two-1.0", Line: 2},
		{
			Type: "g", URL: "https://a.example/three-3.tar.gz", GitURL: "https://a.example/three.git~v3",
			SHA256: someSum, Name: "three-3.tar.gz", Line: 3,
		},
		{Type: "git", URL: "_", GitURL: "git://a.example/four~abc", SHA256: someSum, Name: "four.tar.gz", Line: 4},
		{Type: "f", URL: "_", SHA256: someSum, Name: "five", Line: 5},
	}
	got, err := steps.ParseSources("s", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if none, err := steps.ParseSources("s", strings.NewReader("")); len(none) != 0 || err != nil {
		t.Errorf("empty file: %v, %v", none, err)
	}
}

// Files of trees before October 2025 have no column of types; one file is of one kind.
func TestParseUntypedSources(t *testing.T) {
	text := "https://a.example/x/one.tar.gz " + someSum + " \n" +
		"http://a.example/two " + someSum + " two-1.0\n" +
		"git://a.example/three.git~v3 https://a.example/three-3.tar.gz " + someSum + "\n" +
		"git://a.example/four~abc _ " + someSum + " four.tar.gz\n"
	want := []steps.Source{
		{Type: "f", URL: "https://a.example/x/one.tar.gz", SHA256: someSum, Name: "one.tar.gz", Line: 1},
		{Type: "f", URL: "http://a.example/two", SHA256: someSum, Name: "two-1.0", Line: 2},
		{
			Type: "git", URL: "https://a.example/three-3.tar.gz", GitURL: "git://a.example/three.git~v3",
			SHA256: someSum, Name: "three-3.tar.gz", Line: 3,
		},
		{Type: "git", URL: "_", GitURL: "git://a.example/four~abc", SHA256: someSum, Name: "four.tar.gz", Line: 4},
	}
	got, err := steps.ParseSources("s", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	for line, want := range map[string]string{
		"f https://a.example/x " + someSum + "\n":            "is no sha256",
		"https://a.example/x\n":                              "a line is \"url sha256 [name]\"",
		"git://a.example/x~1 " + someSum + "\n":              "a line is \"git-url snapshot-url-or-_ sha256 [name]\"",
		"https://a.example/x " + someSum + " name another\n": "unexpected \"another\"",
	} {
		_, err := steps.ParseSources("s", strings.NewReader(text+line))
		checkParseError(t, err, "s:5: ", want)
	}
}

// TestParseSourcesErrors has each bad line as the second one.
func TestParseSourcesErrors(t *testing.T) {
	const url = "https://a.example/x"
	tests := []struct {
		name, line, want string
	}{
		{"empty line", "\n", "an empty line"},
		{"comment", "# f\n", "unknown type \"#\""},
		{"unknown type", "x " + url + " " + someSum + "\n", "unknown type \"x\": f (a file), g or git"},
		{"no type", url + " " + someSum + "\n", "unknown type"},
		{"type only", "f\n", "too few words"},
		{"no checksum", "f " + url + "\n", "too few words"},
		{"git without snapshot", "g " + url + " " + someSum + "\n", "too few words"},
		{"too many words", "f " + url + " " + someSum + " a b\n", "unexpected \"b\""},
		{"short checksum", "f " + url + " " + someSum[1:] + "\n", "is no sha256"},
		{"upper case", "f " + url + " " + strings.ToUpper(someSum) + "\n", "is no sha256"},
		{"checksum and name swapped", "f " + url + " name " + someSum + "\n", "is no sha256"},
		{"no URL", "f example.org/x " + someSum + "\n", "is no URL"},
		{"no git URL", "g repo~v1 " + url + " " + someSum + "\n", "is no URL"},
		{"folder URL", "f https://a.example/x/ " + someSum + "\n", "has no last part"},
		{"nothing to name it by", "g https://a.example/x~1 _ " + someSum + "\n", "a file name is needed"},
		{"query", "f https://a.example/get?id=1 " + someSum + "\n", "not safe in a file name"},
		{"slash", "f " + url + " " + someSum + " a/b\n", "not safe in a file name"},
		{"parent", "f " + url + " " + someSum + " ..\n", "names no file"},
		{"self", "f " + url + " " + someSum + " .\n", "names no file"},
		{"dash", "f " + url + " " + someSum + " -a\n", "begins with"},
		{"long name", "f " + url + " " + someSum + " " + strings.Repeat("n", 256) + "\n", "too long"},
		{"control character", "f " + url + " " + someSum + " a\x01\n", "control character"},
		{"carriage return", "f " + url + " " + someSum + "\r\n", "carriage return"},
		{"tab", "f\t" + url + " " + someSum + "\n", "a tab, two spaces"},
		{"two spaces", "f  " + url + " " + someSum + "\n", "a tab, two spaces"},
		{"leading space", " f " + url + " " + someSum + "\n", "a tab, two spaces"},
		{"no newline", "f " + url + " " + someSum, "does not end in a newline"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := "f https://a.example/first " + someSum + "\n" + test.line
			_, err := steps.ParseSources("steps/p/sources", strings.NewReader(text))
			checkParseError(t, err, "steps/p/sources:2: ", test.want)
		})
	}
}
