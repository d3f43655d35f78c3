// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"fmt"
	"path/filepath"
	"strings"

	"kindling/host/options"
	"kindling/internal/shell"
	"kindling/steps"
)

// Instructions say what to do with the media in dir, one line each.
func (a *Assembly) Instructions(dir string) []string {
	path := func(name string) string { return filepath.Join(dir, a.Medium(name).File) }
	switch a.Options.Boot.Mode() {
	case options.ModeChroot, options.ModeBwrap:
		return []string{fmt.Sprintf("The root is %s; its first program is /bootstrap-seeds/POSIX/%s/kaem-optional-seed.", dir,
			archDir(a.Options.Boot.Arch))}
	case options.ModeQemu:
		return a.qemuDrives(path)
	}
	if a.Options.Boot.Kernel != "" {
		return a.ownKernelSteps(path)
	}
	lines := []string{fmt.Sprintf("1. Write %s to the drive that the machine boots from (%s).", path("init"), writeLine(path("init")))}
	add := func(format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%d. ", len(lines)+1)+fmt.Sprintf(format, args...))
	}
	disk := a.Config.Get("DISK")
	named := fmt.Sprintf("DISK=%s in bootstrap.cfg names it", disk)
	if disk == "" { // --no-create-config
		disk, named = "the disk that the configurator is given as DISK", "give it to the configurator as DISK"
	}
	if a.Medium("external") != nil {
		add("Write %s to a second drive of its own; everything on that drive is lost, and the finished system will be on it (%s).",
			path("external"), named)
	}
	if a.Payload != nil {
		add("Write %s to %s drive of its own (%s). It is found by what is on it, not by its name.", path("payload"), a.ordinal(),
			writeLine(path("payload")))
		if a.Options.Payload.PayloadStage != string(steps.PayloadStageLinux) {
			add("Attach that drive where Fiwix can see it: ATA/IDE, not AHCI, NVMe or USB. If there is no such place, assemble " +
				"again with --payload-stage=linux.")
		}
	}
	add("Boot the first drive by BIOS. The finished system will be on %s.", disk)
	return lines
}

// writeLine is the command that writes an image to a drive, to be pasted.
func writeLine(image string) string {
	return shell.Line([]string{"kindling", "write", image, "DEVICE"})
}

// ordinal is the article of the payload's drive.
func (a *Assembly) ordinal() string {
	if a.Medium("external") != nil {
		return "a third"
	}
	return "a second"
}

func (a *Assembly) ownKernelSteps(path func(string) string) []string {
	lines := []string{
		fmt.Sprintf("1. Write %s to a drive (%s).", path("disk"), writeLine(path("disk"))),
		"2. Boot your kernel with: root=/dev/sda1 rootfstype=ext3 init=/init rw rootwait",
	}
	if a.Medium("initramfs") != nil {
		lines = append(lines, fmt.Sprintf("   A kernel that cannot read the drive by itself can take %s as its initramfs.", path("initramfs")))
	}
	return lines
}

// qemuDrives are the drives of a virtual machine, in their order.
func (a *Assembly) qemuDrives(path func(string) string) []string {
	var lines []string
	for i := range a.Media {
		if m := &a.Media[i]; m.Format != FormatInitramfs {
			file := strings.ReplaceAll(path(m.Name), ",", ",,") // as QEMU writes one
			lines = append(lines, shell.Line([]string{"-drive", "file=" + file + ",format=raw"}))
		}
	}
	return lines
}

// archDir is the folder of an architecture in stage0-posix (rootfs.py, stage0_arch_map).
func archDir(arch string) string {
	if arch == "amd64" {
		return "AMD64"
	}
	return arch
}
