// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package disk knows what is on a disk and what may be put there: names of disks and partitions, the DOS partition
// table with the one partition that a bootstrap makes, and the copy of a root filesystem.
//
// Everything that decides works on bytes and names and is free of effects; callers (package guest) open devices and
// decide what an error means for the run. Nothing here formats anything.
package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// SectorSize is the unit, in bytes, of the numbers in a DOS partition table.
const SectorSize = 512

// FirstSector is where the bootstrap's partition starts: 1 GiB. What stands before it on the disk that the machine was
// started from is builder-hex0's image. The number is that of live-bootstrap's steps/jump/move_disk.sh.
const FirstSector = 2097152

// minSectors is the smallest partition that is worth making: 64 MiB.
const minSectors = 64 << 20 / SectorSize

const (
	idOffset       = 440  // offset of the number that tells a disk from others, 4 bytes
	tableOffset    = 446  // offset of the first of four 16-byte entries
	entrySize      = 16   // bytes of one of them
	linuxPartition = 0x83 // partition type "Linux"
	gptPartition   = 0xee // the whole disk, whose table is a GPT
)

// Errors of this package. They are wrapped with the numbers that matter.
var (
	ErrTooSmall = errors.New("disk too small")
	ErrInUse    = errors.New("disk cannot be used")
)

// isOurs reports whether a first sector holds exactly the table that WithPartition makes: one entry, type Linux, from
// FirstSector on.
func isOurs(sector []byte) bool {
	table := sector[tableOffset : tableOffset+4*entrySize]
	return sector[510] == 0x55 && sector[511] == 0xaa && table[4] == linuxPartition &&
		binary.LittleEndian.Uint32(table[8:]) == FirstSector && isZero(table[entrySize:])
}

// isBuilderHex0 reports whether a first sector is that of a builder-hex0 image. Its source, builder-hex0-x86-stage1.hex0,
// puts one entry into the table so that firmware takes the disk for bootable: active, type 0xB5, from sector 1 to
// beyond every disk.
func isBuilderHex0(sector []byte) bool {
	entry := []byte{0x80, 0x00, 0x02, 0x00, 0xb5, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff}
	return sector[510] == 0x55 && sector[511] == 0xaa && bytes.Equal(sector[tableOffset:tableOffset+entrySize], entry)
}

func isZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }

// WithPartition returns a copy of a first sector with one Linux partition from FirstSector to the end of a disk of that
// many sectors (of 2 TiB at most, which is what a DOS table can say). The boot code in the sector stays; a disk without
// a number gets id.
func WithPartition(sector []byte, sectors uint64, id uint32) ([]byte, error) {
	if len(sector) != SectorSize {
		return nil, fmt.Errorf("first sector of %d bytes, want %d", len(sector), SectorSize)
	}
	if sectors < FirstSector+minSectors {
		return nil, fmt.Errorf("%w: %d MiB, at least %d MiB are needed (the partition starts at %d MiB)", ErrTooSmall,
			sectors*SectorSize>>20, (FirstSector+minSectors)*SectorSize>>20, FirstSector*SectorSize>>20)
	}
	out := bytes.Clone(sector)
	if isZero(out[idOffset : idOffset+4]) {
		binary.LittleEndian.PutUint32(out[idOffset:], id)
	}
	table := out[tableOffset:]
	clear(table[:4*entrySize])
	// CHS addresses are set to the value for "beyond CHS"; every kernel since 2.2 reads the LBA fields.
	copy(table, []byte{0, 0xfe, 0xff, 0xff, linuxPartition, 0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(table[8:], FirstSector)
	binary.LittleEndian.PutUint32(table[12:], uint32(min(sectors-FirstSector, 1<<32-1)))
	out[510], out[511] = 0x55, 0xaa
	return out, nil
}

// PartUUID is a partition as the kernel finds it under any name (root=PARTUUID=, Linux, block/partitions/msdos.c), given
// the first sector of its disk; "" if that has no DOS table, or no number, which other disks may not have either.
func PartUUID(sector []byte, part int) string {
	if len(sector) < SectorSize || sector[510] != 0x55 || sector[511] != 0xaa || sector[tableOffset+4] == gptPartition || part == 0 {
		return ""
	}
	id := binary.LittleEndian.Uint32(sector[idOffset:])
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%08x-%02x", id, part)
}
