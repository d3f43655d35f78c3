// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directAlign is a multiple of every logical block size: transfers past the page cache begin and end at it.
const directAlign = 4096

// Device is a disk that is open for one writer. It is a Target.
type Device struct {
	file    *os.File
	path    string
	number  Number
	flushed span
	direct  *os.File // past the page cache, since Forget
	buf     []byte   // page-aligned, for direct
}

// span is a range of bytes.
type span struct{ off, n int64 }

// OpenExclusive opens the disk that was looked at as d, for writing and for nobody else. The kernel refuses it while a
// filesystem, swap, or a device that is stacked on it has it or a partition of it in use, in whatever namespace; the
// error then wraps ErrBusy. A disk that is no longer the same is refused.
func (h Host) OpenExclusive(d *Disk) (*Device, error) {
	f, err := os.OpenFile(filepath.Clean(d.Path), os.O_RDWR|syscall.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s: %w", d.Path, ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	dev := &Device{file: f, path: d.Path, number: d.Number}
	if err := h.unchanged(f, d); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return dev, nil
}

// unchanged compares what is open with what was looked at.
func (h Host) unchanged(f *os.File, d *Disk) error {
	number, err := numberOfFile(f)
	if err != nil {
		return err
	}
	now, err := h.ByNumber(number)
	if err != nil {
		return err
	}
	if !now.Same(d) {
		return fmt.Errorf("%s: is another disk than a moment ago (%s %s): begin again", d.Path, now.Model, now.Serial)
	}
	if refusals := now.Refusals(0); len(refusals) > 0 {
		return fmt.Errorf("%s: %s", d.Path, refusals[0].Text)
	}
	return nil
}

func numberOfFile(f *os.File) (Number, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Number{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	rdev := uint64(st.Rdev) //nolint:unconvert // 32 bits elsewhere
	return Number{unix.Major(rdev), unix.Minor(rdev)}, nil
}

// WriteAt implements Target.
func (d *Device) WriteAt(b []byte, off int64) (int, error) { return d.file.WriteAt(b, off) }

// Zero implements Target with BLKZEROOUT.
func (d *Device) Zero(off, n int64) error {
	span := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.file.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	switch errno {
	case 0:
		return nil
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.EINVAL:
		return ErrNoZero
	}
	return &fs.PathError{Op: "zero", Path: d.path, Err: errno}
}

// Flush implements Target.
func (d *Device) Flush(off, n int64) error {
	fd := int(d.file.Fd())
	before := d.flushed
	d.flushed = span{off, n}
	err := unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	if err == nil && before.n > 0 {
		err = unix.SyncFileRange(fd, before.off, before.n,
			unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		_ = unix.Fadvise(fd, before.off, before.n, unix.FADV_DONTNEED) // the page cache has better things to hold
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: d.path, Err: err}
	}
	return nil
}

// Sync implements Target.
func (d *Device) Sync() error { return d.file.Sync() }

// Forget implements Target: it opens the disk once more, past the page cache. Where that cannot be done it drops the
// disk's part of the page cache (BLKFLSBUF), which needs root.
func (d *Device) Forget() error {
	buf, err := unix.Mmap(-1, 0, ChunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("buffer: %w", err)
	}
	d.buf = buf
	direct, err := os.OpenFile(filepath.Clean(d.path), os.O_RDONLY|syscall.O_DIRECT, 0)
	if err == nil {
		number, err := numberOfFile(direct)
		if err == nil && number == d.number {
			d.direct = direct
			return nil
		}
		_ = direct.Close()
	}
	d.direct = d.file
	if err := unix.IoctlSetInt(int(d.file.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return &fs.PathError{Op: "drop cache", Path: d.path, Err: err}
	}
	return nil
}

// ReadBack implements Target.
func (d *Device) ReadBack(off, n int64) ([]byte, error) {
	from := off / directAlign * directAlign
	until := (off + n + directAlign - 1) / directAlign * directAlign
	if until-from > int64(len(d.buf)) {
		return nil, fmt.Errorf("read back %d bytes: at most %d at once", n, len(d.buf))
	}
	got, err := d.direct.ReadAt(d.buf[:until-from], from)
	if int64(got) < off+n-from {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("at byte %d: %w", from+int64(got), err)
	}
	return d.buf[off-from : off-from+n], nil
}

// Close gives the disk back, and asks the kernel to look for partitions on it anew.
func (d *Device) Close() error {
	var errs []error
	if d.direct != nil && d.direct != d.file {
		errs = append(errs, d.direct.Close())
	}
	if d.buf != nil {
		errs = append(errs, unix.Munmap(d.buf))
	}
	// Not every disk can have partitions, and none has to: it will be plugged into another machine.
	_ = unix.IoctlSetInt(int(d.file.Fd()), unix.BLKRRPART, 0)
	return errors.Join(append(errs, d.file.Close())...)
}

// ImageFile is a file as an Image.
type ImageFile struct {
	file *os.File
	size int64
}

// OpenImage opens a regular file, which must not be empty.
func OpenImage(path string) (*ImageFile, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: is no regular file", path)
	case info.Size() == 0:
		err = fmt.Errorf("%s: is empty", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &ImageFile{file: f, size: info.Size()}, nil
}

// Size implements Image.
func (i *ImageFile) Size() int64 { return i.size }

// ReadAt implements Image.
func (i *ImageFile) ReadAt(b []byte, off int64) (int, error) { return i.file.ReadAt(b, off) }

// Hole implements Image: it asks the filesystem. One that knows no holes says that there are none.
func (i *ImageFile) Hole(off, n int64) bool {
	data, err := unix.Seek(int(i.file.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // nothing but a hole up to the end, or the file has been cut meanwhile
		info, err := i.file.Stat()
		return err == nil && info.Size() >= off+n
	}
	return err == nil && data >= off+n
}

// Signatures are what the image looks like.
func (i *ImageFile) Signatures() []Signature { return Signatures(i.file, i.size) }

// Close closes the file.
func (i *ImageFile) Close() error { return i.file.Close() }
