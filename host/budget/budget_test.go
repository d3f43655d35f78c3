// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rowOf is the row with that ID.
func rowOf(t *testing.T, r *Report, id string) Row {
	t.Helper()
	for _, row := range r.Rows {
		if row.ID == id {
			return row
		}
	}
	t.Fatalf("no row %q", id)
	return Row{}
}

// usual is an input like that of the real tree with a payload.
func usual() Input {
	line := `fiwix console=/dev/ttyS0 root=/dev/ram0 initrd=fiwix.ext2 kexec_proto=linux kexec_size=199680 ` +
		`kexec_cmdline="init=/init console=ttyS0 panic=10"`
	early := []Item{{Path: "kindling-init", Size: 4_900_000}, {Path: "make-3.82.tar.gz", Size: 1_000_000}}
	return Input{
		Limits: assumed(),
		First: Measure([]Item{
			{Path: "/steps"}, {Path: "/steps/manifest", Size: 6000}, {Path: "/external/distfiles/mes.tar.gz", Size: 800_000},
		}),
		CommandLines: []CommandLine{{Text: line, Source: "steps/jump/fiwix.sh:20"}},
		Payload:      &Payload{Files: early, End: EarlyEnd([]string{"kindling-init", "make-3.82.tar.gz", "gcc"}, early)},
		Added:        []Item{{Path: "/kindling/init", Size: 4_000_000}},
		Removed:      []Item{{Path: "/external/distfiles/musl.tar.gz", Size: 1_000_000}},
		HexBuilds:    []string{"mes-0.27.1", "tcc-0.9.27", "tcc-0.9.27"},
		FiwixBuilds:  []string{"make-3.82", "linux-4.14.341-openela"},
		Machine:      QEMU("pc", 4<<30),
	}
}

func TestCompute(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Input)
		id      string
		verdict Verdict
		err     string // a part of Err, empty: no error
	}{
		{"files fit", func(*Input) {}, "builder-hex0.files", OK, ""},
		{"as many files as possible by estimate", func(in *Input) { in.First.Files = 14_332 - 3_758 }, "builder-hex0.files", Tight, ""},
		{"too many files by estimate", func(in *Input) { in.First.Files = 14_332 - 3_000 }, "builder-hex0.files", ProbablyOver, ""},
		{"too many files", func(in *Input) { in.First.Files = 14_333 }, "builder-hex0.files", Over,
			"builder-hex0: files: at least 14,333 of 14,332 files used, 1 too many (limit: builder-hex0 a2781242 README.md)"},
		{"bytes fit exactly", func(in *Input) { in.First.Bytes = 1_811_939_328 - 1_381_376*kib }, "builder-hex0.bytes", ProbablyOver,
			"file area"},
		{"a byte too many", func(in *Input) { in.First.Bytes = 1_811_939_329 - 1_381_376*kib }, "builder-hex0.bytes", Over,
			"all files, Fiwix image included: at least 1,811,939,329 of 1,811,939,328 bytes used, 1 too many"},
		{"area shared with the ramdisk", func(in *Input) { in.First.Bytes = 0x6800_0001 - 1_381_376*kib }, "builder-hex0.area", Over,
			"1,744,830,465 of 1,744,830,464 bytes used, 1 too many"},
		{"path of 1,023 bytes", func(in *Input) { in.First.LongestPath = "/" + strings.Repeat("n", 1022) }, "builder-hex0.name", OK, ""},
		{"path of 1,024 bytes", func(in *Input) { in.First.LongestPath = "/" + strings.Repeat("n", 1023) }, "builder-hex0.name", Over,
			"longest path"},
		{"process", func(in *Input) { in.First.Bytes = 670_793_729 }, "builder-hex0.process", Over, "memory of one process"},
		{"little memory", func(in *Input) { in.Machine = QEMU("pc", 2<<30) }, "builder-hex0.memory", Over, "QEMU machine pc with 2048 MiB"},
		{"q35 with 4 GiB", func(in *Input) { in.Machine = QEMU("q35", 4<<30) }, "builder-hex0.memory", Over, "machine q35"},
		{"memory not known", func(in *Input) { in.Machine = Machine{} }, "builder-hex0.memory", OK, ""},
		{"import fits", func(*Input) {}, "fiwix.import", OK, ""},
		{"import too large", func(in *Input) { in.Payload.Files[0].Size = 1_414_529_025 }, "fiwix.import", Over, "ramdisk after the import"},
		{"ramdisk at its fullest", func(*Input) {}, "fiwix.ramdisk", Tight, ""},
		{"everything imported under Fiwix", func(in *Input) {
			in.Added = append(in.Added, Item{Path: "/external/distfiles/gcc", Size: 900_000_000})
		}, "linux.kexec-window", ProbablyOver, ""},
		{"ramdisk end fits", func(*Input) {}, "fiwix.ramdisk-end", OK, ""},
		{"ramdisk ends at 128 MiB", func(in *Input) { in.Limits.Ramdisk.Value = 128<<20 - 0x1C6000 }, "fiwix.ramdisk-end", Over,
			"the ramdisk ends at 134,217,728 bytes"},
		{"ramdisk ends before", func(in *Input) { in.Limits.Ramdisk.Value = 120 << 20 }, "fiwix.ramdisk-end", OK, ""},
		{"ramdisk ends behind", func(in *Input) { in.Limits.Ramdisk.Value = 133<<20 - 0x1C6000 }, "fiwix.ramdisk-end", OK, ""},
		{"memory of Fiwix", func(*Input) {}, "fiwix.memory", OK, ""},
		{"ramdisk leaves no memory", func(in *Input) { in.Limits.Ramdisk.Value = 2 << 30 }, "fiwix.memory", Over, "fiwix: memory"},
		{"command line of 256 bytes with its NUL", func(in *Input) { in.CommandLines[0].Text = words(255) }, "fiwix.command-line", OK, ""},
		{"command line of 257", func(in *Input) { in.CommandLines[0].Text = words(256) }, "fiwix.command-line", Over,
			"fiwix: command line, with NUL: 257 of 256 bytes used, 1 too many"},
		{"the same as argument of kexec-fiwix", func(in *Input) { in.CommandLines[0].Text = words(256) }, "builder-hex0.argument", Over,
			"longest argument"},
		{"second command line is longer", func(in *Input) {
			in.CommandLines = append(in.CommandLines, CommandLine{Text: words(256), Source: "fiwix.sh:21"})
		}, "fiwix.command-line", Over, "limit"},
		{"an argument of 99", func(in *Input) { in.CommandLines[0].Text = "fiwix " + strings.Repeat("a", 99) }, "fiwix.argument", OK, ""},
		{"an argument of 100 is dropped", func(in *Input) { in.CommandLines[0].Text = "fiwix " + strings.Repeat("a", 100) },
			"fiwix.argument", Over, "Fiwix ignores one that is too long"},
		{"early part ends at 4 GiB", func(in *Input) { in.Payload.End = 4 << 30 }, "fiwix.reach", OK, ""},
		{"early part ends behind 4 GiB", func(in *Input) { in.Payload.End = 4<<30 + 1 }, "fiwix.reach", Over,
			"end of the payload's early part: 4,294,967,297 of 4,294,967,296 bytes"},
		{"kexec window", func(*Input) {}, "linux.kexec-window", Tight, ""},
		{"kexec window by a percent", func(in *Input) { in.Added[0].Size = 100_000_000 }, "linux.kexec-window", ProbablyOver, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := usual()
			test.change(&in)
			report := Compute(in)
			row := rowOf(t, report, test.id)
			if row.Verdict != test.verdict {
				t.Errorf("verdict %q, want %q: %s", row.Verdict, test.verdict, dump(row))
			}
			if *row.Left != row.Limit-*row.Used && row.ID != "fiwix.ramdisk-end" {
				t.Errorf("left is not limit less used: %s", dump(row))
			}
			checkError(t, report.Err(), test.err)
		})
	}
}

// words is a command line of n bytes in short arguments.
func words(n int) string { return strings.Repeat("word=123 ", n/9+1)[:n] }

func dump(row Row) string {
	text, err := json.Marshal(row)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error %v", err)
	case want != "" && (err == nil || !errors.Is(err, ErrOver) || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one with %q", err, want)
	}
}

// TestAllOverAreListed wants every limit that is exceeded in the one error.
func TestAllOverAreListed(t *testing.T) {
	in := usual()
	in.First.Files, in.First.LongestPath, in.Payload.End = 20_000, "/"+strings.Repeat("x", 2000), 5<<30
	err := Compute(in).Err()
	for _, want := range []string{"builder-hex0: files", "longest path", "early part"} {
		checkError(t, err, want)
	}
}

// TestUnknownSizes wants every row that counts a file of unknown size to say so, and the names of the files.
func TestUnknownSizes(t *testing.T) {
	in := usual()
	in.First = Measure([]Item{{Path: "/external/distfiles/b", Size: UnknownSize}, {Path: "/external/distfiles/a", Size: UnknownSize}})
	in.Payload.Files = append(in.Payload.Files, Item{Path: "c", Size: UnknownSize})
	in.Payload.End = EarlyEnd([]string{"c"}, in.Payload.Files)
	report := Compute(in)
	for _, id := range []string{"builder-hex0.bytes", "builder-hex0.area", "builder-hex0.process", "fiwix.import", "fiwix.reach"} {
		if !rowOf(t, report, id).AtLeast {
			t.Errorf("%s claims to know all sizes", id)
		}
	}
	if row := rowOf(t, report, "builder-hex0.files"); row.AtLeast {
		t.Error("the number of files is known")
	}
	if diff := cmp.Diff([]string{"/external/distfiles/a", "/external/distfiles/b", "c"}, report.Unknown); diff != "" {
		t.Errorf("unknown (-want +got):\n%s", diff)
	}
	if !strings.Contains(strings.Join(report.Warnings, "\n"), "sizes of 3 files are not known") {
		t.Errorf("warnings %q", report.Warnings)
	}
	var text strings.Builder
	if err := report.Text(&text); err != nil || !strings.Contains(text.String(), ">=") {
		t.Errorf("no >= in (error %v)\n%s", err, text.String())
	}
}

// TestHugeNumbers keeps sums from wrapping around: what is larger than everything must not look small.
func TestHugeNumbers(t *testing.T) {
	in := usual()
	in.First = Measure([]Item{{Path: "/a", Size: math.MaxInt64}, {Path: "/b", Size: math.MaxInt64}})
	in.Payload.Files = []Item{{Path: "c", Size: math.MaxInt64}}
	in.Payload.End = EarlyEnd([]string{"c"}, in.Payload.Files)
	in.Added = []Item{{Path: "/x", Size: math.MaxInt64}, {Path: "/y", Size: math.MaxInt64}}
	report := Compute(in)
	for _, id := range []string{"builder-hex0.bytes", "builder-hex0.area", "builder-hex0.process", "fiwix.import", "fiwix.reach",
		"fiwix.ramdisk"} {
		if row := rowOf(t, report, id); row.Verdict != Over {
			t.Errorf("%s: %s", id, dump(row))
		}
	}
	if row := rowOf(t, report, "linux.kexec-window"); row.Verdict != ProbablyOver || *row.Used < 0 {
		t.Error(dump(row))
	}
}

func TestMeasure(t *testing.T) {
	var items []Item
	for i := range 12 {
		items = append(items, Item{Path: fmt.Sprintf("/f%02d", i), Size: int64(i % 6)})
	}
	items = append(items, Item{Path: "/external/distfiles/z", Size: 100}, Item{Path: "/u", Size: UnknownSize})
	got := Measure(items)
	want := Usage{
		Files: 14, Bytes: 130, Distfiles: 100, Unknown: []string{"/u"}, LongestPath: "/external/distfiles/z",
		Largest: []Item{
			{"/external/distfiles/z", 100}, {"/f05", 5}, {"/f11", 5}, {"/f04", 4}, {"/f10", 4}, {"/f03", 3}, {"/f09", 3},
			{"/f02", 2}, {"/f08", 2}, {"/f01", 1},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Usage{Largest: []Item{}}, Measure(nil)); diff != "" {
		t.Errorf("of nothing (-want +got):\n%s", diff)
	}
}

// TestEarlyEnd holds the sum against the example in docs/payload.md: one file "a" of 3 bytes ends at 130.
func TestEarlyEnd(t *testing.T) {
	if end := EarlyEnd([]string{"a"}, []Item{{Path: "a", Size: 3}}); end != 130 {
		t.Errorf("end %d, want 130", end)
	}
	if end := EarlyEnd([]string{"a"}, []Item{{Path: "a", Size: UnknownSize}}); end != UnknownSize {
		t.Errorf("end %d of an unknown size", end)
	}
}

func TestQEMU(t *testing.T) {
	for _, test := range []struct {
		machine  string
		mib, low int64 // MiB
	}{
		{"pc", 4096, 3072}, {"pc", 3584, 3072}, {"pc", 3583, 3583}, {"pc", 2048, 2048},
		{"q35", 4096, 2048}, {"q35", 2816, 2048}, {"q35", 2815, 2815}, {"q35", 0, 0},
	} {
		if got := QEMU(test.machine, test.mib<<20).Low >> 20; got != test.low {
			t.Errorf("%s with %d MiB: %d MiB below 4 GiB, want %d", test.machine, test.mib, got, test.low)
		}
	}
}

// TestNothing wants a report for the empty input: every column a list, nothing that panics.
func TestNothing(t *testing.T) {
	report := Compute(Input{})
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{`"largest":[]`, `"unknown":[]`} {
		if !strings.Contains(string(text), list) {
			t.Errorf("no %s in the JSON form", list)
		}
	}
	if err := report.Text(&strings.Builder{}); err != nil {
		t.Error(err)
	}
}

// TestIDsAreStable lists the names that programs may rely on.
func TestIDsAreStable(t *testing.T) {
	var got []string
	for _, row := range Compute(usual()).Rows {
		got = append(got, row.ID)
	}
	want := []string{
		"builder-hex0.files", "builder-hex0.bytes", "builder-hex0.area", "builder-hex0.name", "builder-hex0.argument",
		"builder-hex0.process", "builder-hex0.parents", "builder-hex0.memory", "fiwix.import", "fiwix.ramdisk",
		"fiwix.ramdisk-end", "fiwix.memory", "fiwix.command-line", "fiwix.argument", "fiwix.open-files",
		"fiwix.process-files", "fiwix.processes", "fiwix.reach", "linux.kexec-window",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("IDs (-want +got):\n%s", diff)
	}
}

func TestNoEstimateIsSaid(t *testing.T) {
	in := usual()
	in.HexBuilds = append(in.HexBuilds, "emacs-1.0")
	if !strings.Contains(strings.Join(Compute(in).Warnings, "\n"), "no estimate for the products of emacs-1.0") {
		t.Error("an estimate without emacs does not say so")
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -28_506_913: "-28,506,913", 100: "100"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestDocument holds the table of products in docs/budgets.md against the one that is used, and wants every row named.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "budgets.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range hexProducts() {
		name := p.build
		switch {
		case name == "":
			name = "stage0, seed, what is installed"
		case strings.HasSuffix(name, "-"):
			name += "*"
		}
		if row := fmt.Sprintf("| %s | %s | %s |", name, count(p.files), count(p.bytes)); !strings.Contains(string(text), row) {
			t.Errorf("docs/budgets.md has no %q", row)
		}
	}
	for _, row := range Compute(usual()).Rows {
		short := strings.TrimPrefix(row.ID, row.Kernel)
		if !strings.Contains(string(text), "`"+row.ID+"`") && !strings.Contains(string(text), "`"+short+"`") {
			t.Errorf("docs/budgets.md does not name %s", row.ID)
		}
	}
}
