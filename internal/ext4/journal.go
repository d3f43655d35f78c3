// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The journal (Linux, Documentation/filesystems/ext4/journal.rst; big-endian, unlike everything else): a superblock,
// then a ring of transactions. One is descriptor blocks with tags, each tag's block behind them in order, revoke blocks,
// and a commit block; all of them carry the transaction's number.
const (
	journalMagic = 0xc03b3998

	blockDescriptor = 1
	blockCommit     = 2
	blockSuperV2    = 4
	blockRevoke     = 5

	journal64Bit  = 0x2
	journalCsumV2 = 0x8
	journalCsumV3 = 0x10
	journalKnown  = 0x1 | journal64Bit | journalCsumV2 | journalCsumV3

	tagEscaped  = 1 // the block began with the journal's magic, which was zeroed
	tagSameUUID = 2
	tagLast     = 8

	maxJournal      = 1 << 18 // blocks: what mke2fs creates at most unless it is told otherwise
	maxJournalBytes = 1 << 30
	maxRevokes      = 1 << 20 // in all transactions, repeated ones included
)

// What a replay may read: records and data once, and once more to judge a torn one. Each read counts as at least
// leastRead bytes, so that the number of reads is bounded as well.
const (
	maxReplayRead = 2*maxJournalBytes + 64<<20
	leastRead     = 1 << 10
)

// Recovered gives the filesystem as it is once its journal is replayed; nothing is written. A filesystem that needs no
// recovery is given as it is. The work is bounded whatever the journal says (ErrTooLarge), and ends with ctx.
func (f *FS) Recovered(ctx context.Context) (*FS, error) {
	if !f.NeedsRecovery() {
		return f, nil
	}
	bounded := *f
	bounded.r = &boundedReader{ctx: ctx, r: f.r, left: maxReplayRead}
	l, err := bounded.openLog()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	blocks, err := l.replay()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	now := &overlay{r: f.r, blockSize: f.blockSize, blocks: blocks, log: l}
	again, err := Open(now)
	if err != nil {
		return nil, err
	}
	again.incompat &^= featureRecover
	again.torn = l.torn
	return again, again.checkSuper(f.r, now)
}

// WriteBack puts into place, through w, what Recovered has found in the journal, and marks the journal as empty. It
// does nothing for a filesystem that needed no recovery.
func (f *FS) WriteBack(w io.WriterAt) error {
	o, ok := f.r.(*overlay)
	if !ok {
		return nil
	}
	block := make([]byte, f.blockSize)
	for at := range o.blocks { // nothing is written behind the end of a partition
		if _, err := o.r.ReadAt(block, int64(at)*f.blockSize); err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrCorrupt, at, err)
		}
	}
	for at := range o.blocks {
		if _, err := o.ReadAt(block, int64(at)*f.blockSize); err != nil {
			return err
		}
		if _, err := w.WriteAt(block, int64(at)*f.blockSize); err != nil {
			return err
		}
	}
	if err := o.log.empty(w); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	sb := make([]byte, superSize)
	if _, err := o.ReadAt(sb, superOffset); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(sb[0x60:], le32(sb, 0x60)&^featureRecover)
	if sum, has := superSum(sb); has {
		binary.LittleEndian.PutUint32(sb[superSumAt:], sum)
	}
	_, err := w.WriteAt(sb, superOffset)
	return err
}

// empty marks a journal that was replayed as empty.
func (l *log) empty(w io.WriterAt) error {
	const sequenceAt, startAt, checksumAt = 0x18, 0x1c, 0xfc
	sb := l.super[:superSize]
	binary.BigEndian.PutUint32(sb[sequenceAt:], l.end+1) // old transactions must never look like the next ones
	binary.BigEndian.PutUint32(sb[startAt:], 0)
	if l.features&(journalCsumV2|journalCsumV3) != 0 {
		clear(sb[checksumAt : checksumAt+4])
		binary.BigEndian.PutUint32(sb[checksumAt:], crc32c(^uint32(0), sb))
	}
	_, err := w.WriteAt(sb, int64(l.where[0])*l.fs.blockSize)
	return err
}

// boundedReader reads until a context ends, and no more than a number of bytes.
type boundedReader struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt has none
	r    io.ReaderAt
	left int64
}

// ReadAt implements io.ReaderAt.
func (b *boundedReader) ReadAt(p []byte, at int64) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	if b.left -= int64(max(len(p), leastRead)); b.left < 0 {
		return 0, fmt.Errorf("%w: a replay that reads more than %d MiB", ErrTooLarge, maxReplayRead>>20)
	}
	return b.r.ReadAt(p, at)
}

// overlay reads blocks from where the journal has them.
type overlay struct {
	r         io.ReaderAt
	blockSize int64
	blocks    map[uint64]logged
	log       *log // that they are from
}

// logged is the newest copy of a block in the journal.
type logged struct {
	at      uint64 // block of the filesystem
	escaped bool
}

// ReadAt implements io.ReaderAt.
func (o *overlay) ReadAt(b []byte, offset int64) (int, error) {
	done := 0
	for done < len(b) {
		at := offset + int64(done)
		inBlock := at % o.blockSize
		piece := b[done:min(int64(len(b)), int64(done)+o.blockSize-inBlock)]
		from := at
		copied, found := o.blocks[uint64(at/o.blockSize)]
		if found {
			from = int64(copied.at)*o.blockSize + inBlock
		}
		n, err := o.r.ReadAt(piece, from)
		if found && copied.escaped {
			var magic [4]byte
			binary.BigEndian.PutUint32(magic[:], journalMagic)
			for i := inBlock; i < 4 && i-inBlock < int64(n); i++ {
				piece[i-inBlock] = magic[i]
			}
		}
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// log is a journal that is being read.
type log struct {
	fs       *FS
	super    []byte
	where    []uint64 // block of the filesystem for each block of the journal
	first    uint32
	sequence uint32 // of the first transaction
	end      uint32 // behind the last one, once it is replayed
	start    uint32
	features uint32
	seed     uint32 // of its checksums
	torn     []tear
}

// openLog finds the journal and reads its superblock.
func (f *FS) openLog() (*log, error) {
	sb := make([]byte, superSize)
	if _, err := f.r.ReadAt(sb, superOffset); err != nil {
		return nil, err
	}
	n, err := f.inode(le32(sb, 0xe0))
	if err != nil {
		return nil, err
	}
	l := &log{fs: f, super: make([]byte, f.blockSize)}
	blocks := n.size / f.blockSize
	switch {
	case blocks < 2 || uint64(blocks) > f.blocks:
		return nil, fmt.Errorf("%w: %d blocks", ErrCorrupt, blocks)
	case blocks > maxJournal || n.size > maxJournalBytes:
		return nil, fmt.Errorf("%w: %d blocks, at most %d and %d MiB", ErrTooLarge, blocks, maxJournal, maxJournalBytes>>20)
	}
	for b := uint64(0); b < uint64(blocks); {
		r, err := f.locate(n, b)
		if err != nil || r.hole {
			return nil, errors.Join(fmt.Errorf("%w: block %d is nowhere", ErrCorrupt, b), err)
		}
		for ; b < r.first+r.count && b < uint64(blocks); b++ {
			l.where = append(l.where, r.at+b-r.first)
		}
	}
	return l, l.readSuper()
}

func (l *log) readSuper() error {
	if err := l.fs.read(l.super, l.where[0], 0); err != nil {
		return err
	}
	be := binary.BigEndian
	size, length := be.Uint32(l.super[0x0c:]), be.Uint32(l.super[0x10:])
	l.first, l.sequence, l.start = be.Uint32(l.super[0x14:]), be.Uint32(l.super[0x18:]), be.Uint32(l.super[0x1c:])
	l.features = be.Uint32(l.super[0x28:])
	l.seed = crc32c(^uint32(0), l.super[0x30:0x40])
	switch {
	case be.Uint32(l.super) != journalMagic || be.Uint32(l.super[4:]) != blockSuperV2:
		return fmt.Errorf("%w: no superblock", ErrCorrupt)
	case int64(size) != l.fs.blockSize || int64(length) > int64(len(l.where)) || length < 2 || l.first == 0 || l.first >= length || l.start >= length:
		return fmt.Errorf("%w: superblock", ErrCorrupt)
	case l.features&^journalKnown != 0:
		return unsupported(l.features&^journalKnown, []string{2: "async_commit", 5: "fast_commit"})
	}
	l.where = l.where[:length]
	return nil
}

// replay gives for every block that complete transactions have changed, and not revoked since, its newest copy.
func (l *log) replay() (map[uint64]logged, error) {
	blocks := make(map[uint64]logged)
	l.end = l.sequence
	if l.start == 0 {
		return blocks, nil
	}
	type written struct {
		logged
		block    uint64
		sequence uint32
	}
	var all, open []written // open: of a transaction whose commit block has not come yet
	var bad error           // in the open one: a power cut may leave it so, unless its commit block is there
	revoked := make(map[uint64]uint32)
	var revokes []uint64
	revocations := 0
	at, sequence := l.start, l.sequence
	raw := make([]byte, l.fs.blockSize)
	for range l.where { // once around the ring at most
		kind, whole, err := l.record(raw, at, sequence)
		if err == nil && !whole {
			kind, err = l.judge(raw, at, sequence, kind, bad == nil)
		}
		if err != nil {
			return nil, err
		}
		at = l.after(at)
		switch kind {
		case blockDescriptor:
			for _, t := range l.tags(raw) {
				if err := l.checkData(t, l.where[at], sequence); err != nil && bad == nil {
					bad = err
				}
				open = append(open, written{logged{l.where[at], t.escaped}, t.block, sequence})
				at = l.after(at)
			}
		case blockRevoke:
			more := l.revokes(raw)
			if revocations += len(more); revocations > maxRevokes {
				return nil, fmt.Errorf("%w: more than %d revocations", ErrTooLarge, maxRevokes)
			}
			revokes = append(revokes, more...)
		case blockCommit:
			if bad != nil {
				return nil, bad
			}
			all, open = append(all, open...), nil
			for _, b := range revokes {
				revoked[b] = sequence
			}
			revokes = nil
			sequence++
		default:
			l.end = sequence
			for _, w := range all {
				if last, found := revoked[w.block]; !found || int32(w.sequence-last) > 0 {
					blocks[w.block] = w.logged
				}
			}
			return blocks, nil
		}
		if len(all)+len(open) > len(l.where) {
			break // more blocks than it has: descriptors that lie in each other's data
		}
	}
	return nil, fmt.Errorf("%w: it has no end", ErrCorrupt)
}

// after is the block behind one, around the ring.
func (l *log) after(at uint32) uint32 {
	if at+1 >= uint32(len(l.where)) {
		return l.first
	}
	return at + 1
}

// record reads a block of the log and gives its kind, 0 where the log ends, and whether its checksum is right.
func (l *log) record(raw []byte, at, sequence uint32) (kind uint32, whole bool, err error) {
	if err := l.fs.read(raw, l.where[at], 0); err != nil {
		return 0, false, err
	}
	be := binary.BigEndian
	kind = be.Uint32(raw[4:])
	if be.Uint32(raw) != journalMagic || be.Uint32(raw[8:]) != sequence {
		return 0, true, nil
	}
	if kind != blockDescriptor && kind != blockCommit && kind != blockRevoke {
		return 0, true, nil
	}
	return kind, l.whole(raw, kind), nil
}

// whole holds a record against its checksum.
func (l *log) whole(raw []byte, kind uint32) bool {
	sumAt := len(raw) - 4
	if kind == blockCommit {
		sumAt = 0x10
	}
	if l.features&(journalCsumV2|journalCsumV3) == 0 {
		return true
	}
	sum := crc32c(l.seed, raw[:sumAt])
	sum = crc32c(sum, make([]byte, 4))
	return crc32c(sum, raw[sumAt+4:]) == binary.BigEndian.Uint32(raw[sumAt:])
}

// tag says which block of the filesystem a logged block is.
type tag struct {
	block    uint64
	escaped  bool
	checksum uint32
}

// tags reads the tags of a descriptor block.
func (l *log) tags(raw []byte) []tag {
	be := binary.BigEndian
	size, end := 8, len(raw)
	switch {
	case l.features&journalCsumV3 != 0:
		size = 16
	case l.features&journalCsumV2 != 0:
		size += 2
	}
	if l.features&(journalCsumV2|journalCsumV3) != 0 {
		end -= 4
	}
	if l.features&(journalCsumV3|journal64Bit) == journal64Bit {
		size += 4
	}
	var tags []tag
	for at := 12; at+size <= end; {
		t := tag{block: uint64(be.Uint32(raw[at:]))}
		var flags uint32
		if l.features&journalCsumV3 != 0 {
			flags, t.checksum = be.Uint32(raw[at+4:]), be.Uint32(raw[at+12:])
		} else {
			flags, t.checksum = uint32(be.Uint16(raw[at+6:])), uint32(be.Uint16(raw[at+4:]))
		}
		if l.features&journal64Bit != 0 {
			t.block |= uint64(be.Uint32(raw[at+8:])) << 32
		}
		t.escaped = flags&tagEscaped != 0
		tags = append(tags, t)
		if at += size; flags&tagSameUUID == 0 {
			at += 16
		}
		if flags&tagLast != 0 {
			break
		}
	}
	return tags
}

// checkData holds a logged block against its tag.
func (l *log) checkData(t tag, at uint64, sequence uint32) error {
	if t.block >= l.fs.blocks {
		return fmt.Errorf("%w: block %d of %d", ErrCorrupt, t.block, l.fs.blocks)
	}
	if l.features&(journalCsumV2|journalCsumV3) == 0 {
		return nil
	}
	raw := make([]byte, l.fs.blockSize)
	if err := l.fs.read(raw, at, 0); err != nil {
		return err
	}
	sum := crc32c(crc32c(l.seed, binary.BigEndian.AppendUint32(nil, sequence)), raw)
	if l.features&journalCsumV3 == 0 {
		sum &= 0xffff
	}
	if sum != t.checksum {
		return fmt.Errorf("%w: block %d has a wrong checksum", ErrCorrupt, t.block)
	}
	return nil
}

// revokes reads a revoke block: blocks whose copies in this and earlier transactions are void.
func (l *log) revokes(raw []byte) []uint64 {
	be := binary.BigEndian
	end := int(min(int64(be.Uint32(raw[12:])), int64(len(raw))))
	var out []uint64
	for at := 16; ; {
		switch wide := l.features&journal64Bit != 0; {
		case wide && at+8 <= end:
			out = append(out, be.Uint64(raw[at:]))
			at += 8
		case !wide && at+4 <= end:
			out = append(out, uint64(be.Uint32(raw[at:])))
			at += 4
		default:
			return out
		}
	}
}

// crc32c is the checksum of ext4 and its journal: without the inversions that hash/crc32 has at both ends.
func crc32c(seed uint32, b []byte) uint32 {
	return ^crc32.Update(^seed, crc32.MakeTable(crc32.Castagnoli), b)
}
