// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fake is a machine of files: /sys, /proc and /dev in a folder.
type fake struct {
	t    *testing.T
	host Host
}

func newFake(t *testing.T) *fake {
	t.Helper()
	dir := t.TempDir()
	f := &fake{t: t, host: Host{Sys: filepath.Join(dir, "sys"), Proc: filepath.Join(dir, "proc"), Dev: filepath.Join(dir, "dev")}}
	f.mounts("22 1 0:21 / /proc rw,relatime - proc proc rw")
	f.swaps()
	return f
}

func (f *fake) write(name, data string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) link(target, name string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		f.t.Fatal(err)
	}
}

// device makes a block device in sysfs: below is its folder, attributes are "name=value".
func (f *fake) device(below, number string, attributes ...string) {
	f.t.Helper()
	dir := filepath.Join(f.host.Sys, "devices", below)
	for _, a := range append([]string{"dev=" + number, "size=2048", "ro=0"}, attributes...) {
		name, value, _ := strings.Cut(a, "=")
		f.write(filepath.Join(dir, name), value+"\n")
	}
	name := filepath.Base(dir)
	f.link(dir, filepath.Join(f.host.Sys, "dev", "block", number))
	f.link(dir, filepath.Join(f.host.Sys, "class", "block", name))
	f.write(filepath.Join(f.host.Dev, name), "")
}

// holder stacks a device on another.
func (f *fake) holder(lower, upper string) {
	f.t.Helper()
	f.link(filepath.Join(f.host.Sys, "devices", upper),
		filepath.Join(f.host.Sys, "devices", lower, "holders", filepath.Base(upper)))
}

func (f *fake) mounts(lines ...string) {
	f.t.Helper()
	f.write(filepath.Join(f.host.Proc, "self", "mountinfo"), strings.Join(lines, "\n")+"\n")
}

func (f *fake) swaps(files ...string) {
	f.t.Helper()
	text := "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for _, file := range files {
		text += file + " partition 1024 0 -2\n"
	}
	f.write(filepath.Join(f.host.Proc, "swaps"), text)
}

// The places of devices below /sys/devices.
const (
	usbDisk  = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/block/sdb"
	sataDisk = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"
	mapper0  = "virtual/block/dm-0"
	mapper1  = "virtual/block/dm-1"
)

// sdb is a USB stick with two partitions.
func (f *fake) sdb(attributes ...string) {
	f.t.Helper()
	f.device(usbDisk, "8:16", append([]string{
		"size=60062500", "removable=1", "diskseq=9", "queue/logical_block_size=512", "device/vendor=SanDisk ",
		"device/model=Ultra Fit       ",
	}, attributes...)...)
	f.write(filepath.Join(f.host.Sys, "devices", "pci0000:00/0000:00:14.0/usb1/1-2/idVendor"), "0781\n")
	f.write(filepath.Join(f.host.Sys, "devices", "pci0000:00/0000:00:14.0/usb1/1-2/serial"), "4C530001\n")
	f.device(usbDisk+"/sdb2", "8:18", "partition=2", "start=4096", "size=2000")
	f.device(usbDisk+"/sdb1", "8:17", "partition=1", "start=2048", "size=2048")
}

func (f *fake) inspect(number Number) *Disk {
	f.t.Helper()
	d, err := f.host.ByNumber(number)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

var sdb = Number{8, 16}

func TestByNumber(t *testing.T) {
	f := newFake(t)
	f.sdb()
	want := &Disk{
		Name: "sdb", Number: sdb, Size: 60062500 * 512, LogicalBlock: 512, Sequence: "9", Removable: true,
		Model: "SanDisk Ultra Fit", Serial: "4C530001", Transport: "usb",
		Parts: []Part{{Name: "sdb1", Start: 2048 * 512, Size: 2048 * 512}, {Name: "sdb2", Start: 4096 * 512, Size: 2000 * 512}},
	}
	if diff := cmp.Diff(want, f.inspect(sdb)); diff != "" {
		t.Errorf("disk (-want +got):\n%s", diff)
	}
	part := f.inspect(Number{8, 17})
	if part.PartOf != "sdb" || part.Name != "sdb1" || part.Size != 1<<20 || part.Model != want.Model {
		t.Errorf("partition: %+v", part)
	}
	if _, err := f.host.ByNumber(Number{9, 9}); err == nil {
		t.Error("a device that is not there is found")
	}
}

func TestIdentity(t *testing.T) {
	tests := []struct {
		name, dir                string
		attributes               []string
		model, serial, transport string
	}{
		{"sata", sataDisk, []string{"device/vendor=ATA     ", "device/model=KINGSTON", "device/vpd_pg80=\x00\x80\x00\x08 50026B72"},
			"KINGSTON", "50026B72", "sata"},
		{"nvme", "pci0000:00/0000:00:1d.0/nvme/nvme0/nvme0n1", []string{"device/model=Samsung SSD", "device/serial=S4EV  "},
			"Samsung SSD", "S4EV", "nvme"},
		{"mmc", "platform/mmc0/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0", []string{"device/name=SD32G", "device/serial=0x12"},
			"SD32G", "0x12", "mmc"},
		{"virtio", "pci0000:00/0000:00:02.0/virtio1/block/vda", []string{"device/vendor=0x1af4", "serial=disk1"},
			"", "disk1", "virtio"},
		{"scsi", "pci0000:00/0000:00:02.0/host0/target0:0:0/0:0:0:0/block/sda", []string{"device/vendor=QEMU", "device/model=HARDDISK"},
			"QEMU HARDDISK", "", "scsi"},
		{"loop", "virtual/block/loop0", nil, "", "", "virtual"},
		{"elsewhere", "platform/x/block/xda", nil, "", "", ""},
		{"hostile", usbDisk, []string{"device/model=\x1b[2J\u202eevil\tname\x00" + strings.Repeat("x", 100), "serial=a\nb"},
			"evil name " + strings.Repeat("x", 54) + "...", "ab", "usb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.device(tt.dir, "8:0", tt.attributes...)
			d := f.inspect(Number{8, 0})
			got := []string{d.Model, d.Serial, d.Transport}
			if diff := cmp.Diff([]string{tt.model, tt.serial, tt.transport}, got); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUses has one way in which a disk is in use in each case, seen from the disk.
func TestUses(t *testing.T) {
	tests := []struct {
		name  string
		setup func(f *fake)
		want  []string // as shown
		sys   bool     // the running system lives on it
	}{
		{"not", func(*fake) {}, nil, false},
		{"partition mounted", func(f *fake) {
			f.mounts(`30 1 8:17 / /media/my\040stick rw - vfat /dev/sdb1 rw`)
		}, []string{"sdb1 is mounted on /media/my stick"}, false},
		{"mounted twice", func(f *fake) {
			f.mounts("30 1 8:17 / /mnt rw - vfat /dev/sdb1 rw", "31 1 8:17 / /mnt rw - vfat /dev/sdb1 rw", "32 1 8:17 /a /b rw shared:1 - vfat /dev/sdb1 rw")
		}, []string{"sdb1 is mounted on /b", "sdb1 is mounted on /mnt"}, false},
		{"disk mounted", func(f *fake) { f.mounts("30 1 8:16 / /mnt rw - ext4 /dev/sdb rw") }, []string{"sdb is mounted on /mnt"}, false},
		{"root", func(f *fake) { f.mounts("30 1 8:18 / / rw - ext4 /dev/sdb2 rw") }, []string{"sdb2 is mounted on /"}, true},
		{"boot", func(f *fake) { f.mounts("30 1 8:17 / /boot/efi rw - vfat /dev/sdb1 rw") },
			[]string{"sdb1 is mounted on /boot/efi"}, true},
		{"not boot", func(f *fake) { f.mounts("30 1 8:17 / /bootleg rw - vfat /dev/sdb1 rw") },
			[]string{"sdb1 is mounted on /bootleg"}, false},
		{"btrfs has a number of its own", func(f *fake) { f.mounts("30 1 0:40 /@ / rw - btrfs /dev/sdb2 rw") },
			[]string{"sdb2 is mounted on /"}, true},
		{"by another name", func(f *fake) {
			f.link("../../sdb2", filepath.Join(f.host.Dev, "disk", "by-uuid", "1234"))
			f.mounts("30 1 0:40 / /data rw - btrfs /dev/disk/by-uuid/1234 rw")
		}, []string{"sdb2 is mounted on /data"}, false},
		{"seen by process 1 only", func(f *fake) {
			f.write(filepath.Join(f.host.Proc, "1", "mountinfo"), "30 1 8:17 / /mnt rw - vfat /dev/sdb1 rw\n")
		}, []string{"sdb1 is mounted on /mnt"}, false},
		{"seen by both", func(f *fake) {
			lines := "30 1 8:17 / /mnt rw - vfat /dev/sdb1 rw\n31 1 8:17 / /b rw - vfat /dev/sdb1 rw"
			f.mounts(lines)
			f.write(filepath.Join(f.host.Proc, "1", "mountinfo"), lines+"\n")
		}, []string{"sdb1 is mounted on /b", "sdb1 is mounted on /mnt"}, false},
		{"swap", func(f *fake) { f.swaps("/dev/sdb2") }, []string{"sdb2 is used for swap"}, true},
		{"swap file", func(f *fake) { f.swaps("/swapfile") }, nil, false},
		{"LVM, not mounted", func(f *fake) {
			f.device(mapper0, "254:0", "dm/name=vg-home")
			f.holder(usbDisk+"/sdb2", mapper0)
		}, []string{"sdb2 is part of dm-0 (vg-home)"}, false},
		{"LVM on LUKS with root", func(f *fake) {
			f.device(mapper0, "254:0", "dm/name=luks")
			f.device(mapper1, "254:1", "dm/name=vg-root")
			f.holder(usbDisk+"/sdb2", mapper0)
			f.holder(mapper0, mapper1)
			f.mounts("30 1 254:1 / / rw - ext4 /dev/mapper/vg-root rw")
		}, []string{"dm-0 is part of dm-1 (vg-root)", "dm-1 is mounted on /", "sdb2 is part of dm-0 (luks)"}, true},
		{"swap on LVM by its name", func(f *fake) {
			f.device(mapper0, "254:0", "dm/name=vg-swap")
			f.holder(usbDisk+"/sdb2", mapper0)
			f.swaps("/dev/mapper/vg-swap")
		}, []string{"dm-0 is used for swap", "sdb2 is part of dm-0 (vg-swap)"}, true},
		{"RAID of whole disks, partitioned and mounted", func(f *fake) {
			f.device("virtual/block/md0", "9:0", "size=100000")
			f.device("virtual/block/md0/md0p1", "259:0", "partition=1", "start=8", "size=8")
			f.holder(usbDisk, "virtual/block/md0")
			f.mounts("30 1 259:0 / /srv rw - ext4 /dev/md0p1 rw")
		}, []string{"md0p1 is mounted on /srv", "sdb is part of md0"}, false},
		{"behind a loop device", func(f *fake) { f.device("virtual/block/loop3", "7:3", "loop/backing_file=/dev/sdb") },
			[]string{"sdb is behind the loop device loop3"}, false},
		{"loop device with a file", func(f *fake) { f.device("virtual/block/loop3", "7:3", "loop/backing_file=/tmp/sdb") }, nil, false},
		{"stacked on itself", func(f *fake) {
			f.device(mapper0, "254:0", "dm/name=odd")
			f.holder(usbDisk, mapper0)
			f.holder(mapper0, mapper0)
		}, []string{"dm-0 is part of dm-0 (odd)", "sdb is part of dm-0 (odd)"}, false},
		{"another disk", func(f *fake) {
			f.device(sataDisk, "8:0")
			f.mounts("30 1 8:0 / / rw - ext4 /dev/sda rw")
			f.swaps("/dev/sdb11")
		}, nil, false},
		{"hostile mount point", func(f *fake) { f.mounts(`30 1 8:17 / /mnt/\033[31m rw - vfat /dev/sdb1 rw`) },
			[]string{"sdb1 is mounted on /mnt/"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.sdb()
			tt.setup(f)
			d := f.inspect(sdb)
			var got []string
			system := false
			for _, u := range d.Uses {
				got = append(got, u.String())
				system = system || u.System()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("uses (-want +got):\n%s", diff)
			}
			if system != tt.sys {
				t.Errorf("system disk: %t, want %t", system, tt.sys)
			}
			if refused := len(d.Refusals(0)) > 0; refused != (len(tt.want) > 0) {
				t.Errorf("refused: %t", refused)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	good := Disk{Name: "sdb", Size: 1000}
	tests := []struct {
		name   string
		change func(d *Disk)
		need   int64
		want   []Refusal
	}{
		{"none", func(*Disk) {}, 1000, nil},
		{"too small", func(*Disk) {}, 1001, []Refusal{{ReasonTooSmall, "sdb has 1000 bytes, the image needs 1001"}}},
		{"no medium", func(d *Disk) { d.Size = 0 }, 1000, []Refusal{{ReasonNoMedium, "sdb has no medium in it"}}},
		{"read-only", func(d *Disk) { d.ReadOnly = true }, 1,
			[]Refusal{{ReasonReadOnly, "sdb is read-only: look for a switch on it"}}},
		{"partition", func(d *Disk) { d.Name, d.PartOf = "sdb1", "sdb" }, 1,
			[]Refusal{{ReasonPartition, "sdb1 is a partition: an image needs a whole disk, here sdb"}}},
		{"mounted", func(d *Disk) { d.Uses = []Use{{"sdb1", UseMounted, "/mnt"}} }, 1,
			[]Refusal{{ReasonInUse, "sdb1 is mounted on /mnt: unmount it first"}}},
		{"system", func(d *Disk) { d.Uses = []Use{{"sdb1", UseMounted, "/"}} }, 1,
			[]Refusal{{ReasonSystem, "sdb1 is mounted on /: it belongs to the running system"}}},
		{"swap", func(d *Disk) { d.Uses = []Use{{"sdb1", UseSwap, ""}} }, 1,
			[]Refusal{{ReasonSystem, "sdb1 is used for swap: it belongs to the running system"}}},
		{"holder", func(d *Disk) { d.Uses = []Use{{"sdb1", UseHolder, "md0"}} }, 1,
			[]Refusal{{ReasonInUse, "sdb1 is part of md0: take that apart or stop it first"}}},
		{"loop", func(d *Disk) { d.Uses = []Use{{"sdb", UseLoop, "loop0"}} }, 1,
			[]Refusal{{ReasonInUse, "sdb is behind the loop device loop0: detach that first"}}},
		{"several", func(d *Disk) { d.ReadOnly, d.Uses = true, []Use{{"sdb", UseMounted, "/a"}, {"sdb", UseMounted, "/b"}} }, 2000,
			[]Refusal{
				{ReasonTooSmall, "sdb has 1000 bytes, the image needs 2000"},
				{ReasonReadOnly, "sdb is read-only: look for a switch on it"},
				{ReasonInUse, "sdb is mounted on /a: unmount it first"},
				{ReasonInUse, "sdb is mounted on /b: unmount it first"},
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := good
			tt.change(&d)
			if diff := cmp.Diff(tt.want, d.Refusals(tt.need)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSame(t *testing.T) {
	d := Disk{Name: "sdb", Number: sdb, Size: 1, Sequence: "1", Model: "m", Serial: "s", Uses: []Use{{}}}
	for name, change := range map[string]func(*Disk){
		"name": func(d *Disk) { d.Name = "sdc" }, "size": func(d *Disk) { d.Size = 2 }, "model": func(d *Disk) { d.Model = "n" },
		"serial": func(d *Disk) { d.Serial = "t" }, "sequence": func(d *Disk) { d.Sequence = "2" },
		"number": func(d *Disk) { d.Number.Minor++ },
	} {
		other := d
		other.Uses = nil
		if !d.Same(&other) {
			t.Error("uses make a difference")
		}
		change(&other)
		if d.Same(&other) {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func TestInspectErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Dir(file), "/dev/null"} {
		if _, err := System().Inspect(path); !errors.Is(err, ErrNotBlock) {
			t.Errorf("%s: error %v, want %v", path, err, ErrNotBlock)
		}
	}
	if _, err := System().Inspect(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	broken := func(name string, setup func(f *fake)) {
		f := newFake(t)
		f.sdb()
		setup(f)
		if d, err := f.host.ByNumber(sdb); err == nil {
			t.Errorf("%s: %+v is accepted", name, d)
		}
	}
	broken("size", func(f *fake) { f.write(filepath.Join(f.host.Sys, "devices", usbDisk, "size"), "-1\n") })
	broken("huge size", func(f *fake) {
		f.write(filepath.Join(f.host.Sys, "devices", usbDisk, "size"), "9223372036854775807\n")
	})
	broken("start", func(f *fake) { f.write(filepath.Join(f.host.Sys, "devices", usbDisk, "sdb1", "start"), "x\n") })
	broken("mountinfo", func(f *fake) { f.mounts("odd") })
	broken("no mountinfo", func(f *fake) {
		if err := os.Remove(filepath.Join(f.host.Proc, "self", "mountinfo")); err != nil {
			t.Fatal(err)
		}
	})
	// What cannot be read of "ro" counts as read-only.
	f := newFake(t)
	f.sdb()
	f.write(filepath.Join(f.host.Sys, "devices", usbDisk, "ro"), "")
	if !f.inspect(sdb).ReadOnly {
		t.Error("a disk that does not say whether it is read-only is not")
	}
}

func TestParseMounts(t *testing.T) {
	got, err := ParseMounts("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root\\011x rw,errors=continue\n" +
		"37 35 0:5 / /\\ rw - tmpfs  none rw\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{{"98:0", "/mnt 2", "ext3", "/dev/root\tx"}, {"0:5", `/\`, "tmpfs", "none"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("37 35 0:5 / / rw - tmpfs none rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		mounts, err := ParseMounts(text)
		if err == nil && len(mounts) > strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts", len(mounts))
		}
		_ = ParseSwaps(text)
	})
}
