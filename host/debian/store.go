// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/rogpeppe/go-internal/lockedfile"

	"kindling/internal/shell"
)

// Names inside the cache's folder.
const (
	lockName     = "lock"
	tempPrefix   = "tmp-"
	manifestName = "manifest.json"
	rootName     = "root"
)

// maxManifest bounds the manifest that is read back, in bytes.
const maxManifest = 1 << 20

// lockNotice is how long a wait for the lock may take before it is told.
const lockNotice = time.Second

// manifest is written beside the files of an entry, last, and describes them.
type manifest struct {
	Packages []Package `json:"packages"`
	Files    int       `json:"files"`
	Size     int64     `json:"size"`
	// Listing is the sha256 of all paths with their kinds, permission bits, sizes and link targets: it finds an entry
	// that was cut short or changed by accident, cheaply enough for every use.
	Listing string `json:"listing"`
}

// entry is a complete, checked folder of the cache.
type entry struct {
	dir      string
	manifest manifest
	cached   bool // it was there
}

func (e entry) root() string { return filepath.Join(e.dir, rootName) }

// entryName is the folder name for a kind of entry made from the given key.
func entryName(kind, arch string, key any) string {
	data, err := json.Marshal(key)
	if err != nil {
		panic(fmt.Sprintf("cache key %T cannot be written as JSON: %v", key, err)) // a constant mistake of this package
	}
	sum := sha256.Sum256(data)
	return fmt.Sprintf("%s-%s-%s", kind, arch, hex.EncodeToString(sum[:6]))
}

// build fills the folder dir/root and gives the packages used. Other names in dir are removed afterwards.
type buildFunc func(ctx context.Context, dir string) ([]Package, error)

// entry gives the entry of that name, building it if it is missing or damaged. Only one build runs in a cache at a
// time; who waits for another's build finds its result.
func (c *Cache) entry(ctx context.Context, name string, p Progress, build buildFunc) (entry, error) {
	final := filepath.Join(c.dir, name)
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return entry{}, fmt.Errorf("package cache: %w", err)
	}
	if err := checkOwn(c.dir); err != nil {
		return entry{}, err
	}
	e, err := readEntry(final)
	if err == nil {
		e.cached = true
		return e, nil
	}
	unlock, err := lock(ctx, filepath.Join(c.dir, lockName), p)
	if err != nil {
		return entry{}, fmt.Errorf("lock package cache %s: %w", c.dir, err)
	}
	defer unlock()
	e, err = readEntry(final)
	if err == nil {
		e.cached = true
		return e, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		p.printf("cache entry %s is damaged and will be made anew: %v", name, err)
	}
	if err := c.removeLeftovers(); err != nil {
		return entry{}, fmt.Errorf("package cache: %w", err)
	}
	return c.store(ctx, name, build)
}

// store builds an entry under a temporary name and renames it. The caller holds the lock.
func (c *Cache) store(ctx context.Context, name string, build buildFunc) (e entry, err error) {
	temp, err := os.MkdirTemp(c.dir, tempPrefix)
	if err != nil {
		return entry{}, fmt.Errorf("package cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	made := filepath.Join(temp, "entry")
	if err := os.Mkdir(made, 0o755); err != nil {
		return entry{}, err
	}
	packages, err := build(ctx, made)
	if err != nil {
		return entry{}, err
	}
	if err := finish(made, packages); err != nil {
		return entry{}, err
	}
	final := filepath.Join(c.dir, name)
	// A damaged entry makes room first; it disappears with the temporary folder.
	if err := os.Rename(final, filepath.Join(temp, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return entry{}, err
	}
	if err := os.Rename(made, final); err != nil {
		return entry{}, err
	}
	return readEntry(final)
}

// finish removes everything but the root folder from a made entry and writes its manifest.
func finish(dir string, packages []Package) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range names {
		if d.Name() == rootName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
			return err
		}
	}
	m, err := list(filepath.Join(dir, rootName))
	if err != nil {
		return err
	}
	m.Packages = packages
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, manifestName), append(data, '\n'), 0o644, renameio.WithTempDir(dir))
}

// readEntry opens the entry in dir and checks it against its manifest. fs.ErrNotExist means that there is none.
func readEntry(dir string) (entry, error) {
	if _, err := os.Stat(dir); err != nil {
		return entry{}, err
	}
	if err := checkOwn(dir); err != nil {
		return entry{}, err
	}
	m, err := readManifest(filepath.Join(dir, manifestName))
	if err != nil {
		return entry{}, fmt.Errorf("manifest: %s", oneLine(err.Error()))
	}
	have, err := list(filepath.Join(dir, rootName))
	if err != nil {
		return entry{}, fmt.Errorf("files: %s", oneLine(err.Error()))
	}
	if have.Listing != m.Listing || have.Files != m.Files || have.Size != m.Size {
		return entry{}, fmt.Errorf("%d files of %d bytes, the manifest has %d of %d, or names and modes differ",
			have.Files, have.Size, m.Files, m.Size)
	}
	return entry{dir: dir, manifest: m}, nil
}

func readManifest(name string) (m manifest, err error) {
	f, err := os.Open(name)
	if err != nil {
		return manifest{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return manifest{}, err
	}
	if ownerOf(info) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 || !info.Mode().IsRegular() {
		return manifest{}, fmt.Errorf("%s of user %d, mode %04o: %w", info.Mode().Type(), ownerOf(info), info.Mode().Perm(), ErrOwner)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return manifest{}, err
	}
	if len(data) > maxManifest {
		return manifest{}, fmt.Errorf("more than %d bytes", maxManifest)
	}
	err = json.Unmarshal(data, &m)
	return m, err
}

// list walks a folder and gives the parts of a manifest that describe it. Only names relative to the folder count.
func list(root string) (manifest, error) {
	var m manifest
	sum := sha256.New()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if owner := ownerOf(info); owner != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d", name, owner)
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		var size int64
		link := ""
		switch {
		case info.Mode().IsRegular():
			size = info.Size()
		case info.Mode()&fs.ModeSymlink != 0:
			if link, err = os.Readlink(name); err != nil {
				return err
			}
		}
		if !d.IsDir() {
			m.Files++
			m.Size += size
		}
		_, err = fmt.Fprintf(sum, "%q %s %d %q\n", rel, info.Mode(), size, link)
		return err
	})
	m.Listing = hex.EncodeToString(sum.Sum(nil))
	return m, err
}

// checkOwn reports a folder that another user owns or can write to.
func checkOwn(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("package cache: %w", err)
	case ownerOf(info) != os.Geteuid():
		return fmt.Errorf("package cache %s: it belongs to user %d, not to user %d: %w: name another folder with --cache, or "+
			"remove this one: rm -r %s", dir, ownerOf(info), os.Geteuid(), ErrOwner, shell.Quote(dir))
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("package cache %s: its mode is %04o: %w: chmod go-w %s", dir, info.Mode().Perm(), ErrOwner, shell.Quote(dir))
	}
	return nil
}

// ownerOf is the user that a file belongs to, or -1.
func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// removeLeftovers deletes what interrupted builds have left. The caller holds the lock, so none is running.
func (c *Cache) removeLeftovers() error {
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, d := range names {
		if !strings.HasPrefix(d.Name(), tempPrefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.dir, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// lock takes the lock of the cache or gives up when ctx ends. A wait that was given up ends by itself, with nothing
// held, when the other program is done.
func lock(ctx context.Context, name string, p Progress) (unlock func(), err error) {
	type result struct {
		unlock func()
		err    error
	}
	got := make(chan result, 1)
	go func() {
		u, err := lockedfile.MutexAt(name).Lock()
		got <- result{u, err}
	}()
	notice := time.NewTimer(lockNotice)
	defer notice.Stop()
	for {
		select {
		case r := <-got:
			return r.unlock, r.err
		case <-notice.C:
			p.printf("waiting for another program that fills the package cache")
		case <-ctx.Done():
			go func() {
				if r := <-got; r.err == nil {
					r.unlock()
				}
			}()
			return nil, context.Cause(ctx)
		}
	}
}
