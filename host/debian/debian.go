// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package debian keeps a cache of unpacked Debian packages: the userland and the kernels of runs that need a Linux
// guest without having bootstrapped one (the embedded default, and the tests).
//
// Packages are fetched by apt and unpacked by dpkg-deb as they are; nothing is installed, no maintainer script runs,
// and neither root nor a change of the host's apt configuration is needed: apt's state and configuration are created anew
// for each entry, in a private folder that is removed afterwards. What the host does provide are its package sources and
// keyrings, which must be those of Debian 12 (bookworm) or hold it.
// Entries appear in the cache complete or not at all, and two programs may use one cache at the same time. The network
// is used only for entries that are missing or damaged.
//
// The package never writes outside the cache's folder. It is called by host, before an initramfs is assembled.
package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// Progress is called with one line of plain text for each thing done; it may be nil. Calls never overlap.
type Progress func(line string)

func (p Progress) printf(format string, args ...any) {
	if p != nil {
		p(fmt.Sprintf(format, args...))
	}
}

// Errors that callers tell apart.
var (
	ErrArch    = errors.New("architecture not supported")
	ErrFetch   = errors.New("package fetch")
	ErrPackage = errors.New("package content")
	ErrOwner   = errors.New("another user could decide what runs from it")
)

// Package names one Debian package that an entry was made of.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Size    int64  `json:"size"`   // of the .deb file, in bytes
	SHA256  string `json:"sha256"` // of the .deb file, lower-case hex
}

// String is the package as apt writes it, name:arch=version.
func (p Package) String() string { return p.Name + ":" + p.Arch + "=" + p.Version }

// Tree is a root folder made of packages.
type Tree struct {
	Dir      string // absolute; read-only for callers
	Packages []Package
	Files    int   // everything but directories
	Size     int64 // content of the regular files, in bytes
	Cached   bool  // it was in the cache: names, modes, sizes and owners were checked, contents were not
}

// Kernel is an unpacked Debian kernel.
type Kernel struct {
	Arch       string // Debian's name: "i386" or "amd64"
	Release    string // what uname -r prints when it runs
	Image      string // absolute path of the vmlinuz
	ModulesDir string // absolute path of lib/modules/<Release>, with depmod's files
	Packages   []Package
	Cached     bool // as in Tree
}

// Cache is a folder of entries. It is safe for concurrent use, also by several programs.
type Cache struct {
	dir    string
	source source
}

// source is where packages come from; the cache itself knows neither apt nor a network. state is a folder that only this
// user can write, for one entry: what a source keeps there is not read again for another one.
type source interface {
	// dependency gives the one package that the newest version of the meta package depends on and whose name
	// matches pattern.
	dependency(ctx context.Context, state, arch, meta string, pattern *regexp.Regexp, p Progress) (string, error)
	// download puts the .deb files of exactly the named packages into dir, which is empty before.
	download(ctx context.Context, state, arch string, names []string, dir string, p Progress) error
}

// Option changes how a cache is filled.
type Option func(*settings)

type settings struct{ sourceList string }

// WithSourceList makes apt use the file (one-line style, sources.list(5)) instead of the host's package sources.
func WithSourceList(file string) Option { return func(s *settings) { s.sourceList = file } }

// Open gives the cache in dir. The folder need not exist; it is created with mode 0700 when the first entry is stored. One
// that another user owns or can write to is an error that wraps ErrOwner.
func Open(dir string, opts ...Option) (*Cache, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("package cache %q: %w", dir, err)
	}
	var set settings
	for _, o := range opts {
		o(&set)
	}
	src, err := newApt(abs, set.sourceList)
	if err != nil {
		return nil, fmt.Errorf("package cache %q: %w", dir, err)
	}
	if err := checkOwn(abs); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Cache{dir: abs, source: src}, nil
}

// Userland gives the guest's i386 userland (see userlandRecipe), fetching it when the cache does not have it. The tree
// has merged /usr: bin, sbin and lib are links into usr.
func (c *Cache) Userland(ctx context.Context, p Progress) (Tree, error) {
	return c.tree(ctx, "userland", userlandRecipe(), p)
}

// tree gives the entry made by the recipe.
func (c *Cache) tree(ctx context.Context, kind string, r recipe, p Progress) (Tree, error) {
	if err := r.check(); err != nil {
		return Tree{}, fmt.Errorf("%s: %w", kind, err)
	}
	e, err := c.entry(ctx, entryName(kind, r.Arch, r), p, func(ctx context.Context, dir string) ([]Package, error) {
		return c.buildTree(ctx, r, dir, p)
	})
	if err != nil {
		return Tree{}, fmt.Errorf("%s (%s): %w", kind, r.Arch, err)
	}
	return Tree{Dir: e.root(), Packages: e.manifest.Packages, Files: e.manifest.Files, Size: e.manifest.Size, Cached: e.cached}, nil
}

// kernelMeta gives the meta package whose dependency is the newest kernel of the architecture.
func kernelMeta(arch string) (string, error) {
	switch arch {
	case "i386":
		return "linux-image-686", nil
	case "amd64":
		return "linux-image-amd64", nil
	}
	return "", fmt.Errorf("%w: %.40q: i386 and amd64 have a kernel", ErrArch, arch)
}

// Kernel gives the kernel of the architecture ("i386", for any i686; "amd64"): the newest when it is fetched, and the
// same from then on for as long as it is in the cache.
func (c *Cache) Kernel(ctx context.Context, arch string, p Progress) (Kernel, error) {
	meta, err := kernelMeta(arch)
	if err != nil {
		return Kernel{}, err
	}
	key := kernelKey{Format: kernelFormat, Meta: meta}
	e, err := c.entry(ctx, entryName("kernel", arch, key), p, func(ctx context.Context, dir string) ([]Package, error) {
		return c.buildKernel(ctx, arch, meta, dir, p)
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel (%s): %w", arch, err)
	}
	k, err := findKernel(e.root())
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel (%s) in %s: %w", arch, e.dir, err)
	}
	k.Arch, k.Packages, k.Cached = arch, e.manifest.Packages, e.cached
	return k, nil
}

// cleanName is what Debian allows as a package name (Policy 5.6.1), which also keeps it from being an option of apt.
var cleanName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)

// oneLine joins the lines of an error text that is to fit a report.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// HasUserland reports whether the cache has the userland, complete. It changes and fetches nothing.
func (c *Cache) HasUserland() bool {
	r := userlandRecipe()
	_, err := readEntry(filepath.Join(c.dir, entryName("userland", r.Arch, r)))
	return err == nil
}

// HasKernel reports whether the cache has the architecture's kernel, complete, and which. It changes and fetches nothing.
func (c *Cache) HasKernel(arch string) (release string, ok bool) {
	meta, err := kernelMeta(arch)
	if err != nil {
		return "", false
	}
	e, err := readEntry(filepath.Join(c.dir, entryName("kernel", arch, kernelKey{Format: kernelFormat, Meta: meta})))
	if err != nil {
		return "", false
	}
	k, err := findKernel(e.root())
	return k.Release, err == nil
}
