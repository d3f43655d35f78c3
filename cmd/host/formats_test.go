// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kindling/host/qemu"
	"kindling/host/resume"
	"kindling/internal/event"
	"kindling/steps"
)

// runDisk is the raw disk of a run; what it holds carries a name.
func runDisk(t *testing.T, name string) string {
	t.Helper()
	dir, journal := t.TempDir(), ""
	for _, e := range []event.Event{
		{Kind: event.KindPlan, Name: "b", Total: 9},
		{Kind: event.KindStep, Number: 5, Step: "005-" + name, Name: "improve: " + name, Status: event.StatusOK},
	} {
		line, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		journal += string(line)
	}
	for path, text := range map[string]string{
		"kindling/journal": journal, "kindling/init": name + " agent", "kindling/log/005-" + name + ".log": name + " log",
		"boot/vmlinuz": strings.Repeat("\x00", 0x202) + "HdrS" + name + " kernel", "external/repo/" + name + ".tar.bz2": "x", "steps/x": "x",
		"init": "#!/bin/bash\n# " + steps.HandoffMarker + "\n",
	} {
		writeTestFile(t, filepath.Join(dir, path), text)
	}
	return guestDisk(t, dir, 1<<20)
}

// disguise writes a header of qcow2 that names a backing file into the boot code of a disk, as a guest can.
func disguise(t *testing.T, disk, backing string) {
	t.Helper()
	fake := filepath.Join(t.TempDir(), "fake.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-b", backing, "-F", "raw", fake).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img (qemu-utils; the Makefile installs it): %v\n%s", err, out)
	}
	header, err := os.ReadFile(fake)
	if err != nil || !bytes.Contains(header[:440], []byte(backing)) {
		t.Fatalf("the header does not fit into the boot code: %v", err)
	}
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(header[:440], 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A guest can write the header of another format to its raw disk, with the name of a file of the host. The disk of a run
// is read as what it was recorded, an image that is named is refused, and the file of the host is never read.
func TestDisguisedDisk(t *testing.T) {
	own, secret := runDisk(t, "own"), runDisk(t, "secret")
	disguise(t, own, secret)
	run := t.TempDir()
	writeTestFile(t, filepath.Join(run, "console.log"), "")
	disk := filepath.Join(run, "disks", "target.img")
	err := errors.Join(os.Mkdir(filepath.Dir(disk), 0o755), os.Rename(own, disk), resume.Machine{QEMU: qemu.Options{Binary: qemu.BinaryI386, MemoryMiB: 512,
		Cores: 1, Accel: qemu.AccelTCG, Drives: []qemu.Drive{{Path: disk, Format: qemu.FormatRaw, Interface: qemu.InterfaceIDE}}}}.Write(filepath.Join(run, "machine.json")))
	if err != nil {
		t.Fatal(err)
	}
	medium, out := filepath.Join(t.TempDir(), "medium.img"), filepath.Join(t.TempDir(), "out")
	const refused = "names a backing file"
	for _, tt := range []struct {
		args   []string
		status int
		want   string // in what is printed
		file   string // that is written
		holds  string
	}{
		{[]string{"log", run}, 0, "improve: own", "", ""},
		{[]string{"log", run, "5"}, 0, "own log", "", ""},
		{[]string{"log", disk}, 2, refused, "", ""},
		{[]string{"log", "--format", "qcow2", disk}, 2, refused, "", ""},
		{[]string{"log", "--format", "raw", disk}, 0, "improve: own", "", ""},
		{[]string{"log", "--format", "raw", run}, 2, "--format goes with an image", "", ""},
		{[]string{"export", disk}, 2, refused, "", ""},
		{[]string{"export", disk, "--format", "raw"}, 0, "1 packages", "", ""},
		{[]string{"export", "--run", run, "--out", out}, 0, "1 packages", filepath.Join(out, "repo", "own.tar.bz2"), "x"},
		{[]string{"resume-medium", disk, "-o", medium}, 2, refused, "", ""},
		{[]string{"resume-medium", disk, "-o", medium, "--format", "raw"}, 0, "step 6 of 9", medium, "own kernel"},
		{[]string{"resume-medium", run, "-o", medium}, 0, "step 6 of 9", medium, "own kernel"},
		{[]string{"run", "--accel", "tcg", "--dry-run", "--resume", run}, 0, "resume-vmlinuz", filepath.Join(run, "disks", "resume-vmlinuz"), "own kernel"},
		{[]string{"run", "--qemu", "--stage0-image", disk, "--run", filepath.Join(t.TempDir(), "new")}, 2, refused, "", ""},
	} {
		status, stdout, stderr := runMain(t, tt.args...)
		if status != tt.status || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("%q: status %d, want %d and %q\n%s%s", tt.args, status, tt.status, tt.want, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "improve: secret") || strings.Contains(stdout+stderr, "secret log") {
			t.Errorf("%q: a file of the host was read:\n%s", tt.args, stdout)
		}
		if tt.file == "" {
			continue
		}
		if data, err := os.ReadFile(tt.file); err != nil || !bytes.Contains(data, []byte(tt.holds)) || bytes.Contains(data, []byte("secret kernel")) {
			t.Errorf("%q: %s is not from the disk: %v", tt.args, tt.file, err)
		}
	}
}
