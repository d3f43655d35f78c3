// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// UseKind is the way in which something is in use.
type UseKind string

// The kinds of use.
const (
	UseMounted UseKind = "mounted"
	UseSwap    UseKind = "swap"
	UseHolder  UseKind = "holder" // another block device is made of it: LVM, device-mapper, md, bcache
	UseLoop    UseKind = "loop"   // a loop device has it as its file
)

// Use is one way in which a disk, a partition of it or something that is stacked on it is in use.
type Use struct {
	Device string // the kernel's name of what is in use
	Kind   UseKind
	Where  string // mount point, or name of the device that is stacked on it; "" for swap
}

// System reports whether the machine itself lives on it.
func (u Use) System() bool {
	if u.Kind == UseSwap {
		return true
	}
	if u.Kind != UseMounted {
		return false
	}
	for _, top := range []string{"/boot", "/usr", "/var", "/etc", "/efi"} {
		if u.Where == top || strings.HasPrefix(u.Where, top+"/") {
			return true
		}
	}
	return u.Where == "/"
}

func (u Use) String() string {
	switch u.Kind {
	case UseMounted:
		return fmt.Sprintf("%s is mounted on %s", u.Device, clean(u.Where))
	case UseSwap:
		return u.Device + " is used for swap"
	case UseLoop:
		return fmt.Sprintf("%s is behind the loop device %s", u.Device, clean(u.Where))
	case UseHolder:
	}
	return fmt.Sprintf("%s is part of %s", u.Device, clean(u.Where))
}

// maxStack bounds how high block devices may be stacked.
const maxStack = 16

// node is a block device in question: the disk, a partition, or something that is stacked on one.
type node struct {
	name   string
	number string // as in mountinfo
	mapper string // name of a device-mapper device
}

// uses finds out who uses the disk whose folder in sysfs is dir.
func (h Host) uses(dir string, parts []Part) ([]Use, error) {
	var uses []Use
	nodes := h.stack(dir, maxStack, &uses)
	for _, p := range parts {
		nodes = append(nodes, h.stack(filepath.Join(dir, p.Name), maxStack, &uses)...)
	}
	mounts, err := h.mounts()
	if err != nil {
		return nil, err
	}
	swaps, err := h.swaps()
	if err != nil {
		return nil, err
	}
	loops, err := h.loops()
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		for _, m := range mounts {
			if m.Number == n.number || n.named(h.kernelName(m.Source)) {
				uses = append(uses, Use{Device: n.name, Kind: UseMounted, Where: m.Point})
			}
		}
		for _, file := range swaps {
			if n.named(h.kernelName(file)) {
				uses = append(uses, Use{Device: n.name, Kind: UseSwap})
			}
		}
		for loop, file := range loops {
			if n.named(h.kernelName(file)) {
				uses = append(uses, Use{Device: n.name, Kind: UseLoop, Where: loop})
			}
		}
	}
	slices.SortFunc(uses, func(a, b Use) int {
		return cmp.Or(strings.Compare(a.Device, b.Device), strings.Compare(string(a.Kind), string(b.Kind)),
			strings.Compare(a.Where, b.Where))
	})
	return slices.Compact(uses), nil
}

func (n node) named(name string) bool { return name != "" && (name == n.name || name == n.mapper) }

// stack is the device in dir and everything that is stacked on it.
func (h Host) stack(dir string, depth int, uses *[]Use) []node {
	n := node{name: filepath.Base(dir), number: attribute(dir, "dev"), mapper: attribute(dir, "dm/name")}
	nodes := []node{n}
	holders, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil || depth == 0 {
		return nodes
	}
	for _, e := range holders {
		above, err := filepath.EvalSymlinks(filepath.Join(dir, "holders", e.Name()))
		if err != nil {
			above = filepath.Join(h.Sys, "class", "block", e.Name())
		}
		where := e.Name()
		if name := attribute(above, "dm/name"); name != "" {
			where += " (" + name + ")"
		}
		*uses = append(*uses, Use{Device: n.name, Kind: UseHolder, Where: where})
		nodes = append(nodes, h.stack(above, depth-1, uses)...)
		for _, p := range partNames(above) {
			nodes = append(nodes, h.stack(filepath.Join(above, p), depth-1, uses)...)
		}
	}
	return nodes
}

func partNames(dir string) []string {
	parts, err := partitions(dir)
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(parts))
	for _, p := range parts {
		names = append(names, p.Name)
	}
	return names
}

// kernelName is the kernel's name of what a mount or a swap says it comes from; "" if that is no device.
func (h Host) kernelName(source string) string {
	below, ok := strings.CutPrefix(source, "/dev/")
	if !ok {
		return ""
	}
	if path, err := filepath.EvalSymlinks(filepath.Join(h.Dev, filepath.FromSlash(below))); err == nil {
		return filepath.Base(path)
	}
	return filepath.Base(below)
}

// Mount is one line of /proc/PID/mountinfo.
type Mount struct {
	Number string // major:minor; that of a filesystem over several devices (btrfs) is none of theirs
	Point  string
	Type   string
	Source string
}

// mounts are those that this process sees, and those of process 1 if they may be read: it may see more.
func (h Host) mounts() ([]Mount, error) {
	var all []Mount
	for _, process := range []string{"self", "1"} {
		data, err := readProc(filepath.Join(h.Proc, process, "mountinfo"))
		if err != nil && process == "self" {
			return nil, fmt.Errorf("mounts: %w", err)
		}
		mounts, err := ParseMounts(string(data))
		if err != nil && process == "self" {
			return nil, err
		}
		all = append(all, mounts...)
	}
	return all, nil
}

// ParseMounts reads mountinfo (proc_pid_mountinfo(5)):
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//
// Optional fields may be missing; blanks within fields are octal escapes.
func ParseMounts(text string) ([]Mount, error) {
	var mounts []Mount
	number := 0
	for line := range strings.Lines(text) {
		number++
		head, tail, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		before, after := strings.Fields(head), strings.Fields(tail)
		if !ok || len(before) < 6 || len(after) < 2 {
			return nil, fmt.Errorf("mountinfo:%d: %q is no mount", number, clean(line))
		}
		mounts = append(mounts, Mount{
			Number: before[2], Point: unescape(before[4]), Type: after[0], Source: unescape(after[1]),
		})
	}
	return mounts, nil
}

// swaps are the files and devices that the kernel swaps to.
func (h Host) swaps() ([]string, error) {
	data, err := readProc(filepath.Join(h.Proc, "swaps"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without swap
	}
	if err != nil {
		return nil, fmt.Errorf("swaps: %w", err)
	}
	return ParseSwaps(string(data)), nil
}

// ParseSwaps reads /proc/swaps: a line of headings, then "FILE TYPE SIZE USED PRIORITY" with octal escapes. A device
// that has been removed has " (deleted)" behind its name.
func ParseSwaps(text string) []string {
	var files []string
	first := true
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if first || len(fields) == 0 {
			first = false
			continue
		}
		files = append(files, unescape(fields[0]))
	}
	return files
}

// loops are the files behind loop devices, by the names of those.
func (h Host) loops() (map[string]string, error) {
	dir := filepath.Join(h.Sys, "class", "block")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("loop devices: %w", err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if file := attribute(filepath.Join(dir, e.Name()), "loop/backing_file"); file != "" {
			files[e.Name()] = file
		}
	}
	return files, nil
}

// maxProc bounds what is read of a file in /proc, in bytes.
const maxProc = 16 << 20

func readProc(name string) ([]byte, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProc+1))
	if err == nil && len(data) > maxProc {
		err = fmt.Errorf("%s: more than %d bytes", name, maxProc)
	}
	return data, err
}

// unescape undoes the octal escapes of mountinfo: \040 for a blank.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
