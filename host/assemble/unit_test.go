// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompileHex0(t *testing.T) {
	tests := []struct {
		text, want string // want in hex, "" and bad for an error
		bad        string
	}{
		{"", "", ""},
		{"# only a comment 00\n; another 00\n", "", ""},
		{"00 ff\n", "00ff", ""},
		{"aB Cd # EF\n\t01;02\n", "abcd01", ""},
		{"0123 45\r\n67", "01234567", ""},
		{"## 00\n#00\n12#34", "12", ""},
		{"é # outside of a comment only", "", "line 1"},
		{"# é in a comment\n01", "01", ""},
		{"01\n0", "", "line 2"},
		{"0 1\n", "", "line 1"},
		{"01 0x02", "", "line 1"},
		{"g0", "", "line 1"},
	}
	for _, tt := range tests {
		got, err := CompileHex0([]byte(tt.text))
		if tt.bad != "" {
			if !errors.Is(err, ErrHex0) || !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("%q: error %v, want %s", tt.text, err, tt.bad)
			}
			continue
		}
		if err != nil || hex.EncodeToString(got) != tt.want {
			t.Errorf("%q: %x, %v, want %s", tt.text, got, err, tt.want)
		}
	}
}

// What compiles is what a simpler reading of the text gives: all digits that are not behind a comment mark.
func FuzzCompileHex0(f *testing.F) {
	for _, seed := range []string{"00 ff # x\n", "EB FE ; loop\n55AA\n", "0123456789abcdefABCDEF\n", "\n#\n;\n"} {
		if _, err := CompileHex0([]byte(seed)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := CompileHex0(text)
		if err != nil {
			return
		}
		var digits strings.Builder
		for _, line := range strings.Split(string(text), "\n") {
			line, _, _ = strings.Cut(line, "#")
			line, _, _ = strings.Cut(line, ";")
			digits.WriteString(strings.Join(strings.Fields(line), ""))
		}
		if want, err := hex.DecodeString(digits.String()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %x, want %x, %v", text, got, want, err)
		}
	})
}

func TestLayoutBoot(t *testing.T) {
	stage1, stage2 := bytes.Repeat([]byte{1}, 512), []byte("stage2\n")
	entries := []Entry{{Path: "a", Dir: true}, {Path: "a/b c", Size: 3, Data: []byte("xyz")}, {Path: "e"}}
	img, err := layoutBoot(stage1, stage2, entries, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := int64(0)
	var text strings.Builder
	for _, p := range img.pieces {
		if p.at != end {
			t.Errorf("a gap at %d, before %d", end, p.at)
		}
		end = p.at + p.size()
		text.Write(p.head)
		if p.entry != nil {
			text.Write(p.entry.Data)
		}
	}
	want := string(stage1) + string(stage2) + strings.Repeat("\x00", 512-len(stage2)) +
		"src 0 .\nsrc 0 ./a\nsrc 3 ./a/b c\nxyzsrc 0 ./e\n" + commands
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
}

// An image ends at a full MiB behind its last byte, never at that byte, and not before its target size.
func TestBootSize(t *testing.T) {
	empty, err := layoutBoot(nil, nil, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	last := empty.pieces[len(empty.pieces)-1]
	bare := last.at + last.size() + int64(len("src 1048576 ./f\n")) // with a file of about a MiB
	for _, tt := range []struct{ file, target, want int64 }{
		{mebibyte - bare - 1, 0, mebibyte},
		{mebibyte - bare, 0, 2 * mebibyte},
		{mebibyte - bare + 1, 0, 2 * mebibyte},
		{1000000, 2*mebibyte - 1, 2*mebibyte - 1},
		{1000000, 16 << 30, 16 << 30},
	} {
		name := "./f"
		record := "src 1048576 " + name // the size has seven digits in all cases but one
		size := tt.file + int64(len(record)-len("src "+" "+name)-len(itoa(tt.file)))
		img, err := layoutBoot(nil, nil, []Entry{{Path: "f", Size: size}}, tt.target)
		if err != nil || img.size != tt.want {
			t.Errorf("file of %d, target %d: %d bytes, %v, want %d", size, tt.target, img.size, err, tt.want)
		}
	}
}

func itoa(n int64) string {
	text := ""
	for ; n > 0; n /= 10 {
		text = string(rune('0'+n%10)) + text
	}
	return text
}

func TestRecords(t *testing.T) {
	for _, e := range []Entry{
		{Path: strings.Repeat("x", maxHex0Name-1)}, {Path: "a\nb"}, {Path: "a\x00"}, {Path: "l", Link: "a"},
	} {
		if _, err := layoutBoot(nil, nil, []Entry{e}, 0); !errors.Is(err, ErrSrcfs) {
			t.Errorf("%.20q: %v", e.Path, err)
		}
	}
	if _, err := layoutBoot(nil, nil, []Entry{{Path: strings.Repeat("x", maxHex0Name-2)}}, 0); err != nil {
		t.Errorf("the longest name: %v", err)
	}
	for name, want := range map[string]bool{".git": true, "a/.github/b": true, "x.gitignored": true, "git": false, "a.gi/t": false} {
		if leftOut(name) != want {
			t.Errorf("%s is left out: %t", name, !want)
		}
	}
}

func TestPartitionTable(t *testing.T) {
	table, err := partitionTable(16<<30, bootableOffset, 0x01020304)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("00", 440) + "04030201" + "0000" + "00feffff83feffff" + "00002000" + "0000e001" +
		strings.Repeat("00", 48) + "55aa"
	if diff := cmp.Diff(want, hex.EncodeToString(table)); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	for _, tt := range [][2]int64{
		{bootableOffset, bootableOffset}, {0, dataOffset}, {dataOffset + 511, dataOffset}, {1 << 30, 100},
		{math.MaxUint32*sector + sector, dataOffset}, {1 << 30, 0}, {1 << 30, 2 << 30},
	} {
		if _, err := partitionTable(tt[0], tt[1], 0); err == nil {
			t.Errorf("a disk of %d bytes has a partition from %d on", tt[0], tt[1])
		}
	}
}

// Each piece stands in exactly one run, the runs have no gaps, and the largest comes first.
func TestRuns(t *testing.T) {
	var pieces []piece
	at := int64(0)
	for _, size := range []int64{10, 0, runSize, 5, runSize - 5, 3, 3 * runSize, 7} {
		e := &Entry{Size: size}
		pieces = append(pieces, piece{at: at, head: []byte("h"), entry: e})
		at += size + 1
	}
	count, largest := 0, int64(math.MaxInt64)
	for _, r := range runs(pieces) {
		if r.size() > largest {
			t.Errorf("a run of %d bytes comes after one of %d", r.size(), largest)
		}
		largest = r.size()
		for i := range r {
			count++
			if i > 0 && r[i].at != r[i-1].at+r[i-1].size() {
				t.Errorf("a gap before %d", r[i].at)
			}
		}
	}
	if count != len(pieces) {
		t.Errorf("%d of %d pieces are in a run", count, len(pieces))
	}
}

func TestFilesetConflicts(t *testing.T) {
	for _, order := range [][]Entry{
		{{Path: "a"}, {Path: "a/b"}},
		{{Path: "a/b"}, {Path: "a"}},
		{{Path: "a"}, {Path: "a", Dir: true}},
		{{Path: "a", Link: "b"}, {Path: "a/b"}},
	} {
		s := newFileset()
		for _, e := range order {
			s.add(e)
		}
		if _, err := s.sorted(); err == nil {
			t.Errorf("%v is accepted", order)
		}
	}
}
