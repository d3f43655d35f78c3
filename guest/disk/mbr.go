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
	tableOffset    = 446  // offset of the first of four 16-byte entries
	linuxPartition = 0x83 // partition type "Linux"
)

// Errors of this package. They are wrapped with the numbers that matter.
var (
	ErrTooSmall = errors.New("disk too small")
	ErrInUse    = errors.New("disk holds something else")
)

// Table says what a first sector holds.
type Table int

// What a first sector can hold.
const (
	TableNone   Table = iota // no partition table: a blank disk, or the boot sector of builder-hex0
	TableOurs                // exactly the partition that WithPartition makes
	TableOthers              // some other partition table
)

// ReadTable looks at a first sector of SectorSize bytes on a disk of that many sectors.
//
// builder-hex0's boot sector carries code where the partition table would be, with the same 0x55AA signature, so bytes
// there are a table only if every entry that is not empty could be one: a status byte of 0x00 or 0x80, a type, and a
// start and length inside the disk.
func ReadTable(sector []byte, sectors uint64) Table {
	if len(sector) < SectorSize || sector[510] != 0x55 || sector[511] != 0xaa {
		return TableNone
	}
	var used int
	for i := range 4 {
		entry := sector[tableOffset+16*i : tableOffset+16*i+16]
		if bytes.Equal(entry, make([]byte, 16)) {
			continue
		}
		start, length := binary.LittleEndian.Uint32(entry[8:]), binary.LittleEndian.Uint32(entry[12:])
		if entry[0]&0x7f != 0 || entry[4] == 0 || length == 0 || uint64(start)+uint64(length) > sectors {
			return TableNone
		}
		used++
	}
	first := sector[tableOffset : tableOffset+16]
	switch {
	case used == 0:
		return TableNone
	case used == 1 && first[4] == linuxPartition && binary.LittleEndian.Uint32(first[8:]) == FirstSector:
		return TableOurs
	}
	return TableOthers
}

// WithPartition returns a copy of a first sector with one Linux partition from FirstSector to the end of a disk of that
// many sectors. The boot code in the sector stays.
func WithPartition(sector []byte, sectors uint64) ([]byte, error) {
	if len(sector) != SectorSize {
		return nil, fmt.Errorf("first sector of %d bytes, want %d", len(sector), SectorSize)
	}
	if sectors < FirstSector+minSectors {
		return nil, fmt.Errorf("%w: %d MiB, at least %d MiB are needed (the partition starts at %d MiB)", ErrTooSmall,
			sectors*SectorSize>>20, (FirstSector+minSectors)*SectorSize>>20, FirstSector*SectorSize>>20)
	}
	out := bytes.Clone(sector)
	table := out[tableOffset:]
	clear(table[:64])
	// CHS addresses are set to the value for "beyond CHS"; every kernel since 2.2 reads the LBA fields.
	copy(table, []byte{0, 0xfe, 0xff, 0xff, linuxPartition, 0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(table[8:], FirstSector)
	binary.LittleEndian.PutUint32(table[12:], uint32(min(sectors-FirstSector, 1<<32-1)))
	out[510], out[511] = 0x55, 0xaa
	return out, nil
}
