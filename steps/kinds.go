// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

// Kind is the kind of a directive of the manifest.
type Kind string

// The directives of a manifest. A define never becomes a Step: it is evaluated while planning.
const (
	KindBuild     Kind = "build"
	KindImprove   Kind = "improve"
	KindJump      Kind = "jump"
	KindUninstall Kind = "uninstall"
	KindDefine    Kind = "define"
)

// Family is the interpreter that runs a generated script.
type Family string

// The families in the order in which a bootstrap goes through them. Each package whose name begins with "bash-" moves
// on by one: the first build brings early bash (2.05b, whose ERR trap cannot be trusted), the next one bash.
const (
	FamilyKaem      Family = "kaem"
	FamilyEarlyBash Family = "early-bash"
	FamilyBash      Family = "bash"
)

// Kernel is what a step runs on. A jump still runs on the kernel that it leaves.
type Kernel string

// The kernels. Which ones a plan goes through follows from CHROOT and KERNEL_BOOTSTRAP in bootstrap.cfg and from the
// jumps that are really made.
const (
	KernelBuilderHex0 Kernel = "builder-hex0"    // until jump: fiwix
	KernelFiwix       Kernel = "fiwix"           // until jump: linux
	KernelLinuxEarly  Kernel = "linux-early"     // the user's own kernel (--kernel), until jump: linux
	KernelInitramfs   Kernel = "linux-initramfs" // until jump: move_disk
	KernelDisk        Kernel = "linux-disk"      // Linux with its root on a disk
	KernelHost        Kernel = "host"            // chroot and bwrap: the host's own kernel, all the way
)
