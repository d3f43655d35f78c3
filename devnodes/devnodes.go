// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package devnodes holds the static tables of device nodes and creates them under a root directory.
//
// They are for the time before Linux and for chroots only: on Linux the kernel manages /dev itself (devtmpfs), and
// there the caller must not use this package. The tables hold what the bootstrap's own improve step
// populate_device_nodes makes, and nothing more: some packages look for /dev/fd or /dev/stdin while they are
// configured, so a further name in /dev would change what is built.
//
// The tables and the decision what to do about each name are pure; Create acts through the FS interface, of which Root
// is the real one. The package mounts nothing and imports nothing of ours. The host's assembler uses the tables, the
// guest's agent creates them.
package devnodes

import "fmt"

// Type is what a node is.
type Type uint8

// The types of nodes.
const (
	Char    Type = iota + 1 // character device
	Block                   // block device
	Symlink                 // symbolic link
)

// String names the type as it stands in messages.
func (t Type) String() string {
	switch t {
	case Char:
		return "character device"
	case Block:
		return "block device"
	case Symlink:
		return "symbolic link"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Node is one entry of a table.
type Node struct {
	Name   string // path below the root, without a slash at its start: "dev/null"
	Type   Type
	Mode   uint32 // permission bits; 0 for a Symlink
	Major  uint32 // device numbers as in Linux's admin-guide/devices.txt; 0 for a Symlink
	Minor  uint32
	Target string // of a Symlink
}

// Table returns the nodes in the order in which they are to be made, in a fresh slice. A chroot (and anything like
// one, such as bwrap) gets those that every program may use; a machine of its own gets the consoles and disks too.
func Table(chroot bool) []Node {
	nodes := []Node{
		{Name: "dev/null", Type: Char, Mode: 0o666, Major: 1, Minor: 3},
		{Name: "dev/zero", Type: Char, Mode: 0o666, Major: 1, Minor: 5},
		{Name: "dev/random", Type: Char, Mode: 0o444, Major: 1, Minor: 8},
		{Name: "dev/urandom", Type: Char, Mode: 0o444, Major: 1, Minor: 9},
		{Name: "dev/ptmx", Type: Char, Mode: 0o666, Major: 5, Minor: 2},
		{Name: "dev/tty", Type: Char, Mode: 0o666, Major: 5, Minor: 0},
		{Name: "dev/stdout", Type: Symlink, Target: "/proc/self/fd/1"},
	}
	if chroot {
		return nodes
	}
	nodes = append(nodes,
		Node{Name: "dev/tty1", Type: Char, Mode: 0o666, Major: 4, Minor: 1},
		Node{Name: "dev/tty2", Type: Char, Mode: 0o666, Major: 4, Minor: 2},
		Node{Name: "dev/console", Type: Char, Mode: 0o666, Major: 5, Minor: 1},
	)
	return append(nodes, scsiDisks("abc", 3)...)
}

// scsiDisks lists the SCSI disks with the given letters, each whole and with its first partitions. Major 8 has 16
// minors for each disk; the first is the whole disk.
func scsiDisks(letters string, partitions uint32) []Node {
	const major, minorsPerDisk = 8, 16
	var nodes []Node
	for _, letter := range letters {
		first := uint32(letter-'a') * minorsPerDisk
		name := "dev/sd" + string(letter)
		nodes = append(nodes, Node{Name: name, Type: Block, Mode: 0o600, Major: major, Minor: first})
		for p := uint32(1); p <= partitions; p++ {
			nodes = append(nodes, Node{
				Name: fmt.Sprintf("%s%d", name, p), Type: Block, Mode: 0o600, Major: major, Minor: first + p,
			})
		}
	}
	return nodes
}
