// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Sum is one line of SHA256SUMS.
type Sum struct {
	SHA256 string // 64 lower-case hexadecimal digits
	Name   string
}

// FormatSums returns the lines as the sha256sum program prints them in text mode: digits, two spaces, name, newline.
// Names that CheckName accepts never need that program's escapes.
func FormatSums(sums []Sum) []byte {
	var b bytes.Buffer
	for _, s := range sums {
		b.WriteString(s.SHA256 + "  " + s.Name + "\n")
	}
	return b.Bytes()
}

// ParseSums reads a whole SHA256SUMS. The grammar is
//
//	file = { digits " " mark name "\n" }
//	digits = 64 hexadecimal digits, of either case
//	mark = " " (text) | "*" (binary)
//
// A name must satisfy CheckName and stand there once; SHA256SUMS does not list itself. Errors wrap ErrSums, with ErrName,
// ErrDuplicate or ErrLimit where that is the reason, and give the number of the line.
func ParseSums(data []byte) ([]Sum, error) {
	if len(data) > maxSums {
		return nil, fmt.Errorf("%w: %w: %d bytes, at most %d are allowed", ErrSums, ErrLimit, len(data), maxSums)
	}
	var sums []Sum
	names := newNameSet()
	for line := 1; len(data) > 0; line++ {
		text, rest, ok := bytes.Cut(data, []byte{'\n'})
		if !ok {
			return nil, fmt.Errorf("%w: line %d: no newline at its end", ErrSums, line)
		}
		data = rest
		s, err := parseSum(string(text))
		if err == nil {
			err = names.add(s.Name)
		}
		if err == nil && line >= MaxFiles {
			err = fmt.Errorf("%w: more than %d lines", ErrLimit, MaxFiles-1)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrSums, line, err)
		}
		sums = append(sums, s)
	}
	return sums, nil
}

// parseSum reads one line without its newline.
func parseSum(line string) (Sum, error) {
	const digits = 2 * sha256.Size
	if len(line) < digits+3 || line[digits] != ' ' || (line[digits+1] != ' ' && line[digits+1] != '*') {
		return Sum{}, fmt.Errorf("not \"<64 digits>  <name>\"")
	}
	s := Sum{SHA256: strings.ToLower(line[:digits]), Name: line[digits+2:]}
	if !isDigest(s.SHA256) {
		return Sum{}, fmt.Errorf("not \"<64 digits>  <name>\"")
	}
	if err := CheckName(s.Name); err != nil {
		return Sum{}, err
	}
	return s, nil
}

// isDigest reports whether s is a sha256 in lower-case hexadecimal.
func isDigest(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*sha256.Size && s == strings.ToLower(s)
}
