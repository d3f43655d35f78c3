// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package imagefile

import (
	"errors"
	"fmt"
	"io"
)

// Named is the chain of an image that the user names: one file, raw or qcow2, that needs no other file. Where the user
// does not state the format (""), the beginning of the file decides between these two. Every other format is refused by
// its name, and so is what only looks like one: a raw disk begins with what its guest has written there. For a file that
// the user states to be raw nothing is looked at.
func Named(path string, format Format) (Chain, error) {
	stated := format != ""
	if !stated {
		var err error
		if format, err = detect(path); err != nil {
			return nil, fmt.Errorf("image %s: %w", path, err)
		}
	}
	c := Chain{{path, format}}
	err := c.Check()
	if err != nil && !stated && errors.Is(err, ErrFormat) {
		err = fmt.Errorf("%w (%s)", err, rawHint)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

const rawHint = "if it is a raw disk whose first bytes only look like that, state the format raw"

// signature is how a format is known that is not supported.
type signature struct {
	driver string // QEMU's name
	name   string
	at     int64 // from the end if negative
	magic  string
}

// signatures are those of the formats that QEMU knows (block/*.c). The older qcow has its version in the header.
func signatures() []signature {
	return []signature{
		{"qcow", "qcow", 0, "QFI\xfb\x00\x00\x00\x01"},
		{"qed", "QED", 0, "QED\x00"},
		{"vmdk", "VMDK", 0, "KDMV"},
		{"vmdk", "VMDK", 0, "COWD"},
		{"vmdk", "VMDK", 0, "# Disk DescriptorFile"},
		{"vmdk", "VMDK", 0, "version="}, // its comment line is optional
		{"vdi", "VDI", 0x40, "\x7f\x10\xda\xbe"},
		{"vhdx", "VHDX", 0, "vhdxfile"},
		{"vpc", "VHD", 0, "conectix"},
		{"vpc", "VHD", -512, "conectix"},
		{"luks", "LUKS", 0, "LUKS\xba\xbe"},
		{"parallels", "Parallels", 0, "WithoutFreeSpace"},
		{"parallels", "Parallels", 0, "WithouFreSpacExt"},
		{"cloop", "cloop", 0, "#!/bin/sh\n#V2.0 Format\n"},
		{"dmg", "DMG", -512, "koly"},
		{"bochs", "Bochs", 0, "Bochs Virtual HD Image"},
	}
}

// detect decides between raw and qcow2 by the magic of a file.
func detect(path string) (_ Format, err error) {
	f, size, err := openFile(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	has := func(at int64, magic string) bool {
		if at < 0 {
			at += size
		}
		b := make([]byte, len(magic))
		_, readErr := f.ReadAt(b, max(at, 0))
		if !errors.Is(readErr, io.EOF) {
			err = errors.Join(err, readErr)
		}
		return string(b) == magic
	}
	for _, s := range signatures() {
		if has(s.at, s.magic) {
			return "", fmt.Errorf("%w: %s, want raw or qcow2; 'qemu-img convert -f %s -O raw' makes a raw one (%s)", ErrFormat, s.name, s.driver, rawHint)
		}
	}
	if has(0, qcow2Magic) {
		return QCOW2, err
	}
	return Raw, err
}
