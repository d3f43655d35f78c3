// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/payload"
)

// testCase is one import, for both importers. Everything happens below a fresh directory; the destination is "dst".
type testCase struct {
	name   string
	image  []byte
	before tree
	opt    payload.ImportOptions
	want   error  // the sentinel that the Go error wraps, nil for success
	line   string // what the C program's line must contain
	after  tree   // nil: as before
}

// args returns the C program's arguments for the options.
func (c testCase) args(image, dst string) []string {
	args := []string{"--device", image}
	if c.opt.Skip > 0 {
		args = append(args, "--skip", strconv.Itoa(c.opt.Skip))
	}
	if c.opt.Count > 0 {
		args = append(args, "--count", strconv.Itoa(c.opt.Count))
	}
	if c.opt.Count == payload.CountNone {
		args = append(args, "--count", "0")
	}
	if c.opt.Bytes > 0 {
		args = append(args, "--bytes", strconv.FormatInt(c.opt.Bytes, 10))
	}
	if c.opt.ID != "" {
		args = append(args, "--id", c.opt.ID)
	}
	return append(args, dst)
}

var errAny = errors.New("any error")

func threeFiles() []file {
	return []file{
		{name: "agent", data: noise(3000, 1)},
		{name: "a b.tar.gz", data: noise(200_000, 2)},
		{name: "größe.patch", data: ""},
	}
}

func goodCases() []testCase {
	three := threeFiles()
	id := digest(sumsOf(three...))
	large := []file{{name: "large", data: noise(3<<20+17, 3)}, {name: "small", data: "x"}}
	return []testCase{
		{name: "u64", image: container(true, withSums(three...)...), after: holding(three...)},
		{name: "u32", image: container(false, withSums(three...)...), after: holding(three...)},
		{name: "u64 without sums", image: container(true, three...), after: holding(three...)},
		{name: "u32 without sums", image: container(false, three...), after: holding(three...)},
		{name: "larger than every buffer", image: container(true, withSums(large...)...), after: holding(large...)},
		{name: "no files", image: container(true), after: holding()},
		{name: "nothing but sums", image: container(true, withSums()...), after: holding()},
		{
			name:  "zeros behind it",
			image: append(container(true, withSums(three...)...), make([]byte, 8192)...), after: holding(three...),
		},
		{
			name:  "the right ID",
			image: container(true, withSums(three...)...), opt: payload.ImportOptions{ID: id}, after: holding(three...),
		},
		{
			name:  "the first",
			image: container(true, withSums(three...)...), opt: payload.ImportOptions{Count: 1}, after: holding(three[0]),
		},
		{
			name:  "all but the first",
			image: container(true, withSums(three...)...), opt: payload.ImportOptions{Skip: 1}, after: holding(three[1:]...),
		},
		{
			name:  "the second",
			image: container(false, three...), opt: payload.ImportOptions{Skip: 1, Count: 1}, after: holding(three[1]),
		},
		{
			name:  "none",
			image: container(true, withSums(three...)...), opt: payload.ImportOptions{Count: payload.CountNone}, after: holding(),
		},
		{
			name:  "nothing behind the last wanted file is read",
			image: container(true, withSums(three...)...)[:3600], opt: payload.ImportOptions{Count: 1}, after: holding(three[0]),
		},
		{
			name: "sums in binary mode and capitals",
			image: container(true, file{name: payload.SumsName, data: strings.ToUpper(digest("x")) + " *f\n"},
				file{name: "f", data: "x"}),
			after: holding(file{name: "f", data: "x"}),
		},
		{
			name:  "SHA256SUMS that is not the first",
			image: container(true, file{name: "f", data: "x"}, file{name: payload.SumsName, data: "no sums"}),
			after: holding(file{name: "f", data: "x"}, file{name: payload.SumsName, data: "no sums"}),
		},
		{
			name:  "a name of 255 bytes",
			image: container(true, file{name: strings.Repeat("n", 255), data: "x"}),
			after: holding(file{name: strings.Repeat("n", 255), data: "x"}),
		},
	}
}

func againCases() []testCase {
	three := threeFiles()
	image := container(true, withSums(three...)...)
	right := holding(three...)
	return []testCase{
		{name: "again", image: image, before: right, after: right},
		{
			name: "repair", image: image, after: right,
			before: right.with("dst/agent", "file wrong").with("dst/a b.tar.gz", "file "+noise(200_000, 9)),
		},
		{name: "repair without sums", image: container(true, three...), after: right,
			before: right.with("dst/agent", "file wrong")},
		{name: "a stale temporary file", image: image, after: right, before: tree{"dst/" + payload.TempName: "file half"}},
		{name: "other files stay", image: image, before: tree{"dst/other": "file x"}, after: right.with("dst/other", "file x")},
		{
			name: "a link is replaced, not followed", image: image,
			before: tree{"dst/agent": "-> ../elsewhere", "elsewhere": "file mine"}, after: right.with("elsewhere", "file mine"),
		},
		{
			name: "a link is replaced without sums", image: container(true, three...),
			before: tree{"dst/agent": "-> ../elsewhere", "elsewhere": "file mine"}, after: right.with("elsewhere", "file mine"),
		},
		{name: "the destination is an empty file", image: image, before: tree{"dst": "file "}, after: right},
		{
			name: "a directory in the place of a file", image: image, before: tree{"dst/a b.tar.gz/x": "file y"},
			want: errAny, line: "directory of that name", after: holding(three[0]).with("dst/a b.tar.gz", "dir").
				with("dst/a b.tar.gz/x", "file y"),
		},
		{name: "the destination is a file", image: image, before: tree{"dst": "file x"}, want: errAny, line: "dst"},
		{
			name: "a wrong file goes even when its successor is damaged", image: damaged(image, "agent"),
			before: tree{"dst/agent": "file wrong"}, want: payload.ErrChecksum, line: "wrong sha256", after: holding(),
		},
		{
			name: "a right file stays even when it is damaged on the disk", image: damaged(image, "agent"),
			before: right, after: right,
		},
		{
			name: "what is there counts as room", image: image, before: right, after: right,
			opt: payload.ImportOptions{Bytes: 203_000},
		},
	}
}

// damaged returns the image with one bit of a file's data changed.
func damaged(image []byte, name string) []byte {
	image = append([]byte{}, image...)
	_, files, err := payload.List(strings.NewReader(string(image)))
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		if f.Name == name {
			image[f.Offset+f.Size/2] ^= 4
		}
	}
	return image
}

func badCases() []testCase {
	three := threeFiles()
	image := container(true, withSums(three...)...)
	wrong := strings.Repeat("0", 64)
	x := file{name: "f", data: "x"}
	cases := []testCase{
		{name: "nothing at all", image: nil, want: payload.ErrNotPayload, line: "not an LBPAYLD1 payload"},
		{name: "another magic", image: []byte("LBPAYLD2" + noise(100, 4)), want: payload.ErrNotPayload, line: "not an LBPAYLD1"},
		{name: "too many files", image: []byte(payload.Magic + "\x01\x40\x00\x00\x00\x00\x00\x00"), want: payload.ErrLimit,
			line: "offset 8: beyond the limits"},
		{name: "a billion files", image: []byte(payload.Magic + "\xff\xff\xff\xff\x00\x00\x00\x00"), want: payload.ErrLimit,
			line: "beyond the limits"},
		{name: "a damaged file", image: damaged(image, "a b.tar.gz"), want: payload.ErrChecksum,
			line: "a b.tar.gz: offset 3", after: holding(three[0])},
		{name: "the wrong ID", image: image, opt: payload.ImportOptions{ID: wrong}, want: payload.ErrWrongID, line: "wrong payload"},
		{name: "an ID and no sums", image: container(true, three...), opt: payload.ImportOptions{ID: wrong},
			want: payload.ErrNoSums, line: "wrong payload"},
		{name: "an ID and no files", image: container(true), opt: payload.ImportOptions{ID: wrong},
			want: payload.ErrNoSums, line: "wrong payload"},
		{name: "skip too many", image: image, opt: payload.ImportOptions{Skip: 4}, want: payload.ErrRange, line: "there are 3"},
		{name: "count too many", image: image, opt: payload.ImportOptions{Skip: 1, Count: 3}, want: payload.ErrRange,
			line: "fewer files than asked for"},
		{name: "no room", image: image, opt: payload.ImportOptions{Bytes: 1 << 61}, want: payload.ErrNoSpace,
			line: "not enough space: 3 files need 2305843009213693952 bytes", after: holding()},
		{name: "a duplicate", image: container(true, x, x), want: payload.ErrDuplicate, line: "f: offset 50: duplicate",
			after: holding(x)},
		{name: "too large", image: container(true, x, file{name: "big", size: 1 << 31}), want: payload.ErrLimit,
			line: "big: offset", after: holding(x)},
		{name: "much too large", image: container(true, x, file{name: "big", size: -1}), want: payload.ErrLimit,
			line: "big: offset", after: holding(x)},
		{name: "cut", image: image[:len(image)-50_000], want: payload.ErrTruncated, line: "a b.tar.gz: offset 153", after: holding(three[0])},
		{name: "a name for no file system", image: container(true, x, file{name: strings.Repeat("n", 256), data: "x"}),
			want: errAny, line: "too long for a file system", after: holding(x)},
	}
	return append(cases, append(badNames(), badSums()...)...)
}

func badNames() []testCase {
	var cases []testCase
	for _, name := range []string{
		"", ".", "..", "a/b", "/", `a\b`, "a\x00b", "a\nb", "a\x1fb", "a\x7fb", "\xff", "a\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
		"\xe0\x80\x80", "\xc3", "\xf0\x8f\xbf\xbf", payload.TempName, strings.Repeat("n", payload.MaxName+1),
	} {
		for _, wide := range []bool{true, false} {
			cases = append(cases, testCase{
				name: fmt.Sprintf("name %.20q u64 %v", name, wide), line: "bad file name",
				image: container(wide, file{name: "f", data: "x"}, file{name: name, data: "y"}),
				want:  payload.ErrName, after: holding(file{name: "f", data: "x"}),
			})
		}
	}
	return cases
}

func badSums() []testCase {
	f, g := file{name: "f", data: "x"}, file{name: "g", data: "y"}
	good := sumsOf(f, g)
	bad := func(name, data string) testCase {
		return testCase{
			name: "sums: " + name, image: container(true, file{name: payload.SumsName, data: data}, f, g),
			want: payload.ErrSums, line: "SHA256SUMS",
		}
	}
	swapped := bad("another order", sumsOf(g, f))
	swapped.after = holding()
	other := bad("another name", sumsOf(f, file{name: "h", data: "y"}))
	other.after = holding(f)
	return []testCase{
		bad("empty", ""), bad("one too few", sumsOf(f)), bad("one too many", good+sumsOf(file{name: "h"})),
		bad("no newline", good[:len(good)-1]), bad("an empty line", "\n"+good), bad("no digits", "z"+good[1:]),
		bad("one separator", digest("x")+" f\n"+sumsOf(g)), bad("tabs", strings.ReplaceAll(good, "  ", " \t")),
		bad("no name", digest("x")+"  \n"+sumsOf(g)), bad("a path", digest("x")+"  a/f\n"+sumsOf(g)),
		bad("twice", sumsOf(f, f)), bad("itself", sumsOf(file{name: payload.SumsName}, f)),
		bad("carriage returns", strings.ReplaceAll(good, "\n", "\r\n")), bad("NUL", strings.ReplaceAll(good, "f\n", "f\x00\n")),
		bad("a line without end", digest("x")+"  "+strings.Repeat("n", 5000)), bad("63 digits", good[1:]),
		bad("a comment", "# sums\n"+good), swapped, other,
	}
}

// TestTable runs every case through the Go importer and through each build of the C program.
func TestTable(t *testing.T) {
	var cases []testCase
	cases = append(cases, goodCases()...)
	cases = append(cases, againCases()...)
	cases = append(cases, badCases()...)
	dir := scratch(t)
	image := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%03d.img", i)) }
	for i := range cases {
		if err := os.WriteFile(image(i), cases[i].image, 0o644); err != nil {
			t.Fatal(err)
		}
		if cases[i].after == nil {
			cases[i].after = cases[i].before
		}
	}
	t.Run("go", func(t *testing.T) {
		for i, c := range cases {
			t.Run(c.name, func(t *testing.T) { c.runGo(t, image(i), filepath.Join(dir, "go", strconv.Itoa(i))) })
		}
	})
	runAll := func(t *testing.T, name, program string) {
		for i, c := range cases {
			t.Run(c.name, func(t *testing.T) { c.runC(t, program, image(i), filepath.Join(dir, name, strconv.Itoa(i))) })
		}
	}
	for _, cc := range compilers() {
		t.Run(cc.name, func(t *testing.T) { runAll(t, cc.name, cc.build(t, "payload-import.c")) })
	}
	if program := os.Getenv(givenProgram); program != "" {
		t.Run("given", func(t *testing.T) { runAll(t, "given", program) })
	}
}

// givenProgram names a build of payload-import that the table is run against as well: one that this machine's compilers
// cannot make, such as that of the bootstrap's own tcc and meslibc.
const givenProgram = "KINDLING_PAYLOAD_IMPORT"

// prepare makes the directory of a case.
func (c testCase) prepare(t *testing.T, base string) {
	t.Helper()
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	c.before.plant(t, base)
}

// check compares what the case has left behind with what it should.
func (c testCase) check(t *testing.T, base string) {
	t.Helper()
	want := tree{}
	for k, v := range c.after {
		want[k] = v
	}
	if diff := cmp.Diff(want, snapshot(t, base)); diff != "" {
		t.Errorf("directory (-want +got):\n%.2000s", diff)
	}
}

func (c testCase) runGo(t *testing.T, image, base string) {
	c.prepare(t, base)
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = payload.Import(t.Context(), f, filepath.Join(base, "dst"), c.opt)
	switch {
	case c.want == nil && err != nil:
		t.Errorf("Import: %v", err)
	case errors.Is(c.want, errAny) && err == nil, !errors.Is(c.want, errAny) && !errors.Is(err, c.want):
		t.Errorf("Import: got error %v, want %v", err, c.want)
	case err != nil && strings.Contains(err.Error(), "\n"):
		t.Errorf("Import: more than one line: %q", err)
	}
	c.check(t, base)
}

func (c testCase) runC(t *testing.T, program, image, base string) {
	c.prepare(t, base)
	v := run(t, program, c.args(image, filepath.Join(base, "dst"))...)
	if got := v.accepted(t); got != (c.want == nil) {
		t.Errorf("accepted: %v, want %v: %s", got, c.want == nil, v.stderr)
	}
	if !strings.Contains(v.stderr, c.line) {
		t.Errorf("standard error %q does not contain %q", v.stderr, c.line)
	}
	c.check(t, base)
}
