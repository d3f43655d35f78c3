// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	run := runFolder(t, "target.img").Path()
	disk := filepath.Join(run, "disks", "target.img")
	err := os.Rename(own, disk)
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
		{[]string{"run", "--accel", "tcg", "--dry-run", "--resume", run}, 0, "resume-vmlinuz", "", ""},
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

// bombImage is a qcow2 image that maps one cluster many times. It is well-formed, and qemu-img unpacks it.
func bombImage(t *testing.T) string {
	t.Helper()
	disk := runDisk(t, "own")
	path := filepath.Join(t.TempDir(), "bomb.qcow2")
	out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, path).CombinedOutput()
	if err == nil {
		out, err = exec.Command("qemu-img", "resize", "-q", "-f", "qcow2", path, "6G").CombinedOutput()
	}
	if err != nil {
		t.Fatalf("qemu-img (qemu-utils; the Makefile installs it): %v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const clusterSize, copied = 1 << 16, 1 << 63
	be := binary.BigEndian
	l1 := be.Uint64(data[40:])
	l2 := be.Uint64(data[l1:]) &^ copied
	cluster := be.Uint64(data[l2:]) // the first one of the disk
	bomb := uint64(len(data)+clusterSize-1) &^ (clusterSize - 1)
	data = append(data, make([]byte, int(bomb)+clusterSize-len(data))...)
	for i := range uint64(clusterSize / 8) {
		be.PutUint64(data[bomb+8*i:], cluster)
	}
	for i := uint64(1); i < 12; i++ {
		be.PutUint64(data[l1+8*i:], copied|bomb)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// An image of a few MiB that unpacks to 6 GiB is read in place, without room for temporary files, and is not copied.
func TestBombImage(t *testing.T) {
	bomb := bombImage(t)
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	for _, args := range [][]string{{"log", bomb}, {"export", bomb}} {
		if status, stdout, stderr := runMain(t, args...); status != 0 {
			t.Errorf("%q: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
	run := filepath.Join(t.TempDir(), "run")
	status, _, stderr := runMain(t, "run", "--accel", "tcg", "--qemu", "--stage0-image", bomb, "--stage0-copy", "--run", run)
	if want := fmt.Sprintf("image %s: qcow2 image is damaged: it maps", bomb); status != 2 || !strings.Contains(stderr, want) {
		t.Errorf("copied: status %d, want %q\n%s", status, want, stderr)
	}
}
