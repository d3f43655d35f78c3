// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"kindling/internal/event"
	"kindling/internal/ext4"
)

// Errors of changes.
var (
	ErrReadOnly = errors.New("image was not opened for writing")
	ErrName     = errors.New("file name cannot be written to an image")
)

// maxWritten bounds a file that is written, in bytes: it is held in memory while it is compared.
const maxWritten = 1 << 30

// Change is one file, folder or symbolic link that shall be in the image, or shall not be there. Everything that is
// written belongs to user and group 0.
type Change struct {
	Path   string      // from the root of the filesystem, without a "/" in front
	Mode   fs.FileMode // type (regular, folder or symbolic link) and permission bits
	Data   []byte      // of a regular file, or the target of a symbolic link
	Remove bool        // take it away, with all that is in it
}

// Apply makes the changes, in order, and reads them back. After an error some of them may have been made; the filesystem
// is whole in any case. Folders on the way to a path are not made by themselves, and must not be symbolic links.
func (i *Image) Apply(ctx context.Context, changes []Change) error {
	if !i.opts.Write {
		return ErrReadOnly
	}
	if len(changes) == 0 {
		return nil
	}
	s := script{image: i, dirs: make(map[string]bool)}
	for _, c := range changes {
		if err := s.add(c); err != nil {
			return fmt.Errorf("write %q: %w", c.Path, err)
		}
	}
	device, err := i.device()
	if err != nil {
		return err
	}
	said, err := output(ctx, "debugfs", "e2fsprogs", &s.text, "-w", "-f", "-", device)
	if err != nil {
		return err
	}
	if err := i.find(ctx); err != nil {
		return err
	}
	for n, c := range changes {
		if slices.ContainsFunc(changes[n+1:], func(later Change) bool { return within(c.Path, later.Path) }) {
			continue // what was written last is what counts
		}
		if err := i.verify(c); err != nil {
			return fmt.Errorf("write %q: %w (debugfs: %s)", c.Path, err, complaint(said))
		}
	}
	return nil
}

// within reports whether name is dir, or below it.
func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// complaint is the last line of debugfs that is not the echo of a command.
func complaint(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	for _, l := range slices.Backward(lines) {
		if !strings.HasPrefix(l, "debugfs") && l != "" && !strings.HasPrefix(l, "Allocated inode") {
			return event.Clean(l)
		}
	}
	return "no complaint"
}

// verify reports what of a change is not in the image.
func (i *Image) verify(c Change) error {
	info, err := i.Lstat(c.Path)
	switch {
	case c.Remove && errors.Is(err, fs.ErrNotExist):
		return nil
	case c.Remove && err == nil:
		return errors.New("it is still there")
	case err != nil:
		return err
	case info.Mode() != c.Mode && c.Mode&fs.ModeSymlink == 0, info.Mode().Type() != c.Mode.Type():
		return fmt.Errorf("its mode is %s, not %s", info.Mode(), c.Mode)
	}
	same, err := i.same(c)
	if err == nil && !same {
		err = errors.New("its content is not what was written")
	}
	return err
}

// same reports whether the content is in the image already.
func (i *Image) same(c Change) (bool, error) {
	switch c.Mode.Type() {
	case fs.ModeSymlink:
		to, err := i.ReadLink(c.Path)
		return to == string(c.Data), err
	case fs.ModeDir:
		return true, nil
	}
	got, err := i.ReadFile(c.Path, int64(len(c.Data)))
	if errors.Is(err, ext4.ErrTooLarge) {
		return false, nil
	}
	return bytes.Equal(got, c.Data), err
}

// script collects debugfs' commands for changes.
type script struct {
	image *Image
	text  bytes.Buffer
	files int
	dirs  map[string]bool // made by this script; false: taken away by it
}

func (s *script) add(c Change) error {
	if err := checkName(c.Path); err != nil {
		return err
	}
	if c.Path != path.Clean(c.Path) || !filepath.IsLocal(c.Path) {
		return fmt.Errorf("%w: not a plain path", ErrName)
	}
	if err := s.checkParents(path.Dir(c.Path)); err != nil {
		return err
	}
	if len(c.Data) > maxWritten {
		return fmt.Errorf("%w: %d bytes", ext4.ErrTooLarge, len(c.Data))
	}
	there, err := s.image.Lstat(c.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if there != nil && (c.Remove || !there.IsDir() || !c.Mode.IsDir()) {
		if err := s.remove(c.Path, there.IsDir()); err != nil {
			return err
		}
		there = nil
	}
	if c.Remove {
		return nil
	}
	switch c.Mode.Type() {
	case 0:
		return s.regular(c)
	case fs.ModeDir:
		if there == nil {
			s.line("mkdir", rooted(c.Path))
		}
		s.dirs[c.Path] = true
		s.owner(c.Path, 0o40000|uint32(c.Mode.Perm()))
	case fs.ModeSymlink:
		if err := checkName(string(c.Data)); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		s.line("symlink", rooted(c.Path), string(c.Data))
		s.owner(c.Path, 0o120777)
	default:
		return fmt.Errorf("%w: %s", ErrName, c.Mode)
	}
	return nil
}

// regular writes the content beside the image for debugfs to fetch it.
func (s *script) regular(c Change) error {
	s.files++
	staged := filepath.Join(s.image.temp, "write-"+strconv.Itoa(s.files))
	if err := os.WriteFile(staged, c.Data, 0o600); err != nil {
		return err
	}
	s.line("cd", rooted(path.Dir(c.Path)))
	s.line("write", staged, path.Base(c.Path))
	s.owner(c.Path, 0o100000|uint32(c.Mode.Perm()))
	return nil
}

// remove takes a file or a folder with all that is in it away.
func (s *script) remove(name string, dir bool) error {
	if !dir {
		s.line("rm", rooted(name))
		return nil
	}
	entries, err := s.image.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		below := path.Join(name, e.Name())
		if err := checkName(below); err != nil {
			return fmt.Errorf("%q: %w", below, err)
		}
		if err := s.remove(below, e.IsDir()); err != nil {
			return err
		}
	}
	s.line("rmdir", rooted(name))
	s.dirs[name] = false
	return nil
}

func (s *script) owner(name string, mode uint32) {
	for _, field := range []string{"uid 0", "gid 0", "mode 0" + strconv.FormatUint(uint64(mode), 8)} {
		fmt.Fprintf(&s.text, "sif \"%s\" %s\n", rooted(name), field)
	}
}

// rooted is a path from the root. "/NAME" would not do: debugfs splits at the last slash, and takes an empty folder
// for the current one.
func rooted(name string) string { return "/./" + name }

func (s *script) line(command string, args ...string) {
	s.text.WriteString(command)
	for _, a := range args {
		s.text.WriteString(` "` + a + `"`)
	}
	s.text.WriteByte('\n')
}

// checkParents reports a folder on the way that is not there, or is something else.
func (s *script) checkParents(dir string) error {
	for at := dir; at != "."; at = path.Dir(at) {
		made, known := s.dirs[at]
		if made {
			continue
		}
		info, err := s.image.Lstat(at)
		if err == nil && (known || !info.IsDir()) {
			err = fmt.Errorf("%s is no folder", at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkName refuses what debugfs' command language cannot say.
func checkName(name string) error {
	if name == "" || name == "." || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '"' }) {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

// Plan lists what has to change for the folder dst of the image to hold exactly what src holds: added, changed and
// removed files, folders and symbolic links. Permission bits are reduced to 0755 and 0644.
func (i *Image) Plan(dst string, src fs.FS) ([]Change, error) {
	var changes []Change
	wanted := make(map[string]bool)
	err := fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		c, err := changeOf(src, name, d)
		if err != nil {
			return err
		}
		c.Path = path.Join(dst, name)
		wanted[c.Path] = true
		if i.verify(c) != nil {
			changes = append(changes, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	gone, err := i.surplus(dst, wanted)
	return append(gone, changes...), err
}

// changeOf is what puts a file of the host into an image.
func changeOf(src fs.FS, name string, d fs.DirEntry) (Change, error) {
	info, err := d.Info()
	if err != nil {
		return Change{}, err
	}
	switch c := (Change{Mode: info.Mode().Type() | 0o644}); info.Mode().Type() {
	case fs.ModeDir:
		c.Mode |= 0o755
		return c, nil
	case fs.ModeSymlink:
		c.Mode |= 0o777
		to, err := fs.ReadLink(src, name)
		c.Data = []byte(to)
		return c, err
	case 0:
		if info.Mode()&0o111 != 0 {
			c.Mode |= 0o755
		}
		f, err := src.Open(name)
		if err != nil {
			return c, err
		}
		c.Data, err = io.ReadAll(io.LimitReader(f, maxWritten+1))
		return c, errors.Join(err, f.Close())
	}
	return Change{}, fmt.Errorf("%w: %s: %s", ErrName, name, info.Mode())
}

// surplus lists what is below dst in the image and not wanted; a folder stands for all that is in it.
func (i *Image) surplus(dst string, wanted map[string]bool) ([]Change, error) {
	if info, err := i.Lstat(dst); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	entries, err := i.ReadDir(dst)
	if err != nil {
		return nil, err
	}
	var gone []Change
	for _, e := range entries {
		name := path.Join(dst, e.Name())
		if !wanted[name] {
			gone = append(gone, Change{Path: name, Remove: true})
			continue
		}
		if e.IsDir() {
			below, err := i.surplus(name, wanted)
			if err != nil {
				return nil, err
			}
			gone = append(gone, below...)
		}
	}
	return gone, nil
}
