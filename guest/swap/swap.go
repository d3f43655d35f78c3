// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package swap makes a swap file and puts it to use.
//
// The kernel takes a swap file only if every block of it is on the disk (a hole is refused), so it is filled with zeros,
// as the tree's own script does. The file has its name only when it is whole: what a power cut leaves is made again.
// Called by package guest, in `improve: swap` and at every later boot.
package swap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MiB is the unit of SWAP_SIZE.
const MiB = 1 << 20

// MaxMiB is the largest swap file that ParseSize takes, in MiB: 1 TiB.
const MaxMiB = 1 << 20

// The header of a swap area, in its first page (Linux, include/linux/swap.h, union swap_header): 1,024 bytes for a boot
// sector, then version, number of the last page and number of bad pages as u32 of the machine, then UUID and label; and
// the signature in the page's last ten bytes.
const (
	infoOffset = 1024
	version    = 1
	signature  = "SWAPSPACE2"
	minPages   = 10
)

// ErrSize is a size that no swap file can have.
var ErrSize = errors.New("size of the swap file")

// ParseSize reads a number of MiB and gives the size in bytes.
func ParseSize(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > MaxMiB {
		return 0, fmt.Errorf("%w: %q: want a number of MiB, at most %d", ErrSize, text, MaxMiB)
	}
	return int64(n) * MiB, nil
}

// header is the first page of a swap area of that size, in bytes; nil if there is no such area.
func header(size int64, page int) []byte {
	pages := size / int64(page)
	if pages < minPages || pages > 1<<32 {
		return nil
	}
	h := make([]byte, page)
	binary.NativeEndian.PutUint32(h[infoOffset:], version)
	binary.NativeEndian.PutUint32(h[infoOffset+4:], uint32(pages-1))
	copy(h[page-len(signature):], signature)
	return h
}

// Ready reports whether path is a whole swap file of that size in bytes.
func Ready(path string, size int64) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Size() != size || st.Blocks*512 < size {
		return false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return isHeader(f, size, os.Getpagesize())
}

// isHeader reports whether r begins with the header of an area of that size. UUID and label may be anything.
func isHeader(r io.Reader, size int64, page int) (bool, error) {
	want := header(size, page)
	if want == nil {
		return false, nil
	}
	have := make([]byte, page)
	if _, err := io.ReadFull(r, have); err != nil {
		return false, err
	}
	const info = 8
	return string(have[infoOffset:infoOffset+info]) == string(want[infoOffset:infoOffset+info]) &&
		string(have[page-len(signature):]) == signature, nil
}

// Make makes a swap file of that size in bytes, in the place of what has its name. It tells how far it is.
func Make(ctx context.Context, path string, size int64, progress func(done int64)) (err error) {
	head := header(size, os.Getpagesize())
	if head == nil {
		return fmt.Errorf("%w: %d bytes", ErrSize, size)
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(ctx, f, size, progress)
	if err == nil {
		_, err = f.WriteAt(head, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// fill writes size zeros. Where the filesystem can, their room is taken first, so that too little is known at once.
func fill(ctx context.Context, f *os.File, size int64, progress func(int64)) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return tooLarge(f, size, err)
	}
	zeros := make([]byte, MiB)
	for done := int64(0); done < size; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := f.Write(zeros[:min(int64(len(zeros)), size-done)])
		done += int64(n)
		if err != nil {
			return tooLarge(f, size, err)
		}
		progress(done)
	}
	return nil
}

// tooLarge says how much room there is, if that is what was wrong.
func tooLarge(f *os.File, size int64, err error) error {
	var st unix.Statfs_t
	if !errors.Is(err, unix.ENOSPC) || unix.Fstatfs(int(f.Fd()), &st) != nil {
		return err
	}
	return fmt.Errorf("%d MiB of swap do not fit: %d MiB are free (lower SWAP_SIZE, or take a larger disk): %w",
		size/MiB, st.Bavail*uint64(st.Frsize)/MiB, err)
}

// On puts a swap file to use. One that is in use already is no error.
func On(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return fmt.Errorf("swapon %s: %w", path, err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), 0, 0)
	switch errno {
	case 0, unix.EBUSY:
		return nil
	case unix.ENOSYS:
		return fmt.Errorf("swapon %s: this kernel has no swap (CONFIG_SWAP): %w", path, errno)
	}
	return fmt.Errorf("swapon %s: %w", path, errno)
}
