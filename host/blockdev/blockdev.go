// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package blockdev knows what a disk is before anything touches it, and writes an image onto it.
//
// Inspect gathers what the kernel says about a disk (size, model, serial number, transport, partitions, what is
// mounted, swapped to or stacked on it) and what its first bytes say it holds. Disk.Refusals decides, purely, why the
// disk must not be written. OpenExclusive takes the disk for one writer, which the kernel refuses while anybody has it
// in use, and Copy writes the image, then reads all of it back from the medium.
//
// Everything a disk says about itself is cleaned and cut before it is shown: a USB stick can say anything. The package
// asks nobody anything and decides nothing about consent; it never writes to anything but what OpenExclusive gave. It
// is called by cmd/host.
package blockdev

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kindling/internal/event"
)

// Errors of this package.
var (
	ErrNotBlock = errors.New("is no block device")
	ErrBusy     = errors.New("is in use: somebody has it open for themselves")
)

// sectorSize is the unit of all sizes in sysfs, whatever the disk's own is.
const sectorSize = 512

// maxText is the longest text that is believed of a disk, in bytes.
const maxText = 64

// Host is where the kernel's view is found; tests have folders of their own.
type Host struct {
	Sys  string // /sys
	Proc string // /proc
	Dev  string // /dev
}

// System is this machine.
func System() Host { return Host{Sys: "/sys", Proc: "/proc", Dev: "/dev"} }

// Number is a device number, as the kernel writes it: major and minor.
type Number struct{ Major, Minor uint32 }

func (n Number) String() string { return fmt.Sprintf("%d:%d", n.Major, n.Minor) }

// Disk is what is known of one disk, or of one partition if that was named.
type Disk struct {
	Path         string // as it was named
	Name         string // the kernel's name: sdb
	Number       Number
	Size         int64  // in bytes
	LogicalBlock int64  // smallest unit of a transfer, in bytes; 512 if the kernel does not say
	Sequence     string // a number that no other disk of this boot gets (Linux 5.15 and later), "" if unknown
	ReadOnly     bool
	Removable    bool
	PartOf       string // the disk that it is a partition of; "" for a disk
	Model        string
	Serial       string
	Transport    string // usb, sata, nvme, mmc, virtio, scsi, virtual, or "" for unknown
	Parts        []Part
	Uses         []Use
	Contents     []Content
}

// Part is a partition that the kernel knows.
type Part struct {
	Name  string
	Start int64 // in bytes from the beginning of the disk
	Size  int64 // in bytes
}

// Content is what the first bytes of a disk or of a partition look like.
type Content struct {
	Device     string // the kernel's name
	Signatures []Signature
}

// Inspect finds out all about a block device. path may be a symbolic link, such as those in /dev/disk/by-id. What
// cannot be read on the disk (no permission) is left out of Contents, which then is nil.
func (h Host) Inspect(path string) (*Disk, error) {
	number, err := numberOf(path)
	if err != nil {
		return nil, err
	}
	d, err := h.ByNumber(number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d.Path = path
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return d, nil // whoever may not read it may not write it either, and hears of it then
	}
	defer f.Close()
	d.Contents = d.look(f)
	return d, nil
}

// numberOf is the device number of a block device.
func numberOf(path string) (Number, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Number{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Number{}, fmt.Errorf("%s: %w: name a whole disk, as in /dev/sdX", path, ErrNotBlock)
	}
	rdev := uint64(st.Rdev) //nolint:unconvert // 32 bits elsewhere
	return Number{unix.Major(rdev), unix.Minor(rdev)}, nil
}

// ByNumber reads the kernel's view of a disk; Path and Contents stay empty.
func (h Host) ByNumber(number Number) (*Disk, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(h.Sys, "dev", "block", number.String()))
	if err != nil {
		return nil, fmt.Errorf("block device %s is not in sysfs: %w", number, err)
	}
	d := &Disk{Name: filepath.Base(dir), Number: number, LogicalBlock: sectorSize}
	if d.Size, err = readSectors(filepath.Join(dir, "size")); err != nil {
		return nil, err
	}
	whole := dir
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		whole = filepath.Dir(dir)
		d.PartOf = filepath.Base(whole)
	}
	d.ReadOnly = attribute(dir, "ro") != "0"
	d.Removable = attribute(whole, "removable") == "1"
	d.Sequence = attribute(whole, "diskseq")
	if n, err := strconv.ParseInt(attribute(whole, "queue/logical_block_size"), 10, 32); err == nil && n > 0 {
		d.LogicalBlock = n
	}
	d.Model, d.Serial, d.Transport = identity(h.Sys, whole)
	if d.Parts, err = partitions(dir); err != nil {
		return nil, err
	}
	d.Uses, err = h.uses(dir, d.Parts)
	return d, err
}

// partitions are those below a disk's folder, in the order of their place.
func partitions(dir string) ([]Part, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("partitions: %w", err)
	}
	var parts []Part
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(sub, "partition")); err != nil {
			continue
		}
		p := Part{Name: e.Name()}
		if p.Start, err = readSectors(filepath.Join(sub, "start")); err != nil {
			return nil, err
		}
		if p.Size, err = readSectors(filepath.Join(sub, "size")); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b Part) int {
		if a.Start != b.Start {
			return int(min(max(a.Start-b.Start, -1), 1))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return parts, nil
}

// look reads the signatures on the disk and at the beginning of each of its partitions.
func (d *Disk) look(r io.ReaderAt) []Content {
	contents := []Content{{Device: d.Name, Signatures: Signatures(r, d.Size)}}
	for _, p := range d.Parts {
		part := io.NewSectionReader(r, p.Start, p.Size)
		contents = append(contents, Content{Device: p.Name, Signatures: Signatures(part, p.Size)})
	}
	return contents
}

// Same reports whether two looks at a device number saw the same disk: between them, it may have been unplugged and
// another have got its name.
func (d *Disk) Same(other *Disk) bool {
	return d.Number == other.Number && d.Name == other.Name && d.Size == other.Size && d.Sequence == other.Sequence &&
		d.Model == other.Model && d.Serial == other.Serial
}

// attribute is one value of sysfs, without the newline; "" if it cannot be read.
func attribute(dir, name string) string {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(data), "\n")
}

// readSectors is a size of sysfs, in bytes.
func readSectors(name string) (int64, error) {
	text := attribute(filepath.Dir(name), filepath.Base(name))
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > (1<<63-1)/sectorSize {
		return 0, fmt.Errorf("%s: %q is no number of sectors", name, clean(text))
	}
	return n * sectorSize, nil
}

// clean is what is shown of a text that a disk has about itself.
func clean(text string) string {
	text = strings.Join(strings.Fields(event.Clean(strings.ReplaceAll(text, "\x00", " "))), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}
