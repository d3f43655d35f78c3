// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package disk

import (
	"bytes"
	"errors"
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
		{"sdap1", "sdap", 1, "sdap1"}, {"mmcblk0", "mmcblk0", 0, "mmcblk0p1"}, {"mmcblk0p2", "mmcblk0", 2, "mmcblk0p1"},
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
	for _, bad := range []string{"", "sd", "sda0", "sda1x", "../sda", "nvme0", "nvme0n1p0", "sda p1", "ttyS0", "sda1234",
		"sdabcd", "sda01", "sda+1", "nvme", "nvme0n", "nvme0nx", "nvme0n11234", "nvme0n1p", "nvme0n1pp1", "mmcblk0p01", "mmcblk0001",
		"loop", "sd1", "/dev//sda", "nvmen1"} {
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
	got, err := WithPartition(boot, sectors, 0xa1b2c3d4)
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
	if !isOurs(got) {
		t.Error("own table is not recognised")
	}
	if _, err := WithPartition(boot, FirstSector+10, 1); !errors.Is(err, ErrTooSmall) {
		t.Errorf("small disk: %v", err)
	}
}

// A number is given to a disk that has none: boot code may stand in its place.
func TestPartUUID(t *testing.T) {
	numbered, err := WithPartition(make([]byte, SectorSize), 3<<30/SectorSize, 0xa1b2c3d4)
	if err != nil {
		t.Fatal(err)
	}
	code, err := WithPartition(builderHex0(), 3<<30/SectorSize, 0xa1b2c3d4)
	if err != nil {
		t.Fatal(err)
	}
	none := bytes.Clone(numbered)
	clear(none[idOffset:tableOffset])
	gpt := bytes.Clone(numbered)
	gpt[tableOffset+4] = gptPartition
	for _, tt := range []struct {
		name   string
		sector []byte
		part   int
		want   string
	}{
		{"ours", numbered, 1, "a1b2c3d4-01"}, {"another partition", numbered, 12, "a1b2c3d4-0c"}, {"behind boot code", code, 1, "e8e8e8e8-01"},
		{"a disk without a number", none, 1, ""}, {"a GPT", gpt, 1, ""}, {"the whole disk", numbered, 0, ""},
		{"no table", make([]byte, SectorSize), 1, ""}, {"cut off", numbered[:511], 1, ""},
	} {
		if got := PartUUID(tt.sector, tt.part); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// builderHex0 is the table of builder-hex0's boot sector, with something in the place of its code.
func builderHex0() []byte {
	sector := bytes.Repeat([]byte{0xe8}, SectorSize)
	copy(sector[tableOffset:], "\x80\x00\x02\x00\xb5\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff")
	copy(sector[tableOffset+entrySize:510], make([]byte, 48))
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// Only what is known to be free may be partitioned; everything else is refused, whatever it is.
func TestRecognize(t *testing.T) {
	ours, err := WithPartition(builderHex0(), 3<<30/SectorSize, 1)
	if err != nil {
		t.Fatal(err)
	}
	at := func(offset int, data string) []byte {
		head := make([]byte, HeadSize)
		copy(head[offset:], data)
		return head
	}
	table := func(entries ...string) []byte {
		head := at(510, "\x55\xaa")
		for i, e := range entries {
			copy(head[tableOffset+i*entrySize:], e)
		}
		return head
	}
	linux := "\x00\xfe\xff\xff\x83\xfe\xff\xff\x00\x00\x20\x00\x00\x00\x40\x00"
	// What sfdisk 2.19.1 of the tree's move_disk.sh was seen to write on a disk of 16 GiB, and on one of 2 TiB.
	sfdisk := "\x00\x3f\xe0\xff\x83\x3f\xe0\xff\x00\x00\x20\x00\x00\x00\xe0\x01"
	empty := string(make([]byte, entrySize))
	windows := "\x80\x20\x21\x00\x07\xfe\xff\xff\x00\x08\x00\x00\x00\x00\x01\x00"
	gpt := table("\x00\x00\x02\x00\xee\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff")
	copy(gpt[512:], "EFI PART")
	tail := make([]byte, TailSize)
	lateGPT := bytes.Clone(tail)
	copy(lateGPT[TailSize-SectorSize:], "EFI PART")
	for _, tt := range []struct {
		name       string
		head, tail []byte
		want       Content
		text       string
	}{
		{"blank", make([]byte, HeadSize), tail, Blank, ""},
		{"builder-hex0", at(0, string(builderHex0())), tail, BuilderHex0, ""},
		{"builder-hex0 over an old GPT disk", at(0, string(builderHex0())), lateGPT, BuilderHex0, ""},
		{"a bootstrap's disk", at(0, string(ours)), tail, Ours, ""},
		{"a disk of the tree's sfdisk", table(sfdisk), tail, Ours, ""},
		{"a disk of 2 TiB of the tree's sfdisk", table(empty), tail, Foreign, "a boot sector"},
		{"ours and another", table(linux, windows), tail, Foreign, "a partition table"},
		{"another system", table(windows), tail, Foreign, "a partition table"},
		{"GPT with a protective entry beyond the disk", gpt, tail, Foreign, "a GPT partition table"},
		{"only the second copy of a GPT", make([]byte, HeadSize), lateGPT, Foreign, "data"},
		{"payload", at(0, "LBPAYLD1"), tail, Foreign, "a payload"},
		{"ext4", at(1080, "\x53\xef"), tail, Foreign, "an ext2, ext3 or ext4 filesystem"},
		{"btrfs", at(0x10040, "_BHRfS_M"), tail, Foreign, "a btrfs filesystem"},
		{"ISO", at(32769, "CD001"), tail, Foreign, "an ISO 9660 image"},
		{"LUKS", at(0, "LUKS\xba\xbe"), tail, Foreign, "a LUKS volume"},
		{"LVM", at(512, "LABELONE"), tail, Foreign, "an LVM volume"},
		{"swap", at(4086, "SWAPSPACE2"), tail, Foreign, "swap space"},
		{"a boot sector", at(510, "\x55\xaa"), tail, Foreign, "a boot sector"},
		{"one byte somewhere", at(777_777, "x"), tail, Foreign, "data"},
		{"short", make([]byte, 100), tail, Foreign, "something smaller than a disk"},
	} {
		got, text := Recognize(tt.head, tt.tail)
		if got != tt.want || text != tt.text {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, got, text, tt.want, tt.text)
		}
		if got.MayPartition() != (tt.want != Foreign) {
			t.Errorf("%s: may be partitioned: %v", tt.name, got.MayPartition())
		}
	}
}

// No bytes at all make Recognize fail, and only zeros are blank.
func FuzzRecognize(f *testing.F) {
	f.Add(builderHex0())
	f.Fuzz(func(t *testing.T, data []byte) {
		head := make([]byte, HeadSize)
		copy(head, data)
		if got, _ := Recognize(head, make([]byte, TailSize)); got == Blank && !isZero(data[:min(len(data), HeadSize)]) {
			t.Error("data counts as blank")
		}
	})
}
