// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package machine

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/imagefile"
	"kindling/host/qemu"
)

// example is a run of a tree that was started over an image of the user's.
func example() Machine {
	return Machine{
		Schema: Schema, Label: "tree", Kernel: "/boot/vmlinuz", Accel: qemu.AccelTCG, MemoryMiB: 4096, Cores: 2, Append: "console=ttyS0",
		Mirrors: []string{"disks/mirror", "/srv/distfiles"},
		Disks: []Disk{
			{Interface: qemu.InterfaceIDE, Layers: []Layer{{"disks/top.qcow2", imagefile.QCOW2}, {"/images/base.img", imagefile.Raw}}},
			{Interface: qemu.InterfaceIDE, Layers: []Layer{{"disks/payload.img", imagefile.Raw}}, Throwaway: true},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	data, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if diff := cmp.Diff(example(), got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for n := range len(data) - 2 {
		if _, err := Decode(data[:n]); !errors.Is(err, ErrMachine) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestOptions(t *testing.T) {
	o := example().Options("/run", "my-qemu")
	if o.Binary != "my-qemu" || o.Kernel != "/boot/vmlinuz" || o.Machine != "pc,graphics=off" || o.Ports != 2 || o.NIC == nil {
		t.Errorf("%+v", o)
	}
	want := imagefile.Chain{{Path: "/run/disks/top.qcow2", Format: imagefile.QCOW2}, {Path: "/images/base.img", Format: imagefile.Raw}}
	if diff := cmp.Diff(want, o.Drives[0].Chain); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	local, outside := example().Files("/run")
	if diff := cmp.Diff([][]string{{"disks/top.qcow2", "disks/payload.img"}, {"/boot/vmlinuz", "/images/base.img"}}, [][]string{local, outside}); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if w := example().Written(); len(w) != 1 || w[0].Layers[0].File != "disks/top.qcow2" {
		t.Errorf("written: %v", w)
	}
	kvm := Machine{Accel: qemu.AccelKVM}
	if o := kvm.Options("/", "q"); o.Machine != "pc,graphics=off,kernel-irqchip=split" {
		t.Errorf("before Linux, with KVM: %q", o.Machine)
	}
	demo := Machine{Demo: true, Initrd: "disks/initramfs.cpio", Append: "x"}
	if o := demo.Options("/run", "q"); !NeedsDemoKernel(o) || !o.NoDefaults || o.Machine != "" || o.Initrd != "/run/disks/initramfs.cpio" {
		t.Errorf("the embedded default: %+v", o)
	}
}

// A foreign folder names no program, no argument, and no file that the user does not name as well.
func TestHostileDocuments(t *testing.T) {
	data, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	for name, text := range map[string]string{
		"a program":          strings.Replace(good, `"label"`, `"Binary": "/bin/sh", "label"`, 1),
		"arguments":          strings.Replace(good, `"label"`, `"Extra": ["-device", "x"], "label"`, 1),
		"the old document":   strings.Replace(good, `"schema": 2`, `"schema": 1`, 1),
		"out of the folder":  strings.Replace(good, "disks/top.qcow2", "../../etc/shadow", 1),
		"a hidden way out":   strings.Replace(good, "disks/top.qcow2", "disks/../../x", 1),
		"another protocol":   strings.Replace(good, "/images/base.img", "nbd://127.0.0.1/", 1),
		"another format":     strings.Replace(good, `"format": "raw"`, `"format": "vmdk"`, 1),
		"no format":          strings.Replace(good, `"format": "raw"`, `"format": ""`, 1),
		"options in the CPU": strings.Replace(good, `"cores"`, `"cpu": "max -device x", "cores"`, 1),
		"a mirror":           strings.Replace(good, `"disks/mirror"`, `"../.ssh"`, 1),
		"no memory":          strings.Replace(good, `4096`, `0`, 1),
		"an interface":       strings.Replace(good, `"ide"`, `"scsi"`, 1),
		"large":              good + strings.Repeat(" ", MaxSize),
	} {
		if m, err := Decode([]byte(text)); !errors.Is(err, ErrMachine) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	given := Given{"", "/images", "/srv/distfiles/"}
	for path, ok := range map[string]bool{
		"/images/base.img": true, "/images": true, "/imagesx": false, "/srv/distfiles": true, "/etc/passwd": false, "/": false,
	} {
		if err := given.Confirm([]string{path}); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "--allow "+path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBelow(t *testing.T) {
	for path, want := range map[string]string{"/run/disks/a": "disks/a", "/run": ".", "/runs/a": "/runs/a", "": ""} {
		if got := Below("/run", path); got != want {
			t.Errorf("Below(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestRecorded(t *testing.T) {
	for file, want := range map[string]string{"disks/mirror": "disks/mirror", "/run/disks/mirror": "disks/mirror", "/srv": "/srv", "": ""} {
		if got := Recorded("/run", file); got != want {
			t.Errorf("Recorded(%q) = %q, want %q", file, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	data, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := Decode(data); err != nil {
		f.Fatalf("the seed does not parse: %v", err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err == nil && m.Options("/run", "qemu").Validate() != nil {
			t.Errorf("a machine that cannot be: %+v", m)
		}
	})
}
