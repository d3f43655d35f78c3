// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"bytes"
	"io"
)

// Signature is something that the bytes of a disk look like.
type Signature struct {
	Name  string // "ext4 filesystem", "GPT partition table"
	Label string // the name that its user gave it, "" if there is none
}

// text is where a label stands.
type text struct {
	at, size int64
	wide     bool // UTF-16LE
}

// mark is one row of the table of signatures: bytes that stand at a place.
type mark struct {
	name  string
	at    int64
	bytes string
	label text
}

// marks are the places and bytes of file(1)'s and libblkid's tables. Of two rows with one name, the first that fits
// counts. ext and MBR are told apart further in functions of their own.
var marks = []mark{
	{name: "GPT partition table", at: 512, bytes: "EFI PART"},
	{name: "GPT partition table", at: 4096, bytes: "EFI PART"},
	{name: "LBPAYLD1 payload", at: 0, bytes: "LBPAYLD1"},
	{name: "LUKS encryption", at: 0, bytes: "LUKS\xba\xbe"},
	{name: "LVM physical volume", at: 512 + 24, bytes: "LVM2 001"},
	{name: "LVM physical volume", at: 24, bytes: "LVM2 001"},
	{name: "md RAID member", at: 4096, bytes: "\xfc\x4e\x2b\xa9"},
	{name: "md RAID member", at: 0, bytes: "\xfc\x4e\x2b\xa9"},
	{name: "xfs filesystem", at: 0, bytes: "XFSB", label: text{at: 108, size: 12}},
	{name: "btrfs filesystem", at: 0x10040, bytes: "_BHRfS_M", label: text{at: 0x1012b, size: 256}},
	{name: "f2fs filesystem", at: 1024, bytes: "\x10\x20\xf5\xf2", label: text{at: 1024 + 0x7c, size: 512, wide: true}},
	{name: "squashfs filesystem", at: 0, bytes: "hsqs"},
	{name: "erofs filesystem", at: 1024, bytes: "\xe2\xe1\xf5\xe0"},
	{name: "ISO 9660 filesystem", at: 0x8001, bytes: "CD001", label: text{at: 0x8028, size: 32}},
	{name: "NTFS filesystem", at: 3, bytes: "NTFS    "},
	{name: "exFAT filesystem", at: 3, bytes: "EXFAT   "},
	{name: "FAT filesystem", at: 0x52, bytes: "FAT32   ", label: text{at: 0x47, size: 11}},
	{name: "FAT filesystem", at: 0x36, bytes: "FAT1", label: text{at: 0x2b, size: 11}},
	{name: "swap space", at: 4096 - 10, bytes: "SWAPSPACE2", label: text{at: 0x41c, size: 16}},
	{name: "ZFS member", at: 128 << 10, bytes: "\x0c\xb1\xba\x00"},
	{name: "ZFS member", at: 132 << 10, bytes: "\x0c\xb1\xba\x00"},
}

// Signatures says what size bytes of a disk or partition look like. What cannot be read is not there. It is for the
// user's eyes, to recognise the disk: an empty result does not mean that the disk is empty.
func Signatures(r io.ReaderAt, size int64) []Signature {
	var found []Signature
	have := map[string]bool{}
	add := func(s Signature) {
		if !have[s.Name] {
			have[s.Name] = true
			found = append(found, s)
		}
	}
	for _, m := range marks {
		if string(window(r, size, m.at, int64(len(m.bytes)))) == m.bytes {
			add(Signature{Name: m.name, Label: m.label.read(r, size)})
		}
	}
	if s, ok := ext(r, size); ok {
		add(s)
	}
	if s, ok := mbr(r, size); ok && !have["GPT partition table"] && !have["FAT filesystem"] &&
		!have["NTFS filesystem"] && !have["exFAT filesystem"] {
		add(s)
	}
	return found
}

// window is n bytes at a place, nil if they are not there.
func window(r io.ReaderAt, size, at, n int64) []byte {
	if at+n > size {
		return nil
	}
	buf := make([]byte, n)
	if got, _ := r.ReadAt(buf, at); int64(got) < n {
		return nil
	}
	return buf
}

// read is the label as text.
func (t text) read(r io.ReaderAt, size int64) string {
	data := window(r, size, t.at, t.size)
	if t.wide {
		narrow := make([]byte, 0, len(data)/2)
		for i := 0; i+1 < len(data); i += 2 {
			if data[i+1] != 0 {
				return "" // beyond Latin-1: not worth a decoder here
			}
			narrow = append(narrow, data[i])
		}
		data = narrow
	}
	data, _, _ = bytes.Cut(data, []byte{0})
	if label := clean(string(data)); label != "NO NAME" { // FAT's word for none
		return label
	}
	return ""
}

// ext tells ext2, ext3 and ext4 apart by the features in their superblock (Linux, fs/ext4/ext4.h).
func ext(r io.ReaderAt, size int64) (Signature, bool) {
	const super, magic, compat, incompat = 1024, 0x38, 0x5c, 0x60
	const hasJournal, extents = 0x4, 0x40
	b := window(r, size, super, 256)
	if b == nil || b[magic] != 0x53 || b[magic+1] != 0xef {
		return Signature{}, false
	}
	s := Signature{Name: "ext2 filesystem", Label: text{at: super + 0x78, size: 16}.read(r, size)}
	switch {
	case b[incompat]&extents != 0:
		s.Name = "ext4 filesystem"
	case b[compat]&hasJournal != 0:
		s.Name = "ext3 filesystem"
	}
	return s, true
}

// mbr recognises a boot sector by its last two bytes, and one with partitions by an entry that has a type.
func mbr(r io.ReaderAt, size int64) (Signature, bool) {
	const table, entry, kind = 446, 16, 4
	b := window(r, size, 0, sectorSize)
	if b == nil || b[510] != 0x55 || b[511] != 0xaa {
		return Signature{}, false
	}
	for i := table; i < 510; i += entry {
		// A boot loader's code may reach into the table: an entry is "active" (0x80) or not (0), nothing else.
		if b[i]&0x7f != 0 {
			return Signature{Name: "boot sector"}, true
		}
	}
	for i := table; i < 510; i += entry {
		if b[i+kind] != 0 {
			return Signature{Name: "MBR partition table"}, true
		}
	}
	return Signature{Name: "boot sector"}, true
}
