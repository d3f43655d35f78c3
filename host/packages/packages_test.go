// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package packages_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/host/packages"
)

func sum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func guest() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"external/repo/base.tar.bz2":             file("whatever was there"),
		"external/repo/a-1_0.tar.bz2":            file("a"),
		"external/repo/b-1_0.tar.bz2":            file("b"),
		"external/repo/c-1_0.tar.bz2":            file("c"),
		"external/repo/d-1_0.tar":                file("left over"),
		"external/repo-lfs/a-1_0.tar.bz2":        file("another a"),
		"external/repo-preseeded/a-1_0.tar.bz2":  file("prebuilt"),
		"external/repo-lfs-preseeded/x":          file("prebuilt"),
		"external/repo-Odd/x":                    file("no root"),
		"external/distfiles/a.tar":               file("source"),
		"steps/SHA256SUMS.pkgs":                  file(sum("a") + "  a-1_0.tar.bz2\n" + sum("x") + "  b-1_0.tar.bz2\n" + sum("e") + "  e-1_0.tar.bz2\n"),
		"external/repo-file":                     file("no folder"),
		"steps-lfs/SHA256SUMS.pkgs/not-a-file-1": file(""),
	}
}

// copies are what is copied: complete files by name, and how many were thrown away.
type copies struct {
	done   map[string]string
	thrown int
}

type copied struct {
	bytes.Buffer
	name string
	to   *copies
}

func (c *copied) CloseAtomicallyReplace() error {
	c.to.done[c.name] = c.String()
	return nil
}

func (c *copied) Cleanup() error {
	c.to.thrown++
	return nil
}

func (c *copies) create(name string) (packages.File, error) { return &copied{name: name, to: c}, nil }

// failing is a file system of which a file cannot be read to its end.
type failing struct{ fstest.MapFS }

func (f failing) Open(name string) (fs.File, error) {
	file, err := f.MapFS.Open(name)
	if strings.HasSuffix(name, "b-1_0.tar.bz2") {
		return failingFile{file}, err
	}
	return file, err
}

type failingFile struct{ fs.File }

func (failingFile) Read(p []byte) (int, error) { return copy(p, "half"), errors.New("bad block") }

func TestCompare(t *testing.T) {
	fsys := guest()
	list, err := packages.List(fsys, "steps")
	if err != nil {
		t.Fatal(err)
	}
	saved := &copies{done: map[string]string{}}
	got, err := packages.Compare(t.Context(), fsys, "steps", list, saved.create)
	if err != nil {
		t.Fatal(err)
	}
	want := []packages.Package{
		{Root: "steps", Name: "a-1_0.tar.bz2", Status: packages.Same, Size: 1, SHA256: sum("a")},
		{Root: "steps", Name: "b-1_0.tar.bz2", Status: packages.Different, Size: 1, SHA256: sum("b"), Wanted: sum("x")},
		{Root: "steps", Name: "c-1_0.tar.bz2", Status: packages.Extra, Size: 1, SHA256: sum("c")},
		{Root: "steps", Name: "e-1_0.tar.bz2", Status: packages.Missing, Wanted: sum("e")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got)\n%s", diff)
	}
	if saved.done["a-1_0.tar.bz2"] != "a" || saved.done["base.tar.bz2"] != "whatever was there" || len(saved.done) != 4 {
		t.Errorf("copies: %v", saved.done)
	}
	sums := sum("a") + "  a-1_0.tar.bz2\n" + sum("b") + "  b-1_0.tar.bz2\n" + sum("c") + "  c-1_0.tar.bz2\n"
	if diff := cmp.Diff(sums, string(packages.Sums(got))); diff != "" {
		t.Errorf("sums (-want +got)\n%s", diff)
	}
}

func TestRoots(t *testing.T) {
	fsys := guest()
	got, err := packages.Roots(fsys)
	if diff := cmp.Diff([]string{"steps", "steps-lfs"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if got, err := packages.Roots(fstest.MapFS{}); len(got) != 1 || err != nil {
		t.Errorf("nothing there: %q, %v", got, err)
	}
	// Without a list nothing can be said about a package; an empty list says that there should be none.
	for name, tt := range map[string]struct {
		list []packages.Sum
		want packages.Status
	}{"no list": {nil, packages.Unlisted}, "empty": {[]packages.Sum{}, packages.Extra}} {
		all, err := packages.Compare(t.Context(), fsys, "steps-lfs", tt.list, nil)
		if err != nil || len(all) != 1 || all[0].Status != tt.want || all[0].SHA256 != sum("another a") {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
	if list, err := packages.List(fstest.MapFS{"steps/SHA256SUMS.pkgs": {}}, "steps"); list == nil || err != nil {
		t.Errorf("an empty list: %v, %v", list, err)
	}
	if list, err := packages.List(fstest.MapFS{}, "steps"); list != nil || err != nil {
		t.Errorf("no list: %v, %v", list, err)
	}
	if _, err := packages.List(fsys, "steps-lfs"); err == nil {
		t.Error("a folder is taken for a list")
	}
}

func TestCompareErrors(t *testing.T) {
	odd := func(name string, mode fs.FileMode) fstest.MapFS {
		return fstest.MapFS{"external/repo/" + name: {Data: []byte("x"), Mode: mode}}
	}
	for name, fsys := range map[string]fstest.MapFS{
		"hidden": odd(".tar.bz2", 0), "control character": odd("a\n_0.tar.bz2", 0), "option": odd("-x_0.tar.bz2", 0),
		"link": odd("a_0.tar.bz2", fs.ModeSymlink), "device": odd("a_0.tar.bz2", fs.ModeDevice),
	} {
		if _, err := packages.Compare(t.Context(), fsys, "steps", nil, nil); !errors.Is(err, packages.ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := errors.New("full")
	_, err := packages.Compare(t.Context(), guest(), "steps", nil, func(string) (packages.File, error) { return nil, full })
	if !errors.Is(err, full) {
		t.Errorf("a copy that cannot be made: %v", err)
	}
	saved := &copies{done: map[string]string{}}
	_, err = packages.Compare(t.Context(), failing{guest()}, "steps", nil, saved.create)
	if err == nil || !strings.Contains(err.Error(), "bad block") || saved.thrown != 1 || saved.done["b-1_0.tar.bz2"] != "" {
		t.Errorf("a package that cannot be read: %v, %+v", err, saved)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := packages.Compare(ctx, guest(), "steps", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestParseSums(t *testing.T) {
	good := sum("a") + "  a-1_0.tar.bz2\n" + sum("b") + " *b+c~1_2.tar.bz2\n"
	got, err := packages.ParseSums("l", strings.NewReader(good))
	if diff := cmp.Diff([]packages.Sum{{"a-1_0.tar.bz2", sum("a")}, {"b+c~1_2.tar.bz2", sum("b")}}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for name, text := range map[string]string{
		"l:1: no name": sum("a") + "\n", "l:1: one blank": sum("a") + " a_0.tar.bz2\n", "l:1: short": sum("a")[1:] + "  a_0.tar.bz2\n",
		"l:1: upper case": strings.ToUpper(sum("a")) + "  a_0.tar.bz2\n", "l:1: path": sum("a") + "  ../a_0.tar.bz2\n",
		"l:1: no archive": sum("a") + "  a\n", "l:2: twice": sum("a") + "  a_0.tar.bz2\n" + sum("b") + "  a_0.tar.bz2\n",
		"l: long": strings.Repeat("x", 1<<11), "l:1: empty line": "\n",
	} {
		where, _, _ := strings.Cut(name, ": ")
		if _, err := packages.ParseSums("l", strings.NewReader(text)); !errors.Is(err, packages.ErrList) || !strings.HasPrefix(err.Error(), where+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte(sum("a") + "  a-1_0.tar.bz2\n" + sum("b") + " *b_1.tar.bz2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sums, err := packages.ParseSums("l", bytes.NewReader(data))
		if err != nil {
			return
		}
		var again []packages.Package
		for _, s := range sums {
			again = append(again, packages.Package{Name: s.Name, SHA256: s.SHA256})
		}
		back, err := packages.ParseSums("l", bytes.NewReader(packages.Sums(again)))
		if err != nil || !cmp.Equal(sums, back) {
			t.Errorf("%q becomes %v, %v", data, back, err)
		}
	})
}
