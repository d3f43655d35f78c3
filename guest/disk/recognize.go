// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package disk

import (
	"bytes"
	"encoding/binary"
)

// HeadSize and TailSize are how much of a disk Recognize wants to see, in bytes, from its start and up to its end: where
// partition tables, boot loaders and filesystems have their marks, and where a GPT has its second copy.
const (
	HeadSize = 1 << 20
	TailSize = 64 * SectorSize
)

// Content is what a disk was found to hold.
type Content int

// What a disk can hold. A bootstrap may take a disk that is blank, one that was taken by a bootstrap before, and the
// one that it was booted from; all others are somebody's.
const (
	Foreign Content = iota
	Blank
	Ours
	BuilderHex0
)

// MayPartition reports whether a bootstrap may put its partition table on a disk.
func (c Content) MayPartition() bool { return c == Blank || c == Ours || c == BuilderHex0 }

// Recognize says what a disk holds, from its first HeadSize and last TailSize bytes, and for a foreign one what it looks
// like, in words. It knows what it allows and refuses the rest, so that what nobody has thought of is safe.
func Recognize(head, tail []byte) (Content, string) {
	switch {
	case len(head) < HeadSize || len(tail) < TailSize:
		return Foreign, "something smaller than a disk"
	case isZero(head) && isZero(tail):
		return Blank, ""
	case isOurs(head[:SectorSize]):
		return Ours, ""
	case isBuilderHex0(head[:SectorSize]):
		return BuilderHex0, ""
	}
	return Foreign, describe(head)
}

// signature is a mark of something on a disk.
type signature struct {
	offset int
	magic  string
	name   string
}

// signatures are for people only: what is on a disk that is refused anyway. Offsets are those of util-linux' libblkid.
func signatures() []signature {
	return []signature{
		{0, "LBPAYLD1", "a payload"},
		{512, "EFI PART", "a GPT partition table"}, {4096, "EFI PART", "a GPT partition table"},
		{0, "LUKS\xba\xbe", "a LUKS volume"}, {512, "LABELONE", "an LVM volume"}, {0, "LABELONE", "an LVM volume"},
		{1080, "\x53\xef", "an ext2, ext3 or ext4 filesystem"}, {0, "XFSB", "an XFS filesystem"},
		{0x10040, "_BHRfS_M", "a btrfs filesystem"}, {1024, "\x10\x20\xf5\xf2", "an F2FS filesystem"},
		{3, "NTFS    ", "an NTFS filesystem"}, {3, "EXFAT   ", "an exFAT filesystem"},
		{54, "FAT", "a FAT filesystem"}, {82, "FAT32", "a FAT filesystem"}, {32769, "CD001", "an ISO 9660 image"},
		{4086, "SWAPSPACE2", "swap space"}, {0, "hsqs", "a squashfs image"},
	}
}

func describe(head []byte) string {
	for _, s := range signatures() {
		if bytes.HasPrefix(head[s.offset:], []byte(s.magic)) {
			return s.name
		}
	}
	if head[510] == 0x55 && head[511] == 0xaa {
		for i := range 4 {
			entry := head[tableOffset+i*entrySize : tableOffset+(i+1)*entrySize]
			if entry[4] != 0 && binary.LittleEndian.Uint32(entry[12:]) != 0 {
				return "a partition table"
			}
		}
		return "a boot sector"
	}
	return "data"
}
