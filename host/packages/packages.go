// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package packages looks at the packages that a bootstrap has made: which ones there are, and whether they are those of
// a list (SHA256SUMS.pkgs).
//
// It reads them through an fs.FS, whatever that is of: a disk image, a chroot. What it finds there is a guest's, so names
// are checked and sizes bounded. It writes nothing; it is called by "kindling export".
package packages

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kindling/steps"
)

const (
	archiveSuffix = ".tar.bz2"
	// BaseTarball is no package: it differs from run to run, and no list has it.
	BaseTarball = "base.tar.bz2"

	// MaxSize is the largest archive that is taken for one, in bytes.
	MaxSize = 8 << 30
)

// Status says how a package stands to a list.
type Status string

// The statuses. Unlisted is that of all packages where there is no list.
const (
	Same      Status = "same"
	Different Status = "different" // it is there, and has another sum
	Missing   Status = "missing"   // the list has it alone
	Extra     Status = "extra"     // the list does not have it
	Unlisted  Status = "unlisted"
)

// Package is a package of a root.
type Package struct {
	Root   string `json:"root"` // "steps", or the folder of an extra root
	Name   string `json:"name"` // of its archive
	Status Status `json:"status"`
	Size   int64  `json:"size"`             // in bytes
	SHA256 string `json:"sha256,omitempty"` // none if it is missing
	Wanted string `json:"wanted,omitempty"` // the list's sum, if that is another one
}

// ErrEntry says that something in a repository is no package.
var ErrEntry = errors.New("not a package")

// Roots lists the roots of which fsys has packages or a list, the main one first.
func Roots(fsys fs.FS) ([]string, error) {
	roots := []string{steps.MainRoot}
	entries, err := fs.ReadDir(fsys, "external")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	for _, e := range entries {
		name, found := strings.CutPrefix(path.Join("external", e.Name()), steps.Repo(steps.MainRoot)+"-")
		if !found || !e.IsDir() {
			continue
		}
		if root, err := steps.ExtraRoot(name); err == nil { // those of prebuilt packages have no such name
			roots = append(roots, root)
		}
	}
	return roots, nil
}

// List reads the list of a root: nil, if there is none.
func List(fsys fs.FS, root string) ([]Sum, error) {
	name := path.Join(root, ListName)
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open list: %w", err)
	}
	defer f.Close()
	sums, err := ParseSums(name, f)
	if err == nil && sums == nil {
		sums = []Sum{} // an empty list is one
	}
	return sums, err
}

// File is a copy in the making: it gets its name when it is complete, or is thrown away. renameio has it.
type File interface {
	io.Writer
	CloseAtomicallyReplace() error
	Cleanup() error
}

// Compare reads every package of a root and holds it against a list, nil for none. The result is sorted by name. What is
// read is copied to what create gives for each archive, if it is not nil.
func Compare(
	ctx context.Context, fsys fs.FS, root string, list []Sum, create func(name string) (File, error),
) ([]Package, error) {
	names, err := archives(fsys, steps.Repo(root))
	if err != nil {
		return nil, err
	}
	wanted := map[string]string{}
	for _, s := range list {
		wanted[s.Name] = s.SHA256
	}
	var all []Package
	for _, name := range names {
		p := Package{Root: root, Name: name}
		if p.SHA256, p.Size, err = read(ctx, fsys, path.Join(steps.Repo(root), name), create); err != nil {
			return nil, err
		}
		if name == BaseTarball {
			continue
		}
		p.judge(list != nil, wanted[name])
		delete(wanted, name)
		all = append(all, p)
	}
	for name, sum := range wanted {
		all = append(all, Package{Root: root, Name: name, Status: Missing, Wanted: sum})
	}
	slices.SortFunc(all, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// judge compares with the sum of a list, "" if the list does not have the package.
func (p *Package) judge(listed bool, want string) {
	switch {
	case !listed:
		p.Status = Unlisted
	case want == "":
		p.Status = Extra
	case want == p.SHA256:
		p.Status = Same
	default:
		p.Status, p.Wanted = Different, want
	}
}

// archives lists the archives of a repository, in byte order. Other files there are left-overs of a build that was cut
// short.
func archives(fsys fs.FS, repo string) ([]string, error) {
	entries, err := fs.ReadDir(fsys, repo)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), archiveSuffix) {
			continue
		}
		if !isArchive(e.Name()) || !e.Type().IsRegular() {
			return nil, fmt.Errorf("%s/%q: %w", repo, e.Name(), ErrEntry)
		}
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// read reads a package once.
func read(
	ctx context.Context, fsys fs.FS, name string, create func(string) (File, error),
) (sum string, size int64, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	hash := sha256.New()
	to := io.Writer(hash)
	var out File
	if create != nil {
		if out, err = create(path.Base(name)); err != nil {
			return "", 0, err
		}
		to = io.MultiWriter(hash, out)
	}
	size, err = io.Copy(to, io.LimitReader(&interruptible{ctx, f}, MaxSize+1))
	if err == nil && size > MaxSize {
		err = fmt.Errorf("%w: more than %d bytes", ErrEntry, int64(MaxSize))
	}
	switch {
	case out != nil && err == nil:
		err = out.CloseAtomicallyReplace()
	case out != nil:
		err = errors.Join(err, out.Cleanup())
	}
	if err != nil {
		return "", 0, fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), size, nil
}

// interruptible ends reading with its context.
type interruptible struct {
	ctx  context.Context //nolint:containedctx // lives for one read
	from io.Reader
}

// Read implements io.Reader.
func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.from.Read(p)
}

// Sums is the list of those packages that are there, in the format of ParseSums.
func Sums(all []Package) []byte {
	var out []byte
	for _, p := range all {
		if p.SHA256 != "" {
			out = append(out, p.SHA256+"  "+p.Name+"\n"...)
		}
	}
	return out
}
