// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestRecipeSelects(t *testing.T) {
	r := recipe{
		Drop: []string{"usr/share", "usr/lib/*/gconv", "usr/sbin", "usr/lib/*/lib?.a"},
		Keep: []string{"usr/sbin/mke2fs", "usr/share/kept"},
	}
	for name, want := range map[string]bool{
		"usr/bin/bash":                        true,
		"usr/share":                           false,
		"usr/share/doc/bash/copyright":        false,
		"usr/share/kept/deep/file":            true,
		"usr/shared/file":                     true,
		"usr/sbin/mke2fs":                     true,
		"usr/sbin/debugfs":                    false,
		"usr/lib/i386-linux-gnu/gconv/X.so":   false,
		"usr/lib/gconv":                       true,
		"usr/lib/i386-linux-gnu/libc.so":      true,
		"usr/lib/i386-linux-gnu/libc.a":       false,
		"usr/lib/i386-linux-gnu/deep/libc.a":  true,
		"usr/lib/i386-linux-gnu/libc_nosha.a": true,
	} {
		if got := r.selects(name); got != want {
			t.Errorf("selects(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestUserlandRecipe(t *testing.T) {
	r := userlandRecipe()
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"usr/bin/bash":                                    true,
		"usr/bin/tcc":                                     true,
		"usr/lib/ld-linux.so.2":                           true,
		"usr/sbin/mkfs.ext4":                              true,
		"usr/include/stdio.h":                             true,
		"usr/include/linux/fs.h":                          true,
		"usr/include/linux/bpf.h":                         false,
		"usr/lib/i386-linux-gnu/libc_nonshared.a":         true,
		"usr/lib/i386-linux-gnu/libc.a":                   false,
		"usr/lib/i386-linux-gnu/tcc/libtcc1.a":            true,
		"usr/lib/i386-linux-gnu/crt1.o":                   true,
		"usr/lib/i386-linux-gnu/gconv/UTF-16.so":          false,
		"usr/include/linux/byteorder/little_endian.h":     true,
		"usr/share/man/man1/bash.1.gz":                    false,
		"usr/include/i386-linux-gnu/asm/unistd_32.h":      true,
		"usr/share/locale/de/LC_MESSAGES/coreutils.mo":    false,
		"usr/lib/i386-linux-gnu/libnss_dns.so.2":          true,
		"usr/lib/i386-linux-gnu/libm.so.6":                true,
		"usr/lib/i386-linux-gnu/libthread_db.so.1":        false,
		"usr/lib/i386-linux-gnu/e2fsprogs/e2scrub_fail":   false,
		"usr/include/i386-linux-gnu/bits/libc-header-x.h": true,
	} {
		if got := r.selects(name); got != want {
			t.Errorf("userland selects(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestRecipeCheck(t *testing.T) {
	tests := []struct {
		name string
		edit func(*recipe)
		want string
	}{
		{"architecture", func(r *recipe) { r.Arch = "i386;x" }, "architecture"},
		{"nothing wanted", func(r *recipe) { r.Packages = nil }, "no packages"},
		{"option as a name", func(r *recipe) { r.Packages = []string{"-oDir::Etc=x"} }, "-oDir::Etc=x"},
		{"twice", func(r *recipe) { r.Packages = []string{"bash", "bash"} }, "bash"},
		{"pattern", func(r *recipe) { r.Drop = []string{"usr/[a"} }, "usr/[a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := userlandRecipe()
			tt.edit(&r)
			err := r.check()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("check: %v, want something about %q", err, tt.want)
			}
		})
	}
}

func TestEntryNameDependsOnTheWholeRecipe(t *testing.T) {
	edits := []func(*recipe){
		func(*recipe) {},
		func(r *recipe) { r.Format++ },
		func(r *recipe) { r.Packages = append(r.Packages, "xz-utils") },
		func(r *recipe) { slices.Reverse(r.Packages) },
		func(r *recipe) { r.Drop = nil },
		func(r *recipe) { r.Keep = nil },
		func(r *recipe) { r.Links["usr/bin/cc"] = "tcc" },
	}
	seen := make(map[string]int)
	for i, edit := range edits {
		r := userlandRecipe()
		edit(&r)
		name := entryName("userland", r.Arch, r)
		if other, taken := seen[name]; taken {
			t.Errorf("recipes %d and %d share the entry %s", other, i, name)
		}
		seen[name] = i
		if again := entryName("userland", r.Arch, r); again != name {
			t.Errorf("recipe %d has two names: %s, %s", i, name, again)
		}
	}
}

func TestKernelMeta(t *testing.T) {
	for arch, want := range map[string]string{"i386": "linux-image-686", "amd64": "linux-image-amd64", "arm64": ""} {
		got, err := kernelMeta(arch)
		if got != want || (want == "") != errors.Is(err, ErrArch) {
			t.Errorf("kernelMeta(%q) = %q, %v", arch, got, err)
		}
	}
}
