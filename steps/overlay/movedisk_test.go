// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package overlay_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

const (
	moveDisk = "steps/jump/move_disk.sh"
	gib      = 1 << 30

	// What stands on disks, from their first sector on.
	payloadHead = "LBPAYLD1\x01"
	bootEntry   = "\x80\x00\x02\x00\xb5\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff"
	oursEntry   = "\x00\x20\x21\x00\x83\xfe\xff\xff\x00\x00\x20\x00\x00\x00\x40\x00"
	sfdiskEntry = "\x00\x3f\xe0\xff\x83\x3f\xe0\xff\x00\x00\x20\x00\x00\x00\xe0\x01" // of sfdisk 2.19.1, on 16 GiB
	othersEntry = "\x80\x20\x21\x00\x07\xfe\xff\xff\x00\x08\x00\x00\x00\x00\x01\x00"
)

// table is a first sector with a partition table.
func table(entries ...string) string {
	sector := bytes.Repeat([]byte{0xe8}, 446)
	sector = append(sector, strings.Join(entries, "")...)
	sector = append(sector, make([]byte, 510-len(sector))...)
	return string(sector) + "\x55\xaa"
}

// disk makes a sparse file with text at its start, and a byte of it at an offset, as a disk of the guest.
func (g guest) disk(name string, size int64, head string, at int64) {
	g.t.Helper()
	g.write("dev/"+name, head)
	f, err := os.OpenFile(g.path("dev/"+name), os.O_WRONLY, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		g.t.Fatal(err)
	}
	if at != 0 {
		if _, err := f.WriteAt([]byte{'x'}, at); err != nil {
			g.t.Fatal(err)
		}
	}
}

// newDiskGuest has, in the place of the tree's own move to disk, what tells the disk and the names that this one would
// take. Files stand for disks, so mounting fails, and sfdisk -s is asked of their size.
func newDiskGuest(t *testing.T) guest {
	g := newGuest(t)
	g.write("bin/mount", "#!/bin/sh\nexit 32\n")
	g.write("bin/sfdisk", "#!/bin/sh\n[ \"$1\" = -s ] && echo $(($(wc -c <\"$2\") / 1024))\n")
	g.write("steps/jump/move_disk-tree.sh", "echo \"takes ${DISK} $((0x$(stat -c %T /dev/${DISK}) % 8)) ${DISK}${KINDLING_P}1\"\n"+
		"stat -c %s "+g.path("init")+"\n")
	text := strings.ReplaceAll(g.read("steps/jump/move_disk-tree.sh"), " /dev/", " "+g.path("dev")+"/")
	g.write("steps/jump/move_disk-tree.sh", text)
	return g
}

// The guard takes what the agent takes (TestPickTarget and TestRecognize of package guest), and nothing else.
func TestMoveDiskGuard(t *testing.T) {
	t.Parallel()
	type disk struct {
		name string
		size int64
		head string
		at   int64
	}
	blank := func(name string) disk { return disk{name, 3 * gib, "", 0} }
	boot := func(name string) disk { return disk{name, 3 * gib, table(bootEntry), 0} }
	paid := func(name string) disk { return disk{name, 8 << 20, payloadHead, 0} }
	const refused = "not moving to DISK="
	for _, tt := range []struct {
		name   string
		config string
		disks  []disk
		want   string
	}{
		{"blank", "sda", []disk{blank("sda"), paid("sdb")}, "takes sda 0 sda1\n"},
		{"with the folder", "/dev/sda", []disk{blank("sda")}, "takes sda 0 sda1\n"},
		{"boot disk", "vda", []disk{boot("vda")}, "takes vda 0 vda1\n"},
		{"boot disk over an old GPT disk", "sda", []disk{{"sda", 3 * gib, table(bootEntry), 3*gib - 512}}, "takes sda 0 sda1\n"},
		{"a bootstrap's disk", "hda", []disk{{"hda", 3 * gib, table(oursEntry), 0}}, "takes hda 0 hda1\n"},
		{"a disk of the tree's sfdisk", "sda", []disk{{"sda", 16 * gib, table(sfdiskEntry), 0}}, "takes sda 0 sda1\n"},
		{"nvme", "nvme0n1", []disk{blank("nvme0n1"), blank("sda")}, "takes nvme0n1 0 nvme0n1p1\n"},
		{"SD card", "mmcblk0", []disk{blank("mmcblk0"), blank("mmcblk0boot0")}, "takes mmcblk0 0 mmcblk0p1\n"},
		{"partition", "sda2", []disk{blank("sda2")}, "takes sda2 1 "},
		{"partition of an SD card", "mmcblk0p1", []disk{blank("mmcblk0p1")}, "takes mmcblk0p1 1 "},
		{"larger than 2 TiB", "sda", []disk{{"sda", 3<<40 + 16384, "", 0}}, "takes sda 0 sda1\n"},
		{"a byte at the end of more than 2 TiB", "sda", []disk{{"sda", 3<<40 + 16384, "", 3<<40 + 16383}}, "it holds data"},
		{"a byte before that end", "sda", []disk{{"sda", 3<<40 + 16384, "", 3<<40 - 16384}}, "it holds data"},
		{"a sector after whole KiB", "sda", []disk{{"sda", 3*gib + 512, "", 0}}, "takes sda 0 sda1\n"},
		{"the second copy of a GPT there", "sda", []disk{{"sda", 3*gib + 512, "", 3 * gib}}, "it holds data"},
		{"the second copy of a GPT there, beyond 2 TiB", "sda", []disk{{"sda", 3<<40 + 512, "", 3 << 40}}, "it holds data"},
		{"2 TiB", "sda", []disk{{"sda", 2 << 40, "", 0}}, "makes no partition on a disk of 2147483648 KiB"},
		{"a little over 2 TiB", "sda", []disk{{"sda", 2<<40 + 1140850687, "", 0}}, "makes no partition on a disk of 2148597759 KiB"},
		{"enough over 2 TiB", "sda", []disk{{"sda", 2<<40 + 1140850688, "", 0}}, "takes sda 0 sda1\n"},
		{"little under 2 TiB", "sda", []disk{{"sda", 2<<40 - 512, "", 0}}, "takes sda 0 sda1\n"},
		{"8 TiB", "sda", []disk{{"sda", 8 << 40, "", 0}}, "makes no partition on a disk of 8589934592 KiB"},
		{"names swapped, 4 TiB is not free", "sda", []disk{paid("sda"), {"sdb", 4 << 40, "", 0}, blank("sdc")}, "\ntakes sdc 0 sdc1\n"},
		{"names swapped", "sda", []disk{paid("sda"), blank("sdb")}, "DISK=sda carries the payload on this boot; moving to sdb"},
		{"names swapped, names said", "sda", []disk{paid("sda"), blank("nvme0n1")}, "\ntakes nvme0n1 0 nvme0n1p1\n"},
		{"the boot disk wins", "sda", []disk{paid("sda"), blank("sdb"), boot("sdc")}, "\ntakes sdc 0 sdc1\n"},
		{"names swapped, two blank", "sda", []disk{paid("sda"), blank("sdb"), blank("sdc")}, refused + "sda: it holds a payload"},
		{"names swapped, two boot disks", "sda", []disk{paid("sda"), boot("sdb"), boot("sdc")}, refused + "sda: it holds a payload"},
		{"names swapped, none free", "sda", []disk{paid("sda")}, refused + "sda: it holds a payload"},
		{"names swapped, a bootstrap's disk is not taken unasked", "sda",
			[]disk{paid("sda"), {"sdb", 3 * gib, table(oursEntry), 0}}, refused + "sda: it holds a payload"},
		{"somebody's", "sda", []disk{{"sda", 3 * gib, table(othersEntry), 0}, blank("sdb")}, refused + "sda: it holds a boot sector or partition table"},
		{"ours and another", "sda", []disk{{"sda", 3 * gib, table(oursEntry, othersEntry), 0}}, "it holds a boot sector or partition table"},
		{"a filesystem", "sda", []disk{{"sda", 3 * gib, "", 1080}}, "it holds data"},
		{"something at the end of the first MiB", "sda", []disk{{"sda", 3 * gib, "", 1<<20 - 1}}, "it holds data"},
		{"the second copy of a GPT", "sda", []disk{{"sda", 3 * gib, "", 3*gib - 512}}, "it holds data"},
		{"too small", "sda", []disk{{"sda", 1140850687, "", 0}}, "disk too small: 1114111 KiB, at least 1114112 KiB are needed"},
		{"just large enough", "sda", []disk{{"sda", 1140850688, "", 0}}, "takes sda 0 sda1\n"},
		{"no disk", "sr0", []disk{blank("sr0")}, "no name of a disk"},
		{"a device of an SD card that is none", "mmcblk0boot0", []disk{blank("mmcblk0boot0")}, "no name of a disk"},
		{"not there", "sdb", []disk{blank("sda")}, "it has not shown up"},
		{"empty", "", []disk{blank("sda")}, "no name of a disk"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newDiskGuest(t)
			for _, d := range tt.disks {
				g.disk(d.name, d.size, d.head, d.at)
			}
			out, err := g.run(moveDisk, "DISK="+tt.config)
			takes := strings.Contains(out, "takes ")
			if !strings.Contains(out, tt.want) || takes != (err == nil) || takes == strings.Contains(out, refused) {
				t.Errorf("%v\n%s", err, out)
			}
			if takes && !strings.HasSuffix(out, "\n29\n") {
				t.Errorf("stat of another file:\n%s", out)
			}
			for _, left := range []string{"kindling.head", "kindling.tail", "kindling.junk", "kindling.look"} {
				if _, err := os.Stat(g.path(left)); takes && err == nil {
					t.Errorf("%s is left", left)
				}
			}
		})
	}
}

func TestMoveDiskReadOnly(t *testing.T) {
	g := newDiskGuest(t)
	g.disk("sda", 3*gib, "", 0)
	g.write("bin/blockdev", "#!/bin/sh\n[ \"$1\" = --getro ] && echo 1\n")
	if out, err := g.run(moveDisk, "DISK=sda"); err == nil || !strings.Contains(out, "DISK=sda: it is read-only") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A disk that cannot be read is nobody's to take: a blank one looks the same otherwise.
func TestMoveDiskUnreadable(t *testing.T) {
	g := newDiskGuest(t)
	g.disk("sda", 3*gib, "", 0)
	g.write("bin/dd", "#!/bin/sh\ncase \"$*\" in *count=1024*) exit 1 ;; esac\nexec /usr/bin/dd \"$@\"\n")
	if out, err := g.run(moveDisk, "DISK=sda"); err == nil || !strings.Contains(out, "DISK=sda: it cannot be read; or set DISK") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.Remove(g.path("bin/dd")); err != nil {
		t.Fatal(err)
	}
	g.write("bin/sfdisk", "#!/bin/sh\nexit 1\n")
	if out, err := g.run(moveDisk, "DISK=sda"); err == nil || !strings.Contains(out, "DISK=sda: it cannot be read; or set DISK") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A partition with a run of Kindling is kept, whether it is named itself or found on the disk that is.
func TestMoveDiskRun(t *testing.T) {
	for _, disk := range []string{"sda", "sda1", "nvme0n1", "nvme0n1p1"} {
		for _, missing := range []string{"none", "journal", "plan.cfg", "init"} {
			g := newDiskGuest(t)
			g.disk(disk, 3*gib, table(oursEntry), 0)
			part := map[string]string{"sda": "sda1", "nvme0n1": "nvme0n1p1"}[disk]
			if part == "" {
				part = disk
			}
			g.write("bin/umount", "#!/bin/sh\nrm -r \"$2\"/*\n")
			g.write("bin/mount", "#!/bin/sh\ncase \"$*\" in '-n -t ext4 -o ro'*\" "+g.path("dev/"+part)+" \"*) ;; *) exit 32 ;; esac\n"+
				"mkdir \"$7\"/kindling\ncd \"$7\"/kindling\ntouch journal plan.cfg init\nrm -f "+missing+"\n")
			out, err := g.run(moveDisk, "DISK="+disk)
			if refused := strings.Contains(out, "it holds a run of Kindling"); refused != (missing == "none") || refused == (err == nil) {
				t.Errorf("%s without %s: %v\n%s", disk, missing, err, out)
			}
		}
	}
}

// What only the filesystem's own journal has is a run as well, and so is what can be seen only without that.
func TestMoveDiskRunAfterPowerCut(t *testing.T) {
	for seen, want := range map[string]bool{"ro,noload": true, "ro": true, "rw": false} {
		g := newDiskGuest(t)
		g.disk("sda", 3*gib, table(oursEntry), 0)
		g.write("bin/umount", "#!/bin/sh\nrm -r \"$2\"/*\n")
		g.write("bin/mount", "#!/bin/sh\ncase \"$*\" in '-n -t ext4 -o "+seen+" "+g.path("dev/sda1")+" '*) ;; *) exit 32 ;; esac\n"+
			"mkdir \"$7\"/kindling\ncd \"$7\"/kindling\ntouch journal plan.cfg init\n")
		out, err := g.run(moveDisk, "DISK=sda")
		if refused := strings.Contains(out, "it holds a run of Kindling"); refused != want || refused == (err == nil) {
			t.Errorf("seen with %s: %v\n%s", seen, err, out)
		}
	}
}
