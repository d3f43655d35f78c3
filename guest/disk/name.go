// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package disk

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Name is the name of a disk or a partition as the kernel has it, split into its parts.
type Name struct {
	Disk string // sda, nvme0n1, mmcblk0
	Part int    // partition number, 0 for the whole disk
}

// ParseName reads the name of a disk or partition, with or without /dev/ before it. Disks that end in a letter put the
// number of a partition right behind their name, others have a "p" between (Linux, block/partitions/core.c).
func ParseName(s string) (Name, error) {
	name := strings.TrimPrefix(s, "/dev/")
	n := diskLength(name)
	d := Name{Disk: name[:n]}
	if n > 0 && n == len(name) {
		return d, nil
	}
	d.Part, _ = strconv.Atoi(strings.TrimLeft(name[n:], "p")) // what is no number is seen by the comparison
	if n == 0 || d.Part < 1 || d.Part > 999 || d.String() != name {
		return Name{}, fmt.Errorf("disk name %q: want sdX, hdX, vdX, xvdX, nvmeXnY or mmcblkX, or a partition of one", s)
	}
	return d, nil
}

// diskLength is how much of a name is that of the whole disk, 0 if no disk is called so.
func diskLength(name string) int {
	for _, prefix := range []string{"sd", "hd", "vd", "xvd"} {
		if strings.HasPrefix(name, prefix) {
			return span(name, len(prefix), 'a', 'z')
		}
	}
	for _, prefix := range []string{"mmcblk", "loop"} {
		if strings.HasPrefix(name, prefix) {
			return span(name, len(prefix), '0', '9')
		}
	}
	if n := span(name, len("nvme"), '0', '9'); strings.HasPrefix(name, "nvme") && strings.HasPrefix(name[n:], "n") {
		return span(name, n+1, '0', '9')
	}
	return 0
}

// span is the end of the one to three characters between low and high that stand at a place in s, 0 if there are none.
func span(s string, from int, low, high byte) int {
	end := from
	for end < len(s) && end < from+3 && low <= s[end] && s[end] <= high {
		end++
	}
	if end == from {
		return 0
	}
	return end
}

// Partition is the name of partition n of the disk: sda1, nvme0n1p1, mmcblk0p1.
func (d Name) Partition(n int) Name { return Name{Disk: d.Disk, Part: n} }

// String is the kernel's name.
func (d Name) String() string {
	if d.Part == 0 {
		return d.Disk
	}
	if last := d.Disk[len(d.Disk)-1]; last >= '0' && last <= '9' {
		return d.Disk + "p" + strconv.Itoa(d.Part)
	}
	return d.Disk + strconv.Itoa(d.Part)
}

// Path is the device node.
func (d Name) Path() string { return "/dev/" + d.String() }

// Compare orders whole disks before partitions, then by name.
func (d Name) Compare(e Name) int {
	whole := func(n Name) int { return min(n.Part, 1) }
	return cmp.Or(cmp.Compare(whole(d), whole(e)), strings.Compare(d.Disk, e.Disk), cmp.Compare(d.Part, e.Part))
}
