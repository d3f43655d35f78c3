// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// maxUnseekable bounds a file of an fs.FS that cannot be read at an offset and is therefore held in memory.
const maxUnseekable = 64 << 20

// Layer is one source of entries. The layers of this package are all there are: Dir, FS and Files.
type Layer interface {
	addTo(t *tree) error
}

// Dir is the content of a directory of the host, put below at ("" for the root). Symbolic links stay links and
// permission bits stay; owners and times do not. Sockets, pipes and devices in it are errors.
func Dir(hostDir, at string) Layer { return dirLayer{hostDir: hostDir, at: at} }

type dirLayer struct{ hostDir, at string }

func (l dirLayer) addTo(t *tree) error {
	info, err := os.Stat(l.hostDir)
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("layer %s: %w: %s, a directory is wanted", l.hostDir, ErrKind, kindName(info.Mode()))
	}
	// WalkDir does not follow a link at its root, unlike the Stat above: resolve it first.
	root, err := filepath.EvalSymlinks(l.hostDir)
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return l.addEntry(t, name, path.Join(l.at, filepath.ToSlash(rel)), info)
	})
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.hostDir, err)
	}
	return nil
}

func (l dirLayer) addEntry(t *tree, hostName, name string, info fs.FileInfo) error {
	n := &node{name: name, mode: info.Mode()}
	switch {
	case info.Mode().IsRegular():
		n.size = info.Size()
		n.open = func() (Content, error) { return openHost(hostName, syscall.O_NOFOLLOW) }
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(hostName)
		if err != nil {
			return err
		}
		n.link, n.mode = link, fs.ModeSymlink|0o777
	case info.Mode()&fs.ModeDevice != 0:
		return fmt.Errorf("%w: %s is %s: give device nodes as Files", ErrKind, name, kindName(info.Mode()))
	}
	return t.add(n)
}

// FS is the content of an fs.FS (an embedded tree), put below at ("" for the root). Such trees carry no useful modes:
// directories become 0755, files 0644, and 0755 when they have an execute bit or begin with "#!".
func FS(fsys fs.FS, at string) Layer { return fsLayer{fsys: fsys, at: at} }

type fsLayer struct {
	fsys fs.FS
	at   string
}

func (l fsLayer) addTo(t *tree) error {
	err := fs.WalkDir(l.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		full := path.Join(l.at, name)
		if d.IsDir() {
			return t.add(&node{name: full, mode: impliedMode})
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%w: %s is %s: an embedded tree has directories and files only", ErrKind, full,
				kindName(info.Mode()))
		}
		mode, err := l.fileMode(name, info)
		if err != nil {
			return err
		}
		return t.add(&node{name: full, mode: mode, size: info.Size(),
			open: func() (Content, error) { return openFS(l.fsys, name) }})
	})
	if err != nil {
		return fmt.Errorf("embedded layer at /%s: %w", l.at, err)
	}
	return nil
}

func (l fsLayer) fileMode(name string, info fs.FileInfo) (mode fs.FileMode, err error) {
	if info.Mode()&0o111 != 0 {
		return 0o755, nil
	}
	f, err := l.fsys.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var start [2]byte
	if _, err := io.ReadFull(f, start[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	if string(start[:]) == "#!" {
		return 0o755, nil
	}
	return 0o644, nil
}

// openFS gives the content of a file of an fs.FS; what has no ReadAt is read into memory, up to a bound.
func openFS(fsys fs.FS, name string) (Content, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	if c, ok := f.(Content); ok {
		return c, nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxUnseekable+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxUnseekable {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrLimit, name, maxUnseekable)
	}
	return inMemory{bytes.NewReader(data)}, nil
}

// inMemory is content that is held already and has nothing to close.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// File is one entry of a Files layer. The kind is in Mode's type bits: regular (then Data is the content, or, if
// Source is set, the host file of that name), directory, symbolic link (to Link), or device (Major, Minor).
type File struct {
	Path   string // relative to the root, "/"-separated; a leading "/" is accepted
	Mode   fs.FileMode
	Data   []byte
	Source string
	Link   string
	Major  uint32
	Minor  uint32
	Open   func() (Content, error) // of Opened, with Size in bytes
	Size   int64
}

// Regular is a file with the given content and permission bits.
func Regular(name string, perm fs.FileMode, data []byte) File {
	return File{Path: name, Mode: perm.Perm(), Data: data}
}

// Agent is what makes a program PID 1: the program in the place where it stays, and an /init that the kernel runs by
// starting it, which steps may rewrite.
func Agent(program File) []File {
	return []File{program, Regular("init", 0o755, []byte("#!/"+strings.TrimPrefix(program.Path, "/")+"\n"))}
}

// HostFile is a regular file with the content of the host's file source, which is read when the archive is written.
// Symbolic links to source are followed.
func HostFile(name string, perm fs.FileMode, source string) File {
	return File{Path: name, Mode: perm.Perm(), Source: source}
}

// Opened is a regular file of size bytes, whose content open gives when the archive is written.
func Opened(name string, perm fs.FileMode, size int64, open func() (Content, error)) File {
	return File{Path: name, Mode: perm.Perm(), Open: open, Size: size}
}

// Directory is an empty directory. Parents of other entries need not be given: they are made with mode 0755.
func Directory(name string, perm fs.FileMode) File {
	return File{Path: name, Mode: fs.ModeDir | perm}
}

// Symlink is a symbolic link to target.
func Symlink(name, target string) File {
	return File{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target}
}

// CharDevice is a character device node. Making it in an archive needs no root.
func CharDevice(name string, perm fs.FileMode, major, minor uint32) File {
	return File{Path: name, Mode: fs.ModeDevice | fs.ModeCharDevice | perm.Perm(), Major: major, Minor: minor}
}

// BlockDevice is a block device node.
func BlockDevice(name string, perm fs.FileMode, major, minor uint32) File {
	return File{Path: name, Mode: fs.ModeDevice | perm.Perm(), Major: major, Minor: minor}
}

// EarlyDevices are the nodes a PID 1 needs before it has mounted devtmpfs: without /dev/console the kernel starts it
// with descriptors 0 to 2 closed, and the Go runtime then needs /dev/null (numbers: Linux,
// Documentation/admin-guide/devices.txt).
func EarlyDevices() []File {
	return []File{CharDevice("dev/console", 0o600, 5, 1), CharDevice("dev/null", 0o666, 1, 3)}
}

// Files is a layer of single entries; a later one of the same path replaces an earlier one.
func Files(files ...File) Layer { return filesLayer(files) }

type filesLayer []File

func (l filesLayer) addTo(t *tree) error {
	for _, f := range l {
		n, err := f.node()
		if err != nil {
			return err
		}
		if err := t.add(n); err != nil {
			return err
		}
	}
	return nil
}

func (f File) node() (*node, error) {
	n := &node{name: strings.TrimPrefix(f.Path, "/"), mode: f.Mode, link: f.Link,
		major: uint64(f.Major), minor: uint64(f.Minor)}
	if !f.Mode.IsRegular() {
		return n, nil
	}
	if f.Open != nil {
		n.size, n.open = f.Size, f.Open
		return n, nil
	}
	if f.Source == "" {
		n.size = int64(len(f.Data))
		n.open = func() (Content, error) { return inMemory{bytes.NewReader(f.Data)}, nil }
		return n, nil
	}
	info, err := os.Stat(f.Source)
	if err != nil {
		return nil, fmt.Errorf("content of %s: %w", n.name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("content of %s: %w: %s is %s", n.name, ErrKind, f.Source, kindName(info.Mode()))
	}
	n.size = info.Size()
	n.open = func() (Content, error) { return openHost(f.Source, 0) }
	return n, nil
}
