// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"fmt"
	"io"
	"math"
)

// run is a number of blocks of a file that lie in one piece: from block first of the file on, count blocks, at block
// at of the filesystem, or nowhere (zeros) if hole.
type run struct {
	first uint64
	count uint64
	at    uint64
	hole  bool
}

// locate finds the run that a block of the file is in.
func (f *FS) locate(n *inode, block uint64) (run, error) {
	if n.flags&flagExtents != 0 {
		return f.locateExtent(n, block)
	}
	return f.locateMapped(n, block)
}

// Extent trees: a header of 12 bytes, then entries of 12 bytes, in the inode first, then in blocks.
const (
	extentMagic    = 0xf30a
	extentEntry    = 12
	maxExtentDepth = 5
	maxInitialized = 32768 // longer means: allocated, not written, reads as zeros
)

func (f *FS) locateExtent(n *inode, block uint64) (run, error) {
	if block > math.MaxUint32 {
		return run{}, fmt.Errorf("%w: inode %d: block %d", ErrCorrupt, n.number, block)
	}
	node, limit := n.block[:], uint64(math.MaxUint32)+1
	for want := -1; ; want-- {
		depth, entries, err := extentHeader(node)
		if err != nil || want >= 0 && depth != want {
			return run{}, fmt.Errorf("%w: inode %d: extent tree", ErrCorrupt, n.number)
		}
		entry, next := pickExtent(node, entries, block)
		limit = min(limit, next)
		if entry == nil {
			return run{first: block, count: limit - block, hole: true}, nil
		}
		if depth == 0 {
			return leafRun(entry, block, limit), nil
		}
		if want < 0 {
			want = depth
		}
		child := uint64(le32(entry, 4)) | uint64(le16(entry, 8))<<32
		node = make([]byte, f.blockSize)
		if err := f.read(node, child, 0); err != nil {
			return run{}, fmt.Errorf("inode %d: extent tree: %w", n.number, err)
		}
	}
}

// extentHeader checks the header of a node.
func extentHeader(node []byte) (depth, entries int, err error) {
	depth, entries = int(le16(node, 6)), int(le16(node, 2))
	if le16(node, 0) != extentMagic || depth > maxExtentDepth || (entries+1)*extentEntry > len(node) {
		return 0, 0, ErrCorrupt
	}
	return depth, entries, nil
}

// pickExtent gives the last entry that begins at or before block, nil if none does, and where the one behind it begins.
func pickExtent(node []byte, entries int, block uint64) (entry []byte, next uint64) {
	next = uint64(math.MaxUint32) + 1
	for i := 1; i <= entries; i++ {
		e := node[i*extentEntry : (i+1)*extentEntry]
		if first := uint64(le32(e, 0)); first > block {
			return entry, first
		}
		entry = e
	}
	return entry, next
}

// leafRun is the run that an extent gives for a block at or behind its start; behind its end is a hole up to limit.
func leafRun(e []byte, block, limit uint64) run {
	first, count := uint64(le32(e, 0)), uint64(le16(e, 4))
	r := run{first: first, count: count, at: uint64(le32(e, 8)) | uint64(le16(e, 6))<<32}
	if count > maxInitialized {
		r.count, r.hole = count-maxInitialized, true
	}
	if block >= first+r.count {
		return run{first: block, count: max(limit, block+1) - block, hole: true}
	}
	return r
}

// locateMapped finds a block in the block map of ext2 and ext3: 12 blocks directly, then through one, two and three
// levels of blocks full of numbers.
func (f *FS) locateMapped(n *inode, block uint64) (run, error) {
	const direct = 12
	one := run{first: block, count: 1}
	if block < direct {
		one.at = uint64(le32(n.block[:], int(block)*4))
		one.hole = one.at == 0
		return one, nil
	}
	per := uint64(f.blockSize / 4)
	index, span := block-direct, per
	for level := range 3 {
		if index < span {
			at, err := f.follow(uint64(le32(n.block[:], (direct+level)*4)), level, index, per)
			one.at, one.hole = at, at == 0
			return one, err
		}
		index -= span
		span *= per
	}
	return run{}, fmt.Errorf("%w: inode %d: block %d", ErrCorrupt, n.number, block)
}

// follow goes through level+1 blocks of numbers; 0 is a hole.
func (f *FS) follow(at uint64, level int, index, per uint64) (uint64, error) {
	span := uint64(1)
	for range level {
		span *= per
	}
	for ; at != 0 && span > 0; span /= per {
		var number [4]byte
		if err := f.read(number[:], at, int64(index/span%per)*4); err != nil {
			return 0, err
		}
		at = uint64(le32(number[:], 0))
		if span == 1 {
			break
		}
	}
	return at, nil
}

// content reads the bytes of a file or folder. It implements io.ReaderAt. It has no FS, but functions of it: an FS behind
// an interface would keep all of what fs.FS needs in programs that use none of it.
type content struct {
	inode     *inode
	blockSize int64
	locate    func(n *inode, block uint64) (run, error)
	read      func(b []byte, block uint64, offset int64) error
	last      run
}

func (f *FS) content(n *inode) *content {
	return &content{inode: n, blockSize: f.blockSize, locate: f.locate, read: f.read}
}

// ReadAt implements io.ReaderAt. It is not safe for use by several goroutines.
func (c *content) ReadAt(b []byte, offset int64) (int, error) {
	done := 0
	for done < len(b) {
		at := offset + int64(done)
		if at >= c.inode.size {
			return done, io.EOF
		}
		n, err := c.piece(b[done:min(int64(len(b)), int64(done)+c.inode.size-at)], at)
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// piece reads what of b lies in one run.
func (c *content) piece(b []byte, at int64) (int, error) {
	block := uint64(at / c.blockSize)
	if block < c.last.first || block >= c.last.first+c.last.count {
		r, err := c.locate(c.inode, block)
		if err != nil {
			return 0, err
		}
		c.last = r
	}
	inRun := at - int64(c.last.first)*c.blockSize
	n := min(int64(len(b)), int64(c.last.count)*c.blockSize-inRun)
	if c.last.hole {
		clear(b[:n])
		return int(n), nil
	}
	if err := c.read(b[:n], c.last.at, inRun); err != nil {
		return 0, fmt.Errorf("inode %d: %w", c.inode.number, err)
	}
	return int(n), nil
}
