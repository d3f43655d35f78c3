// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package diskimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Partition is a part of a disk. The zero Number is the disk as a whole.
type Partition struct {
	Number int
	Offset int64 // bytes
	Size   int64 // bytes
	DiskID uint32
}

// PartUUID is the partition as Linux' root=PARTUUID= names it (block/partitions/msdos.c), "" for a whole disk.
func (p Partition) PartUUID() string {
	if p.Number == 0 {
		return ""
	}
	return fmt.Sprintf("%08x-%02x", p.DiskID, p.Number)
}

const (
	sectorSize  = 512
	labelID     = 440 // offset of the disk's number in the first sector
	labelTable  = 446 // offset of the four entries
	entrySize   = 16
	extendedCHS = 0x05
	extendedLBA = 0x0f
)

// partitions reads the primary partitions of an MS-DOS label, in order; none if there is no label. What lies outside
// the image is cut, or left out.
func partitions(r io.ReaderAt, size int64) ([]Partition, error) {
	sector := make([]byte, sectorSize)
	if _, err := r.ReadAt(sector, 0); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return nil, nil
	}
	var parts []Partition
	for i := range 4 {
		e := sector[labelTable+i*entrySize : labelTable+(i+1)*entrySize]
		p := Partition{Number: i + 1, DiskID: binary.LittleEndian.Uint32(sector[labelID:]),
			Offset: int64(binary.LittleEndian.Uint32(e[8:])) * sectorSize, Size: int64(binary.LittleEndian.Uint32(e[12:])) * sectorSize}
		p.Size = min(p.Size, size-p.Offset)
		if e[4] == 0 || e[4] == extendedCHS || e[4] == extendedLBA || p.Offset == 0 || p.Size <= 0 {
			continue
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// bootsGRUB reports whether a first sector is GRUB's: its boot.img carries the name for its error messages.
func bootsGRUB(sector []byte) bool {
	const errorText = 0x180 // grub-core/boot/i386/pc/boot.S: "GRUB " and the messages stand behind the code
	return len(sector) == sectorSize && sector[510] == 0x55 && sector[511] == 0xaa && containsGRUB(sector[errorText:labelID])
}

func containsGRUB(b []byte) bool {
	for i := range len(b) - 4 {
		if string(b[i:i+4]) == "GRUB" {
			return true
		}
	}
	return false
}

// BootsGRUB reports whether GRUB is in the disk's first sector.
func (i *Image) BootsGRUB() (bool, error) {
	sector := make([]byte, sectorSize)
	if _, err := i.disk.ReadAt(sector, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bootsGRUB(sector), nil
}
