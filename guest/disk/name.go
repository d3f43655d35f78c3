// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package disk

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Name is the name of a disk or a partition as the kernel has it, split into its parts.
type Name struct {
	Disk string // sda, nvme0n1, mmcblk0
	Part int    // partition number, 0 for the whole disk
}

// lettered disks put the number right behind the name; numbered ones have a "p" between (block/partitions/core.c,
// disk_name).
var (
	lettered = regexp.MustCompile(`^([shv]d[a-z]{1,3}|xvd[a-z]{1,3})([1-9][0-9]{0,2})?$`)
	numbered = regexp.MustCompile(`^(nvme[0-9]{1,3}n[0-9]{1,3}|mmcblk[0-9]{1,3}|loop[0-9]{1,3})(?:p([1-9][0-9]{0,2}))?$`)
)

// ParseName reads the name of a disk or partition, with or without /dev/ before it.
func ParseName(s string) (Name, error) {
	name := strings.TrimPrefix(s, "/dev/")
	for _, re := range []*regexp.Regexp{lettered, numbered} {
		m := re.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		part := 0
		if m[2] != "" {
			part, _ = strconv.Atoi(m[2]) // at most three digits
		}
		return Name{Disk: m[1], Part: part}, nil
	}
	return Name{}, fmt.Errorf("disk name %q: want sdX, hdX, vdX, xvdX, nvmeXnY or mmcblkX, or a partition of one", s)
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
