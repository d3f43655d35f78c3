// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kindling/host/tree"
)

// Entry is one file, folder or link of a medium.
type Entry struct {
	Path string // relative to the root of the medium, with slashes; "" for that root itself
	Dir  bool
	Exec bool   // a file that may be executed: mode 0755 in place of 0644; folders are always 0755
	Link string // of a symbolic link: where it leads; only an early preseed has them
	Size int64  // of a file, in bytes

	// What a file holds: Data, or, if Source is set, that file of the host, or what Archive names in the preseed.
	Data    []byte
	Source  *tree.Source
	Archive string

	// SHA256 is what a file must have, in lower-case hex; it is checked while it is copied. "" is not checked.
	SHA256 string
}

// ErrSource says that a file of the host does not hold what it must; tree.ErrChanged says that it is another one by now.
var ErrSource = errors.New("source is not what it should be")

// Open opens the content of a file. The file of the host must still be the one that was decided on.
func (e *Entry) Open() (io.ReadCloser, error) {
	switch {
	case e.Source == nil:
		return io.NopCloser(bytes.NewReader(e.Data)), nil
	case e.Source.Size != e.Size: // of a preseed that was unpacked a second time
		return nil, fmt.Errorf("%s: %w: %d bytes instead of %d", e.Source.Path, ErrSource, e.Source.Size, e.Size)
	}
	return e.Source.Open()
}

// mode is the mode of the entry in a filesystem. Of the host's permission bits only "executable" counts, as for git:
// the others depend on the umask of whoever checked the tree out.
func (e *Entry) mode() fs.FileMode {
	if e.Dir || e.Exec {
		return 0o755
	}
	return 0o644
}

// fileset collects the entries of a medium: one for each path, the last one counts.
type fileset struct {
	entries map[string]Entry
	err     error
}

func newFileset() *fileset { return &fileset{entries: map[string]Entry{}} }

// add puts an entry and the folders above it in. The first conflict between a file and a folder is kept for sorted.
func (s *fileset) add(e Entry) {
	for parent := path.Dir(e.Path); parent != "."; parent = path.Dir(parent) {
		if old, found := s.entries[parent]; !found {
			s.entries[parent] = Entry{Path: parent, Dir: true}
		} else if !old.Dir {
			s.fail(fmt.Errorf("%s is a file, and %s shall stand below it", parent, e.Path))
			return
		}
	}
	if old, found := s.entries[e.Path]; found && old.Dir != e.Dir {
		s.fail(fmt.Errorf("%s is a folder in one place and a file in another", e.Path))
		return
	}
	s.entries[e.Path] = e
}

func (s *fileset) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// dir adds a folder.
func (s *fileset) dir(name string) { s.add(Entry{Path: name, Dir: true}) }

// sorted gives the entries in byte order of their paths, which puts each folder before what is in it.
func (s *fileset) sorted() ([]Entry, error) {
	if s.err != nil {
		return nil, s.err
	}
	all := make([]Entry, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}
