// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"cmp"
	"slices"
	"strings"
)

// afterOrder picks the shell scripts among names and puts them in numeric order of their basename: 9-x.sh before
// 10-x.sh, names without a number first, equal numbers in byte order. It is the order of `sort -n`.
func afterOrder(names []string) []string {
	var scripts []string
	for _, n := range names {
		if strings.HasSuffix(n, ".sh") && !strings.HasPrefix(n, ".") {
			scripts = append(scripts, n)
		}
	}
	slices.SortFunc(scripts, func(a, b string) int {
		return cmp.Or(compareNumbers(leadingNumber(a), leadingNumber(b)), strings.Compare(a, b))
	})
	return scripts
}

// leadingNumber gives the digits that a name starts with, without leading zeros: "" stands for 0.
func leadingNumber(name string) string {
	end := 0
	for end < len(name) && name[end] >= '0' && name[end] <= '9' {
		end++
	}
	return strings.TrimLeft(name[:end], "0")
}

// compareNumbers compares two results of leadingNumber, of any length.
func compareNumbers(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
