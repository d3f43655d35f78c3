// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// A disk whose sectors are smaller than a block leaves of a block that was being written when its power went some sectors
// new and some old. Linux replays nearly everything that can be torn, but refuses to mount (fs/jbd2/recovery.c, do_one_pass)
//
//   - for a commit block with a wrong checksum, up to 6.10;
//   - for a descriptor block with a wrong checksum, even one whose transaction has no commit block: up to 5.x;
//   - for a superblock with a wrong checksum, though its journal has a right one (fs/ext4/super.c).
//
// A commit block is written when everything before it is on the disk, and nothing of a later transaction is before it is
// there itself; all that it says is in its first sector. So a commit block can be torn in the last transaction only, and
// behind its beginning only; a descriptor block in a transaction without a commit block only. Anything else is damage.

// tear is one such place, and what makes it whole.
type tear struct {
	what string
	at   int64 // byte of the filesystem
	data []byte
}

// commitSize is the part of a commit block that is not zero (include/linux/jbd2.h, struct commit_header); it is in the
// block's first sector.
const commitSize = 60

// Torn says what of the filesystem was torn by a power cut so that Linux may refuse to mount it, "" for nothing. It is
// known of what Recovered gives.
func (f *FS) Torn() string {
	var what []string
	for _, t := range f.torn {
		what = append(what, t.what)
	}
	return strings.Join(what, ", ")
}

// Mend puts right, through w, what Torn says, and nothing else: the journal is left for Linux to replay.
func (f *FS) Mend(w io.WriterAt) error {
	for _, t := range f.torn {
		if _, err := w.WriteAt(t.data, t.at); err != nil {
			return fmt.Errorf("mend %s: %w", t.what, err)
		}
	}
	return nil
}

// judge decides what a record of the transaction is whose checksum is wrong, and gives the kind to take it for: the end of
// the log, or a commit block whose beginning is right, behind a transaction that is all there (which is what Linux takes it
// for from 6.11 on). What no power cut does is ErrCorrupt.
func (l *log) judge(raw []byte, at, sequence, kind uint32, all bool) (uint32, error) {
	if err := l.isLast(at, sequence); err != nil {
		return 0, err
	}
	t := tear{at: int64(l.where[at]) * l.fs.blockSize, data: make([]byte, len(raw))}
	if kind != blockCommit {
		t.what = fmt.Sprintf("the unfinished transaction %d in the journal", sequence)
		l.torn = append(l.torn, t)
		return 0, nil
	}
	copy(t.data, raw[:commitSize])
	if !all || !l.whole(t.data, kind) {
		return 0, fmt.Errorf("%w: a wrong checksum at block %d, which finishes transaction %d", ErrCorrupt, at, sequence)
	}
	t.what = fmt.Sprintf("the end of transaction %d in the journal", sequence)
	l.torn = append(l.torn, t)
	return kind, nil
}

// isLast looks through the whole journal for a sign, beside what is at one place, that the transaction was finished. A torn
// commit block is one: it was written when the transaction was on the disk.
func (l *log) isLast(at, sequence uint32) error {
	raw, head := make([]byte, l.fs.blockSize), make([]byte, 12)
	for i := l.first; i < uint32(len(l.where)); i++ {
		if err := l.fs.read(head, l.where[i], 0); err != nil {
			return err
		}
		number := binary.BigEndian.Uint32(head[8:])
		if i == at || binary.BigEndian.Uint32(head) != journalMagic || int32(number-sequence) < 0 {
			continue
		}
		kind, whole, err := l.record(raw, i, number)
		if err != nil {
			return err
		}
		if kind == blockCommit {
			clear(raw[commitSize:])
			whole = l.whole(raw, kind)
		}
		if kind != 0 && whole && (number != sequence || kind == blockCommit) {
			return fmt.Errorf("%w: a wrong checksum at block %d, in transaction %d, though transaction %d is in block %d",
				ErrCorrupt, at, sequence, number, i)
		}
	}
	return nil
}

// Where a superblock has its checksum.
const superSumAt = 0x3fc

// superSum is the checksum that a superblock should have, if it has one.
func superSum(sb []byte) (sum uint32, has bool) {
	const metadataCsum = 0x400
	return crc32c(^uint32(0), sb[:superSumAt]), le32(sb, 0x64)&metadataCsum != 0
}

// checkSuper notes a superblock that is torn in its place, but not in the journal.
func (f *FS) checkSuper(place, journal io.ReaderAt) error {
	sb := make([]byte, superSize)
	if right, err := superWhole(place, sb); err != nil || right {
		return err
	}
	right, err := superWhole(journal, sb)
	if err == nil && right && le32(sb, 0x60)&featureRecover != 0 { // without it Linux would throw the journal away
		f.torn = append(f.torn, tear{what: "the superblock", at: superOffset, data: sb})
	}
	return err
}

// superWhole reads a superblock and holds it against its checksum.
func superWhole(r io.ReaderAt, sb []byte) (bool, error) {
	if _, err := r.ReadAt(sb, superOffset); err != nil {
		return false, err
	}
	sum, has := superSum(sb)
	return !has || sum == le32(sb, superSumAt), nil
}
