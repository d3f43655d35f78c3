// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// mergedDirs are the top-level folders that merged /usr turns into links (Debian's usrmerge): packages of Debian 12
// still hold files below them.
func mergedDirs() []string { return []string{"bin", "lib", "lib32", "lib64", "libx32", "sbin"} }

// mergedPath is where a file of a package lies in a merged tree.
func mergedPath(name string) string {
	top, _, _ := strings.Cut(name, "/")
	if slices.Contains(mergedDirs(), top) {
		return "usr/" + name
	}
	return name
}

// mergedLink is the target that a symbolic link, which a package has at name, needs in the merged tree. A relative
// target is followed from the link's old place to the old place of what it names, and written anew between the new
// places; an absolute one works as it is, through the tree's own links.
func mergedLink(name, target string) (string, error) {
	if path.IsAbs(target) {
		return target, nil
	}
	old := path.Join(path.Dir(name), target)
	if old == ".." || strings.HasPrefix(old, "../") {
		return "", fmt.Errorf("%w: symbolic link %s -> %s leaves the tree", ErrPackage, name, target)
	}
	if mergedPath(name) == name && mergedPath(old) == old {
		return target, nil
	}
	rel, err := filepath.Rel(path.Dir(mergedPath(name)), mergedPath(old))
	if err != nil {
		return "", fmt.Errorf("%w: symbolic link %s -> %s: %w", ErrPackage, name, target, err)
	}
	return rel, nil
}

// merger moves files of unpacked packages into one merged tree. All names are relative to root, so that nothing in a
// package can lead outside.
type merger struct {
	root   *os.Root
	tree   string            // name of the tree below root
	recipe recipe            // which files are taken
	owner  map[string]string // path in the tree -> package
	merged map[string]bool   // top-level folders that the tree turned into links
}

func newMerger(root *os.Root, tree string, r recipe) (*merger, error) {
	m := &merger{root: root, tree: tree, recipe: r, owner: make(map[string]string), merged: make(map[string]bool)}
	if err := root.MkdirAll(tree, 0o755); err != nil {
		return nil, err
	}
	for _, dir := range []string{"bin", "lib", "sbin"} {
		if err := root.MkdirAll(path.Join(tree, "usr", dir), 0o755); err != nil {
			return nil, err
		}
		if err := m.link(dir, "usr/"+dir, "the merged tree"); err != nil {
			return nil, err
		}
		m.merged[dir] = true
	}
	return m, nil
}

// add moves the files of the package, unpacked in the folder dir below root, into the tree. Folders come into being
// with the files in them, with mode 0755; folders that would stay empty are left out.
func (m *merger) add(pkg, dir string) error {
	return fs.WalkDir(m.root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := strings.TrimPrefix(name, dir+"/")
		if err := m.addFile(pkg, name, rel, d.Type()); err != nil {
			return fmt.Errorf("package %s: %w", pkg, err)
		}
		return nil
	})
}

func (m *merger) addFile(pkg, from, rel string, kind fs.FileMode) error {
	to := mergedPath(rel)
	if !m.recipe.selects(to) {
		return nil
	}
	if err := m.mergeDir(to); err != nil {
		return err
	}
	switch kind {
	case 0:
		if err := m.claim(to, pkg); err != nil {
			return err
		}
		return m.root.Rename(from, path.Join(m.tree, to))
	case fs.ModeSymlink:
		target, err := m.root.Readlink(from)
		if err != nil {
			return err
		}
		if target, err = mergedLink(rel, target); err != nil {
			return err
		}
		return m.link(to, target, pkg)
	}
	return fmt.Errorf("%w: %s is no file, folder or symbolic link: %s", ErrPackage, rel, kind)
}

// mergeDir makes sure that a rarely used merged folder (lib64) has its link in the tree when files come below it.
func (m *merger) mergeDir(to string) error {
	dir, found := strings.CutPrefix(to, "usr/")
	if !found {
		return nil
	}
	dir, _, _ = strings.Cut(dir, "/")
	if m.merged[dir] || !slices.Contains(mergedDirs(), dir) {
		return nil
	}
	m.merged[dir] = true
	return m.link(dir, "usr/"+dir, "the merged tree")
}

// link adds a symbolic link of the tree.
func (m *merger) link(name, target, pkg string) error {
	if err := m.claim(name, pkg); err != nil {
		return err
	}
	return m.root.Symlink(target, path.Join(m.tree, name))
}

// claim notes who brings a path, makes its parents, and refuses a second owner: Debian's packages do not overlap.
func (m *merger) claim(name, pkg string) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%w: path %.200q", ErrPackage, name)
	}
	if other, taken := m.owner[name]; taken {
		return fmt.Errorf("%w: %s is in %s as well", ErrPackage, name, other)
	}
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if other, taken := m.owner[parent]; taken {
			return fmt.Errorf("%w: %s is below %s, which is no folder in %s", ErrPackage, name, parent, other)
		}
	}
	m.owner[name] = pkg
	if err := m.root.MkdirAll(path.Join(m.tree, path.Dir(name)), 0o755); err != nil {
		return fmt.Errorf("folder of %s: %w", name, err)
	}
	return nil
}

// addLinks adds the recipe's own links, in a fixed order. A relative one must lead to something; where an absolute one
// leads is the guest's affair.
func (m *merger) addLinks() error {
	names := make([]string, 0, len(m.recipe.Links))
	for name := range m.recipe.Links {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := m.link(name, m.recipe.Links[name], "the recipe"); err != nil {
			return err
		}
		if path.IsAbs(m.recipe.Links[name]) {
			continue
		}
		if _, err := m.root.Stat(path.Join(m.tree, name)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: no package brings %s, to which %s is to lead", ErrPackage,
				m.recipe.Links[name], name)
		} else if err != nil {
			return err
		}
	}
	return nil
}
