// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
)

// ChunkSize is how many bytes are written or read back in one call, and how exactly a difference is placed.
const ChunkSize = 4 << 20

// TailSize is how much of the end of a disk is zeroed if the image does not reach there, in bytes. Backups of partition
// tables (GPT), RAID and ZFS labels stand there, and would bring back to life what was on the disk before.
const TailSize = 1 << 20

// Errors of Copy. Both say that bytes of the disk have been changed.
var (
	ErrHalfWritten = errors.New("the disk is half-written and of no use before an image is written to it again")
	ErrDifferent   = errors.New("the disk does not hold what was written to it")
)

// ErrNoZero is the error of a Target that cannot zero ranges by itself.
var ErrNoZero = errors.New("no zeroing of ranges")

// Image is what is written: a file, possibly with holes.
type Image interface {
	io.ReaderAt
	Size() int64
	// Hole reports whether n bytes from off on are known to be zeros without reading them.
	Hole(off, n int64) bool
}

// Target is a disk, or what stands for one in a test. What is written or read begins at a multiple of ChunkSize, but
// for the end of the disk.
type Target interface {
	io.WriterAt
	// Zero makes n bytes from off on zeros. Its error is ErrNoZero if that has to be done with WriteAt.
	Zero(off, n int64) error
	// Flush begins to bring n bytes from off on to the disk, and waits for those of the call before, so that progress
	// is that of the disk and not of the memory in between.
	Flush(off, n int64) error
	// Sync waits until everything is on the disk.
	Sync() error
	// Forget makes the next ReadBack read from the disk and not from memory.
	Forget() error
	// ReadBack reads n bytes from off on; what it returns is valid until its next call.
	ReadBack(off, n int64) ([]byte, error)
}

// Phase is what Copy is doing.
type Phase string

// The phases, in their order.
const (
	Writing   Phase = "writing"
	Syncing   Phase = "syncing"
	Verifying Phase = "verifying"
)

// Progress says how far Copy is.
type Progress struct {
	Phase Phase
	Done  int64 // bytes of this phase
	Total int64
}

// Result is what Copy has done.
type Result struct {
	Size   int64  // bytes of the image
	SHA256 string // of the image as it was written and read back, lower-case hex
	Zeroed int64  // bytes of it that the disk was told to zero
	Tail   int64  // bytes behind it that were zeroed, at the end of the disk
}

// Copy writes an image to the beginning of a disk of diskSize bytes, zeroes the end of the disk (TailSize), waits until
// all of it is there, reads it back from the medium and compares.
//
// Everything is written, zeros too: the disk may hold anything. Holes of the image are left to the disk to zero where
// it can (BLKZEROOUT: afterwards they read as zeros, as the kernel guarantees). An error after the first byte wraps
// ErrHalfWritten, a difference ErrDifferent.
func Copy(ctx context.Context, img Image, disk Target, diskSize int64, tell func(Progress)) (Result, error) {
	if tell == nil {
		tell = func(Progress) {}
	}
	c := &copier{ctx: ctx, img: img, disk: disk, tell: tell, buf: make([]byte, ChunkSize), seed: maphash.MakeSeed()}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if img.Size() > diskSize {
		return Result{}, fmt.Errorf("the image has %d bytes, the disk %d", img.Size(), diskSize)
	}
	result, err := c.write(diskSize)
	if err != nil {
		return result, fmt.Errorf("%w; %w", err, ErrHalfWritten)
	}
	if err := c.verify(result); err != nil {
		if errors.Is(err, ErrDifferent) {
			return result, err
		}
		return result, fmt.Errorf("read back: %w; the image was written, but not compared", err)
	}
	return result, nil
}

// copier is one run of Copy.
type copier struct {
	ctx    context.Context //nolint:containedctx // lives for one call of Copy
	img    Image
	disk   Target
	tell   func(Progress)
	buf    []byte
	noZero bool // the disk cannot zero by itself
	seed   maphash.Seed
	sums   []uint64 // of each chunk, to say where a difference is
	tailAt int64    // where the zeroed end of the disk begins
}

// write does everything that changes the disk.
func (c *copier) write(diskSize int64) (Result, error) {
	result := Result{Size: c.img.Size()}
	h := sha256.New()
	err := c.chunks(result.Size, func(off, n int64) error {
		b, zeroed, err := c.chunk(off, n)
		if err != nil {
			return err
		}
		if zeroed {
			result.Zeroed += n
		}
		h.Write(b)
		c.sums = append(c.sums, maphash.Bytes(c.seed, b))
		c.tell(Progress{Writing, off + n, result.Size})
		return c.disk.Flush(off, n)
	})
	if err != nil {
		return result, err
	}
	result.SHA256 = hex.EncodeToString(h.Sum(nil))
	if result.Tail = min(TailSize, diskSize-result.Size); result.Tail > 0 {
		c.tailAt = diskSize - result.Tail
		clear(c.buf)
		if _, err := c.disk.WriteAt(c.buf[:result.Tail], c.tailAt); err != nil {
			return result, fmt.Errorf("zero the end of the disk: %w", err)
		}
	}
	c.tell(Progress{Syncing, 0, result.Size})
	return result, c.disk.Sync()
}

// chunk writes one chunk and returns its bytes.
func (c *copier) chunk(off, n int64) (b []byte, zeroed bool, err error) {
	b = c.buf[:n]
	if n == ChunkSize && c.img.Hole(off, n) {
		clear(b)
		if !c.noZero {
			err := c.disk.Zero(off, n)
			if err == nil {
				return b, true, nil
			}
			if !errors.Is(err, ErrNoZero) {
				return nil, false, err
			}
			c.noZero = true
		}
	} else if got, err := c.img.ReadAt(b, off); int64(got) < n {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, fmt.Errorf("read image at byte %d: %w", off+int64(got), err)
	}
	_, err = c.disk.WriteAt(b, off)
	return b, false, err
}

// verify reads back what write has written.
func (c *copier) verify(result Result) error {
	if err := c.disk.Forget(); err != nil {
		return err
	}
	h := sha256.New()
	i := 0
	err := c.chunks(result.Size, func(off, n int64) error {
		b, err := c.disk.ReadBack(off, n)
		if err != nil {
			return err
		}
		h.Write(b)
		if maphash.Bytes(c.seed, b) != c.sums[i] {
			return fmt.Errorf("%w: they differ between bytes %d and %d", ErrDifferent, off, off+n)
		}
		i++
		c.tell(Progress{Verifying, off + n, result.Size})
		return nil
	})
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != result.SHA256 {
		return fmt.Errorf("%w: sha256 %s instead of %s", ErrDifferent, got, result.SHA256)
	}
	return c.verifyTail(result)
}

// verifyTail wants zeros at the end of the disk.
func (c *copier) verifyTail(result Result) error {
	if result.Tail == 0 {
		return nil
	}
	off := c.tailAt
	b, err := c.disk.ReadBack(off, result.Tail)
	if err != nil {
		return err
	}
	if len(bytes.Trim(b, "\x00")) > 0 {
		return fmt.Errorf("%w: they differ between bytes %d and %d", ErrDifferent, off, off+result.Tail)
	}
	return nil
}

// chunks calls do for each chunk of size bytes.
func (c *copier) chunks(size int64, do func(off, n int64) error) error {
	for off := int64(0); off < size; off += ChunkSize {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := do(off, min(ChunkSize, size-off)); err != nil {
			return err
		}
	}
	return nil
}
