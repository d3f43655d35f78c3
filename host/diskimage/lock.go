// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package diskimage

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// QEMU locks bytes of an image for each right that it has or does not share (block/file-posix.c: RAW_LOCK_PERM_BASE and
// RAW_LOCK_SHARED_BASE; the right to write is bit 1 of block.h's permissions): a read lock on 101 means "I write", one
// on 201 "nobody else may write". Whoever wants either looks whether the other one's opposite is taken.
const (
	byteWrites   = 101
	byteNoWriter = 201
)

// openLocked opens an image and keeps machines from writing to it for as long as the file is open; with change it also
// keeps everybody else from reading it in the belief that it stays as it is.
func openLocked(path string, change bool) (_ *os.File, err error) {
	mode := os.O_RDONLY
	if change {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0) // a FIFO does not block, and is refused
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("image %s: %w", path, errors.Join(err, f.Close()))
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if t := info.Mode().Type(); t != 0 && t != os.ModeDevice {
		return nil, errors.New("neither a file nor a disk")
	}
	hold := []int64{byteNoWriter}
	if change {
		hold = append(hold, byteWrites)
	}
	for _, at := range hold {
		if err := lockByte(f, unix.F_OFD_SETLK, unix.F_RDLCK, at); err != nil {
			return nil, err
		}
	}
	if err := taken(f, byteWrites); err != nil {
		return nil, err
	}
	if change {
		return f, taken(f, byteNoWriter)
	}
	return f, nil
}

// taken reports ErrInUse if anybody else holds the byte.
func taken(f *os.File, at int64) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return fmt.Errorf("look at its locks: %w", err)
	}
	if lock.Type != unix.F_UNLCK {
		return fmt.Errorf("%w: a machine (QEMU) or another kindling has it open; wait for its end", ErrInUse)
	}
	return nil
}

func lockByte(f *os.File, cmd int, typ int16, at int64) error {
	lock := unix.Flock_t{Type: typ, Whence: io.SeekStart, Start: at, Len: 1}
	err := unix.FcntlFlock(f.Fd(), cmd, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrInUse
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}
