// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package imagefile names the files that make up a virtual disk, and their formats.
//
// The format of every file is recorded or given, never probed: a guest can write any format's header to its raw disk.
// Headers are read only to refuse what does not match the record (Check), and, for an image that the user names, to tell
// qcow2 from raw (Named). A disk is read in place (Open), without a copy and bounded by what its files hold, whatever
// their tables claim. The package writes nothing and starts no program. It is called by everything that opens a disk:
// diskimage, resume and cmd/host.
package imagefile

import "strings"

// Format is an image file's format, as QEMU names its drivers.
type Format string

// The formats.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
)

// Layer is one file of a disk.
type Layer struct {
	Path   string
	Format Format
}

// Chain is a disk: the file that is written first, then, below it, what it is a layer over.
type Chain []Layer

// Options renders the chain as QEMU's block options, such as "driver=raw,file.driver=file,file.filename=/a". Every driver
// and every backing file is named, so that QEMU neither probes a format nor follows a name in a header.
func (c Chain) Options() string {
	var parts []string
	prefix := ""
	for _, layer := range c {
		parts = append(parts, prefix+"driver="+string(layer.Format), prefix+"file.driver="+protocol(layer.Path),
			prefix+"file.filename="+strings.ReplaceAll(layer.Path, ",", ",,"))
		prefix += "backing."
	}
	return strings.Join(parts, ",")
}

// protocol is QEMU's driver for a file, or for a disk of this machine.
func protocol(path string) string {
	if strings.HasPrefix(path, "/dev/") && !strings.HasPrefix(path, "/dev/shm/") {
		return "host_device"
	}
	return "file"
}
