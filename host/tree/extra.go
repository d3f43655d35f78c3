// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kindling/steps"
)

// Extras are extra roots that do not stand in a tree but in folders of their own. The zero value has none.
type Extras struct {
	dirs  map[string]string // on the host, absolute, by the folder that the root has beside steps
	roots map[string]*Folder
}

// OpenExtras opens the folders in dirs, by the name of the root, so that nothing outside of each can be read through it.
func OpenExtras(dirs map[string]string) (*Extras, error) {
	e := &Extras{dirs: map[string]string{}, roots: map[string]*Folder{}}
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		if err := e.open(name, dirs[name]); err != nil {
			return nil, errors.Join(fmt.Errorf("extra root %s: %w", name, err), e.Close())
		}
	}
	return e, nil
}

func (e *Extras) open(name, dir string) error {
	folder, err := steps.ExtraRoot(name)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	root, err := OpenFolder(dir)
	if err != nil {
		return err
	}
	e.dirs[folder], e.roots[folder] = dir, root
	return nil
}

// Close ends the use of the folders.
func (e *Extras) Close() error {
	var failed []error
	for _, r := range e.roots {
		failed = append(failed, r.Close())
	}
	return errors.Join(failed...)
}

// Over is the tree fsys with the folders beside its steps. A root that the tree has as well is an error: which of the
// two is meant, nobody knows.
func (e *Extras) Over(fsys fs.FS) (fs.FS, error) {
	if len(e.roots) == 0 {
		return fsys, nil
	}
	for _, name := range slices.Sorted(maps.Keys(e.roots)) {
		if _, err := fs.Stat(fsys, name); err == nil {
			return nil, fmt.Errorf("extra root %s: the tree has %s already: give it another name with --extra-root NAME=DIR",
				e.dirs[name], name)
		}
	}
	return Mount(fsys, e.Mounts()), nil
}

// Mounts are the folders, by the folder that each root has beside steps.
func (e *Extras) Mounts() map[string]fs.FS {
	mounts := map[string]fs.FS{}
	for name, root := range e.roots {
		mounts[name] = root
	}
	return mounts
}

// AddExtras puts folders of extra roots, by the name of the root, beside the steps of the tree.
func (t *Tree) AddExtras(dirs map[string]string) error {
	extras, err := OpenExtras(dirs)
	if err != nil {
		return err
	}
	if t.fsys, err = extras.Over(t.root); err != nil {
		return errors.Join(fmt.Errorf("tree %s: %w", t.dir, err), extras.Close())
	}
	t.extras = extras
	return nil
}

// Path is the path on the host of a file of the tree or of an extra root.
func (t *Tree) Path(name string) string {
	top, rest, _ := strings.Cut(name, "/")
	if dir, found := t.extras.dirs[top]; found {
		return filepath.Join(dir, filepath.FromSlash(rest))
	}
	return filepath.Join(t.dir, filepath.FromSlash(name))
}

// Mount is base with other file systems in the place of some folders at its top, which a listing of that top does not
// show.
func Mount(base fs.FS, at map[string]fs.FS) fs.FS { return mounted{base, at} }

type mounted struct {
	base fs.FS
	at   map[string]fs.FS
}

// Open implements fs.FS.
func (m mounted) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	fsys, name := m.below(name)
	return fsys.Open(name)
}

// Stat implements fs.StatFS.
func (m mounted) Stat(name string) (fs.FileInfo, error) {
	fsys, name := m.below(name)
	return fs.Stat(fsys, name)
}

// below is the file system that has name, and its name there.
func (m mounted) below(name string) (fs.FS, string) {
	top, rest, _ := strings.Cut(name, "/")
	sub, found := m.at[top]
	switch {
	case !found:
		return m.base, name
	case rest == "":
		return sub, "."
	}
	return sub, rest
}

// generated matches the scripts that are generated into a root.
var generated = regexp.MustCompile(`^[0-9]+\.sh$`)

// CheckExtra reports why root of fsys cannot be an extra root, as an error that wraps ErrShape: there is no such folder,
// it has no manifest, or a file that the generated scripts would replace. name is that of the root for --extra-build.
func CheckExtra(fsys fs.FS, name string) error {
	root, err := steps.ExtraRoot(name)
	if err != nil {
		return err
	}
	entries, err := fs.ReadDir(fsys, root)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("extra root %s: %w: the tree has no %s: name its folder with --extra-root", name, ErrShape, root)
	}
	if err != nil {
		return fmt.Errorf("extra root %s: %w", name, err)
	}
	if info, err := fs.Stat(fsys, root+"/manifest"); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("extra root %s: %w: there is no file %s/manifest", name, ErrShape, root)
	}
	for _, e := range entries {
		if generated.MatchString(e.Name()) {
			return fmt.Errorf("extra root %s: %w: %s/%s has the name of a generated script: rename it", name, ErrShape, root, e.Name())
		}
	}
	return nil
}
