// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package assemble makes the boot media of a live-bootstrap tree: what rootfs.py puts on them, with a payload image and
// the agent where they are asked for, the same bytes on every host, without root.
//
// Plan decides everything and writes nothing: which medium has which files, of which size, from where, and what stands in
// bootstrap.cfg. Write then writes it, each byte once, straight from the tree and the distfiles, whose sha256 is
// checked as they pass by. A medium gets its name when it is complete. The tree is only read.
//
// The package asks no network and starts no machine; mke2fs is the one program it runs (for disks with a filesystem),
// and mount, when a tmpfs is asked for. It is called by cmd/host.
package assemble
