// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package tree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrChanged reports a file that is no longer the one that was found.
var ErrChanged = errors.New("file has changed since it was planned")

// Folder is a folder of the host as a file system. Nothing outside of it can be read through it, whatever links are in
// it, and nothing in it blocks: only regular files and folders are opened.
type Folder struct{ root *os.Root }

// OpenFolder opens the folder dir, to which links may lead. It ends with Close.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Folder{root}, nil
}

// Close ends the use of the folder, not that of the files that were opened in it.
func (f *Folder) Close() error { return f.root.Close() }

// Stat implements fs.StatFS. It opens nothing.
func (f *Folder) Stat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	return f.root.Stat(name)
}

// Open implements fs.FS. What is neither a regular file nor a folder is an error that wraps ErrEntry.
func (f *Folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if info, err := f.root.Stat(name); err != nil || !readable(info) { // opening a device can have effects
		return nil, refused(name, err)
	}
	// O_NONBLOCK: a pipe may have taken the place of the file since.
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !readable(info) {
		return nil, errors.Join(refused(name, err), file.Close())
	}
	return file, nil
}

func readable(info fs.FileInfo) bool { return info.Mode().IsRegular() || info.IsDir() }

// refused is err, or that name is not readable.
func refused(name string, err error) error {
	if err != nil {
		return err
	}
	return &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%w: neither a regular file nor a folder", ErrEntry)}
}

// Source is a regular file as it was when it was found.
type Source struct {
	Path string // on the host, for messages
	Size int64  // in bytes

	fsys fs.FS
	name string
	info fs.FileInfo
}

// Find finds the regular file name of fsys, which is a Folder, or folders that are mounted. On the host it is path.
func Find(fsys fs.FS, name, path string) (*Source, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: not a regular file", path, ErrEntry)
	}
	return &Source{Path: path, Size: info.Size(), fsys: fsys, name: name, info: info}, nil
}

// FindFile finds a regular file that the user has named, through whatever links. Its folder must be closed by the caller.
func FindFile(path string) (*Source, *Folder, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, nil, err
	}
	folder, err := OpenFolder(filepath.Dir(target))
	if err != nil {
		return nil, nil, err
	}
	s, err := Find(folder, filepath.Base(target), path)
	if err != nil {
		return nil, nil, errors.Join(err, folder.Close())
	}
	return s, folder, nil
}

// OpenFile opens a regular file that the user has named. A pipe or a device does not block, and is refused.
func OpenFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: not a regular file", path, ErrEntry)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// SHA256 reads the file and returns its sha256 in lower-case hex.
func (s *Source) SHA256(ctx context.Context) (string, error) {
	f, err := s.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, buf := sha256.New(), make([]byte, 256<<10)
	for size := int64(0); ; {
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		switch size += int64(n); {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case errors.Is(err, io.EOF) && size == s.Size:
			return hex.EncodeToString(sum.Sum(nil)), nil
		case errors.Is(err, io.EOF), size > s.Size:
			return "", fmt.Errorf("%s: %w", s.Path, ErrChanged)
		case err != nil:
			return "", err
		}
	}
}

// Open opens the file that was found: the same inode, of the same size and modification time. Another one is an error
// that wraps ErrChanged. What is read may still change while it is read.
func (s *Source) Open() (*os.File, error) {
	opened, err := s.fsys.Open(s.name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Path, err)
	}
	f, ok := opened.(*os.File)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: not a file of the host", s.Path), opened.Close())
	}
	info, err := f.Stat()
	if err == nil && (!os.SameFile(info, s.info) || info.Size() != s.info.Size() || !info.ModTime().Equal(s.info.ModTime())) {
		err = ErrChanged
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.Path, err), f.Close())
	}
	return f, nil
}
