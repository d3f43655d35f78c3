// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package conformance

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine is a make-believe machine for the search: its disks by number, its nodes, and what procfs says.
type machine struct {
	partitions string
	mounted    bool              // procfs is mounted on /proc already
	disks      map[string]string // content by "major:minor", "dir" for one that cannot be read
	nodes      map[string]string // "major:minor" by name below /dev
	before     tree              // whatever else is there
}

// plant makes the machine's tree below world.
func (m machine) plant(t *testing.T, world string) {
	t.Helper()
	tr := tree{"partitions": "file " + m.partitions, "proc": "dir", "dev": "dir", "disks": "dir"}
	if m.mounted {
		tr["proc/partitions"] = "file " + m.partitions
	}
	for number, content := range m.disks {
		if content != "dir" {
			content = "file " + content
		}
		tr["disks/"+number] = content
	}
	for name, number := range m.nodes {
		tr["dev/"+name] = "file " + number
	}
	for k, v := range m.before {
		tr[k] = v
	}
	tr.plant(t, world)
}

const (
	heading = "major minor  #blocks  name\n\n"
	fiwix   = heading + "   3     0     20160 hda\n   3     1     10080 hda1\n   3     0     90000 hdb\n  22     0     90000 hdc\n"
	modern  = heading + "   8        0   16777216 sda\n   8        1   16777200 sda1\n 259        0   1000 nvme0n1\n" +
		" 259        1   900 nvme0n1p1\n 179        0   1000 mmcblk0\n 179        1   900 mmcblk0p1\n 254        0   1000 vda\n"
)

type searchCase struct {
	name    string
	machine machine
	args    []string
	fault   string
	found   bool
	line    []string // what the failure must contain
}

func searchCases(good, other string, id, otherID string) []searchCase {
	junk := noise(100_000, 7)
	damagedHead := good[:50] + "z" + good[51:] // within SHA256SUMS
	return []searchCase{
		{
			name: "Fiwix: the second disk, no node, no procfs", found: true,
			machine: machine{partitions: fiwix, disks: map[string]string{"3:0": junk, "3:1": junk, "3:64": good}},
		},
		{
			name: "Fiwix: the third disk", found: true,
			machine: machine{partitions: fiwix, disks: map[string]string{"3:0": junk, "3:64": junk, "22:0": good}},
		},
		{
			name: "Fiwix: a drive that is not there is passed over", found: true,
			machine: machine{partitions: fiwix, disks: map[string]string{"3:64": good}},
		},
		{
			name: "nodes and procfs are there", found: true,
			machine: machine{
				partitions: modern, mounted: true, disks: map[string]string{"8:0": junk, "8:1": junk, "254:0": good},
				nodes: map[string]string{"sda": "8:0", "sda1": "8:1", "vda": "254:0"},
			},
		},
		{
			name: "a node with the wrong number is not believed", found: true,
			machine: machine{
				partitions: modern, disks: map[string]string{"8:0": junk, "254:0": good}, nodes: map[string]string{"vda": "8:0"},
			},
		},
		{
			name: "a partition of NVMe", found: true,
			machine: machine{partitions: modern, disks: map[string]string{"8:0": junk, "259:0": junk, "259:1": good}},
		},
		{
			name: "a partition of an SD card", found: true,
			machine: machine{partitions: modern, disks: map[string]string{"179:0": junk, "179:1": good}},
		},
		{
			name: "a whole disk hides its partitions", found: true,
			machine: machine{partitions: modern, disks: map[string]string{"8:0": good, "8:1": other}},
		},
		{
			name: "a disk that cannot be read is passed over", found: true,
			machine: machine{partitions: modern, disks: map[string]string{"8:0": "dir", "254:0": good}},
		},
		{
			name: "no payload", line: []string{"no payload disk", "attach", "hda (no payload)", "hdb (no payload)", "hda1 (cannot be opened)"},
			machine: machine{partitions: fiwix, disks: map[string]string{"3:0": junk, "3:64": ""}},
		},
		{
			name: "a disk that cannot be read is reported", line: []string{"sda (cannot be read)", "vda (cannot be opened)"},
			machine: machine{partitions: modern, disks: map[string]string{"8:0": "dir"}},
		},
		{name: "no disks", line: []string{"disks looked at: none"}, machine: machine{partitions: heading}},
		{
			name: "several payloads", line: []string{"several payload disks", "--id", "sda (payload " + otherID, "vda (payload " + id},
			machine: machine{partitions: modern, disks: map[string]string{"8:0": other, "179:0": junk, "254:0": good}},
		},
		{
			name: "several payloads, one damaged", line: []string{"several payload disks", "sda (a damaged payload)"},
			machine: machine{partitions: modern, disks: map[string]string{"8:0": damagedHead, "254:0": good}},
		},
		{
			name: "the ID picks", found: true, args: []string{"--id", strings.ToUpper(id)},
			machine: machine{partitions: modern, disks: map[string]string{"8:0": other, "179:0": damagedHead, "254:0": good}},
		},
		{
			name: "no payload with that ID", args: []string{"--id", id}, line: []string{"no payload disk with the ID " + id, otherID, "sda"},
			machine: machine{partitions: modern, disks: map[string]string{"8:0": other}},
		},
		{
			name: "one payload, damaged", line: []string{"SHA256SUMS: offset"},
			machine: machine{partitions: modern, disks: map[string]string{"8:0": damagedHead}},
		},
		{
			name: "a device without a node", found: true, args: []string{"--device", "/dev/hdb"},
			machine: machine{partitions: fiwix, disks: map[string]string{"3:0": other, "3:64": good}},
		},
		{
			name: "a device that is not there", args: []string{"--device", "/dev/sdz"}, line: []string{"/dev/sdz: cannot be opened: it does not exist"},
			machine: machine{partitions: fiwix, disks: map[string]string{"3:64": good}},
		},
		{
			name: "what a crash left is taken away", found: true,
			machine: machine{
				partitions: fiwix, disks: map[string]string{"3:64": good},
				before: tree{"payload-import.own/disk": "file 3:0", "payload-import.own/partitions": "file x"},
			},
		},
		{name: "procfs cannot be mounted", fault: "mount:1:1", line: []string{"procfs cannot be mounted"}, machine: machine{partitions: fiwix}},
		{
			name: "no nodes can be made", fault: "mknod:1:1", line: []string{"hda (cannot be opened)"},
			machine: machine{partitions: heading + " 3 0 1 hda\n", disks: map[string]string{"3:0": good}},
		},
		{
			name: "the second place for a directory", fault: "mkdir:1:30", found: true,
			machine: machine{partitions: fiwix, disks: map[string]string{"3:64": good}},
		},
	}
}

// TestSearch lets the C program find its disk. Whatever it finds, mounts, nodes and directories are as before.
func TestSearch(t *testing.T) {
	three := threeFiles()
	others := []file{{name: "other", data: "x"}}
	good, other := string(container(true, withSums(three...)...)), string(container(true, withSums(others...)...))
	cases := searchCases(good, other, digest(sumsOf(three...)), digest(sumsOf(others...)))
	forEachDriver(t, func(t *testing.T, driver string) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				base, world := t.TempDir(), t.TempDir()
				c.machine.plant(t, world)
				want := snapshot(t, world)
				for k := range c.machine.before {
					delete(want, k)
				}
				delete(want, "payload-import.own")
				if c.fault == "" {
					c.fault = "-"
				}
				v := runJobs(t, driver, world, []job{{fault: c.fault, args: append(c.args, filepath.Join(base, "dst"))}})[0]
				c.judge(t, v)
				if diff := cmp.Diff(want, snapshot(t, world)); diff != "" {
					t.Errorf("the machine is not as before (-want +got):\n%.2000s", diff)
				}
				wantFiles := tree{}
				if c.found {
					wantFiles = holding(three...)
				}
				if diff := cmp.Diff(wantFiles, snapshot(t, base)); diff != "" {
					t.Errorf("directory (-want +got):\n%.1000s", diff)
				}
			})
		}
	})
}

func (c searchCase) judge(t *testing.T, v verdict) {
	t.Helper()
	if v.accepted(t) != c.found {
		t.Errorf("found: %v, want %v: %s", !c.found, c.found, v.stderr)
	}
	for _, text := range c.line {
		if !strings.Contains(v.stderr, text) {
			t.Errorf("standard error %q does not contain %q", v.stderr, text)
		}
	}
}

// TestCommandLine gives the C program arguments that it must refuse, and looks at what it prints.
func TestCommandLine(t *testing.T) {
	program := compilers()[0].build(t, "payload-import.c")
	for _, args := range [][]string{
		{}, {""}, {"a", "b"}, {"--list", "--verify"}, {"--count"}, {"--count", "", "d"}, {"--count", "-1", "d"}, {"--count", "1x", "d"},
		{"--skip", "4294967296", "d"}, {"--id", "12", "d"}, {"--id", strings.Repeat("g", 64), "d"}, {"--device", "", "d"}, {"--wat", "d"},
		{"--bytes", "18446744073709551616", "d"}, {"--device"},
	} {
		if v := run(t, program, args...); v.accepted(t) || !strings.Contains(v.stderr, "usage: payload-import") {
			t.Errorf("%q: %q", args, v.stderr)
		}
	}
	three := threeFiles()
	image := filepath.Join(t.TempDir(), "image")
	tree{"image": "file " + string(container(true, withSums(three...)...))}.plant(t, filepath.Dir(image))
	got := run(t, program, "--device", image, "--list").stdout
	if diff := cmp.Diff("3000 agent\n200000 a b.tar.gz\n0 größe.patch\n", got); diff != "" {
		t.Errorf("--list (-want +got):\n%s", diff)
	}
	got = run(t, program, "--verify", "--skip", "1", "--device", image).stdout
	want := fmt.Sprintf("payload-import: %s: 3 files, ID %s\npayload-import: 1/2 a b.tar.gz 200000 bytes, right\n"+
		"payload-import: 2/2 größe.patch 0 bytes, right\npayload-import: 2 files read, 0.1 MiB in ", image, digest(sumsOf(three...)))
	if !strings.HasPrefix(got, want) {
		t.Errorf("--verify (-want +got):\n%s", cmp.Diff(want, got))
	}
}
