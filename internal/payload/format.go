// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Magic is the first eight bytes of every container.
const Magic = "LBPAYLD1"

// SumsName is the name of the file that, as the first one of a container, lists the sha256 of all that follow.
const SumsName = "SHA256SUMS"

// TempName is what a file is called in the destination while it is incomplete. No container may use it as a name.
// Importers remove a left-over of that name before they begin.
const TempName = ".payload-import.tmp"

// Align is what Write pads a container to, in bytes. Fiwix cannot read the last sector of a disk that has an odd number
// of them, and reads in blocks of at most 4 KiB.
const Align = 4096

// The limits of what is read and written. They are the same in payload-import.c, which has fixed tables.
const (
	MaxName  = 1024      // bytes in one name
	MaxFiles = 16384     // files in a container, SHA256SUMS included
	MaxNames = 1 << 20   // bytes in all names together
	MaxSize  = 1<<31 - 1 // bytes in one file: what a 32-bit guest can count
)

// maxSums is the longest SHA256SUMS that the limits above allow: 64 digits, two separators and a newline a file.
const maxSums = MaxFiles*67 + MaxNames

// BufferSize is how many bytes are read or written in one call, at the beginnings and ends of files excepted.
const BufferSize = 256 << 10

// What can be wrong with a container, or with its import. Every error of this package about a container wraps one.
var (
	ErrNotPayload = errors.New("not an LBPAYLD1 container")
	ErrTruncated  = errors.New("container is cut short")
	ErrLimit      = errors.New("beyond the limits of the format")
	ErrName       = errors.New("bad file name")
	ErrDuplicate  = errors.New("duplicate file name")
	ErrSums       = errors.New("bad " + SumsName)
	ErrNoSums     = errors.New("container has no " + SumsName)
	ErrChecksum   = errors.New("wrong sha256")
	ErrWrongID    = errors.New("wrong payload")
	ErrRange      = errors.New("fewer files than asked for")
	ErrNoSpace    = errors.New("not enough space")
	ErrSource     = errors.New("source is not what it was said to be")
)

// Error says where in a container something is wrong.
type Error struct {
	File   string // the name of the file concerned, "" before the first
	Offset int64  // in bytes from the start of the container
	Err    error
}

// Error returns one line with the file, the offset and the cause.
func (e *Error) Error() string {
	if e.File == "" {
		return fmt.Sprintf("payload: offset %d: %v", e.Offset, e.Err)
	}
	return fmt.Sprintf("payload: %s: offset %d: %v", printable(e.File), e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// printable returns name as it may be shown on a terminal, cut to a readable length.
func printable(name string) string {
	const longest = 120
	if len(name) > longest {
		name = name[:longest] + "..."
	}
	quoted := fmt.Sprintf("%q", name)
	return quoted[1 : len(quoted)-1]
}

// Header describes one file of a container.
type Header struct {
	Index  int    // 0-based position in the container, SHA256SUMS included
	Name   string // a plain file name, valid in the sense of CheckName
	Size   int64  // in bytes
	Offset int64  // of the file's first byte, from the start of the container
}

// CheckName reports, as an error that wraps ErrName, why name may not stand in a container: it must have 1 to MaxName
// bytes of valid UTF-8 with no slash, backslash or control byte, and not be ".", ".." or TempName.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > MaxName:
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrName, len(name), MaxName)
	case name == "." || name == ".." || name == TempName:
		return fmt.Errorf("%w: %q is reserved", ErrName, name)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: not UTF-8", ErrName)
	}
	for i := range len(name) {
		if c := name[i]; c == '/' || c == '\\' || c < 0x20 || c == 0x7f {
			return fmt.Errorf("%w: byte %#02x is not allowed", ErrName, c)
		}
	}
	return nil
}

// nameSet collects the names of one container and refuses what is a second time there or too much.
type nameSet struct {
	seen  map[string]struct{}
	bytes int
}

// newNameSet returns the set of the files that SHA256SUMS may list: its own name is taken.
func newNameSet() nameSet {
	return nameSet{seen: map[string]struct{}{SumsName: {}}, bytes: len(SumsName)}
}

// add enters a name that CheckName accepts.
func (s *nameSet) add(name string) error {
	if _, ok := s.seen[name]; ok {
		return ErrDuplicate
	}
	if s.seen == nil {
		s.seen = make(map[string]struct{})
	}
	s.bytes += len(name)
	if s.bytes > MaxNames {
		return fmt.Errorf("%w: the names together exceed %d bytes", ErrLimit, MaxNames)
	}
	s.seen[name] = struct{}{}
	return nil
}
