// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options

import (
	"fmt"
	"strconv"
	"strings"
)

// largest bounds every number of the command line; in MiB it is a PiB.
const largest = 1 << 30

// Count is a decimal number, 0 to 2^30.
type Count int

// UnmarshalText parses decimal digits; kong calls it.
func (c *Count) UnmarshalText(text []byte) error {
	n, err := parseDecimal(string(text))
	if err != nil {
		return err
	}
	*c = Count(n)
	return nil
}

// String is the number in decimal.
func (c Count) String() string { return strconv.Itoa(int(c)) }

// MiB is a size in MiB (2^20 bytes), 0 to 2^30.
type MiB int

// UnmarshalText parses decimal digits with an optional unit: g or G for GiB, m or M for MiB, which is the default, as
// in rootfs.py; kong calls it.
func (m *MiB) UnmarshalText(text []byte) error {
	digits, unit := string(text), 1
	if trimmed := strings.TrimRight(digits, "gG"); len(trimmed) == len(digits)-1 {
		digits, unit = trimmed, 1024
	} else if trimmed := strings.TrimRight(digits, "mM"); len(trimmed) == len(digits)-1 {
		digits = trimmed
	}
	n, err := parseDecimal(digits)
	if err != nil || n > largest/unit {
		return fmt.Errorf("%q is no size: write a number of MiB, or one with G or M", string(text))
	}
	*m = MiB(n * unit)
	return nil
}

// String is the number of MiB in decimal, without a unit.
func (m MiB) String() string { return strconv.Itoa(int(m)) }

// Bytes is the size in bytes.
func (m MiB) Bytes() int64 { return int64(m) << 20 }

func parseDecimal(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n > largest || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("%q is no number from 0 to %d", s, largest)
	}
	return int(n), nil
}
