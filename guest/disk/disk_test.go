// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, tt := range []struct {
		in, disk  string
		part      int
		partition string // name of partition 1 of its disk
	}{
		{"sda", "sda", 0, "sda1"}, {"/dev/sdb1", "sdb", 1, "sdb1"}, {"sdaa12", "sdaa", 12, "sdaa1"},
		{"hdb", "hdb", 0, "hdb1"}, {"vda3", "vda", 3, "vda1"}, {"xvdc", "xvdc", 0, "xvdc1"},
		{"nvme0n1", "nvme0n1", 0, "nvme0n1p1"}, {"nvme10n2p3", "nvme10n2", 3, "nvme10n2p1"},
		{"mmcblk0", "mmcblk0", 0, "mmcblk0p1"}, {"mmcblk0p2", "mmcblk0", 2, "mmcblk0p1"},
	} {
		got, err := ParseName(tt.in)
		if err != nil || got != (Name{tt.disk, tt.part}) {
			t.Errorf("%s: got %+v, %v", tt.in, got, err)
			continue
		}
		if p := got.Partition(1).String(); p != tt.partition {
			t.Errorf("%s: partition 1 is %s, want %s", tt.in, p, tt.partition)
		}
	}
	for _, bad := range []string{"", "sd", "sda0", "sda1x", "../sda", "nvme0", "nvme0n1p0", "sda p1", "ttyS0", "sda1234"} {
		if got, err := ParseName(bad); err == nil {
			t.Errorf("%q: accepted as %+v", bad, got)
		}
	}
}

func TestPartitionTable(t *testing.T) {
	const sectors = 3 << 30 / SectorSize
	boot := make([]byte, SectorSize)
	for i := range tableOffset {
		boot[i] = byte(i)
	}
	got, err := WithPartition(boot, sectors)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:tableOffset], boot[:tableOffset]) {
		t.Error("the boot code has changed")
	}
	// The entry as fdisk -l shows it: type 83, start 2097152, 4194304 sectors.
	want := []byte{0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0, 0x20, 0, 0, 0, 0x40, 0}
	if !bytes.Equal(got[tableOffset:tableOffset+16], want) {
		t.Errorf("entry % x, want % x", got[tableOffset:tableOffset+16], want)
	}
	if k := ReadTable(got, sectors); k != TableOurs {
		t.Errorf("own table read as %d", k)
	}
	if _, err := WithPartition(boot, FirstSector+10); !errors.Is(err, ErrTooSmall) {
		t.Errorf("small disk: %v", err)
	}
}

func TestReadTable(t *testing.T) {
	const sectors = 4 << 30 / SectorSize
	blank := make([]byte, SectorSize)
	signed := bytes.Clone(blank)
	signed[510], signed[511] = 0x55, 0xaa
	other := bytes.Clone(signed)
	copy(other[tableOffset:], []byte{0x80, 0, 0, 0, 0x07, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0})
	two, err := WithPartition(other, sectors)
	if err != nil {
		t.Fatal(err)
	}
	copy(two[tableOffset+16:], other[tableOffset:tableOffset+16])
	code := bytes.Clone(signed) // builder-hex0's boot sector: machine code in place of the table
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 510 {
		code[i] = byte(rng.Uint32()) | 1
	}
	for _, tt := range []struct {
		name   string
		sector []byte
		want   Table
	}{
		{"blank", blank, TableNone}, {"signature only", signed, TableNone}, {"short", blank[:100], TableNone},
		{"another system", other, TableOthers}, {"ours and another", two, TableOthers}, {"boot code", code, TableNone},
	} {
		if got := ReadTable(tt.sector, sectors); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}
