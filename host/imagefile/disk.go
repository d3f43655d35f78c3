// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package imagefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors of this package; the file, and what is wrong with it, stand around them.
var (
	// ErrFormat is an image that is not opened, because it is not what it was recorded or given as.
	ErrFormat = errors.New("disk image refused")
	// ErrCorrupt is a qcow2 image whose tables cannot be right.
	ErrCorrupt = errors.New("qcow2 image is damaged")
)

// Check opens every file of the chain and closes it again: each has to be a regular file or a block device, and each
// qcow2 file one that Kindling or a plain qemu-img creates, without data file, encryption or features that are not known.
//
// A qcow2 file that is recorded as the last must not name a backing file, and one that has a layer below it must name
// one. Which one it names does not matter: the record decides what is opened, here and, through Options, in QEMU. A raw
// file's content is never looked at.
func (c Chain) Check() error {
	d, err := c.Open()
	if err != nil {
		return err
	}
	return d.Close()
}

// Disk is the content of a chain, for reading. It may be used by several goroutines.
type Disk struct {
	mu     sync.Mutex
	files  []*os.File
	layers []layer
}

// layer is the content of one file.
type layer interface {
	// piece fills the beginning of b with what is at an offset, and gives its length. If that part is not in this layer,
	// here is false, and b is as it was.
	piece(b []byte, at int64) (n int, here bool, err error)
	// length is the size of the disk in bytes.
	length() int64
	// stored is the number of bytes that the file unpacks to.
	stored(ctx context.Context) (int64, error)
}

// Open opens the chain for reading. It checks what Check says.
func (c Chain) Open() (*Disk, error) {
	if len(c) == 0 {
		return nil, fmt.Errorf("%w: a disk without files", ErrFormat)
	}
	d := &Disk{}
	for i, l := range c {
		if err := d.add(l, i < len(c)-1); err != nil {
			return nil, errors.Join(fmt.Errorf("image %s: %w", l.Path, err), d.Close())
		}
	}
	return d, nil
}

// add opens one more layer.
func (d *Disk) add(l Layer, below bool) error {
	f, size, err := openFile(l.Path)
	if err != nil {
		return err
	}
	d.files = append(d.files, f)
	switch {
	case l.Format == QCOW2:
		q, err := newQCOW2(f, size, below)
		d.layers = append(d.layers, q)
		return err
	case l.Format != Raw:
		return fmt.Errorf("%w: format %q, want raw or qcow2", ErrFormat, l.Format)
	case below:
		return fmt.Errorf("%w: a raw file is recorded with a layer below it", ErrFormat)
	}
	d.layers = append(d.layers, rawLayer{f, size})
	return nil
}

// openFile opens a regular file or a block device, and gives its size. A FIFO neither blocks nor is read.
func openFile(path string) (_ *os.File, size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Type() != 0 && info.Mode().Type() != fs.ModeDevice {
		err = fmt.Errorf("%w: neither a file nor a disk", ErrFormat)
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// Close closes the files.
func (d *Disk) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Size is the size of the disk in bytes.
func (d *Disk) Size() int64 { return d.layers[0].length() }

// Stored is the number of bytes that the qcow2 files of the disk unpack to, zeros left out. A file that maps more than it
// holds is ErrCorrupt: only one that is made for it has a cluster in many places, and unpacks from 40 KiB to 6 GiB.
func (d *Disk) Stored(ctx context.Context) (int64, error) {
	var sum int64
	for i, l := range d.layers {
		n, err := l.stored(ctx)
		if err != nil {
			return 0, fmt.Errorf("image %s: %w", d.files[i].Name(), err)
		}
		sum += n
	}
	return sum, nil
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(b []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at < 0 {
		return 0, fmt.Errorf("%w: offset %d", fs.ErrInvalid, at)
	}
	n := int(max(0, min(int64(len(b)), d.Size()-at)))
	if err := d.read(0, b[:n], at); err != nil {
		return 0, err
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// read fills b from a layer, and from those below it.
func (d *Disk) read(layer int, b []byte, at int64) error {
	if layer == len(d.layers) {
		clear(b)
		return nil
	}
	for len(b) > 0 {
		n, here, err := d.layers[layer].piece(b, at)
		if err != nil {
			return fmt.Errorf("image %s: offset %d: %w", d.files[layer].Name(), at, err)
		}
		if !here {
			if err := d.read(layer+1, b[:n], at); err != nil {
				return err
			}
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// rawLayer is a file as it is.
type rawLayer struct {
	*os.File
	size int64
}

func (r rawLayer) length() int64 { return r.size }

func (r rawLayer) stored(context.Context) (int64, error) { return 0, nil }

func (r rawLayer) piece(b []byte, at int64) (int, bool, error) {
	return len(b), true, readPadded(r, b, at)
}

// readPadded reads zeros where the file has ended.
func readPadded(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	clear(b[n:])
	return err
}
