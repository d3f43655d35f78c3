// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package payload reads, writes, checks and imports LBPAYLD1 containers: the flat images that carry distfiles to the
// guest on a raw disk of their own, where no filesystem tool is at hand yet.
//
// A container is (all numbers little-endian):
//
//	8 bytes  magic "LBPAYLD1"
//	u64      number of files
//	per file: u64 length of the name in bytes, u64 size in bytes, name (UTF-8, no terminator), data
//
// An older draft used u32 for every number. Readers tell the two apart by bytes 12 to 15: in the u64 form they are the
// high half of the number of files and so zero, in the u32 form they are the length of the first name and so not zero.
// A u32 container without files cannot be told from a cut u64 one and is refused as cut.
//
// The first file of a container that Kindling writes is SHA256SUMS, in the format of the sha256sum program, one line a
// file, in the order of the files that follow. Its own sha256 is the payload's ID, so one number stands for names,
// order and contents. Where a container starts with SHA256SUMS, readers hold every file against it.
//
// Everything read is hostile: each length is capped (see the Max constants), a cut at any byte is an error, and every
// error is an *Error that names the file and the byte offset and wraps one of the Err values. What one file holds is
// never in memory as a whole, SHA256SUMS excepted.
//
// The package opens no disks and looks for none: it is given an io.Reader. It writes below the one directory it is
// told and nowhere else. The host calls Write, Layout, List and Verify; the guest's agent calls Probe and Import;
// payload-import.c is the same importer for the kernels before Linux, and the conformance package below holds both to
// one table of cases.
package payload
