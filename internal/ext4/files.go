// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Limits of what is read as a whole.
const (
	maxFolder = 16 << 20 // bytes of a folder
	maxTarget = 4095     // bytes of a symbolic link's target: Linux' PATH_MAX without its NUL
	maxLinks  = 40       // symbolic links on the way to one file, as Linux has it
	maxPath   = 1 << 16
)

// Info describes a file. It implements fs.FileInfo; Sys gives *Info itself.
type Info struct {
	name  string
	inode *inode
}

// Name is the last element of the path.
func (i *Info) Name() string { return i.name }

// Size is in bytes; a sparse file can claim more than its image has.
func (i *Info) Size() int64 { return i.inode.size }

// ModTime is to the second.
func (i *Info) ModTime() time.Time { return time.Unix(i.inode.mtime, 0).UTC() }

// IsDir reports whether it is a folder.
func (i *Info) IsDir() bool { return i.Mode().IsDir() }

// Sys gives the Info itself.
func (i *Info) Sys() any { return i }

// UID is the owner.
func (i *Info) UID() uint32 { return i.inode.uid }

// GID is the group.
func (i *Info) GID() uint32 { return i.inode.gid }

// Inode is the number by which two names of one file can be known.
func (i *Info) Inode() uint32 { return i.inode.number }

// Mode has type and permission bits.
func (i *Info) Mode() fs.FileMode {
	m := fs.FileMode(i.inode.mode & 0o777)
	for bit, mode := range map[uint16]fs.FileMode{
		syscall.S_ISUID: fs.ModeSetuid, syscall.S_ISGID: fs.ModeSetgid, syscall.S_ISVTX: fs.ModeSticky,
	} {
		if i.inode.mode&bit != 0 {
			m |= mode
		}
	}
	return m | typeOf(i.inode.mode)
}

func typeOf(mode uint16) fs.FileMode {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return 0
	case syscall.S_IFDIR:
		return fs.ModeDir
	case syscall.S_IFLNK:
		return fs.ModeSymlink
	case syscall.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case syscall.S_IFBLK:
		return fs.ModeDevice
	case syscall.S_IFIFO:
		return fs.ModeNamedPipe
	case syscall.S_IFSOCK:
		return fs.ModeSocket
	}
	return fs.ModeIrregular
}

// Open implements fs.FS: it opens a regular file for reading, or a folder. Symbolic links are followed, inside the
// filesystem only. The file implements io.ReaderAt.
func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.walk(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	info := &Info{name: path.Base(name), inode: n}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%w: neither file nor folder", fs.ErrInvalid)}
	}
	return &file{SectionReader: io.NewSectionReader(f.content(n), 0, n.size), info: info, fs: f, name: name}, nil
}

// Content gives the bytes of a regular file. Symbolic links are followed, inside the filesystem only. It is Open without
// what fs.FS needs, for a program that has to be small.
func (f *FS) Content(name string) (*io.SectionReader, error) {
	n, err := f.walk(name, true)
	if err == nil && n.mode&syscall.S_IFMT != syscall.S_IFREG {
		err = fmt.Errorf("%w: no file", fs.ErrInvalid)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return io.NewSectionReader(f.content(n), 0, n.size), nil
}

// Stat follows symbolic links.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.info("stat", name, true) }

// Lstat does not follow the last one.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.info("lstat", name, false) }

func (f *FS) info(op, name string, follow bool) (fs.FileInfo, error) {
	n, err := f.walk(name, follow)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return &Info{name: path.Base(name), inode: n}, nil
}

// ReadLink gives the target of a symbolic link, as it stands there.
func (f *FS) ReadLink(name string) (string, error) {
	n, err := f.walk(name, false)
	if err == nil && n.mode&syscall.S_IFMT != syscall.S_IFLNK {
		err = fmt.Errorf("%w: no symbolic link", fs.ErrInvalid)
	}
	var target string
	if err == nil {
		target, err = f.target(n)
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

// ReadDir lists a folder, sorted by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.walk(name, true)
	var entries []fs.DirEntry
	if err == nil {
		err = f.eachEntry(n, func(e dirEntry) bool {
			e.fs = f
			entries = append(entries, e)
			return true
		})
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// ReadFile reads a whole file of at most limit bytes, ErrTooLarge otherwise.
func (f *FS) ReadFile(name string, limit int64) ([]byte, error) {
	in, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

// walk finds the inode of a path, whose elements may be any bytes but "/" and NUL. ".." stays inside.
func (f *FS) walk(name string, follow bool) (*inode, error) {
	root, err := f.inode(rootInode)
	if err != nil {
		return nil, err
	}
	at := []*inode{root} // the folders from the root to here
	rest, links := name, 0
	for rest != "" {
		var element string
		element, rest, _ = strings.Cut(rest, "/")
		switch element {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		n, err := f.child(at[len(at)-1], element)
		if err != nil {
			return nil, err
		}
		if n.mode&syscall.S_IFMT != syscall.S_IFLNK || rest == "" && !follow {
			at = append(at, n)
			continue
		}
		target, err := f.target(n)
		if links++; err == nil && (links > maxLinks || len(rest)+len(target) > maxPath) {
			err = syscall.ELOOP
		}
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			at = at[:1]
		}
		rest = target + "/" + rest
	}
	return at[len(at)-1], nil
}

func (f *FS) child(dir *inode, name string) (*inode, error) {
	number := uint32(0)
	err := f.eachEntry(dir, func(e dirEntry) bool {
		if e.name == name {
			number = e.inode
		}
		return number == 0
	})
	if err == nil && number == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return f.inode(number)
}

// target is what a symbolic link says. Up to 59 bytes stand in the inode itself.
func (f *FS) target(n *inode) (string, error) {
	if n.size == 0 || n.size > maxTarget {
		return "", fmt.Errorf("%w: inode %d: symbolic link of %d bytes", ErrCorrupt, n.number, n.size)
	}
	target := make([]byte, n.size)
	if n.size < int64(len(n.block)) && n.flags&flagExtents == 0 {
		copy(target, n.block[:])
	} else if _, err := f.content(n).ReadAt(target, 0); err != nil {
		return "", err
	}
	if bytes.IndexByte(target, 0) >= 0 {
		return "", fmt.Errorf("%w: inode %d: NUL in a symbolic link", ErrCorrupt, n.number)
	}
	return string(target), nil
}

// eachEntry calls yield for the entries of a folder until it says no; "." and ".." are left out.
func (f *FS) eachEntry(dir *inode, yield func(dirEntry) bool) error {
	if dir.mode&syscall.S_IFMT != syscall.S_IFDIR {
		return syscall.ENOTDIR
	}
	if dir.size > maxFolder {
		return fmt.Errorf("%w: inode %d: a folder of %d bytes", ErrTooLarge, dir.number, dir.size)
	}
	c := f.content(dir)
	block := make([]byte, f.blockSize)
	for at := int64(0); at+f.blockSize <= dir.size; at += f.blockSize {
		if _, err := c.ReadAt(block, at); err != nil {
			return err
		}
		for rest := block; len(rest) > 0; {
			e, size, err := parseEntry(rest)
			if err != nil {
				return fmt.Errorf("folder, inode %d: %w", dir.number, err)
			}
			rest = rest[size:]
			if e.inode != 0 && e.name != "." && e.name != ".." && !yield(e) {
				return nil
			}
		}
	}
	return nil
}

// parseEntry reads the directory entry at the start of b: inode, length of the entry, length of the name, type, name.
func parseEntry(b []byte) (dirEntry, int, error) {
	if len(b) < 8 {
		return dirEntry{}, 0, fmt.Errorf("%w: directory entry is cut short", ErrCorrupt)
	}
	size := int(le16(b, 4))
	if len(b) == maxBlockSize && (size == 0 || size == 0xffff) { // what does not fit 16 bits
		size = maxBlockSize
	}
	e := dirEntry{inode: le32(b, 0), kind: b[7]}
	length := int(b[6])
	if size < 8 || size%4 != 0 || size > len(b) || 8+length > size {
		return e, 0, fmt.Errorf("%w: directory entry of %d bytes", ErrCorrupt, size)
	}
	e.name = string(b[8 : 8+length])
	if e.inode != 0 && (e.name == "" || strings.ContainsAny(e.name, "/\x00")) {
		return e, 0, fmt.Errorf("%w: file name %q", ErrCorrupt, e.name)
	}
	return e, size, nil
}

// dirEntry implements fs.DirEntry.
type dirEntry struct {
	name  string
	inode uint32
	kind  byte
	fs    *FS
}

func (e dirEntry) Name() string { return e.name }
func (e dirEntry) IsDir() bool  { return e.Type().IsDir() }

// Type is read from the inode where the entry does not have it, as in ext2 of revision 0.
func (e dirEntry) Type() fs.FileMode {
	modes := []uint16{0, syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFCHR, syscall.S_IFBLK, syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFLNK}
	if e.kind == 0 || int(e.kind) >= len(modes) {
		if info, err := e.Info(); err == nil {
			return info.Mode().Type()
		}
		return fs.ModeIrregular
	}
	return typeOf(modes[e.kind])
}

// Info reads the inode.
func (e dirEntry) Info() (fs.FileInfo, error) {
	n, err := e.fs.inode(e.inode)
	if err != nil {
		return nil, err
	}
	return &Info{name: e.name, inode: n}, nil
}

// file implements fs.ReadDirFile and io.ReaderAt.
type file struct {
	*io.SectionReader
	info *Info
	fs   *FS
	name string
	left []fs.DirEntry
	read bool
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

// Read implements io.Reader; a folder has no bytes to read.
func (f *file) Read(b []byte) (int, error) {
	if f.info.IsDir() {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: syscall.EISDIR}
	}
	return f.SectionReader.Read(b)
}

// ReadDir implements fs.ReadDirFile.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	if !f.read {
		entries, err := f.fs.ReadDir(f.name)
		if err != nil {
			return nil, err
		}
		f.left, f.read = entries, true
	}
	if n <= 0 {
		n = len(f.left)
	} else if len(f.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.left))
	out := f.left[:n]
	f.left = f.left[n:]
	return out, nil
}
