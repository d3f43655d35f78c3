// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"path"
	"strings"
	"testing"

	"kindling/steps"
)

func config(t *testing.T) *steps.Config {
	t.Helper()
	c := &steps.Config{}
	for _, name := range []string{"KERNEL_BOOTSTRAP", "PAYLOAD_REQUIRED"} {
		c.Set(name, "True")
	}
	c.Set("CHROOT", "False")
	return c
}

// under is a file system below a folder.
type under struct {
	folder string
	fsys   fs.FS
}

// Open implements fs.FS.
func (u under) Open(name string) (fs.File, error) {
	inside, found := strings.CutPrefix(name, u.folder)
	if !found {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return u.fsys.Open(path.Join(".", inside))
}

// The sums in the sources files are those of the archives that Distfiles packs, and every archive is used.
func TestSums(t *testing.T) {
	plan, err := steps.NewPlan(Tree(), steps.MainRoot, config(t))
	if err != nil {
		t.Fatal(err)
	}
	wanted := make(map[string]string)
	all := plan.Steps
	for root, fsys := range ExtraRoots() {
		extra, err := steps.NewPlan(under{root, fsys}, root, plan.Config)
		if err != nil {
			t.Fatal(err)
		}
		if missing := extra.Missing(under{root, fsys}, func(steps.Step) bool { return false }); len(missing) > 0 {
			t.Errorf("%q", missing)
		}
		all = append(all, extra.Steps...)
	}
	for _, s := range all {
		for _, src := range s.Sources {
			wanted[src.Name] = src.SHA256
		}
	}
	got, err := Distfiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range got {
		sum := sha256.Sum256(d.Data)
		if hex.EncodeToString(sum[:]) != wanted[d.Name] {
			t.Errorf("%s: sha256 %x, its sources file says %q", d.Name, sum, wanted[d.Name])
		}
	}
	if len(got) != len(wanted) {
		t.Errorf("%d archives, %d wanted", len(got), len(wanted))
	}
}

// The run must show both ways in which a distfile travels.
func TestMedia(t *testing.T) {
	plan, err := steps.NewPlan(Tree(), steps.MainRoot, config(t))
	if err != nil {
		t.Fatal(err)
	}
	files, err := plan.Distfiles(steps.MediaOptions{Payload: true})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]steps.Medium)
	for _, f := range files {
		got[f.Name] = f.Medium
	}
	if got["tinder-1.0.tar"] != steps.MediumPayload || got["ember-1.0.tar"] != steps.MediumNetwork {
		t.Errorf("media: %v", got)
	}
}

func TestVariants(t *testing.T) {
	for _, v := range append(Variants(), Sound) {
		overlay, err := Overlay(v)
		if err != nil {
			t.Errorf("%s: %v", v, err)
			continue
		}
		// Every overlaid file stands where the tree has a folder for it, so that it is really run.
		err = fs.WalkDir(overlay, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || p == "." {
				return err
			}
			if d.IsDir() {
				_, err = fs.Stat(Tree(), p)
			}
			return err
		})
		if err != nil && v != Sound && v != PayloadCut {
			t.Errorf("%s: %v", v, err)
		}
	}
	if _, err := Overlay("unheard-of"); err == nil {
		t.Error("an unknown variant was accepted")
	}
}
