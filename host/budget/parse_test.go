// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// usualScript has the shape of jump/fiwix.sh.
const usualScript = `#!/bin/sh
set -ex

# 2 KiB less would be "too small"
make_fiwix_initrd -s 1381376 /boot/fiwix.ext2

# 199680 = 195 MB
# as of 2024-05-27, Initrd = ~183 MB, kernel = ~10.5MB for Linux
if match x${BARE_METAL} xTrue; then
    kexec-fiwix /boot/fiwix -i /boot/fiwix.ext2 -c "fiwix console=/dev/tty1 kexec_size=199680 kexec_cmdline=\"init=/init\""
else
    kexec-fiwix /boot/fiwix -i /boot/fiwix.ext2 -c "fiwix kexec_size=199680 kexec_cmdline=\"init=/init console=ttyS0\""
fi
`

func fromTree(value int64, source string) Number {
	return Number{Value: value, Basis: FromTree, Source: source}
}

func TestParseFiwixScript(t *testing.T) {
	tests := []struct {
		name, script string
		want         FiwixScript
	}{
		{"usual", usualScript, FiwixScript{
			Makes: true, Ramdisk: fromTree(1_381_376*kib, "f:5"), KexecWindow: fromTree(199_680*kib, "f:10"),
			CommandLines: []CommandLine{
				{`fiwix console=/dev/tty1 kexec_size=199680 kexec_cmdline="init=/init"`, "f:10"},
				{`fiwix kexec_size=199680 kexec_cmdline="init=/init console=ttyS0"`, "f:12"},
			},
			Kernel: fromTree(21<<19, "f:8 (comment)"), Initramfs: fromTree(183<<20, "f:8 (comment)"),
		}},
		{"empty", "", FiwixScript{}},
		{"no size", "make_fiwix_initrd /boot/fiwix.ext2\n", FiwixScript{Makes: true}},
		{"odd spacing", "  \t make_fiwix_initrd \t  -s\t8192   x  \r\n", FiwixScript{Makes: true, Ramdisk: fromTree(8192*kib, "f:1")}},
		{"continued lines", "make_fiwix_initrd \\\n  -s \\\n 4096\\\n0 x", FiwixScript{Makes: true, Ramdisk: fromTree(40960*kib, "f:1")}},
		{"quotes", `make_fiwix_initrd '-s' "40"'96' x`, FiwixScript{Makes: true, Ramdisk: fromTree(4096*kib, "f:1")}},
		{"with a path, behind ;", "true; /usr/bin/make_fiwix_initrd -s 4096", FiwixScript{Makes: true, Ramdisk: fromTree(4096*kib, "f:1")}},
		{"same size twice", "make_fiwix_initrd -s 4096\nmake_fiwix_initrd -s 4096\n", FiwixScript{
			Makes: true, Ramdisk: fromTree(4096*kib, "f:1")}},
		{"commented out", "# make_fiwix_initrd -s 4096\n#kexec-fiwix -c \"kexec_size=1\nx # make_fiwix_initrd -s 1\n", FiwixScript{}},
		{"quoted, not a command", `echo "make_fiwix_initrd -s 4096"` + "\n", FiwixScript{}},
		{"a # in a word", "make_fiwix_initrd -s 4096 a#b", FiwixScript{Makes: true, Ramdisk: fromTree(4096*kib, "f:1")}},
		{"no -c", "kexec-fiwix /boot/fiwix -c\nkexec-fiwix\n", FiwixScript{}},
		{"no kexec_size", `kexec-fiwix -c "fiwix root=/dev/ram0"`, FiwixScript{
			CommandLines: []CommandLine{{"fiwix root=/dev/ram0", "f:1"}}}},
		{"kexec_size inside of another argument", `kexec-fiwix -c "fiwix kexec_cmdline=\"a kexec_size=7 b\" kexec_size=8"`, FiwixScript{
			KexecWindow: fromTree(8*kib, "f:1"), CommandLines: []CommandLine{{`fiwix kexec_cmdline="a kexec_size=7 b" kexec_size=8`, "f:1"}}}},
		{"a comment with MiB", "# INITRAMFS = 1.5 MiB, kernel= ~2 MiB", FiwixScript{
			Kernel: fromTree(2<<20, "f:1 (comment)"), Initramfs: fromTree(3<<19, "f:1 (comment)")}},
		{"a comment with no number", "# Initrd = ~x MB, kernel = ~10.5MB", FiwixScript{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseFiwixScript("f", strings.NewReader(test.script))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseFiwixScriptErrors(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"no number", "x\nmake_fiwix_initrd -s many y", `f:2: make_fiwix_initrd -s "many": must be a number of KiB from 1 to 2147483647`},
		{"nothing behind -s", "make_fiwix_initrd -s\n", "f:1: make_fiwix_initrd -s without a size"},
		{"a variable", "make_fiwix_initrd -s ${SIZE} y", `"${SIZE}"`},
		{"zero", "make_fiwix_initrd -s 0 y", "must be a number"},
		{"negative", "make_fiwix_initrd -s -4096 y", "must be a number"},
		{"huge", "make_fiwix_initrd -s 99999999999999999999999 y", "must be a number"},
		{"2^31", "make_fiwix_initrd -s 2147483648 y", "must be a number"},
		{"two sizes", "make_fiwix_initrd -s 1 y\nmake_fiwix_initrd -s 2 y", "f:2: make_fiwix_initrd -s 2: f:1 has 1"},
		{"two windows", "kexec-fiwix -c 'kexec_size=1'\nkexec-fiwix -c 'kexec_size=2'", "f:2: kexec_size= 2: f:1 has 1"},
		{"window of letters", "kexec-fiwix -c 'kexec_size=1M'", `"1M"`},
		{"no closing quote", "a\nb \"c\nd\n", `f:2: a string that begins here has no closing "`},
		{"no closing single quote", "'", "no closing '"},
		{"too long", strings.Repeat("#\n", maxTextFile), "more than 1048576 bytes"},
		{"long junk is clipped", "make_fiwix_initrd -s " + strings.Repeat("9", 1000), `9..."`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseFiwixScript("f", strings.NewReader(test.script))
			var parse *ParseError
			if !errors.As(err, &parse) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want a *ParseError with %q", err, test.want)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestFiwixArguments holds the cutting of a command line against what Fiwix does.
func TestFiwixArguments(t *testing.T) {
	for line, want := range map[string][]string{
		"":                  nil,
		"  a  b ":           {"a", "b"},
		`a="b c" d`:         {`a="b c"`, "d"},
		`a="b c d`:          {`a="b c d`},
		`a="b c" d="e f" g`: {`a="b c"`, `d="e`, `f"`, "g"}, // only the first pair of quotes holds
	} {
		if diff := cmp.Diff(want, fiwixArguments(line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

// usualReadme has the sentences of builder-hex0's README.
const usualReadme = `## Machine Requirements
* x86 32-bit Processor
* 4GB of memory

## Limitations

* Only 14332 files can be created.
* The total size of all files cannot exceed 1,811,939,328 bytes.
* A file name is limited to 1K bytes.
* Each process argument can only be 255 bytes long + 1 terminating zero byte
* Each process cannot exceed 670,793,728 bytes of memory
* The total memory for all (suspended) parent processes cannot exceed 603,979,775 bytes of memory
`

func TestParseHexReadme(t *testing.T) {
	var got Limits
	if err := ParseHexReadme("R", strings.NewReader(usualReadme), &got); err != nil {
		t.Fatal(err)
	}
	want := Limits{
		HexRAM: fromTree(4<<30, "R:3"), HexFiles: fromTree(14_332, "R:7"), HexBytes: fromTree(1_811_939_328, "R:8"),
		HexName: fromTree(1024, "R:9"), HexArg: fromTree(256, "R:10"), HexProcess: fromTree(670_793_728, "R:11"),
		HexParents: fromTree(603_979_775, "R:12"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestParseHexReadmeKeeps wants what is not stated to stay as it is.
func TestParseHexReadmeKeeps(t *testing.T) {
	got := assumed()
	err := ParseHexReadme("R", strings.NewReader("Only 20,000 files can be created.\nmany files can be created\n"), &got)
	want := assumed()
	want.HexFiles = fromTree(20_000, "R:1")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestParseHexErrors(t *testing.T) {
	var l Limits
	for _, text := range []string{
		"Only 0 files can be created", "Only 99999999999999999999 files can be created", "Only 9,,,,, files can be created" + strings.Repeat("x", maxTextFile),
		"* 999999GB of memory", "* 4,294,967,296GB of memory",
	} {
		if err := ParseHexReadme("R", strings.NewReader(text), &l); err == nil {
			t.Errorf("no error for %.60q", text)
		}
	}
	for _, text := range []string{
		"# BBFFFFFF - 54000000 files", "# 54000000 - 54000000 files", "# 54000000 - FFFFFFFFFFFFFFFF files",
	} {
		if err := ParseHexMap("M", strings.NewReader(text), &l); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

func TestParseHexMap(t *testing.T) {
	const text = `# Memory:
# 54000000 - BBFFFFFF files (~1744MB)
# 01000010 - 0107FFFF file descriptors (16 bytes each * 32K)
#   201800 -   FFFFFF file names 6..14335
54 00 # 10000000 - 20000000 files
`
	var got Limits
	if err := ParseHexMap("M", strings.NewReader(text), &got); err != nil {
		t.Fatal(err)
	}
	want := Limits{
		HexAreaStart: fromTree(0x5400_0000, "M:2 (memory map)"), HexAreaEnd: fromTree(0xBC00_0000, "M:2 (memory map)"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var none Limits
	if err := ParseHexMap("M", strings.NewReader("# no map\n"), &none); err != nil || none.HexAreaEnd.Value != 0 {
		t.Errorf("without a map: %v, %v", err, none.HexAreaEnd)
	}
}

func TestDefines(t *testing.T) {
	d := Defines{}
	read := func(text string) {
		t.Helper()
		if err := d.Read("h", FromTree, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	read("#define NR_PROCS\t\t64\t/* max. number of processes */\r\n#define NR_OPENS 1024 // files\n#define ALIAS (NR_OPENS)\n" +
		"#define LOOP LOOP\n#define SUM (NR_PROCS * 5)\n#define HEX 0x10\n#define LONG 8UL\n#define HUGE 99999999999\n" +
		"#define FN(x) 7\n#define ON\n  #  define OFF\n# define NAMELESS\nint NR_PROCS;\n")
	read("#undef NR_OPENS\n#define NR_OPENS 4096\n#undef OFF\n#undef NEVER")
	numbers := map[string]int64{"NR_PROCS": 64, "NR_OPENS": 4096, "ALIAS": 4096, "HEX": 16, "LONG": 8}
	for name, want := range numbers {
		if n, found := d.Number(name); !found || n.Value != want || n.Basis != FromTree || !strings.HasPrefix(n.Source, "h:") {
			t.Errorf("%s: %+v, %v, want %d", name, n, found, want)
		}
	}
	for _, name := range []string{"LOOP", "SUM", "HUGE", "FN", "ON", "OFF", "NEVER", "MISSING"} {
		if n, found := d.Number(name); found {
			t.Errorf("%s is the number %d", name, n.Value)
		}
	}
	for name, want := range map[string][2]bool{"ON": {true, true}, "OFF": {false, true}, "MISSING": {false, false}} {
		if on, known, _ := d.Switch(name); on != want[0] || known != want[1] {
			t.Errorf("%s: on %v, known %v, want %v", name, on, known, want)
		}
	}
}

func TestTooManyDefines(t *testing.T) {
	d := Defines{}
	var text strings.Builder
	for range maxDefines + 1 {
		text.WriteString("#define A" + strings.Repeat("x", text.Len()%7) + "\n")
	}
	if err := d.Read("h", FromTree, strings.NewReader(text.String())); err != nil {
		t.Errorf("a few macros, often: %v", err)
	}
	text.Reset()
	for i := range maxDefines + 1 {
		text.WriteString("#define A" + count(int64(i)) + "\n")
	}
	text2 := strings.ReplaceAll(text.String(), ",", "_")
	if err := d.Read("h", FromTree, strings.NewReader(text2)); err == nil {
		t.Error("no error for too many macros")
	}
}

func FuzzFiwixScript(f *testing.F) {
	f.Add(usualScript)
	f.Add("make_fiwix_initrd -s 4096 x\nkexec-fiwix -c 'a kexec_size=1 \"b c\" d'")
	f.Add("a \\\n b ; c # d\n'e' \"f\\\"g\"")
	for _, seed := range []string{usualScript} {
		if _, err := ParseFiwixScript("seed", strings.NewReader(seed)); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseFiwixScript("f", strings.NewReader(text))
		if err != nil {
			return
		}
		for _, n := range []Number{s.Ramdisk, s.KexecWindow, s.Kernel, s.Initramfs} {
			if n.Value < 0 || n.Value > maxKiB*kib {
				t.Errorf("size %d", n.Value)
			}
			if (n.Value == 0) != (n.Source == "") && n.Basis == FromTree && n.Value != 0 {
				t.Errorf("a number without a source: %+v", n)
			}
		}
		limits := assumed()
		limits.script(s)
		report := Compute(Input{Limits: limits})
		if err := report.Text(&strings.Builder{}); err != nil {
			t.Error(err)
		}
	})
}

func FuzzHex0(f *testing.F) {
	f.Add(usualReadme)
	f.Add("# 54000000 - BBFFFFFF files (~1744MB)\n")
	f.Fuzz(func(t *testing.T, text string) {
		l := assumed()
		if ParseHexReadme("R", strings.NewReader(text), &l) != nil || ParseHexMap("M", strings.NewReader(text), &l) != nil {
			return
		}
		if l.HexFiles.Value <= 0 || l.HexBytes.Value <= 0 || l.HexRAM.Value <= 0 || l.HexAreaEnd.Value <= l.HexAreaStart.Value {
			t.Errorf("limits %+v", l)
		}
	})
}

func FuzzDefines(f *testing.F) {
	f.Add("#define NR_OPENS 4096\n#define A NR_OPENS\n#undef B\n")
	f.Fuzz(func(t *testing.T, text string) {
		d := Defines{}
		if d.Read("h", FromTree, strings.NewReader(text)) != nil {
			return
		}
		for name := range d {
			if n, found := d.Number(name); found && (n.Value < 0 || n.Source == "") {
				t.Errorf("%s: %+v", name, n)
			}
		}
		l := assumed()
		l.headers(d)
		if l.FiwixMemory.Value <= 0 {
			t.Errorf("memory %d", l.FiwixMemory.Value)
		}
	})
}
