// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package tree_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/host/tree"
)

// An extra root of its own folder is read like one of the tree, and nothing outside of it.
func TestAddExtras(t *testing.T) {
	dir, other := checkout(t, "steps/manifest", "steps-own/manifest"), checkout(t, "manifest", "a-1/pass1.sh")
	if err := os.Symlink("/etc/passwd", filepath.Join(other, "out")); err != nil {
		t.Fatal(err)
	}
	open, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.AddExtras(map[string]string{"lfs": other}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"steps/manifest": "steps/manifest", "steps-own/manifest": "steps-own/manifest", "steps-lfs/manifest": "manifest",
		"steps-lfs/a-1/pass1.sh": "a-1/pass1.sh",
	} {
		if got, err := fs.ReadFile(open.FS(), name); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got, err := os.ReadFile(open.Path(name)); string(got) != want || err != nil {
			t.Errorf("%s on the host: %q, %v", name, got, err)
		}
	}
	list, err := tree.List(open.FS(), "steps-lfs/a-1")
	if diff := cmp.Diff([]tree.Entry{{Path: "pass1.sh", Size: 12}}, list); diff != "" || err != nil {
		t.Errorf("list: %v (-want +got)\n%s", err, diff)
	}
	for _, name := range []string{"steps-lfs/out", "steps-lfs/../steps/manifest", "steps-lfs/gone", "steps-none/manifest"} {
		if _, err := fs.ReadFile(open.FS(), name); err == nil {
			t.Errorf("%s can be read", name)
		}
	}
}

func TestAddExtrasRefused(t *testing.T) {
	dir, other := checkout(t, "steps/manifest", "steps-own/manifest"), checkout(t, "manifest")
	for _, tt := range []struct {
		name, dir string
		is        error
		want      string
	}{
		{"own", other, nil, "the tree has steps-own already"},
		{"Bad", other, nil, "lower-case"},
		{"gone", filepath.Join(other, "gone"), os.ErrNotExist, "extra root gone"},
		{"file", filepath.Join(other, "manifest"), nil, "extra root file"},
	} {
		open, err := tree.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = open.AddExtras(map[string]string{tt.name: tt.dir})
		if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q that is %v", tt.name, err, tt.want, tt.is)
		}
		if err := open.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckExtra(t *testing.T) {
	file := &fstest.MapFile{}
	fsys := fstest.MapFS{
		"steps-good/manifest": file, "steps-good/a-1/0.sh": file, "steps-good/x0.sh": file,
		"steps-empty/readme": file, "steps-folder/manifest/x": file, "steps-file": file,
		"steps-script/manifest": file, "steps-script/12.sh": file,
	}
	for name, want := range map[string]string{
		"good": "", "gone": "the tree has no steps-gone", "empty": "no file steps-empty/manifest",
		"folder": "no file steps-folder/manifest", "file": "steps-file", "script": "steps-script/12.sh has the name", "x/y": "lower-case",
	} {
		if err := tree.CheckExtra(fsys, name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
}
