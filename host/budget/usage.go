// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// UnknownSize is the size of a file that is known by name only, such as a distfile that has not been fetched.
const UnknownSize = -1

// largestItems is how many of the largest files a Usage keeps.
const largestItems = 10

// Item is a file on a medium.
type Item struct {
	Path string `json:"path"` // in the guest, such as "/steps/manifest"
	Size int64  `json:"size"` // bytes, or UnknownSize
}

// Usage is what the first medium makes builder-hex0 hold before anything is built. Measure makes one.
type Usage struct {
	// Files is how many files come into being while the medium is loaded: one for each record, directories and empty
	// files included, because builder-hex0 spends a file on each.
	Files int64
	// Bytes is the size of those files whose size is known.
	Bytes int64
	// Distfiles is the part of Bytes that stands in /external/distfiles.
	Distfiles int64
	// Largest are the ten largest files, the largest first.
	Largest []Item
	// Unknown are the paths of those whose size is not known: Bytes is "at least" then.
	Unknown []string
	// LongestPath is the longest path.
	LongestPath string
}

// distfilesDir is where all distfiles stand in the guest.
const distfilesDir = "/external/distfiles/"

// Measure adds up the entries of the first medium: everything that gets a record in srcfs, and everything that the
// commands behind it make. A size below 0 is unknown.
func Measure(items []Item) Usage {
	var u Usage
	known := make([]Item, 0, len(items))
	for _, item := range items {
		u.Files++
		if len(item.Path) > len(u.LongestPath) {
			u.LongestPath = item.Path
		}
		if item.Size < 0 {
			u.Unknown = append(u.Unknown, item.Path)
			continue
		}
		u.Bytes = add(u.Bytes, item.Size)
		if strings.HasPrefix(item.Path, distfilesDir) {
			u.Distfiles = add(u.Distfiles, item.Size)
		}
		known = append(known, item)
	}
	slices.Sort(u.Unknown)
	u.Largest = largest(known)
	return u
}

// largest are the largest of the items, by size and then by path; items is reordered.
func largest(items []Item) []Item {
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Path, b.Path))
	})
	return slices.Clone(items[:min(len(items), largestItems)])
}

// add and times stay at the largest number instead of wrapping: sizes come from outside. Neither takes negative ones.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func times(a, b int64) int64 {
	if a > 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}
