// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import (
	"context"
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
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is how many bytes are read or written in one call at most.
const bufferSize = 256 << 10

// Endings of the names of files that are not what they shall become.
const (
	partSuffix  = ".part"
	asideSuffix = ".wrong"
)

// maxFileName is the longest name that Linux's filesystems take, in bytes.
const maxFileName = 255

// partName is the name of a wanted file while it is incomplete. With the digits of its sha256 in it, what an older tree
// wanted under the same name is never taken up.
func partName(w Want) string {
	tail := "." + w.SHA256[:12] + partSuffix
	return w.Name[:min(len(w.Name), maxFileName-len(tail))] + tail
}

// found is what stands under a wanted name.
type found struct {
	status    Status // Present, Missing or Wrong
	size      int64
	cause     string // of Wrong
	irregular bool   // no file at all, which no other can be renamed over
}

// check reads the file at path and compares it with a sha256. Symbolic links are followed: the folder is the user's. A file
// that cannot be read is neither right nor wrong: that is an error, as is the end of ctx.
func check(ctx context.Context, path, want string) (found, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return found{status: Missing}, nil
	case err != nil:
		return found{}, local(err)
	case !info.Mode().IsRegular():
		return found{status: Wrong, cause: "is no regular file", irregular: true}, nil
	}
	// O_NONBLOCK: a named pipe that has taken its place since would wait for a writer.
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return found{}, local(err)
	}
	defer f.Close()
	h := sha256.New()
	size, err := hashFile(ctx, h, f)
	if ctx.Err() != nil {
		return found{}, ctx.Err()
	}
	if err != nil {
		return found{}, local(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return found{status: Wrong, size: size, cause: wrongSum(got, want, size)}, nil
	}
	return found{status: Present, size: size}, nil
}

// wrongSum is what is said about a file with another sha256 than the wanted one.
func wrongSum(got, want string, size int64) string {
	return fmt.Sprintf("has sha256 %s (%d bytes), want %s", got, size, want)
}

// hashFile feeds what is left of f to h.
func hashFile(ctx context.Context, h hash.Hash, f io.Reader) (int64, error) {
	buf := make([]byte, bufferSize)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// localError is a failure of the folder, not of a server: other addresses will not help.
type localError struct{ err error }

func (e *localError) Error() string { return "distfiles folder: " + e.err.Error() }

func (e *localError) Unwrap() error { return e.err }

// local makes err a localError unless it is nil.
func local(err error) error {
	if err == nil {
		return nil
	}
	return &localError{err}
}

// part is the incomplete file of one want, locked for this run.
type part struct {
	file *os.File
	path string
	hash hash.Hash
	size int64 // bytes in it that are known to hash
	// useless says that no run will take the part up, because its file is there.
	useless bool
}

// openPart opens the incomplete file, made if it is not there, and waits until it has it for itself. waiting is called
// once if there is somebody to wait for.
func openPart(ctx context.Context, path string, poll time.Duration, waiting func()) (*part, error) {
	told := false
	for {
		p, err := tryPart(path)
		if p != nil || err != nil {
			return p, err
		}
		if !told {
			told = true
			waiting()
		}
		if err := pause(ctx, poll); err != nil {
			return nil, err
		}
	}
}

// tryPart opens and locks the file. It returns nothing at all when another run has the lock, or had it and has moved
// the file away since.
func tryPart(path string) (*part, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, local(err)
	}
	mine, err := lockPart(f, path)
	if err != nil || !mine {
		return nil, errors.Join(local(err), f.Close())
	}
	return &part{file: f, path: path, hash: sha256.New()}, nil
}

// lockPart takes the lock if it is free, and reports whether f then still is the file at path.
func lockPart(f *os.File, path string) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s: is no regular file: remove it", path)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(info, there), err
}

// load takes up what an earlier run has left.
func (p *part) load(ctx context.Context) error {
	size, err := hashFile(ctx, p.hash, p.file)
	p.size = size
	if err != nil && ctx.Err() == nil {
		return local(err)
	}
	return err
}

// Write appends.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.hash.Write(b[:n])
	p.size += int64(n)
	return n, local(err)
}

// sum is the sha256 of what is there so far.
func (p *part) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

// reset begins anew.
func (p *part) reset() error {
	if err := p.file.Truncate(0); err != nil {
		return local(err)
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return local(err)
	}
	p.hash.Reset()
	p.size = 0
	return nil
}

// become gives the file its final name, when its bytes are on the disk.
func (p *part) become(path string) error {
	err := p.file.Sync()
	if err == nil {
		err = os.Rename(p.path, path)
	}
	if err != nil {
		return local(err)
	}
	p.path = ""
	return nil
}

// close gives the lock back. A part that is of no use to a later run is removed first, while it is still locked.
func (p *part) close() error {
	info, err := p.file.Stat()
	if err == nil && p.path != "" && (p.useless || info.Size() == 0) {
		err = os.Remove(p.path)
	}
	return local(errors.Join(err, p.file.Close()))
}

// setAside moves a wrong file out of the way and returns its new name. Files that were set aside before are kept. The
// lock on the part keeps other runs from doing the same.
func setAside(dir, name string) (string, error) {
	const most = 100
	for i := range most {
		aside := name + asideSuffix
		if i > 0 {
			aside += fmt.Sprintf(".%d", i)
		}
		to := filepath.Join(dir, aside)
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Rename(filepath.Join(dir, name), to); err != nil {
			return "", local(fmt.Errorf("set aside %s: %w", name, err))
		}
		return aside, nil
	}
	return "", local(fmt.Errorf("set aside %s: %d files of that name were set aside before: remove them", name, most))
}

// pause waits, but not longer than ctx lasts.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
