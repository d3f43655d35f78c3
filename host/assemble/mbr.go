// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Where the one partition of a disk begins, in bytes: 1 GiB leaves room for what a boot loader or a builder-hex0 image
// needs before it, 1 MiB is the usual alignment (rootfs.py, lib/utils.py).
const (
	bootableOffset = 1 << 30
	dataOffset     = 1 << 20
)

// maxMBR is the size in bytes of the largest disk that an MBR, which has 32 bits for a number of sectors, can describe.
const maxMBR = math.MaxUint32 * sector

// partitionTable is the first sector of a disk with an MS-DOS label and one partition of type 0x83 (Linux) from offset
// to its end. size and offset are in bytes, multiples of 512. All addresses are logical: those by cylinder, head and
// sector are given as "too large", which is what every reader expects beyond 8 GiB. id is the disk signature.
func partitionTable(size, offset int64, id uint32) ([]byte, error) {
	sectors := (size - offset) / sector
	if size%sector != 0 || offset%sector != 0 || offset < sector || sectors < 1 || size > maxMBR {
		return nil, fmt.Errorf("partition table: a disk of %d bytes cannot have a partition from %d on", size, offset)
	}
	table := make([]byte, sector)
	binary.LittleEndian.PutUint32(table[440:], id)
	entry := table[446:462]
	copy(entry[1:], []byte{0xfe, 0xff, 0xff})
	entry[4] = 0x83
	copy(entry[5:], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], uint32(offset/sector))
	binary.LittleEndian.PutUint32(entry[12:], uint32(sectors))
	table[510], table[511] = 0x55, 0xaa
	return table, nil
}
