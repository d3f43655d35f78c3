// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import "fmt"

// Reason is why a disk must not be written.
type Reason string

// The reasons.
const (
	ReasonPartition Reason = "partition" // it is a part of a disk
	ReasonNoMedium  Reason = "no medium" // it has no size: an empty card reader
	ReasonReadOnly  Reason = "read-only"
	ReasonTooSmall  Reason = "too small"
	ReasonSystem    Reason = "system" // this machine lives on it
	ReasonInUse     Reason = "in use" // mounted, or part of something
)

// Refusal is one reason with its details, as one line.
type Refusal struct {
	Reason Reason
	Text   string
}

// Refusals are all the reasons not to write an image of need bytes onto the disk; none if it may be written. The kernel
// is asked once more when the disk is opened (OpenExclusive), which finds users in other mount namespaces as well.
func (d *Disk) Refusals(need int64) []Refusal {
	var list []Refusal
	refuse := func(reason Reason, format string, args ...any) {
		list = append(list, Refusal{reason, fmt.Sprintf(format, args...)})
	}
	if d.PartOf != "" {
		refuse(ReasonPartition, "%s is a partition: an image needs a whole disk, here %s", d.Name, d.PartOf)
	}
	switch {
	case d.Size == 0:
		refuse(ReasonNoMedium, "%s has no medium in it", d.Name)
	case d.Size < need:
		refuse(ReasonTooSmall, "%s has %d bytes, the image needs %d", d.Name, d.Size, need)
	}
	if d.ReadOnly {
		refuse(ReasonReadOnly, "%s is read-only: look for a switch on it", d.Name)
	}
	for _, u := range d.Uses {
		if u.System() {
			refuse(ReasonSystem, "%s: it belongs to the running system", u)
		} else {
			refuse(ReasonInUse, "%s: %s", u, remedy(u.Kind))
		}
	}
	return list
}

// remedy is what the user can do about a use.
func remedy(kind UseKind) string {
	switch kind {
	case UseMounted:
		return "unmount it first"
	case UseSwap:
		return "switch that off first"
	case UseLoop:
		return "detach that first"
	case UseHolder:
	}
	return "take that apart or stop it first"
}
