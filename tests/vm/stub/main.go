// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Command stub stands in for what a guest of the tests does not have. As PID 1 it is an ordinary initramfs: it loads
// modules, mounts root= of the kernel command line and goes on with init= there. Called as "stub mount TYPE DIR" it is
// mount(8).
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"kindling/guest/disk"
	"kindling/guest/kmod"
)

func main() {
	if os.Getpid() == 1 {
		fmt.Println("stub:", boot())
		for {
			time.Sleep(time.Hour)
		}
	}
	if len(os.Args) != 4 || os.Args[1] != "mount" {
		fmt.Fprintln(os.Stderr, "stub: want: stub mount TYPE DIR")
		os.Exit(2)
	}
	if err := mountAt(os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "stub:", err)
		os.Exit(1)
	}
}

func mountAt(fsType, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return unix.Mount(fsType, dir, fsType, 0, "")
}

// boot is the life of an initramfs. It returns only with an error.
func boot() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := mountAt(m[0], m[1]); err != nil {
			return err
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	parameter := map[string]string{}
	for word := range strings.FieldsSeq(string(cmdline)) {
		name, value, _ := strings.Cut(word, "=")
		parameter[name] = value
	}
	if err := os.MkdirAll("/newroot", 0o755); err != nil {
		return err
	}
	for {
		_, err := mount.Mount(device(parameter["root"]), "/newroot", "ext4", "", 0)
		if err == nil {
			return mount.SwitchRoot("/newroot", parameter["init"])
		}
		fmt.Println("stub:", err)
		time.Sleep(100 * time.Millisecond)
	}
}

// device is the file of what root= names: a file, or PARTUUID= with the number of a partition.
func device(root string) string {
	id, found := strings.CutPrefix(root, "PARTUUID=")
	if !found {
		return root
	}
	entries, _ := os.ReadDir("/sys/class/block") // without them it is not found, and looked for again
	for _, e := range entries {
		part, err := disk.ParseName(e.Name())
		if err != nil {
			continue
		}
		sector := make([]byte, disk.SectorSize)
		f, err := os.Open(disk.Name{Disk: part.Disk}.Path())
		if err != nil {
			continue
		}
		_, err = io.ReadFull(f, sector)
		_ = f.Close()
		if err == nil && disk.PartUUID(sector, part.Part) == id {
			return part.Path()
		}
	}
	return root
}

func loadModules() error {
	prober, err := kmod.NewProber()
	if err != nil {
		return err
	}
	f, err := os.Open("/etc/modules-load.d/kindling.conf")
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		if name := strings.TrimSpace(in.Text()); name != "" && name[0] != '#' {
			if err := prober.Probe(name); err != nil {
				return err
			}
		}
	}
	return in.Err()
}
