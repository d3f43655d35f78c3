// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package conformance holds the two importers of LBPAYLD1 containers, internal/payload in Go and
// cmd/payload-import/payload-import.c, to the same behaviour: one table of cases, containers cut at every byte and
// mutated containers are run against both, and verdict and resulting directory must agree. The C program's search for
// disks and its handling of failing system calls are tested here too, because they need a compiler and a driver.
//
// It has tests only; nothing imports it. The C program is compiled on the spot: by gcc with AddressSanitizer and UBSan
// and by tcc. A missing compiler skips its tests on a contributor's machine and fails them when CI is set.
package conformance
