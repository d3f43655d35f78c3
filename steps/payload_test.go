// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/steps"
)

func TestWithPayloadImport(t *testing.T) {
	const (
		early = "improve: import_payload ( PAYLOAD_REQUIRED == True )\n"
		late  = "improve: import_payload_rest ( PAYLOAD_REQUIRED == True )\n"
	)
	tests := []struct {
		name, in, want string
	}{
		{
			"whole", "# c\nbuild: a\njump: fiwix ( X == Y ) # d\n\nbuild: b\njump: linux\njump: move_disk\nbuild: c",
			"# c\nbuild: a\njump: fiwix ( X == Y ) # d\n" + early + "\nbuild: b\njump: linux\njump: move_disk\n" + late + "build: c",
		},
		{"without newline", "jump: fiwix\njump: move_disk", "jump: fiwix\n" + early + "jump: move_disk\n" + late},
		{"no move_disk", "jump: fiwix\njump: linux\n", "jump: fiwix\n" + early + "jump: linux\n" + late},
		{"no fiwix", "jump: linux\njump: move_disk\n", "jump: linux\njump: move_disk\n" + late},
		{"fiwix only", "jump: fiwix\n", "jump: fiwix\n" + early},
		{
			"two fiwix", "jump: fiwix ( A == 1 )\njump: fiwix ( A == 2 )\n",
			"jump: fiwix ( A == 1 )\n" + early + "jump: fiwix ( A == 2 )\n" + early,
		},
		{"has the late one", "jump: linux\n" + late, "jump: linux\n" + late},
		{"has both", "jump: fiwix\n" + early + "build: x\n" + late, "jump: fiwix\n" + early + "build: x\n" + late},
		{"has the early one elsewhere", early + "jump: fiwix\njump: linux\n", early + "jump: fiwix\njump: linux\n" + late},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := steps.WithPayloadImport("m", []byte(test.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("manifest (-want +got):\n%s", diff)
			}
			again, err := steps.WithPayloadImport("m", got)
			if diff := cmp.Diff(string(got), string(again)); diff != "" || err != nil {
				t.Errorf("a second time (-want +got), %v:\n%s", err, diff)
			}
			compareParsed(t, test.in, string(got))
		})
	}
}

// compareParsed checks that the method of Manifest gives the same directives, apart from the lines.
func compareParsed(t *testing.T, in, out string) {
	t.Helper()
	parse := func(text string) steps.Manifest {
		m, err := steps.ParseManifest("m", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	got, err := parse(in).WithPayloadImport()
	if err != nil {
		t.Fatal(err)
	}
	want := parse(out)
	for _, m := range []*steps.Manifest{&got, &want} {
		for i := range m.Directives {
			m.Directives[i].Line = 0
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parsed manifest (-want +got):\n%s", diff)
	}
}

func TestWithPayloadImportErrors(t *testing.T) {
	_, err := steps.WithPayloadImport("m", []byte("build: a\nbuild b\n"))
	checkParseError(t, err, "m:2: ", "unknown directive")
	_, err = steps.WithPayloadImport("m", []byte("build: a\njump: break\n"))
	checkParseError(t, err, "m: ", "a payload has no place to be imported")
}
