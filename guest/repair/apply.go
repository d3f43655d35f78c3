// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package repair

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// newSuffix is what a file's name ends in while it is written.
const newSuffix = ".kindling-new"

// ErrEntry is an archive entry that cannot be a package's: a name that leaves the root, a type that no package has.
var ErrEntry = errors.New("archive entry not allowed")

// archive is an open package.
type archive struct {
	file *os.File
	tar  *tar.Reader
}

func openArchive(name string) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &archive{file: f, tar: tar.NewReader(bzip2.NewReader(f))}, nil
}

// next gives the next entry's header, with its name cleaned: relative to the root, "." for the root itself.
func (a *archive) next() (*tar.Header, error) {
	h, err := a.tar.Next()
	if err != nil {
		return nil, err
	}
	h.Name = path.Clean("./" + h.Name)
	if h.Name != "." && !filepath.IsLocal(h.Name) {
		return nil, fmt.Errorf("%w: name %q", ErrEntry, h.Name)
	}
	return h, nil
}

// Apply unpacks a package over root, as the tree's `tar -C / -xpf` does: modes and times kept, owners too, existing
// files replaced, symbolic links to folders (as /bin is one) followed. Each file appears under its name complete: the
// program that is running from it goes on with the old one.
func Apply(name, root string) error {
	a, err := openArchive(name)
	if err != nil {
		return err
	}
	defer a.file.Close()
	for {
		h, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = applyEntry(a.tar, h, root)
		}
		if err != nil {
			return fmt.Errorf("install %s: %w", filepath.Base(name), err)
		}
	}
}

// applyEntry puts one entry into place.
func applyEntry(data io.Reader, h *tar.Header, root string) error {
	dst := filepath.Join(root, h.Name)
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.MkdirAll(dst, 0o755); err != nil {
			return err
		}
		if h.Name == "." {
			return nil
		}
		return os.Chmod(dst, mode.Perm()|mode&(fs.ModeSetgid|fs.ModeSticky))
	case tar.TypeReg:
		return place(dst, func(tmp string) error { return writeRegular(tmp, data, h) })
	case tar.TypeSymlink:
		return place(dst, func(tmp string) error { return os.Symlink(h.Linkname, tmp) })
	case tar.TypeLink:
		from := path.Clean("./" + h.Linkname)
		if !filepath.IsLocal(from) {
			return fmt.Errorf("%w: link to %q", ErrEntry, h.Linkname)
		}
		return place(dst, func(tmp string) error { return os.Link(filepath.Join(root, from), tmp) })
	}
	return fmt.Errorf("%w: type %q of %s", ErrEntry, h.Typeflag, h.Name)
}

// place makes a file under a temporary name and renames it.
func place(dst string, create func(tmp string) error) error {
	tmp := dst + newSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	if err := create(tmp); err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	if err := os.Rename(tmp, dst); err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	return removeIfThere(tmp) // renaming one of two links to the same file over the other does nothing
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func writeRegular(tmp string, data io.Reader, h *tar.Header) error {
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(tmp, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	mode := h.FileInfo().Mode()
	if err := os.Chmod(tmp, mode.Perm()|mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	return os.Chtimes(tmp, h.ModTime, h.ModTime)
}

// Uninstall removes what a package put under root, as the tree's uninstall does, and can be repeated: files that still
// are the package's, then symbolic links that now lead nowhere, folders that are empty then. What is gone already is
// passed over.
func Uninstall(name, root string) error {
	entries, err := contents(name)
	if err != nil {
		return fmt.Errorf("uninstall %s: %w", filepath.Base(name), err)
	}
	for i := len(entries) - 1; i >= 0; i-- { // files before the folders they are in
		if err := entries[i].remove(root); err != nil {
			return fmt.Errorf("uninstall %s: %w", filepath.Base(name), err)
		}
	}
	for _, e := range entries {
		if e.typ != tar.TypeSymlink {
			continue
		}
		link := filepath.Join(root, e.name)
		if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		if leads(root, link) {
			continue
		}
		if err := removeIfThere(link); err != nil {
			return fmt.Errorf("uninstall %s: %w", filepath.Base(name), err)
		}
	}
	return nil
}

// leads reports whether a symbolic link in the tree below root leads to something.
func leads(root, link string) bool {
	to, err := os.Readlink(link)
	if err != nil {
		return false
	}
	if filepath.IsAbs(to) {
		to = filepath.Join(root, to)
	} else {
		to = filepath.Join(filepath.Dir(link), to)
	}
	_, err = os.Stat(to)
	return err == nil
}

// entry is one entry of a package.
type entry struct {
	name string
	typ  byte
	sum  []byte // of a regular file, or of the file that a link names
}

// contents reads a package's list, with the sum of every file.
func contents(name string) ([]entry, error) {
	a, err := openArchive(name)
	if err != nil {
		return nil, err
	}
	defer a.file.Close()
	var entries []entry
	sums := make(map[string][]byte)
	for {
		h, err := a.next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		e := entry{name: h.Name, typ: h.Typeflag}
		if h.Typeflag == tar.TypeReg {
			hash := sha256.New()
			if _, err := io.Copy(hash, a.tar); err != nil {
				return nil, err
			}
			e.sum = hash.Sum(nil)
			sums[h.Name] = e.sum
		}
		if h.Typeflag == tar.TypeLink { // another name of a file that came before
			e.sum = sums[path.Clean("./"+h.Linkname)]
		}
		entries = append(entries, e)
	}
}

// remove removes what is still the package's.
func (e entry) remove(root string) error {
	at := filepath.Join(root, e.name)
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || e.name == "." {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case e.typ == tar.TypeDir:
		if !info.IsDir() {
			return nil // a link to a folder, as /bin is one
		}
		left, err := os.ReadDir(at)
		if err != nil || len(left) > 0 {
			return err
		}
		return os.Remove(at)
	case (e.typ == tar.TypeReg || e.typ == tar.TypeLink) && info.Mode().IsRegular():
		same, err := sameSum(at, e.sum)
		if err != nil || !same {
			return err
		}
		return os.Remove(at)
	}
	return nil
}

func sameSum(name string, want []byte) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return false, err
	}
	return bytes.Equal(hash.Sum(nil), want), nil
}

// LatestArchive is the package archive with the highest revision in the repository repo below root, "" if there is
// none.
func LatestArchive(root, repo, pkg string) (string, error) {
	for revision := 0; ; revision++ {
		name := filepath.Join(root, repo, fmt.Sprintf("%s_%d.tar.bz2", pkg, revision))
		if _, err := os.Stat(name); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if revision == 0 {
			return "", nil
		}
		return strings.TrimSuffix(name, fmt.Sprintf("_%d.tar.bz2", revision)) + fmt.Sprintf("_%d.tar.bz2", revision-1), nil
	}
}
