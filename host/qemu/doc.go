// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package qemu starts one x86 machine in QEMU and ends it again.
//
// Options describe the machine, Validate checks them without touching the machine they run on, Argv renders them (a
// pure function, printed by --dry-run), Start runs them as a child in a process group of its own. The package never
// judges a run: QEMU's exit status is no evidence of anything, package watch reads what the guest itself says. It never
// signals a process that it did not start. It is called by cmd/host.
package qemu
