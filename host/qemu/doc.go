// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package qemu starts one x86 machine in QEMU and ends it again.
//
// Options describe the machine, Validate checks them without touching the machine they run on, Argv renders them (a
// pure function, printed by --dry-run), Start runs them as a child in a process group of its own. The package never
// judges a run: QEMU's exit status does not show the result; package watch reads the guest's events. It never
// signals a process that it did not start. It is called by cmd/host.
package qemu
