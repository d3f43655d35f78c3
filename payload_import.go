// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package kindling holds what has to stand at the root of the module: sources in other languages that the host puts
// into boot media, and that a Go file cannot stand beside or reach from below. It does nothing; the host imports it.
package kindling

import _ "embed" // for PayloadImportSource

// PayloadImportSource is cmd/payload-import/payload-import.c: the importer that the bootstrap compiles with its own tcc
// and runs under Fiwix. See docs/payload.md.
//
//go:embed cmd/payload-import/payload-import.c
var PayloadImportSource []byte
