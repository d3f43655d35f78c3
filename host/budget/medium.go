// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"kindling/host/tree"
)

// FirstMedium lists what the builder-hex0 image of a tree makes builder-hex0 hold, for a plan that is looked at before
// anything is assembled: the records of srcfs (folders and empty files included, nothing with ".git" in its path) and
// the files that the commands behind it make. distfiles are those that go on the first medium, by name; a size below 0
// is unknown. added are files that stand in the image besides, or in place of the tree's, by path.
//
// Parts of the tree that are missing, as submodules that were not fetched, are warnings. Errors are those of fsys.
func FirstMedium(fsys fs.FS, distfiles, added []Item) (items []Item, warnings []string, err error) {
	m := medium{fsys: fsys, seen: map[string]int{}}
	m.add(Item{Path: "/."}) // rootfs.py writes a record for the folder that it starts in
	for _, part := range []struct{ from, to string }{
		{tree.Stage0, "/"}, {tree.Seed, "/"}, {tree.Steps, "/steps"},
	} {
		if err := m.part(part.from, part.to); err != nil {
			return nil, nil, err
		}
	}
	for _, item := range added {
		m.parents(item.Path)
		m.add(item)
	}
	m.parents(distfilesDir + "x")
	for _, item := range distfiles {
		m.add(Item{Path: distfilesDir + item.Path, Size: item.Size})
	}
	m.commands()
	return m.items, m.warnings, nil
}

type medium struct {
	fsys     fs.FS
	items    []Item
	seen     map[string]int // index in items, by path
	warnings []string
}

// add adds a file, or puts it in the place of one with the same path.
func (m *medium) add(item Item) {
	if strings.Contains(item.Path, ".git") {
		return
	}
	if i, found := m.seen[item.Path]; found {
		m.items[i] = item
		return
	}
	m.seen[item.Path] = len(m.items)
	m.items = append(m.items, item)
}

// parents adds the folders above a path.
func (m *medium) parents(name string) {
	for dir := path.Dir(name); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if _, found := m.seen[dir]; !found {
			m.add(Item{Path: dir})
		}
	}
}

// part adds what is below a folder of the tree. Of seed, only the files themselves are on the medium: the folder in it
// is stage0-posix. The seeds as binaries are not: the medium's last commands make them.
func (m *medium) part(from, to string) error {
	entries, err := tree.List(m.fsys, from)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		m.warnings = append(m.warnings, fmt.Sprintf(
			"budget: %s is missing or empty, what belongs there is not counted (git submodule update --init --recursive)", from))
		return nil
	}
	if err != nil {
		return err
	}
	if to != "/" {
		m.add(Item{Path: to})
	}
	for _, e := range entries {
		top, _, below := strings.Cut(e.Path, "/")
		switch {
		case from == tree.Seed && (below || e.Dir), from == tree.Stage0 && top == "bootstrap-seeds":
			continue
		}
		m.add(Item{Path: path.Join(to, e.Path), Size: e.Size})
	}
	return nil
}

// commands adds what the commands behind srcfs make: the folders of the seeds, and three programs of a few hundred
// bytes out of the hex0 sources.
func (m *medium) commands() {
	const seed, kaem = 256, 640 // bytes, rounded up
	for _, item := range []Item{
		{"/bootstrap-seeds", 0}, {"/bootstrap-seeds/POSIX", 0}, {"/bootstrap-seeds/POSIX/x86", 0},
		{"/bootstrap-seeds/POSIX/x86/hex0-seed", seed}, {"/bootstrap-seeds/POSIX/x86/kaem-optional-seed", kaem},
		{"/init", kaem},
	} {
		m.add(item)
	}
}
