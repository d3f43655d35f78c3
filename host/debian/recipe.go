// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// recipe says which packages make a tree and what of them goes into it. Its content is the key of the cache entry.
type recipe struct {
	Format   int // raised when the same recipe would give another tree
	Arch     string
	Packages []string
	Drop     []string          // patterns, see matches
	Keep     []string          // patterns that win over Drop
	Links    map[string]string // symbolic links to add, path -> target; relative targets must be in the tree
}

// recipeFormat counts the changes of how a recipe becomes a tree.
const recipeFormat = 1

// userlandRecipe is what a guest needs to run step scripts and to compile C programs, and no more: it travels in an
// initramfs, through the memory of an emulated machine. What Debian would run on installation (ldconfig,
// alternatives, users) is not needed; packages come without their dependencies, so that the list is all there is.
func userlandRecipe() recipe {
	r := recipe{
		Format: recipeFormat,
		Arch:   "i386",
		Packages: []string{
			// The shell and the small tools of step scripts.
			"bash", "libtinfo6",
			"coreutils", "libacl1", "libattr1", "libgmp10", "libselinux1", "libpcre2-8-0",
			"sed", "grep", "mawk", "findutils", "diffutils", "patch", "make",
			"tar", "gzip", "bzip2", "libbz2-1.0",
			// The C compiler, the C library and its headers.
			"tcc", "libc6", "libc6-dev", "linux-libc-dev",
			// mkfs.ext4 and fsck.ext4.
			"e2fsprogs", "libext2fs2", "libcom-err2", "libss2", "libblkid1", "libuuid1",
		},
		Drop: []string{
			"usr/share", "etc/cron.d", "etc/skel", "etc/bash.bashrc", "etc/rmt", "etc/e2scrub.conf",
			"usr/lib/systemd", "usr/lib/udev", "usr/lib/mime", "usr/lib/bash",
			// Character set conversion, profiling and debugging of the C library.
			"usr/lib/*/gconv", "usr/lib/*/audit", "usr/lib/*/libpcprofile.so", "usr/lib/*/libmemusage.so",
			"usr/lib/*/libc_malloc_debug.so*", "usr/lib/*/libthread_db.*", "usr/lib/*/libnss_hesiod.*",
			"usr/lib/*/libnsl.*", "usr/lib/*/libBrokenLocale.*", "usr/lib/*/gcrt1.o", "usr/lib/*/grcrt1.o",
			"usr/lib/*/libnss_compat.*", "usr/lib/*/libmcheck.a", "usr/lib/*/libtic.so*",
			// Static libraries: this tcc cannot link glibc's ("Unknown relocation type for got: 16").
			"usr/lib/*/libc.a", "usr/lib/*/libm.a", "usr/lib/*/libresolv.a",
			// Kernel headers that concern no program here.
			"usr/include/drm", "usr/include/misc", "usr/include/mtd", "usr/include/rdma", "usr/include/scsi",
			"usr/include/sound", "usr/include/video", "usr/include/xen", "usr/include/finclude",
			"usr/include/linux",
			// Of e2fsprogs, making and checking is enough.
			"usr/lib/*/e2fsprogs", "usr/sbin",
		},
		Keep: []string{
			"usr/sbin/mke2fs", "usr/sbin/mkfs.ext4", "usr/sbin/e2fsck", "usr/sbin/fsck.ext4", "usr/sbin/chroot",
			"usr/sbin/tune2fs", "usr/sbin/dumpe2fs",
		},
		Links: map[string]string{
			"usr/bin/sh": "bash", "usr/bin/awk": "mawk",
			"etc/mtab": "/proc/self/mounts", // for mkfs and fsck
		},
	}
	for _, name := range kernelHeaders() {
		r.Keep = append(r.Keep, "usr/include/linux/"+name)
	}
	return r
}

// kernelHeaders are the headers below usr/include/linux that glibc's headers include, that programs for disks and
// mounts include (fs.h, loop.h, hdreg.h, reboot.h), and all that these need: 38 of 544.
func kernelHeaders() []string {
	return []string{
		"atalk.h", "byteorder", "const.h", "errno.h", "falloc.h", "fanotify.h", "fs.h", "fscrypt.h", "hdreg.h",
		"if_ether.h", "if_fddi.h", "if_slip.h", "ioctl.h", "kd.h", "kernel.h", "limits.h", "loop.h", "mount.h",
		"nfs.h", "param.h", "patchkey.h", "pci.h", "pci_regs.h", "posix_types.h", "ppp-comp.h", "ppp_defs.h",
		"prctl.h", "quota.h", "reboot.h", "rseq.h", "socket.h", "soundcard.h", "stddef.h", "swab.h", "sysinfo.h",
		"types.h", "version.h", "vt.h",
	}
}

var architecture = regexp.MustCompile(`^[a-z0-9-]{2,20}$`)

// check finds mistakes in a recipe before anything is fetched.
func (r recipe) check() error {
	if !architecture.MatchString(r.Arch) {
		return fmt.Errorf("%w: %.40q", ErrArch, r.Arch)
	}
	if len(r.Packages) == 0 {
		return fmt.Errorf("%w: no packages wanted", ErrFetch)
	}
	seen := make(map[string]bool, len(r.Packages))
	for _, name := range r.Packages {
		if !cleanName.MatchString(name) || seen[name] {
			return fmt.Errorf("%w: package name %.140q is malformed or there twice", ErrFetch, name)
		}
		seen[name] = true
	}
	for _, pattern := range slices.Concat(r.Drop, r.Keep) {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// selects reports whether the recipe takes the file of that path in the merged tree.
func (r recipe) selects(name string) bool {
	return matchesAny(r.Keep, name) || !matchesAny(r.Drop, name)
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// matches reports whether the pattern, in the language of path.Match, matches the path or a folder that the path is in.
func matches(pattern, name string) bool {
	depth := strings.Count(pattern, "/") + 1
	elements := strings.Split(name, "/")
	if len(elements) < depth {
		return false
	}
	ok, err := path.Match(pattern, strings.Join(elements[:depth], "/"))
	return err == nil && ok
}
