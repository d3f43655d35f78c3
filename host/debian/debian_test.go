// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The limits that keep an initramfs with this userland quick to load and to unpack in an emulated machine.
const (
	maxUserlandBytes = 35 << 20
	maxModuleBytes   = 4 << 20
)

// TestDebian fetches the real userland and the real i386 kernel with the host's apt. tests/vm runs them.
// KINDLING_TEST_CACHE may name a cache folder to share with other tests; without it everything is fetched anew.
func TestDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: needs Debian's mirrors; -short is set")
	}
	dir := os.Getenv("KINDLING_TEST_CACHE")
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "cache")
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := c.Userland(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	t.Run("userland", func(t *testing.T) { checkUserland(t, tree) })
	t.Run("kernel", func(t *testing.T) { checkKernel(t, c) })
}

func checkUserland(t *testing.T, tree Tree) {
	t.Logf("%d files, %d bytes", tree.Files, tree.Size)
	if tree.Size > maxUserlandBytes {
		t.Errorf("userland has %d bytes, %d allowed", tree.Size, maxUserlandBytes)
	}
	if len(tree.Packages) != len(userlandRecipe().Packages) {
		t.Errorf("%d packages", len(tree.Packages))
	}
	root, err := os.OpenRoot(tree.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 || name == "etc/mtab" {
			return err
		}
		target, err := root.Readlink(name)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(name), target)
		}
		if _, err := root.Stat(strings.TrimPrefix(target, "/")); err != nil {
			t.Errorf("symbolic link %s: %v", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kernelHeaders() {
		if _, err := root.Stat("usr/include/linux/" + name); err != nil {
			t.Error(err)
		}
	}
}

func checkKernel(t *testing.T, c *Cache) {
	k, err := c.Kernel(t.Context(), "i386", func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(k.Release, "-686") || len(k.Packages) != 1 {
		t.Errorf("kernel %s of %v", k.Release, k.Packages)
	}
	set, err := k.Modules(DefaultModules())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d modules, %d bytes", len(set.Modules), set.Size)
	if set.Size > maxModuleBytes {
		t.Errorf("modules have %d bytes, %d allowed", set.Size, maxModuleBytes)
	}
	place := make(map[string]int)
	for i, m := range set.Modules {
		place[m.Name] = i + 1
	}
	for _, name := range DefaultModules() {
		if place[name] == 0 {
			t.Errorf("%s is not in the set", name)
		}
	}
	if place["crc32c_generic"] > place["ext4"] || place["libata"] > place["ata_piix"] {
		t.Errorf("load order:\n%s", set.Load)
	}
	if _, err := k.Modules(StorageModules()); err != nil {
		t.Error(err)
	}
	again, err := c.Kernel(t.Context(), "i386", func(line string) { t.Errorf("second use: %s", line) })
	if err != nil {
		t.Fatal(err)
	}
	if !again.Cached {
		t.Error("the second use is not from the cache")
	}
	again.Cached = k.Cached
	if diff := cmp.Diff(k, again); diff != "" {
		t.Errorf("second use (-first +second):\n%s", diff)
	}
}
