// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package budget holds the early kernels' limits against what a bootstrap brings along, before anything is written.
//
// The limits are read out of the tree (ReadLimits): out of jump/fiwix.sh, kexec-fiwix.c, the custom headers of Fiwix,
// builder-hex0's README and memory map, and out of the headers in Fiwix' own distfile where that is at hand. A number
// that is not found there is a documented default, and every table says so. Compute holds a Usage and the layout of the
// payload against them and makes the Report that "kindling plan" prints. What depends on build products is an estimate
// out of a documented table and labelled; docs/budgets.md explains every row.
//
// The package never writes, starts or measures anything on this machine: readers and values in, values out. Its callers
// are cmd/host (plan, assemble, run) and host/planview; host/assemble lists what goes into it.
package budget
