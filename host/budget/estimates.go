// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import "strings"

// product is what a build leaves behind on a kernel that gives nothing back. docs/budgets.md has the same table, with
// how it was measured.
type product struct {
	build string // how the package's name begins; empty: what happens before the first package
	files int64  // files and directories made, rewritten ones counted again
	bytes int64
}

// hexProducts are the products of everything that the tree builds on builder-hex0: measured in a native run of the
// chain of live-bootstrap 984b8322 with its genuine sources (stage0 to kexec-fiwix), as what stands there at the end
// beyond what was there before, plus the 40 files (450,107 bytes) that were written more than once. The first line
// includes 24 MB in 68 files for what M2-Mesoplanet removes again natively, which builder-hex0 never does: an estimate
// for its 17 runs.
func hexProducts() []product {
	return []product{
		{"", 330, 52_030_000},
		{"mes-", 1_705, 11_947_945},
		{"tcc-0.9.26", 1_740, 23_607_250},
		{"tcc-0.9.27", 1_723, 17_226_629},
		{"fiwix-", 649, 4_300_964},
		{"lwext4-", 131, 2_034_770},
		{"checksum-transcriber-", 2, 40_000},
		{"simple-patch-", 2, 40_000},
		{"kexec-fiwix-", 2, 40_000},
		{"payload-import-", 4, 150_000},
	}
}

const sourceProducts = "products measured natively (docs/budgets.md)"

// made adds up the products of the builds, each once. missing are builds that the table does not have.
func made(builds []string) (total product, missing []string) {
	table := hexProducts()
	total = product{files: table[0].files, bytes: table[0].bytes}
	seen := map[string]bool{}
	for _, build := range builds {
		if seen[build] {
			continue
		}
		seen[build] = true
		known := false
		for _, p := range table[1:] {
			if strings.HasPrefix(build, p.build) {
				total.files, total.bytes, known = total.files+p.files, total.bytes+p.bytes, true
				break
			}
		}
		if !known {
			missing = append(missing, build)
		}
	}
	return total, missing
}

// The ramdisk at its fullest is reached when Linux is built. No run of it can be measured here in reasonable time, but
// the tree's authors have measured it for us: on 2024-05-28 (commit e2d4782c) 1,376,256 KiB had become too small "by a
// couple more MB", and 1,381,376 KiB were enough: "the tolerances are very tight now".
const (
	linuxBuild    = "linux-4.14"
	ramdiskFull   = 1_376_256 * kib
	sourceRamdisk = "more than 1,376,256 KiB in live-bootstrap e2d4782c (2024-05-28), plus what is added"
)

// inodeShare is the part of the ramdisk that its inode tables take: make_fiwix_initrd makes one inode of 128 bytes for
// every 4 blocks of 1 KiB (lwext4 1.0.0-lb1, ext4_mkfs.c, compute_inodes).
const inodeShare = 32

// fiwixTables is the memory that Fiwix 1.5.0-lb1 takes for page tables, buffers, inodes and pages when it uses 2 GiB:
// measured at a boot with a ramdisk of 1,381,376 KiB and a window of 199,680 KiB, which left 393,340 KiB to programs.
const (
	fiwixTables       = (2_097_152 - 1_381_376 - 199_680 - 393_340) * kib
	sourceFiwixTables = "ramdisk, window, and 122,756 KiB of tables as measured at a boot of Fiwix 1.5.0-lb1"
)

// BaseTarball is the size of the base tarball in bytes, by estimate: 13.6 MB were measured with the genuine chain of
// live-bootstrap 984b8322 as far as kexec-fiwix, bash, tar and bzip2, and the sources of make, patch, gzip, tar, sed,
// coreutils, oyacc and bash, which stand below /steps by then, add about 9 MB.
const (
	BaseTarball     = 23_000_000
	BaseTarballPath = "/external/repo/base.tar.bz2"
)

// packedPercent is what bzip2 leaves of a program: 39.9 percent of the agent, rounded up.
const packedPercent = 40

// badRamdiskFrom and badRamdiskTo are the addresses between which a ramdisk must not end: with one that ends near 128
// to 132 MiB every program on Fiwix faults. A MiB is added on both sides.
const (
	badRamdiskFrom   = 127 << 20
	badRamdiskTo     = 133 << 20
	sourceBadRamdisk = "measured: every program faults with a ramdisk that ends near 128 to 132 MiB"
)
