// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package resume knows what it takes to go on with a run: which disk holds it, how far it has come, what machine it ran
// in, and which kernel boots it now.
//
// A run that was moved to a disk has its journal there, and the agent on the disk goes on at the first unfinished step.
// Until GRUB is installed the disk cannot boot by itself. So the run's own kernel is taken out of it (/boot/vmlinuz), or
// the one that the run began with is taken again, and is given an initramfs of nothing but the agent of that disk, which
// finds the run by its journal, whatever name the disk has in this boot. The package writes nothing into the image and
// starts nothing; it is called by cmd/host.
package resume
