// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CountNone as ImportOptions.Count takes no file at all; the container's head is checked all the same.
const CountNone = -1

// ImportOptions says what to import and what to expect. The zero value imports every file.
type ImportOptions struct {
	ID       string         // the ID that the container must have (PAYLOAD_ID), "" for any
	Skip     int            // files after SHA256SUMS to pass over
	Count    int            // files to import after those, 0 for all that are left, CountNone for none
	Bytes    int64          // what those files take together, for a space check before the first; 0 when not known
	KeepSums bool           // leave SHA256SUMS in the destination, to check it by hand
	NoSync   bool           // do not wait until the data is on the disk; for destinations that no power cut outlives
	Progress func(Progress) // called after each buffer; nil for nobody
	Free     FreeFunc       // how free space is found out; nil asks the file system
}

// FreeFunc returns the bytes that may still be written below dir, and the block size by which files take them up.
type FreeFunc func(dir string) (free, block int64, err error)

// Result says what Import did.
type Result struct {
	Info
	Copied      int   // files written
	Kept        int   // files that were right already
	CopiedBytes int64 // bytes in the files written
}

// Import reads a container from r, which stands at its first byte, and puts its files into the directory dst.
//
// Each file is written under TempName and gets its name when it is complete, right and on the disk. A file of the
// right size and sha256 that is there already is kept; a wrong one is removed before its successor is written, so that
// a repair needs no more room than a first import. Without SHA256SUMS in the container nothing can be known of files
// that are there, and they are replaced. Nothing is read behind the last file that is wanted. Files that are passed
// over, by Skip or because they are right, are not checked in the container.
//
// dst is made if it is missing, as are its parents; an empty regular file in the place of one of them becomes a
// directory (builder-hex0 leaves those behind in the place of empty directories).
//
// When Import fails, the files before the bad one are there and right, and nothing else has been left behind; calling
// it again continues. Errors about the container are *Error and wrap the Err value that fits; errors of the file system
// and of ctx are wrapped.
func Import(ctx context.Context, r io.Reader, dst string, opt ImportOptions) (Result, error) {
	c, err := openContents(r, opt.ID)
	if err != nil {
		return Result{}, err
	}
	from, to, err := c.window(opt.Skip, opt.Count)
	if err != nil {
		return Result{}, err
	}
	if err := makeDir(filepath.Clean(dst)); err != nil {
		return Result{}, fmt.Errorf("payload: make destination: %w", err)
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		return Result{}, fmt.Errorf("payload: open destination: %w", err)
	}
	defer root.Close()
	im := &importer{c: c, root: root, dst: dst, opt: opt, pump: newPump(ctx, c, opt.Progress)}
	im.pump.progress.Files, im.pump.progress.Total = to-from, opt.Bytes
	if im.opt.Free == nil {
		im.opt.Free = freeSpace
	}
	im.result.Info = c.info()
	return im.result, im.run(from, to)
}

// importer is one run of Import.
type importer struct {
	c      *contents
	root   *os.Root
	dst    string
	opt    ImportOptions
	pump   *pump
	result Result
}

// run imports the files from (included) to (excluded).
func (im *importer) run(from, to int) error {
	if err := im.remove(TempName); err != nil {
		return err
	}
	if err := im.checkTotal(from, to); err != nil {
		return err
	}
	for i := range to {
		if err := im.pump.ctx.Err(); err != nil {
			return fmt.Errorf("payload: import: %w", err)
		}
		h, sum, err := im.c.next()
		if err != nil {
			return err
		}
		if i < from {
			continue
		}
		if err := im.place(h, sum); err != nil {
			return err
		}
	}
	if im.opt.KeepSums && im.c.listed {
		if err := im.writeSums(); err != nil {
			return err
		}
	}
	return im.syncDir()
}

// place brings one file, on whose data the container stands, to its name.
func (im *importer) place(h Header, sum string) error {
	at := func(err error) error { return &Error{File: h.Name, Offset: h.Offset, Err: err} }
	right, err := im.isRight(h, sum)
	if err != nil {
		return at(err)
	}
	if right {
		im.result.Kept++
		im.pump.begin(h)
		im.pump.progress.Kept = true
		im.pump.advance(h.Size)
		return nil
	}
	if err := im.checkSpace(h.Size); err != nil {
		return at(err)
	}
	err = im.write(h.Name, func(w io.Writer) error { return im.pump.copy(w, h, sum) })
	if err != nil {
		var located *Error
		if errors.As(err, &located) {
			return err
		}
		return at(err)
	}
	im.result.Copied++
	im.result.CopiedBytes += h.Size
	return nil
}

// isRight reports whether the file is there with the right content. What stands in its place and is known to be wrong
// is removed. A file that cannot be read is neither.
func (im *importer) isRight(h Header, sum string) (bool, error) {
	there, err := im.root.Lstat(h.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for it in the destination: %w", err)
	}
	if there.IsDir() {
		return false, fmt.Errorf("a directory of that name stands in the destination: %w", fs.ErrExist)
	}
	if sum == "" {
		return false, nil
	}
	if there.Mode().IsRegular() && there.Size() == h.Size {
		got, err := im.sumOf(h.Name)
		if err != nil {
			return false, fmt.Errorf("read it in the destination: %w", err)
		}
		if got == sum {
			return true, nil
		}
	}
	return false, im.remove(h.Name)
}

// sumOf returns the sha256 of a file in the destination.
func (im *importer) sumOf(name string) (string, error) {
	f, err := im.root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := im.pump.hash
	h.Reset()
	for {
		if err := im.pump.ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(im.pump.buf)
		h.Write(im.pump.buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// write makes a file under TempName, lets fill write it, and gives it its name. Whatever goes wrong, TempName is gone.
func (im *importer) write(name string, fill func(io.Writer) error) (err error) {
	f, err := im.root.OpenFile(TempName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("make temporary file: %w", err)
	}
	defer func() {
		if err == nil {
			return
		}
		if left := im.remove(TempName); left != nil {
			err = errors.Join(err, left)
		}
	}()
	err = fill(f)
	if err == nil && !im.opt.NoSync {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return im.root.Rename(TempName, name)
}

// remove removes a file of the destination if it is there.
func (im *importer) remove(name string) error {
	if err := im.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("payload: clean destination: %w", err)
	}
	return nil
}

// writeSums leaves SHA256SUMS behind.
func (im *importer) writeSums() error {
	err := im.write(SumsName, func(w io.Writer) error {
		_, err := w.Write(im.c.rawSums)
		return err
	})
	if err != nil {
		return &Error{File: SumsName, Err: err}
	}
	return nil
}

// syncDir makes the names in the destination last.
func (im *importer) syncDir() error {
	if im.opt.NoSync {
		return nil
	}
	d, err := im.root.Open(".")
	if err != nil {
		return fmt.Errorf("payload: sync destination: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("payload: sync destination: %w", err)
	}
	return nil
}

// checkTotal compares what all files take with what is free, when the caller has said how much that is. Files that are
// there already count as free: they are kept or removed.
func (im *importer) checkTotal(from, to int) error {
	if im.opt.Bytes <= 0 {
		return nil
	}
	free, _, err := im.opt.Free(im.dst)
	if err != nil {
		return fmt.Errorf("payload: free space of destination: %w", err)
	}
	if im.c.listed {
		for _, s := range im.c.sums[from:to] {
			if fi, err := im.root.Lstat(s.Name); err == nil && fi.Mode().IsRegular() {
				free += fi.Size()
			}
		}
	}
	if free < im.opt.Bytes {
		return &Error{Err: fmt.Errorf("%w: %d files need %d bytes, %d are free in %s",
			ErrNoSpace, to-from, im.opt.Bytes, free, im.dst)}
	}
	return nil
}

// checkSpace compares what one file takes with what is free.
func (im *importer) checkSpace(size int64) error {
	free, block, err := im.opt.Free(im.dst)
	if err != nil {
		return fmt.Errorf("free space of destination: %w", err)
	}
	block = max(block, 1)
	if need := (size + block - 1) / block * block; free < need {
		return fmt.Errorf("%w: it needs %d bytes, %d are free in %s", ErrNoSpace, need, free, im.dst)
	}
	return nil
}

// freeSpace is the FreeFunc that asks the file system.
func freeSpace(dir string) (free, block int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block = int64(st.Bsize) //nolint:unconvert // 32 bits on 386
	const most = 1 << 62
	if block > 0 && st.Bavail > uint64(most/block) {
		return most, block, nil
	}
	return int64(st.Bavail) * block, block, nil
}

// makeDir makes path and its parents. An empty regular file in the place of one becomes a directory.
func makeDir(path string) error {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.Mkdir(path, 0o755)
}
