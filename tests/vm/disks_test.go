// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kindling/steps/demo"
)

// prepared is the embedded default with a step more, in memory and before the move.
func prepared(t *testing.T, script string, files map[string]string) map[string]string {
	t.Helper()
	manifest, err := fs.ReadFile(demo.Tree(), "steps/manifest")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{
		"steps/manifest":           strings.Replace(string(manifest), "jump: linux\n", "jump: linux\nimprove: prepare\n", 1),
		"steps/improve/prepare.sh": script,
	}
	for name, data := range files {
		all[name] = data
	}
	return all
}

// drives are bash functions that change the drives among QEMU's arguments: drop NAME.img takes one out, and put FILE
// OPTIONS DEVICE... puts one on another bus.
const drives = `
drop() {
	local kept=() i
	for ((i = 0; i < ${#args[@]}; i++)); do
		case ${args[i]}:${args[i + 1]} in
		-drive:*"$1"*) i=$((i + 1)) ;;
		*) kept+=("${args[i]}") ;;
		esac
	done
	args=("${kept[@]}")
}
put() {
	local id=extra${#args[@]}
	args+=(-drive "if=none,id=${id},file=$1,$2")
	shift 2
	while [ $# -gt 0 ]; do args+=(-device "${1//ID/${id}}"); shift; done
}
cd "${disks}"
`

// Of seven disks on three buses one is free, and DISK names another. The agent and the guard for runs without it move to
// the same one; the others are not written: the payload, somebody's data, an SD card with a filesystem and no partition,
// a disk that is read-only, one that cannot be read, and one that is too small. (A move to such a card works as well, and
// takes QEMU a minute.)
func TestOneFreeDisk(t *testing.T) {
	t.Parallel()
	guard, err := os.ReadFile("../../steps/overlay/tree/steps/jump/move_disk.sh")
	if err != nil {
		t.Fatal(err)
	}
	f := boot(t, "--keep", "--qemu-cmd", twist{
		modules: []string{"sdhci_pci", "mmc_block"},
		files: prepared(t, `sed -i 's/^DISK=.*/DISK=vda/' /steps/bootstrap.cfg
while [ ! -e /dev/mmcblk0 ] || [ ! -e /dev/nvme0n1 ]; do sleep 0.1; done
( DISK=vda; . /steps/jump/move_disk.sh )
`, map[string]string{
			"steps/jump/move_disk.sh":      string(guard),
			"steps/jump/move_disk-tree.sh": `echo "takes ${DISK}, then ${DISK}${KINDLING_P}1"` + "\n",
			"usr/bin/blockdev":             "#!/bin/bash\ncat /sys/class/block/${2##*/}/ro\n",
			"usr/bin/sfdisk":               "#!/bin/bash\necho $(($(cat /sys/class/block/${2##*/}/size) / 2))\n",
		}),
		before: drives + `
	drop target.img; drop payload.img
	put payload.img format=raw,snapshot=on virtio-blk-pci,drive=ID
	truncate -s 2G free.img unread.img readonly.img card.img
	truncate -s 1000M small.img
	truncate -s 3G theirs.img
	printf 'EFI PART' | dd of=theirs.img bs=1 seek=$((3 * 1024 * 1024 * 1024 - 512)) conv=notrunc status=none
	mke2fs -q -t ext4 card.img
	put theirs.img format=raw virtio-blk-pci,drive=ID
	put readonly.img format=raw,readonly=on virtio-blk-pci,drive=ID
	printf '[inject-error]\nevent = "read_aio"\nsector = "8"\nerrno = "5"\n' > unread.conf
	args+=(-drive if=none,id=unread,format=raw,file=blkdebug:unread.conf:unread.img -device virtio-blk-pci,drive=unread)
	put small.img format=raw virtio-blk-pci,drive=ID
	put free.img format=raw nvme,drive=ID,serial=1
	put card.img format=raw sdhci-pci sd-card,drive=ID
	touch -d 2001-01-01T00:00Z theirs.img readonly.img unread.img small.img card.img
	`,
	}.qemu(t))
	if f.status != 0 {
		t.Fatalf("status %d: %s\n%s", f.status, f.report.Line, tail(f.file("console.log"), 60))
	}
	const moving = "DISK=vda carries the payload on this boot; moving to nvme0n1, the only disk that is free"
	f.contains("guard", f.file("steps/004-improve-prepare.log"), "kindling: "+moving, "takes nvme0n1, then nvme0n1p1")
	f.contains("events", f.file("events.jsonl"), moving, "payload on /dev/vda")
	f.contains("root", f.file("steps/008-improve-check_machine.log"), "/dev/nvme0n1p1 / ext4 ")
	for _, name := range []string{"theirs", "readonly", "unread", "small", "card"} {
		info, err := os.Stat(filepath.Join(f.dir, "disks", name+".img"))
		if err != nil || info.ModTime().Year() != 2001 {
			t.Errorf("%s.img has been written: %v", name, err)
		}
	}
}

// A USB disk that is plugged in long after the agent began to wait for it, with a partition and somebody's files on it:
// they are in external/ afterwards, and there was no formatting.
func TestLateDisk(t *testing.T) {
	t.Parallel()
	f := boot(t, "--keep", "--qemu-cmd", twist{
		files: prepared(t, "sed -i 's/^DISK=.*/DISK=sda1/' /steps/bootstrap.cfg\n", nil),
		before: drives + `
	drop target.img; drop payload.img
	put payload.img format=raw,snapshot=on nvme,drive=ID,serial=1
	mkdir -p theirs/photos; echo cat > theirs/photos/cat.txt; echo hello > theirs/hello
	truncate -s 1G late.img
	printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\360\037\0' | dd of=late.img bs=1 seek=446 conv=notrunc status=none
	printf '\125\252' | dd of=late.img bs=1 seek=510 conv=notrunc status=none
	mke2fs -q -t ext4 -d theirs -E offset=1048576 late.img 1022M
	mkfifo qmp.in qmp.out
	args+=(-device usb-ehci,id=ehci -drive if=none,id=late,format=raw,file=late.img -chardev pipe,id=plug,path=qmp -mon chardev=plug,mode=control)
	{
		cat qmp.out > qmp.log &
		exec 3> qmp.in
		until grep -qs 'for disk sda1' ../console.log; do kill -0 $$ 2> /dev/null || exit; sleep 0.2; done
		echo '{"execute":"qmp_capabilities"}{"execute":"device_add","arguments":{"driver":"usb-storage","bus":"ehci.0","drive":"late"}}' >&3
		wait
	} &
	`,
	}.qemu(t))
	if f.status != 0 {
		t.Fatalf("status %d: %s\n%s", f.status, f.report.Line, tail(f.file("console.log"), 60))
	}
	log := f.file("steps/006-jump-move_disk.log")
	f.contains("the move", log, "waiting up to 2m0s for disk sda1", "copied ")
	if strings.Contains(log, "making ext4") {
		t.Error("a partition that was there has been formatted")
	}
	f.contains("root", f.file("steps/008-improve-check_machine.log"), "/dev/sda1 / ext4 ")
	image := filepath.Join(f.dir, "disks/late.img?offset=1048576")
	for name, want := range map[string]string{"photos/cat.txt": "cat", "hello": "hello"} {
		got, err := exec.CommandContext(t.Context(), "debugfs", "-R", "cat /external/"+name, image).Output()
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("/external/%s: %q, %v", name, got, err)
		}
	}
}

// A disk that takes a write and loses it fails the step whose data that was, though no program in it has noticed.
func TestWriteError(t *testing.T) {
	t.Parallel()
	f := boot(t, "--qemu-cmd", twist{
		files: prepared(t, "sed -i 's/^DISK=.*/DISK=nvme0n1/' /steps/bootstrap.cfg\n",
			step("cat /dev/zero > /fill 2> /dev/null || true\nsync\nrm /fill\n")), // a word in the log has no room then
		before: drives + `
	drop target.img
	truncate -s 1200M disk.img
	printf '[inject-error]\nevent = "none"\niotype = "write"\nsector = "%d"\nerrno = "5"\n' $((1180 * 2048)) > disk.conf
	args+=(-drive if=none,id=disk,format=raw,file=blkdebug:disk.conf:disk.img -device nvme,drive=disk,serial=1)
	`,
	}.qemu(t))
	if f.status != 10 || f.report.Step != "011-improve-setup_repo" || !strings.Contains(f.report.Line, "input/output error") {
		t.Errorf("status %d, step %s: %s", f.status, f.report.Step, f.report.Line)
	}
	f.contains("console", f.file("console.log"), "making ext4 on nvme0n1p1", "I/O error", "sysrq: Power Off")
}
