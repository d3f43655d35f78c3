// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package diskimage reads and changes the filesystem of a guest's disk image, without root.
//
// An image is a chain of raw and qcow2 files (package imagefile), with the MS-DOS label and the one partition that a
// bootstrap creates, or an ext filesystem as a whole. It is read in place. Changes in the filesystem's journal are
// visible although nothing is written; they are put into place only before something else is written. What a power cut
// has torn so that Linux refuses the filesystem can be repaired alone (Mend). QEMU's own locks keep a machine and this
// package from using one image at the same time.
//
// Nothing in an image is trusted: package ext4 reads it, changes are written by debugfs into names that were looked at,
// and then read back. Nothing is ever mounted, and neither a symbolic link nor a header of an image leads to the host. It
// is called by cmd/host and package resume.
package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"kindling/host/imagefile"
	"kindling/internal/ext4"
)

// Errors that callers tell apart.
var (
	ErrInUse        = errors.New("image is in use")
	ErrNoFilesystem = errors.New("image holds no filesystem of a bootstrap")
	ErrProgram      = errors.New("program missing")
)

// Options say what may be done to an image.
type Options struct {
	// Write makes the methods that change the image work; it is changed in place. For one raw file only.
	Write bool
	// Temp is where files are put for debugfs; empty is the system's folder for temporary files.
	Temp string
}

// Image is an open image. Its file methods are those of package ext4.
type Image struct {
	*ext4.FS
	// Partition is where the filesystem lies.
	Partition Partition

	chain imagefile.Chain
	opts  Options
	lock  *os.File // the file that a machine writes to
	disk  *imagefile.Disk
	temp  string // folder of what is to be written, and of the link for e2fsprogs; with Write only
}

// Open opens a disk and finds its filesystem. It fails with ErrInUse while a machine uses it.
func Open(ctx context.Context, chain imagefile.Chain, o Options) (*Image, error) {
	i := &Image{chain: chain, opts: o}
	switch {
	case len(chain) == 0:
		return nil, fmt.Errorf("%w: a disk without files", imagefile.ErrFormat)
	case o.Write && !i.raw():
		return nil, fmt.Errorf("image %s: %w: only a raw one can be changed; 'qemu-img convert -O raw' creates one", i.path(), imagefile.ErrFormat)
	}
	var err error
	if i.lock, err = openLocked(i.path(), o.Write); err != nil {
		return nil, err
	}
	if err = i.find(ctx); err == nil && o.Write {
		err = i.settle(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// path is the file that a machine writes to.
func (i *Image) path() string { return i.chain[0].Path }

// raw reports whether that file is the disk as it is.
func (i *Image) raw() bool { return i.chain[0].Format == imagefile.Raw }

// Close closes the image.
func (i *Image) Close() error {
	var errs []error
	if i.disk != nil {
		errs = append(errs, i.disk.Close())
	}
	if i.lock != nil {
		errs = append(errs, i.lock.Close())
	}
	if i.temp != "" {
		errs = append(errs, os.RemoveAll(i.temp))
	}
	return errors.Join(errs...)
}

// find opens what is to be read, and finds the filesystem in it.
func (i *Image) find(ctx context.Context) error {
	if i.disk != nil {
		if err := i.disk.Close(); err != nil {
			return err
		}
	}
	var err error
	if i.disk, err = i.chain.Open(); err != nil {
		return err
	}
	if i.Partition, i.FS, err = filesystem(i.disk, i.disk.Size()); err == nil {
		i.FS, err = i.Recovered(ctx)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", i.path(), err)
	}
	return nil
}

// settle puts what stands in the filesystem's journal into place, and gets ready for changes.
func (i *Image) settle(ctx context.Context) (err error) {
	if i.temp, err = os.MkdirTemp(i.opts.Temp, "kindling-image-"); err != nil {
		return err
	}
	w := io.NewOffsetWriter(i.lock, i.Partition.Offset)
	if err := errors.Join(i.WriteBack(w), i.lock.Sync()); err != nil {
		return fmt.Errorf("image %s: %w", i.path(), err)
	}
	return i.find(ctx)
}

// Mend writes what makes whole what Torn says, and nothing else, so that Linux can mount the filesystem and replay its
// journal. It works whatever the options say. Other programs keep off the image meanwhile, and a raw one until it is closed.
func (i *Image) Mend(ctx context.Context) (err error) {
	if i.Torn() == "" {
		return nil
	}
	if err := i.lock.Close(); err != nil {
		return err
	}
	i.lock = nil
	if !i.raw() {
		if err := i.mendTo(qcow2Writer{ctx, i.chain}); err != nil {
			return err
		}
	}
	if i.lock, err = openLocked(i.path(), i.raw()); err != nil {
		return err
	}
	if err := i.find(ctx); err != nil || !i.raw() { // nobody had it locked for a moment
		return err
	}
	if err := errors.Join(i.mendTo(i.lock), i.lock.Sync()); err != nil {
		return err
	}
	return i.find(ctx)
}

func (i *Image) mendTo(w io.WriterAt) error {
	if err := i.FS.Mend(io.NewOffsetWriter(w, i.Partition.Offset)); err != nil {
		return fmt.Errorf("image %s: %w", i.path(), err)
	}
	return nil
}

// qcow2Writer writes to what a qcow2 image holds. QEMU's own program does it, under QEMU's locks. Every file and its
// format are named to it: it neither probes one nor follows a name in a header.
type qcow2Writer struct {
	ctx   context.Context //nolint:containedctx // io.WriterAt has none
	chain imagefile.Chain
}

// WriteAt implements io.WriterAt.
func (w qcow2Writer) WriteAt(b []byte, at int64) (int, error) {
	write := fmt.Sprintf("write -s /dev/stdin %d %d", at, len(b))
	if _, err := output(w.ctx, "qemu-io", "qemu-utils", bytes.NewReader(b), "--image-opts", "-c", write, w.chain.Options()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// filesystem finds the filesystem in an image of that size: in the first partition that has one, or in all of it.
func filesystem(r io.ReaderAt, size int64) (Partition, *ext4.FS, error) {
	parts, err := partitions(r, size)
	if err != nil {
		return Partition{}, nil, err
	}
	var failed error
	for _, p := range append(parts, Partition{Size: size}) {
		fsys, err := ext4.Open(io.NewSectionReader(r, p.Offset, p.Size))
		if err == nil {
			return p, fsys, nil
		}
		if failed == nil && !errors.Is(err, ext4.ErrNotExt4) {
			failed = err
		}
	}
	if failed != nil {
		return Partition{}, nil, failed
	}
	return Partition{}, nil, fmt.Errorf("%w: no ext4 in a partition of an MS-DOS label, nor in all of it", ErrNoFilesystem)
}
