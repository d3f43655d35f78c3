// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package packages

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ListName is the file of a root that has the sums of its packages.
const ListName = "SHA256SUMS.pkgs"

// Limits of a list. The tree's has 154 lines.
const (
	maxLines = 1 << 16
	maxLine  = 1 << 10
)

// ErrList says that a list of sums cannot be read.
var ErrList = errors.New("not a list of packages with their sha256")

// Sum is one line of a list: a package and the sha256 that it shall have, in lower-case hex.
type Sum struct {
	Name   string
	SHA256 string
}

// ParseSums reads a list in the format of the sha256sum program; name is for errors, which wrap ErrList. No package may
// stand there twice.
func ParseSums(name string, r io.Reader) ([]Sum, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	var sums []Sum
	seen := map[string]bool{}
	for number := 1; in.Scan(); number++ {
		sum, file, found := strings.Cut(in.Text(), " ")
		file, text := strings.CutPrefix(file, " ")
		if !text {
			file, text = strings.CutPrefix(file, "*")
		}
		switch {
		case !found || !text || !isSum(sum) || !isArchive(file):
			return nil, fmt.Errorf("%s:%d: %w: write the sum, two blanks and NAME_REVISION.tar.bz2", name, number, ErrList)
		case seen[file]:
			return nil, fmt.Errorf("%s:%d: %w: %s stands there twice", name, number, ErrList, file)
		case number > maxLines:
			return nil, fmt.Errorf("%s: %w: more than %d lines", name, ErrList, maxLines)
		}
		seen[file] = true
		sums = append(sums, Sum{Name: file, SHA256: sum})
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrList, err)
	}
	return sums, nil
}

// isSum reports lower-case hex of the right length.
func isSum(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// isArchive reports a name that a package's archive can have, and that is safe as a file name here.
func isArchive(name string) bool {
	stem, found := strings.CutSuffix(name, archiveSuffix)
	return found && stem != "" && len(name) <= 255 && stem[0] != '.' && stem[0] != '-' &&
		strings.Trim(stem, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~@-") == ""
}
