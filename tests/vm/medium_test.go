// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A machine of its own, whose BIOS finds nothing but the medium to boot from, goes on with the run on its other disk.
func TestResumeMedium(t *testing.T) {
	t.Parallel()
	files := killTree(0)
	files["steps/manifest"] = "build: bash-debian\nbuild: bash-debian\njump: linux\nimprove: populate_device_nodes\njump: move_disk\n" +
		"improve: setup_repo\nbuild: last-1.0\n"
	files["steps/improve/setup_repo.sh"] = "mkdir -p /external/repo\n[ -e /was-cut ] || { touch /was-cut; sync; echo o > /proc/sysrq-trigger; sleep 60; }\n"
	first := boot(t, "--qemu-cmd", twist{files: files}.qemu(t))
	if first.status != 15 || first.report.Step != "006-improve-setup_repo" {
		t.Fatalf("the first life: status %d, step %s: %s", first.status, first.report.Step, first.report.Line)
	}
	disk := filepath.Join(first.dir, "disks/target.img")
	if next := openRun(t, disk).History.Next(); next != 6 {
		t.Fatalf("next step %d, want 6", next)
	}
	dir := t.TempDir()
	medium, console, events := filepath.Join(dir, "medium.img"), filepath.Join(dir, "console"), filepath.Join(dir, "events")
	out, err := exec.Command(filepath.Join(bin, "kindling"), "resume-medium", first.dir, "-o", medium, "--console", "ttyS0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "goes on at step 6 of 7") {
		t.Fatalf("resume-medium: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	machine := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-accel", "tcg", "-m", "512", "-display", "none", "-no-reboot", "-nic", "none",
		"-drive", "format=raw,if=ide,file="+medium, "-drive", "format=raw,if=ide,file="+disk, "-serial", "file:"+console, "-serial", "file:"+events)
	if out, err := machine.CombinedOutput(); err != nil {
		t.Fatalf("QEMU: %v\n%s\n%s", err, out, tail(readFile(t, console), 40))
	}
	first.contains("console", readFile(t, console), "Kindling: going on with the run", "last-1.0: installed", "reboot: Power down")
	first.contains("events", readFile(t, events), "going on with the run on", "was begun before", `"kind":"done","status":"ok"`)
	d := openRun(t, disk)
	if d.History.Next() != 0 || d.History.Status != "ok" || d.History.Boots != 2 {
		t.Errorf("%s", d.History.Summary())
	}
}
