// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kindling/host/debian"
	"kindling/host/initramfs"
)

// grubInstall stands for GRUB's own program, which a userland of a few packages has not: it puts GRUB's two parts where
// that does, into the first sector around the partition table, and behind it.
const grubInstall = `#!/bin/bash
set -e
echo "grub-install $*"
head -c 440 /boot/grub/boot.img 1<> "$1"
dd if=/boot/grub/core.img of="$1" bs=512 seek=1 conv=notrunc status=none
sync
`

// grubBootable is a make_bootable that does what a real tree's does, with an initramfs besides: Debian's kernel reads no
// disk without its modules.
const grubBootable = `grub-install "/dev/${DISK}"
cat > /boot/grub/grub.cfg << END
set timeout=0
menuentry 'Linux' {
    linux /boot/vmlinuz root=/dev/${DISK} rootwait rw $(cat /proc/cmdline)
    initrd /boot/initramfs
}
END
printf '#!/usr/bin/bash\necho this is the shell script\n' > /init
chmod +x /init
`

// bootFiles are a kernel and what it needs to mount its root and start init= there. KINDLING_KERNEL names a kernel with
// its drivers built in, which needs nothing.
func bootFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{"boot/vmlinuz": readFile(t, kernel(t).Image), "steps/improve/make_bootable.sh": grubBootable}
	if own := os.Getenv("KINDLING_KERNEL"); own != "" {
		files["boot/vmlinuz"] = readFile(t, own)
		files["steps/improve/make_bootable.sh"] = strings.ReplaceAll(grubBootable, "    initrd /boot/initramfs\n", "")
		return files
	}
	set, err := kernel(t).Modules(debian.DefaultModules())
	if err != nil {
		t.Fatal(err)
	}
	layer := append(initramfs.EarlyDevices(), initramfs.Regular("init", 0o755, []byte(stub(t))),
		initramfs.Regular(set.DepPath(), 0o644, set.Dep), initramfs.Regular(set.LoadPath(), 0o644, set.Load))
	for _, m := range set.Modules {
		layer = append(layer, initramfs.HostFile(m.Path, 0o644, m.Source))
	}
	path := filepath.Join(t.TempDir(), "initramfs")
	if _, err := initramfs.Create(t.Context(), path, initramfs.Files(layer...)); err != nil {
		t.Fatal(err)
	}
	files["boot/initramfs"] = readFile(t, path)
	return files
}

// grubFiles are the parts of GRUB for a disk whose first partition has /boot/grub.
func grubFiles(t *testing.T) map[string]string {
	t.Helper()
	needs(t, "grub-mkimage")
	const parts = "/usr/lib/grub/i386-pc"
	core := filepath.Join(t.TempDir(), "core.img")
	if out, err := exec.Command("grub-mkimage", "-O", "i386-pc", "-d", parts, "-p", "(hd0,msdos1)/boot/grub", "-o", core,
		"biosdisk", "part_msdos", "ext2", "normal", "linux", "boot").CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage: %v\n%s", err, out)
	}
	return map[string]string{
		"boot/grub/boot.img": readFile(t, filepath.Join(parts, "boot.img")), "boot/grub/core.img": readFile(t, core),
		"usr/sbin/grub-install": grubInstall,
	}
}

// Once a run has put GRUB on its disk, the disk boots itself: `kindling run --resume` goes on with the run that way, by
// the configuration that make_bootable has written and the agent put right, and so does `kindling run --stage0-image`
// with the finished disk, for an extra root.
func TestGRUB(t *testing.T) {
	t.Parallel()
	files := bootFiles(t)
	maps.Copy(files, grubFiles(t))
	files["steps/manifest"] = "build: bash-debian\nbuild: bash-debian\njump: linux\nimprove: populate_device_nodes\njump: move_disk\n" +
		"improve: setup_repo\nimprove: make_bootable\nimprove: fails_once\nimprove: after\n"
	files["steps/improve/setup_repo.sh"] = "mkdir -p /external/repo\n"
	files["steps/improve/fails_once.sh"] = "[ -e /failed ] || { touch /failed; exit 7; }\ncat /proc/cmdline\n"
	for _, name := range []string{"50-sign.sh", "51-upload.sh"} {
		files["steps/after/"+name] = ":\n"
	}
	f := boot(t, "--keep", "--qemu-cmd", twist{files: files, args: "panic=10"}.qemu(t))
	if f.status != 10 || f.report.Step != "008-improve-fails_once" {
		t.Fatalf("the first life: status %d, step %s: %s\n%s", f.status, f.report.Step, f.report.Line, tail(f.file("console.log"), 60))
	}
	f.contains("GRUB", f.file("steps/007-improve-make_bootable.log"), "grub-install /dev/sd", "grub.cfg: root=PARTUUID=")
	before := f.file("console.log")
	out, err := exec.Command(filepath.Join(bin, "kindling"), "run", "--accel", "tcg", "--keep", "--resume", f.dir).CombinedOutput()
	console := strings.TrimPrefix(f.file("console.log"), before)
	if err != nil {
		t.Fatalf("resume: %v\n%s\n%s", err, out, tail(console, 60))
	}
	byGRUB(t, console)
	f.contains("the log", f.file("steps/008-improve-fails_once.log"), "BOOT_IMAGE=/boot/vmlinuz root=PARTUUID=", "-01 rootwait rw init=/init console=ttyS0")
	f.contains("resume", string(out), "resuming at step 8 of 9")

	root := filepath.Join(t.TempDir(), "steps-later")
	write(t, filepath.Join(root, "manifest"), "improve: end\n")
	write(t, filepath.Join(root, "improve/end.sh"), "cat /proc/cmdline\n")
	later := boot(t, "--qemu", "--stage0-image", filepath.Join(f.dir, "disks", "target.img"), "--extra-root", root, "--extra-build", "later")
	if later.status != 0 {
		t.Fatalf("an extra root on the finished disk: status %d: %s\n%s", later.status, later.report.Line, tail(later.file("console.log"), 60))
	}
	byGRUB(t, later.file("console.log"))
	later.contains("the extra root", later.file("steps/later.001-improve-end.log"), "BOOT_IMAGE=/boot/vmlinuz")
	if slices.Contains(later.report.Argv, "-kernel") {
		t.Errorf("QEMU got a kernel: %q", later.report.Argv)
	}
}

// byGRUB checks that a machine was booted by GRUB, with what was meant for it.
func byGRUB(t *testing.T, console string) {
	t.Helper()
	if !regexp.MustCompile(`ommand line: BOOT_IMAGE=/boot/vmlinuz root=PARTUUID=[0-9a-f]{8}-01 rootwait rw init=/init console=ttyS0`).MatchString(console) {
		t.Errorf("it was not GRUB that booted this:\n%s", tail(console, 400))
	}
}
