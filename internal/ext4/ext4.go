// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package ext4 reads ext2, ext3 and ext4 filesystems from an image or a disk, without root and without a kernel.
//
// It is for what a guest has written, so every number in it is taken for a lie until it has been checked: nothing is
// allocated by a size that the image gives, walks are bounded, and symbolic links are followed inside the image only. A
// journal is replayed in the reader's eyes only (Recovered); WriteBack and Mend are what writes. It leaves out what a
// bootstrap's filesystem does not have: inline data, encryption, meta block groups, bigalloc. It is called by package
// diskimage and the agent. Layout: Linux, Documentation/filesystems/ext4.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Errors of this package; what was read where stands around them.
var (
	ErrNotExt4     = errors.New("no ext2, ext3 or ext4 filesystem")
	ErrCorrupt     = errors.New("filesystem is damaged")
	ErrUnsupported = errors.New("filesystem has a feature that is not supported")
	ErrTooLarge    = errors.New("larger than allowed")
)

// Features that change how a filesystem is read (s_feature_incompat). Those that are not named are refused.
const (
	featureRecover  = 0x4
	feature64Bit    = 0x80
	featureReadable = 0x2 | featureRecover | 0x40 | feature64Bit | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000
)

// roBigalloc is the one feature of s_feature_ro_compat that changes how a filesystem is read: with blocks of 1 KiB the group
// descriptors are elsewhere.
const roBigalloc = 0x200

// incompatNames are e2fsprogs' names of the features that are refused, each at its bit.
func incompatNames() []string {
	return []string{0: "compression", 3: "journal_dev", 4: "meta_bg", 12: "dirdata", 15: "inline_data", 16: "encrypt", 17: "casefold"}
}

// unsupported names the features whose bits are set.
func unsupported(bits uint32, names []string) error {
	var text []string
	for bit := range 32 {
		switch {
		case bits&(1<<bit) == 0:
		case bit < len(names) && names[bit] != "":
			text = append(text, names[bit])
		default:
			text = append(text, fmt.Sprintf("bit %d", bit))
		}
	}
	return fmt.Errorf("%w: %s", ErrUnsupported, strings.Join(text, ", "))
}

const (
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xef53
	rootInode   = 2

	maxBlockSize = 64 << 10
)

// FS is an open filesystem. It may be used by several goroutines if its reader may.
type FS struct {
	r          io.ReaderAt
	blockSize  int64
	blocks     uint64
	inodes     uint32
	perGroup   uint32 // inodes in a group
	inodeSize  int64
	descSize   int64
	firstBlock int64 // the one that holds the superblock
	incompat   uint32
	torn       []tear
}

// Open reads the superblock of the filesystem that begins at the reader's start.
func Open(r io.ReaderAt) (*FS, error) {
	sb := make([]byte, superSize)
	if _, err := r.ReadAt(sb, superOffset); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrNotExt4
		}
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if le16(sb, 0x38) != superMagic {
		return nil, ErrNotExt4
	}
	f := &FS{
		r: r, inodes: le32(sb, 0), blocks: uint64(le32(sb, 4)), perGroup: le32(sb, 0x28), firstBlock: int64(le32(sb, 0x14)),
		inodeSize: 128, descSize: 32, incompat: le32(sb, 0x60),
	}
	log := le32(sb, 0x18)
	if log > 6 {
		return nil, fmt.Errorf("%w: block size 2^%d KiB", ErrCorrupt, log)
	}
	f.blockSize = 1024 << log
	if le32(sb, 0x4c) > 0 { // revision
		f.inodeSize = int64(le16(sb, 0x58))
	}
	if unknown := f.incompat &^ featureReadable; unknown != 0 {
		return nil, unsupported(unknown, incompatNames())
	}
	if le32(sb, 0x64)&roBigalloc != 0 {
		return nil, fmt.Errorf("%w: bigalloc", ErrUnsupported)
	}
	if f.incompat&feature64Bit != 0 {
		f.descSize = int64(le16(sb, 0xfe))
		f.blocks |= uint64(le32(sb, 0x150)) << 32
	}
	return f, f.check()
}

// check holds the superblock's numbers against each other.
func (f *FS) check() error {
	switch {
	case f.perGroup == 0 || f.inodes == 0 || f.blocks == 0 || f.blocks > 1<<46:
		return fmt.Errorf("%w: %d blocks, %d inodes, %d inodes a group", ErrCorrupt, f.blocks, f.inodes, f.perGroup)
	case f.inodeSize < 128 || f.inodeSize > f.blockSize || f.inodeSize&(f.inodeSize-1) != 0:
		return fmt.Errorf("%w: inodes of %d bytes", ErrCorrupt, f.inodeSize)
	case f.descSize < 32 || f.descSize > 1024 || f.incompat&feature64Bit != 0 && f.descSize < 64:
		return fmt.Errorf("%w: group descriptors of %d bytes", ErrCorrupt, f.descSize)
	case f.firstBlock > 1:
		return fmt.Errorf("%w: first data block %d", ErrCorrupt, f.firstBlock)
	}
	return nil
}

// NeedsRecovery reports whether the filesystem's journal holds changes that are not in place yet: what is read before
// they are replayed is not what was written.
func (f *FS) NeedsRecovery() bool { return f.incompat&featureRecover != 0 }

// Size is the size of the filesystem in bytes.
func (f *FS) Size() uint64 { return f.blocks * uint64(f.blockSize) }

// inode is one file of whatever kind, as it stands in the inode table.
type inode struct {
	number uint32
	mode   uint16
	uid    uint32
	gid    uint32
	size   int64
	mtime  int64 // seconds since 1970
	links  uint16
	flags  uint32
	block  [60]byte // extents, block map, target of a short symbolic link, or device number
}

// Flags of an inode.
const (
	flagEncrypted = 0x800
	flagExtents   = 0x80000
	flagInline    = 0x10000000
)

// inode reads an inode.
func (f *FS) inode(number uint32) (*inode, error) {
	if number == 0 || number > f.inodes {
		return nil, fmt.Errorf("%w: inode %d of %d", ErrCorrupt, number, f.inodes)
	}
	group := int64((number - 1) / f.perGroup)
	desc := make([]byte, f.descSize)
	if err := f.read(desc, uint64(f.firstBlock+1), group*f.descSize); err != nil {
		return nil, fmt.Errorf("group %d: %w", group, err)
	}
	table := uint64(le32(desc, 8))
	if f.descSize >= 64 {
		table |= uint64(le32(desc, 0x28)) << 32
	}
	raw := make([]byte, 128)
	if err := f.read(raw, table, int64((number-1)%f.perGroup)*f.inodeSize); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	n := &inode{
		number: number, mode: le16(raw, 0), links: le16(raw, 0x1a), flags: le32(raw, 0x20), mtime: int64(int32(le32(raw, 0x10))),
		uid: uint32(le16(raw, 2)) | uint32(le16(raw, 0x78))<<16, gid: uint32(le16(raw, 0x18)) | uint32(le16(raw, 0x7a))<<16,
		size: int64(uint64(le32(raw, 4)) | uint64(le32(raw, 0x6c))<<32),
	}
	copy(n.block[:], raw[0x28:])
	switch {
	case n.links == 0:
		return nil, fmt.Errorf("%w: inode %d is free", ErrCorrupt, number)
	case n.size < 0:
		return nil, fmt.Errorf("%w: inode %d has a size of %d", ErrCorrupt, number, n.size)
	case n.flags&flagEncrypted != 0:
		return nil, fmt.Errorf("%w: encrypt, in inode %d", ErrUnsupported, number)
	case n.flags&flagInline != 0:
		return nil, fmt.Errorf("%w: inline_data, in inode %d", ErrUnsupported, number)
	}
	return n, nil
}

// read fills b from a block and an offset behind its start, which may lie in a later block.
func (f *FS) read(b []byte, block uint64, offset int64) error {
	if block >= f.blocks || offset < 0 || uint64(offset) > f.Size() {
		return fmt.Errorf("%w: block %d of %d", ErrCorrupt, block, f.blocks)
	}
	at := int64(block)*f.blockSize + offset
	if uint64(at)+uint64(len(b)) > f.Size() {
		return fmt.Errorf("%w: block %d + %d is behind its end", ErrCorrupt, block, offset)
	}
	if _, err := f.r.ReadAt(b, at); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the image ends before block %d", ErrCorrupt, block)
		}
		return err
	}
	return nil
}

func le16(b []byte, at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func le32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
