// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// kernelFormat counts the changes of how a kernel package becomes an entry.
const kernelFormat = 1

// kernelKey is what makes one kernel entry another.
type kernelKey struct {
	Format int
	Meta   string
}

// kernelPackage matches the package that a kernel's meta package depends on. Its name ends with the release.
var kernelPackage = regexp.MustCompile(`^linux-image-[0-9]+\.[0-9][a-z0-9.+-]{0,80}$`)

// kernelRelease is what a release looks like: it becomes part of paths.
var kernelRelease = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~_-]{0,80}$`)

// buildKernel makes dir/root from the newest kernel package, with depmod's files.
func (c *Cache) buildKernel(ctx context.Context, arch, meta, dir string, p Progress) ([]Package, error) {
	name, err := c.source.dependency(ctx, filepath.Join(dir, stateDir), arch, meta, kernelPackage, p)
	if err != nil {
		return nil, err
	}
	debs, err := c.fetch(ctx, arch, []string{name}, dir, p)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, rootName)
	p.printf("unpacking %s", debs[0].Package)
	if err := unpack(ctx, debs[0], root); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(root, "usr", "share")); err != nil {
		return nil, err
	}
	k, err := findKernel(root)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", name, err)
	}
	depmod, err := find("depmod", "kmod")
	if err != nil {
		return nil, err
	}
	p.printf("indexing the modules of %s", k.Release)
	if err := (program{path: depmod, args: []string{"-b", root, k.Release}}).run(ctx, p); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPackage, name, err)
	}
	return []Package{debs[0].Package}, nil
}

// findKernel finds the only kernel in an unpacked package, and its modules.
func findKernel(root string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return Kernel{}, err
	}
	if len(images) != 1 {
		return Kernel{}, fmt.Errorf("%w: one boot/vmlinuz-* wanted, %d found", ErrPackage, len(images))
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	if !kernelRelease.MatchString(release) {
		return Kernel{}, fmt.Errorf("%w: kernel release %.100q", ErrPackage, release)
	}
	if info, err := os.Lstat(images[0]); err != nil || !info.Mode().IsRegular() {
		return Kernel{}, fmt.Errorf("%w: boot/vmlinuz-%s is no regular file", ErrPackage, release)
	}
	modules := filepath.Join(root, "lib", "modules", release)
	if info, err := os.Lstat(modules); err != nil || !info.IsDir() {
		return Kernel{}, fmt.Errorf("%w: no folder lib/modules/%s", ErrPackage, release)
	}
	return Kernel{Release: release, Image: images[0], ModulesDir: modules}, nil
}
