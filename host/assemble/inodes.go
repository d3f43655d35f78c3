// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrFilesystem says that mke2fs has not made what it was asked for.
var ErrFilesystem = errors.New("not the ext3 filesystem that was asked for")

// Fields of the superblock, of a group descriptor and of an inode, as offsets in bytes (Linux, fs/ext4/ext4.h). All
// numbers are little-endian.
const (
	superOffset       = 1024
	superBlocks       = 0x04 // u32: blocks in all
	superLogBlock     = 0x18 // u32: the size of a block is 1024 << this
	superGroupBlocks  = 0x20 // u32
	superGroupInodes  = 0x28 // u32
	superMagic        = 0x38 // u16: 0xEF53
	superInodeSize    = 0x58 // u16
	superIncompat     = 0x60 // u32
	superReadOnly     = 0x64 // u32
	descSize          = 32
	descInodeBitmap   = 0x04 // u32
	descInodeTable    = 0x08 // u32
	inodeMode         = 0x00 // u16
	inodeUID          = 0x02 // u16
	inodeTimes        = 0x08 // u32 each: atime, ctime, mtime
	inodeGID          = 0x18 // u16
	inodeOwnersHigh   = 0x78 // u16 each: uid, gid
	inodeExtraSize    = 0x80 // u16
	inodeTimesExtra   = 0x84 // u32 each: ctime, mtime, atime, crtime, its extra part
	knownIncompat     = 0x02 // filetype
	knownReadOnly     = 0x03 // sparse_super, large_file
	firstInode        = 12   // behind the reserved ones and lost+found
	rootInode         = 2
	kindMask          = 0xf000
	kindFolder        = 0x4000
	kindFile          = 0x8000
	anybodyMayExecute = 0o111
)

// normalizeInodes gives every file and folder of an ext3 filesystem root as its owner, a mode that depends on "executable"
// alone, and one time. mke2fs has copied all of these from the staging folder, where they are the host's. The filesystem
// begins at offset in f; it has no checksums that would have to follow. Errors wrap ErrFilesystem.
func normalizeInodes(f readWriterAt, offset int64) error {
	fs := ext3{f: f, offset: offset}
	if err := fs.open(); err != nil {
		return err
	}
	for group := range fs.groups {
		if err := fs.group(group); err != nil {
			return fmt.Errorf("group %d: %w", group, err)
		}
	}
	return nil
}

type readWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// ext3 is what is known of the filesystem.
type ext3 struct {
	f      readWriterAt
	offset int64

	groups      int64
	groupInodes int64
	descs       []byte
}

// open reads the superblock and the group descriptors, and accepts what makeFilesystem makes, only.
func (fs *ext3) open() error {
	super := make([]byte, 1024)
	if _, err := fs.f.ReadAt(super, fs.offset+superOffset); err != nil {
		return fmt.Errorf("%w: superblock: %w", ErrFilesystem, err)
	}
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(super[at:])) }
	if binary.LittleEndian.Uint16(super[superMagic:]) != 0xef53 || u32(superLogBlock) != 2 ||
		binary.LittleEndian.Uint16(super[superInodeSize:]) != inodeSize ||
		u32(superIncompat)&^knownIncompat != 0 || u32(superReadOnly)&^knownReadOnly != 0 {
		return fmt.Errorf("%w: superblock %x", ErrFilesystem, super[:0x68])
	}
	perGroup := u32(superGroupBlocks)
	fs.groupInodes = u32(superGroupInodes)
	if perGroup == 0 || fs.groupInodes == 0 || fs.groupInodes > 8*blockSize {
		return fmt.Errorf("%w: %d blocks and %d inodes in a group", ErrFilesystem, perGroup, fs.groupInodes)
	}
	fs.groups = (u32(superBlocks) + perGroup - 1) / perGroup
	fs.descs = make([]byte, fs.groups*descSize)
	if _, err := fs.f.ReadAt(fs.descs, fs.offset+blockSize); err != nil { // the block behind that of the superblock
		return fmt.Errorf("%w: group descriptors: %w", ErrFilesystem, err)
	}
	return nil
}

// group normalizes the inodes of one group that are in use.
func (fs *ext3) group(group int64) error {
	desc := fs.descs[group*descSize:][:descSize]
	bitmap := make([]byte, fs.groupInodes/8)
	if _, err := fs.f.ReadAt(bitmap, fs.block(desc[descInodeBitmap:])); err != nil {
		return fmt.Errorf("%w: inode bitmap: %w", ErrFilesystem, err)
	}
	table := fs.block(desc[descInodeTable:])
	inode := make([]byte, inodeSize)
	for i := range fs.groupInodes {
		number := group*fs.groupInodes + i + 1
		if bitmap[i/8]&(1<<(i%8)) == 0 || number < firstInode && number != rootInode {
			continue
		}
		at := table + i*inodeSize
		if _, err := fs.f.ReadAt(inode, at); err != nil {
			return fmt.Errorf("%w: inode %d: %w", ErrFilesystem, number, err)
		}
		normalize(inode)
		if _, err := fs.f.WriteAt(inode, at); err != nil {
			return fmt.Errorf("inode %d: %w", number, err)
		}
	}
	return nil
}

// block is where a block begins whose number stands at the front of b.
func (fs *ext3) block(b []byte) int64 {
	return fs.offset + int64(binary.LittleEndian.Uint32(b))*blockSize
}

func normalize(inode []byte) {
	le := binary.LittleEndian
	mode := le.Uint16(inode[inodeMode:])
	switch {
	case mode&kindMask == kindFolder, mode&kindMask == kindFile && mode&anybodyMayExecute != 0:
		mode = mode&kindMask | 0o755
	case mode&kindMask == kindFile:
		mode = mode&kindMask | 0o644
	}
	le.PutUint16(inode[inodeMode:], mode)
	le.PutUint16(inode[inodeUID:], 0)
	le.PutUint16(inode[inodeGID:], 0)
	le.PutUint32(inode[inodeOwnersHigh:], 0)
	for i := range 3 {
		le.PutUint32(inode[inodeTimes+4*i:], oneTime)
	}
	clear(inode[inodeTimesExtra : inodeTimesExtra+20])
	le.PutUint32(inode[inodeTimesExtra+12:], oneTime)
}
