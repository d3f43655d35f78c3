// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package imagefile

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A qcow2 file (QEMU, docs/interop/qcow2.txt; all numbers big-endian):
//
//	header     magic, version (2 or 3), backing file's name (offset 8), cluster bits (20), size (24), encryption (32),
//	           entries of the L1 table (36) and its offset (40); version 3: incompatible features (72), length of the
//	           header (100), compression (104)
//	L1 table   offsets of L2 tables, each one cluster of 8-byte entries
//	L2 entry   0: not in this file; bit 0: zeros (version 3); bit 62: compressed, the offset in the low 70 - cluster bits,
//	           above them the number of sectors of 512 bytes less one; otherwise the offset of the cluster
//
// What is read is the disk as it is now: reference counts and snapshots are for writers.
const (
	qcow2Magic = "QFI\xfb"

	headerV2  = 72
	headerV3  = 104
	maxHeader = headerV3 + 1

	minClusterBits = 9
	maxClusterBits = 21
	maxL1          = 32 << 20 / 8 // entries, QEMU's own limit

	featureDirty       = 1 << 0 // reference counts may be wrong
	featureDamaged     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3 // not zlib
	featureExtendedL2  = 1 << 4

	offsetMask      = 1<<56 - 1<<9
	entryZero       = 1
	entryCompressed = 1 << 62

	maxEntries = 1 << 26 // that Stored looks at
	maxRatio   = 13      // of a compressed cluster, as a power of two: zstd reaches it for equal bytes
)

// qcow2 is the content of a qcow2 file.
type qcow2 struct {
	file    io.ReaderAt
	end     int64 // size of the file
	version uint32
	bits    uint // of a cluster's size
	size    int64
	l1, l1s int64 // offset and number of entries
	tables  [cachedPieces]tablePiece
	zstd    *zstd.Decoder // nil: zlib
	open    [cachedClusters]inflated
	next    int
}

// What is kept of a file: pieces of its tables, and clusters that were compressed (16 MiB at most).
const (
	pieceSize      = 4 << 10
	cachedPieces   = 256
	cachedClusters = 8
)

type tablePiece struct {
	at   int64
	data []byte // nil: none
}

type inflated struct {
	entry uint64
	data  []byte
}

// newQCOW2 reads the header of a file of that size. below says whether the record has a layer below it.
func newQCOW2(file io.ReaderAt, end int64, below bool) (*qcow2, error) {
	b := make([]byte, maxHeader)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	q := &qcow2{file: file, end: end}
	if err := q.parse(b[:n]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	switch backing := be64(b, 8) != 0; {
	case backing && !below:
		return nil, fmt.Errorf("%w: the qcow2 file names a backing file, which is not on record; "+
			"'qemu-img convert' creates an image that stands alone", ErrFormat)
	case !backing && below:
		return nil, fmt.Errorf("%w: the qcow2 file names no backing file, and one is on record", ErrFormat)
	}
	return q, nil
}

// parse reads a header, which may be cut.
func (q *qcow2) parse(b []byte) error {
	if len(b) < headerV2 || string(b[:4]) != qcow2Magic {
		return errors.New("not a qcow2 file")
	}
	q.version, q.bits, q.size = be32(b, 4), uint(be32(b, 20)), int64(be64(b, 24))
	q.l1s, q.l1 = int64(be32(b, 36)), int64(be64(b, 40))
	if crypt := be32(b, 32); crypt != 0 {
		return fmt.Errorf("the qcow2 file is encrypted (method %d)", crypt)
	}
	switch q.version {
	case 2:
	case 3:
		if len(b) < headerV3 || be32(b, 100) < headerV3 {
			return errors.New("the qcow2 header is cut")
		}
		if err := q.features(b); err != nil {
			return err
		}
	default:
		return fmt.Errorf("qcow2 version %d, want 2 or 3", q.version)
	}
	if q.bits < minClusterBits || q.bits > maxClusterBits {
		return fmt.Errorf("qcow2 clusters of 2^%d bytes", q.bits)
	}
	if q.l1s > maxL1 || q.l1 < 0 || q.l1%q.cluster() != 0 || q.l1 > q.end-8*q.l1s {
		return fmt.Errorf("an L1 table of %d entries at %d in a qcow2 file of %d bytes", q.l1s, q.l1, q.end)
	}
	if q.size < 0 || q.size > q.l1s<<(q.bits+q.l2Bits()) {
		return fmt.Errorf("a qcow2 disk of %d bytes with an L1 table of %d entries", be64(b, 24), q.l1s)
	}
	return nil
}

// features refuses what changes how a file of version 3 is read, but for another compression.
func (q *qcow2) features(b []byte) error {
	features, compression := be64(b, 72), byte(0)
	if be32(b, 100) > headerV3 && len(b) > headerV3 {
		compression = b[headerV3]
	}
	for _, f := range []struct {
		bit  uint64
		what string
	}{
		{featureDamaged, "is marked as damaged; 'qemu-img check -r all' repairs it"}, {featureDataFile, "has an external data file"},
		{featureExtendedL2, "has extended L2 entries"}, {^uint64(featureDirty | featureCompression), "has unknown features"},
	} {
		if features&f.bit != 0 {
			return fmt.Errorf("the qcow2 file %s (incompatible features %#x)", f.what, features)
		}
	}
	if compression > 1 || (compression == 1) != (features&featureCompression != 0) {
		return fmt.Errorf("qcow2 compression %d with incompatible features %#x", compression, features)
	}
	if compression == 0 {
		return nil
	}
	const window = 8 << 20 // what every decoder of the format supports (RFC 8878, 3.1.1.1.2)
	var err error
	q.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	return err
}

func (q *qcow2) cluster() int64 { return 1 << q.bits }

// l2Bits says how many entries an L2 table has.
func (q *qcow2) l2Bits() uint { return q.bits - 3 }

func (q *qcow2) length() int64 { return q.size }

func (q *qcow2) piece(b []byte, at int64) (int, bool, error) {
	if at >= q.size { // of a layer below a larger one
		clear(b)
		return len(b), true, nil
	}
	in := at % q.cluster()
	b = b[:min(int64(len(b)), q.cluster()-in, q.size-at)]
	table, err := q.offset(q.l1 + at>>(q.bits+q.l2Bits())*8)
	if err != nil || table == 0 {
		return len(b), false, err
	}
	entry, err := q.entry(table + at>>q.bits%(1<<q.l2Bits())*8)
	if err != nil {
		return 0, false, err
	}
	here, err := q.content(entry, b, in)
	return len(b), here, err
}

// content fills b from a cluster, from an offset in it on.
func (q *qcow2) content(entry uint64, b []byte, in int64) (here bool, err error) {
	switch {
	case entry&entryCompressed != 0:
		data, err := q.inflate(entry)
		if err != nil {
			return false, err
		}
		copy(b, data[in:])
		return true, nil
	case entry&entryZero != 0 && q.version >= 3:
		clear(b)
		return true, nil
	}
	at := int64(entry & offsetMask)
	switch {
	case entry&entryZero != 0 || at%q.cluster() != 0 || at >= q.end:
		return false, fmt.Errorf("%w: L2 entry %#x in a file of %d bytes", ErrCorrupt, entry, q.end)
	case at == 0:
		return false, nil
	}
	return true, readPadded(q.file, b, at+in) // a file can end within its last cluster
}

// offset reads an entry of the L1 table.
func (q *qcow2) offset(at int64) (int64, error) {
	entry, err := q.entry(at)
	table := int64(entry & offsetMask)
	if err == nil && (table%q.cluster() != 0 || table >= q.end) {
		err = fmt.Errorf("%w: L1 entry %#x in a file of %d bytes", ErrCorrupt, entry, q.end)
	}
	return table, err
}

// entry reads an entry of a table.
func (q *qcow2) entry(at int64) (uint64, error) {
	start := at - at%pieceSize
	p := &q.tables[start/pieceSize%cachedPieces]
	if p.data == nil || p.at != start {
		if p.data == nil {
			p.data = make([]byte, pieceSize)
		}
		p.at = -1 // until it is read
		if err := readPadded(q.file, p.data, start); err != nil {
			return 0, err
		}
		p.at = start
	}
	return be64(p.data, int(at-start)), nil
}

// compressed is where the data of a compressed cluster lies.
func (q *qcow2) compressed(entry uint64) (at, size int64) {
	offsetBits := 70 - q.bits
	at = int64(entry & (1<<offsetBits - 1))
	sectors := int64(entry>>offsetBits&(1<<(q.bits-8)-1)) + 1
	return at, sectors*512 - at%512
}

// inflate gives the content of a compressed cluster.
func (q *qcow2) inflate(entry uint64) ([]byte, error) {
	for _, c := range q.open {
		if c.data != nil && c.entry == entry {
			return c.data, nil
		}
	}
	at, size := q.compressed(entry)
	if at >= q.end {
		return nil, fmt.Errorf("%w: a compressed cluster at %d in a file of %d bytes", ErrCorrupt, at, q.end)
	}
	raw := make([]byte, min(size, q.end-at))
	if err := readPadded(q.file, raw, at); err != nil {
		return nil, err
	}
	var in io.Reader = flate.NewReader(bytes.NewReader(raw))
	if q.zstd != nil {
		if err := q.zstd.Reset(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("%w: the compressed cluster at %d: %w", ErrCorrupt, at, err)
		}
		in = q.zstd
	}
	data := make([]byte, q.cluster())
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("%w: the compressed cluster at %d: %w", ErrCorrupt, at, err)
	}
	q.open[q.next] = inflated{entry, data}
	q.next = (q.next + 1) % len(q.open)
	return data, nil
}

// stored adds up the clusters that have data.
func (q *qcow2) stored(ctx context.Context) (int64, error) {
	var clusters, held, looked int64 // held: bytes of the file that they take
	for l1 := range q.l1s {
		table, err := q.offset(q.l1 + 8*l1)
		if err != nil {
			return 0, err
		}
		if table == 0 {
			continue
		}
		held += q.cluster()
		if looked += 1 << q.l2Bits(); looked > maxEntries {
			return 0, fmt.Errorf("%w: more than %d clusters", ErrFormat, maxEntries)
		}
		for l2 := range int64(1) << q.l2Bits() {
			entry, err := q.entry(table + 8*l2)
			if err = errors.Join(err, context.Cause(ctx)); err != nil {
				return 0, err
			}
			switch {
			case entry&entryCompressed != 0:
				_, size := q.compressed(entry)
				clusters, held = clusters+1, held+max(size-511, q.cluster()>>maxRatio, 1) // it may share its last sector
			case entry&(entryZero|offsetMask) != 0 && entry&entryZero == 0:
				clusters, held = clusters+1, held+q.cluster()
			}
		}
		if held > q.end+q.cluster() { // a file can end within its last cluster
			return 0, fmt.Errorf("%w: it maps %d bytes and more, and holds %d", ErrCorrupt, held, q.end)
		}
	}
	return clusters * q.cluster(), nil
}

func be32(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
func be64(b []byte, at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
