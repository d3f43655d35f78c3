// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Names inside an entry that is being built.
const (
	debsDir     = "debs"
	stateDir    = "apt"
	unpackedDir = "unpacked"
)

// deb is a downloaded package file.
type deb struct {
	Package
	file string
}

// buildTree makes the tree of a recipe in dir/root.
func (c *Cache) buildTree(ctx context.Context, r recipe, dir string, p Progress) (packages []Package, err error) {
	debs, err := c.fetch(ctx, r.Arch, r.Packages, dir, p)
	if err != nil {
		return nil, err
	}
	p.printf("unpacking %d packages", len(debs))
	if err := unpackAll(ctx, debs, filepath.Join(dir, unpackedDir)); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	m, err := newMerger(root, rootName, r)
	if err != nil {
		return nil, err
	}
	for _, d := range debs {
		if err := m.add(d.Name, path.Join(unpackedDir, d.Name)); err != nil {
			return nil, err
		}
		packages = append(packages, d.Package)
	}
	return packages, m.addLinks()
}

// fetch downloads the packages below dir and says what came. The result is in the order of names.
func (c *Cache) fetch(ctx context.Context, arch string, names []string, dir string, p Progress) ([]deb, error) {
	into := filepath.Join(dir, debsDir)
	if err := os.Mkdir(into, 0o755); err != nil {
		return nil, err
	}
	if err := c.source.download(ctx, filepath.Join(dir, stateDir), arch, names, into, p); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(into, "*.deb"))
	if err != nil {
		return nil, err
	}
	found := make(map[string]deb, len(files))
	for _, file := range files {
		d, err := inspect(ctx, file)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrFetch, filepath.Base(file), err)
		}
		if _, twice := found[d.Name]; twice {
			return nil, fmt.Errorf("%w: %s came twice", ErrFetch, d.Name)
		}
		found[d.Name] = d
	}
	var debs []deb
	for _, name := range names {
		d, ok := found[name]
		if !ok {
			return nil, fmt.Errorf("%w: %s: apt-get download did not bring it", ErrFetch, name)
		}
		debs = append(debs, d)
	}
	if len(files) != len(names) {
		return nil, fmt.Errorf("%w: %d packages wanted, %d came", ErrFetch, len(names), len(files))
	}
	return debs, nil
}

// inspect reads a package's own control data and hashes the file.
func inspect(ctx context.Context, file string) (deb, error) {
	exe, err := find("dpkg-deb", "dpkg")
	if err != nil {
		return deb{}, err
	}
	data, err := program{path: exe, args: []string{"--field", file}}.output(ctx)
	if err != nil {
		return deb{}, err
	}
	fields, err := parseControl(data)
	if err != nil {
		return deb{}, err
	}
	d := deb{file: file, Package: Package{
		Name: fields["Package"], Version: fields["Version"], Arch: fields["Architecture"],
	}}
	if !cleanName.MatchString(d.Name) || d.Version == "" || d.Arch == "" {
		return deb{}, fmt.Errorf("%w: package %.140q, version %.80q, architecture %.80q", errControl, d.Name, d.Version,
			d.Arch)
	}
	d.SHA256, d.Size, err = hashFile(file)
	return d, err
}

func hashFile(name string) (sum string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// unpackAll unpacks each package into a folder of its own name below dir, several at a time.
func unpackAll(ctx context.Context, debs []deb, dir string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(2, runtime.NumCPU()))
	for _, d := range debs {
		group.Go(func() error {
			if strings.ContainsAny(d.Name, "/\\") {
				return fmt.Errorf("%w: package name %q", ErrPackage, d.Name)
			}
			return unpack(ctx, d, filepath.Join(dir, d.Name))
		})
	}
	return group.Wait()
}

func unpack(ctx context.Context, d deb, dir string) error {
	exe, err := find("dpkg-deb", "dpkg")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := (program{path: exe, args: []string{"--extract", d.file, dir}}).run(ctx, nil); err != nil {
		return fmt.Errorf("%w: unpack %s: %w", ErrPackage, d.Name, err)
	}
	return nil
}
