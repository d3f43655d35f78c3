// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrHex0 says that a text is no hex0 program.
var ErrHex0 = errors.New("bad hex0")

// CompileHex0 compiles hex0, the language in which a bootstrap begins:
//
//	program = { line "\n" }
//	line    = { byte | blank } [ ( "#" | ";" ) comment ]
//	byte    = two hexadecimal digits, of either case, with nothing between them
//
// Errors wrap ErrHex0 and give the line.
func CompileHex0(text []byte) ([]byte, error) {
	var out []byte
	number := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		number++
		if i := bytes.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		for _, word := range bytes.Fields(line) {
			if len(word)%2 != 0 {
				return nil, fmt.Errorf("%w: line %d: %.20q has an odd number of digits", ErrHex0, number, word)
			}
			for i := 0; i < len(word); i += 2 {
				high, low := digit(word[i]), digit(word[i+1])
				if high < 0 || low < 0 {
					return nil, fmt.Errorf("%w: line %d: %q is no byte", ErrHex0, number, word[i:i+2])
				}
				out = append(out, byte(high<<4|low))
			}
		}
	}
	return out, nil
}

// digit is the value of a hexadecimal digit, or -1.
func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
