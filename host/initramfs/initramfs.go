// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package initramfs writes the initramfs that a Linux kernel unpacks as its first root: an uncompressed cpio archive in
// "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//
// An archive is made of layers; a later layer replaces files of an earlier one. The result depends on names, kinds,
// permission bits and contents alone: entries are sorted, times and owners are zero, inode numbers count the entries,
// hard links become files of their own. The package never needs root, never writes into what it reads, and holds one
// file's buffer in memory at a time. It is called by host, when it assembles a run that boots a kernel directly.
package initramfs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/u-root/u-root/pkg/cpio"
)

// Limits of one archive. The newc header has 32 bits for a size and an inode number; Linux rejects names longer than
// its PATH_MAX of 4096 bytes, final NUL included.
const (
	MaxFileSize = 1<<32 - 1
	MaxName     = 4095
	MaxEntries  = 1 << 20
)

// Errors that callers and tests tell apart.
var (
	ErrPath     = errors.New("path not allowed in an initramfs")
	ErrConflict = errors.New("layers conflict")
	ErrKind     = errors.New("kind of file not supported")
	ErrLimit    = errors.New("limit of the cpio format exceeded")
)

// Summary describes a finished archive.
type Summary struct {
	Entries int    // without the trailer
	Size    int64  // in bytes
	SHA256  string // of the whole archive, lower-case hex
}

// Create writes the archive of the layers to the file name. The file appears under that name only when it is complete;
// after an error or the end of ctx an earlier file of that name is as it was.
func Create(ctx context.Context, name string, layers ...Layer) (Summary, error) {
	f, err := renameio.NewPendingFile(name, renameio.WithTempDir(filepath.Dir(name)),
		renameio.WithStaticPermissions(0o644))
	if err != nil {
		return Summary{}, fmt.Errorf("create initramfs %s: %w", name, err)
	}
	sum, err := Write(ctx, f, layers...)
	if err != nil {
		return Summary{}, errors.Join(fmt.Errorf("write initramfs %s: %w", name, err), f.Cleanup())
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return Summary{}, errors.Join(fmt.Errorf("write initramfs %s: %w", name, err), f.Cleanup())
	}
	return sum, nil
}

// SeedPath is the file with the seed of the guest's random pool; package guest has the same.
const SeedPath = "kindling/seed"

// seedSize is how many random bytes a seed has.
const seedSize = 32

// WithSeed makes dst a copy of an archive for one boot, with a fresh seed appended, for its owner alone: what a guest's
// random numbers are made from is not for a command line, which every user of the host can read, nor for an image that is
// the same everywhere. Linux unpacks archives one after another.
func WithSeed(ctx context.Context, dst, archive string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("initramfs %s with a seed: %w", archive, err)
		}
	}()
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(dst), ".boot-") // mode 0600; what has the name of dst is replaced, not followed
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		seed := make([]byte, seedSize)
		_, _ = rand.Read(seed) // it never fails: crypto/rand
		_, err = Write(ctx, out, Files(Regular(SeedPath, 0o600, seed)))
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), dst)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}

// Write writes the archive of the layers to w. What w holds after an error is worthless.
func Write(ctx context.Context, w io.Writer, layers ...Layer) (Summary, error) {
	t := newTree()
	for _, l := range layers {
		if err := ctx.Err(); err != nil {
			return Summary{}, err
		}
		if err := l.addTo(t); err != nil {
			return Summary{}, err
		}
	}
	counted := &countingWriter{ctx: ctx, w: w, sum: sha256.New()}
	records := cpio.Newc.Writer(counted)
	sorted := t.sorted()
	for i, n := range sorted {
		if err := writeNode(records, n, uint64(i)+1); err != nil {
			return Summary{}, err
		}
	}
	if err := cpio.WriteTrailer(records); err != nil {
		return Summary{}, fmt.Errorf("trailer: %w", err)
	}
	return Summary{Entries: len(sorted), Size: counted.n, SHA256: hex.EncodeToString(counted.sum.Sum(nil))}, nil
}

// writeNode writes one record; its content is opened here and closed before the next one is looked at.
func writeNode(w cpio.RecordWriter, n *node, ino uint64) (err error) {
	rec := cpio.Record{Info: cpio.Info{
		Name: n.name, Ino: ino, Mode: linuxMode(n.mode), NLink: 1, Rmajor: n.major, Rminor: n.minor,
	}}
	switch {
	case n.mode.IsDir():
		rec.NLink = 2
	case n.mode&fs.ModeSymlink != 0:
		link := cpio.Symlink(n.name, n.link)
		rec.ReaderAt, rec.FileSize = link.ReaderAt, link.FileSize
	case n.mode.IsRegular():
		f, err := n.open()
		if err != nil {
			return fmt.Errorf("open content of %s: %w", n.name, err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		// A plain section hides Close from the cpio writer: closing stays here, once, on success and on failure.
		rec.ReaderAt, rec.FileSize = io.NewSectionReader(f, 0, MaxFileSize+1), uint64(n.size)
	}
	if err := w.WriteRecord(rec); err != nil {
		return fmt.Errorf("add %s: %w", n.name, err)
	}
	return nil
}

// linuxMode gives the st_mode bits of Linux for a Go mode.
func linuxMode(m fs.FileMode) uint64 {
	bits := uint64(m.Perm())
	for _, special := range []struct {
		mode fs.FileMode
		bit  uint64
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&special.mode != 0 {
			bits |= special.bit
		}
	}
	switch {
	case m.IsDir():
		return bits | cpio.S_IFDIR
	case m&fs.ModeSymlink != 0:
		return bits | cpio.S_IFLNK
	case m&fs.ModeCharDevice != 0:
		return bits | cpio.S_IFCHR
	case m&fs.ModeDevice != 0:
		return bits | cpio.S_IFBLK
	}
	return bits | cpio.S_IFREG
}

// countingWriter passes bytes on, counts and hashes them, and stops when its context ends.
type countingWriter struct {
	ctx context.Context // of the one Write call this lives for: io.Writer has no place for it
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.sum.Write(p[:n])
	return n, err
}

// Content is what the archive needs of an open file.
type Content interface {
	io.ReaderAt
	io.Closer
}

// openHost opens a host file that must still be the regular file it was when it was listed. It never waits for a pipe.
func openHost(name string, flags int) (Content, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s: %w: no regular file any more", name, ErrKind), err, f.Close())
	}
	return f, nil
}
