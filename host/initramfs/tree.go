// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package initramfs

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/u-root/u-root/pkg/cpio"
)

// node is one future record: metadata, and how to get at the content.
type node struct {
	name         string // relative, slash-separated, fs.ValidPath
	mode         fs.FileMode
	size         int64  // regular files
	link         string // symbolic links
	major, minor uint64 // devices
	implied      bool   // a parent directory nobody named
	open         func() (Content, error)
}

// impliedMode is the mode of parent directories that no layer names.
const impliedMode = fs.ModeDir | 0o755

// tree merges layers: one node per path.
type tree struct {
	nodes map[string]*node
}

func newTree() *tree { return &tree{nodes: make(map[string]*node)} }

// add puts n into the tree, in place of an earlier node of the same path. A directory and something else at one path,
// and a path that leads through something that is no directory, are conflicts.
func (t *tree) add(n *node) error {
	if err := n.check(); err != nil {
		return err
	}
	if err := t.addParents(n.name); err != nil {
		return err
	}
	old, found := t.nodes[n.name]
	if found && old.mode.IsDir() != n.mode.IsDir() {
		return fmt.Errorf("%w: %s is %s in one layer and %s in a later one", ErrConflict, n.name,
			kindName(old.mode), kindName(n.mode))
	}
	if !found && len(t.nodes) >= MaxEntries {
		return fmt.Errorf("%w: more than %d entries", ErrLimit, MaxEntries)
	}
	t.nodes[n.name] = n
	return nil
}

func (t *tree) addParents(name string) error {
	parent := path.Dir(name)
	if parent == "." {
		return nil
	}
	if old, found := t.nodes[parent]; found {
		switch {
		case old.mode.IsDir():
			return nil
		case old.mode&fs.ModeSymlink != 0:
			return fmt.Errorf("%w: %s leads through the symbolic link %s -> %s: name the real directory",
				ErrConflict, name, parent, old.link)
		}
		return fmt.Errorf("%w: %s is below %s, which is %s", ErrConflict, name, parent, kindName(old.mode))
	}
	return t.add(&node{name: parent, mode: impliedMode, implied: true})
}

// sorted gives the nodes in byte order of their names, which puts every directory before what is in it.
func (t *tree) sorted() []*node {
	all := make([]*node, 0, len(t.nodes))
	for _, n := range t.nodes {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return all
}

// check rejects what the format, or the kernel's unpacker, cannot hold.
func (n *node) check() error {
	if err := checkPath(n.name); err != nil {
		return err
	}
	switch {
	case n.size < 0 || n.size > MaxFileSize:
		return fmt.Errorf("%w: %s has %d bytes, %d possible", ErrLimit, n.name, n.size, int64(MaxFileSize))
	case n.mode&fs.ModeSymlink != 0 && (n.link == "" || len(n.link) > MaxName || strings.IndexByte(n.link, 0) >= 0):
		return fmt.Errorf("%w: target of the symbolic link %s: %d bytes", ErrPath, n.name, len(n.link))
	case n.mode&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeIrregular) != 0:
		return fmt.Errorf("%w: %s is %s", ErrKind, n.name, kindName(n.mode))
	case n.mode.IsRegular() && n.open == nil:
		return fmt.Errorf("%w: regular file %s has no content", ErrKind, n.name)
	case n.major > 0xfff || n.minor > 0xfffff:
		return fmt.Errorf("%w: device %s is %d:%d, 4095:1048575 possible", ErrLimit, n.name, n.major, n.minor)
	}
	return nil
}

// checkPath accepts relative slash paths without empty, "." and ".." elements that survive the archive unchanged.
func checkPath(name string) error {
	switch {
	case name == "." || !fs.ValidPath(name), strings.IndexByte(name, 0) >= 0, !utf8.ValidString(name):
		return fmt.Errorf("%w: %.200q", ErrPath, name)
	case len(name) > MaxName:
		return fmt.Errorf("%w: name of %d bytes, %d possible, begins with %.60q", ErrPath, len(name), MaxName, name)
	case name == cpio.Trailer:
		return fmt.Errorf("%w: %q is the end mark of the format", ErrPath, name)
	}
	return nil
}

func kindName(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeCharDevice != 0:
		return "a character device"
	case m&fs.ModeDevice != 0:
		return "a block device"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m.IsRegular():
		return "a regular file"
	}
	return "of an unknown kind (" + m.String() + ")"
}
