// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package diskimage reads and changes the filesystem of a guest's disk image, without root.
//
// An image is raw or qcow2, with the MS-DOS label and the one partition that a bootstrap makes, or an ext filesystem
// as a whole. What a guest that lost its power has left in the filesystem's journal is seen in place, though the image
// stays as it is; it is put there only before something is written. What a power cut has torn so that Linux refuses the
// filesystem can be made whole by itself (Mend). QEMU's own locks keep a machine and this package
// from using one image at the same time.
//
// Nothing in an image is trusted: package ext4 reads it, changes are written by debugfs into names that were looked at,
// and then read back. Nothing is ever mounted, and no symbolic link of an image leads to the host. It is called by
// cmd/host and package resume.
package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kindling/internal/ext4"
)

// Errors that callers tell apart.
var (
	ErrInUse        = errors.New("image is in use")
	ErrNoFilesystem = errors.New("image holds no filesystem of a bootstrap")
	ErrFormat       = errors.New("image format not supported")
	ErrProgram      = errors.New("program missing")
)

// Options say what may be done to an image.
type Options struct {
	// Write makes the methods that change the image work; it is changed in place. For raw images only.
	Write bool
	// Backing allows a qcow2 image that needs another file. Without it such an image is refused: its header could
	// name any file of the host.
	Backing bool
	// Temp is where a qcow2 image is unpacked; empty is the system's folder for temporary files.
	Temp string
}

// Image is an open image. Its file methods are those of package ext4.
type Image struct {
	*ext4.FS
	// Partition is where the filesystem lies.
	Partition Partition

	image  string // the image
	path   string // the file that is read: the image itself, or the copy
	header []byte // of the image
	opts   Options
	lock   *os.File
	file   *os.File
	temp   string // folder of the copy, of what is to be written, and of the link for e2fsprogs
}

// openImage opens an image, locked, and reads its header. A raw one that may change is locked against readers too.
func openImage(path string, o Options) (*os.File, []byte, error) {
	f, err := openLocked(path, false)
	if err != nil {
		return nil, nil, err
	}
	header := make([]byte, headerSize)
	if _, err := f.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, errors.Join(fmt.Errorf("image %s: %w", path, err), f.Close())
	}
	if bytes.HasPrefix(header, []byte(qcow2Magic)) || !o.Write {
		return f, header, nil
	}
	if err := f.Close(); err != nil {
		return nil, nil, err
	}
	f, err = openLocked(path, true)
	return f, header, err
}

// Open opens an image and finds its filesystem. It fails with ErrInUse while a machine uses it.
func Open(ctx context.Context, path string, o Options) (_ *Image, err error) {
	i := &Image{image: path, path: path, opts: o}
	if i.lock, i.header, err = openImage(path, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("image %s: %w", path, errors.Join(err, i.Close()))
		}
	}()
	if i.temp, err = os.MkdirTemp(o.Temp, "kindling-image-"); err != nil {
		return nil, err
	}
	if err := i.unpack(ctx); err != nil {
		return nil, err
	}
	if err := i.find(ctx); err != nil {
		return nil, err
	}
	if o.Write {
		return i, i.settle(ctx)
	}
	return i, nil
}

// Header is the beginning of the image file, which says in which format it is.
func (i *Image) Header() []byte { return i.header }

// Close closes the image and removes its copy, if there is one.
func (i *Image) Close() error {
	var errs []error
	for _, f := range []*os.File{i.file, i.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if i.temp != "" {
		errs = append(errs, os.RemoveAll(i.temp))
	}
	return errors.Join(errs...)
}

// A qcow2 image begins with a magic and a header (QEMU, docs/interop/qcow2.txt).
const (
	qcow2Magic = "QFI\xfb"
	headerSize = 104
)

// unpack makes a raw copy of a qcow2 image.
func (i *Image) unpack(ctx context.Context) error {
	if !bytes.HasPrefix(i.header, []byte(qcow2Magic)) {
		return nil
	}
	if i.opts.Write {
		return fmt.Errorf("%w: a qcow2 image cannot be changed in place; 'qemu-img convert -O raw' makes a raw one", ErrFormat)
	}
	if needsOther(i.header) && !i.opts.Backing {
		return fmt.Errorf("%w: a qcow2 image that needs another file; 'qemu-img convert' makes one that stands alone", ErrFormat)
	}
	abs, err := filepath.Abs(i.path)
	if err != nil {
		return err
	}
	raw := filepath.Join(i.temp, "raw.img")
	if err := run(ctx, "qemu-img", "qemu-utils", "convert", "-f", "qcow2", "-O", "raw", abs, raw); err != nil {
		return err
	}
	i.path = raw
	return nil
}

// needsOther reports a backing file, or an external data file (incompatible feature bit 2, version 3 on).
func needsOther(header []byte) bool {
	const externalData = 1 << 2
	return binary.BigEndian.Uint64(header[8:]) != 0 ||
		binary.BigEndian.Uint32(header[4:]) >= 3 && binary.BigEndian.Uint64(header[72:])&externalData != 0
}

// find opens what is to be read, and finds the filesystem in it.
func (i *Image) find(ctx context.Context) error {
	if i.file != nil {
		if err := i.file.Close(); err != nil {
			return err
		}
	}
	var err error
	if i.file, err = os.Open(i.path); err != nil {
		return err
	}
	size, err := i.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if i.Partition, i.FS, err = filesystem(i.file, size); err != nil {
		return err
	}
	i.FS, err = i.Recovered(ctx)
	return err
}

// settle puts what stands in the filesystem's journal into place.
func (i *Image) settle(ctx context.Context) error {
	w := io.NewOffsetWriter(i.lock, i.Partition.Offset)
	if err := errors.Join(i.WriteBack(w), i.lock.Sync()); err != nil {
		return err
	}
	return i.find(ctx)
}

// Mend writes what makes whole what Torn says, and nothing else, so that Linux can mount the filesystem and replay its
// journal. It works whatever the options say. Other programs keep off the image meanwhile, and a raw one until it is closed.
func (i *Image) Mend(ctx context.Context) error {
	if i.Torn() == "" {
		return nil
	}
	if err := i.mend(ctx); err != nil {
		return fmt.Errorf("image %s: %w", i.image, err)
	}
	return nil
}

func (i *Image) mend(ctx context.Context) (err error) {
	if err := i.lock.Close(); err != nil {
		return err
	}
	if bytes.HasPrefix(i.header, []byte(qcow2Magic)) {
		err := i.FS.Mend(io.NewOffsetWriter(qcow2Writer{ctx, i.image}, i.Partition.Offset))
		i.lock = nil // the copy is read, which nobody else has
		return err
	}
	if i.lock, err = openLocked(i.path, true); err != nil {
		return err
	}
	if err := i.find(ctx); err != nil { // nobody had it locked for a moment
		return err
	}
	return errors.Join(i.FS.Mend(io.NewOffsetWriter(i.lock, i.Partition.Offset)), i.lock.Sync())
}

// qcow2Writer writes to what a qcow2 image holds. QEMU's own program does it, under QEMU's locks.
type qcow2Writer struct {
	ctx  context.Context //nolint:containedctx // io.WriterAt has none
	path string
}

// WriteAt implements io.WriterAt.
func (w qcow2Writer) WriteAt(b []byte, at int64) (int, error) {
	write := fmt.Sprintf("write -s /dev/stdin %d %d", at, len(b))
	if _, err := output(w.ctx, "qemu-io", "qemu-utils", bytes.NewReader(b), "-f", "qcow2", "-c", write, w.path); err != nil {
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
