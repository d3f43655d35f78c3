// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// atGiB is where a bootstrap puts its partition.
const atGiB = 1 << 30

// guestDisk makes a disk image laid out as a bootstrap does it: an MS-DOS label, and ext4 with what is in dir from offset
// on.
func guestDisk(t *testing.T, dir string, offset int64) string {
	t.Helper()
	const size = 32 << 20
	image := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	label := make([]byte, 512)
	label[446+4], label[510], label[511] = 0x83, 0x55, 0xaa
	binary.LittleEndian.PutUint32(label[446+8:], uint32(offset/512))
	binary.LittleEndian.PutUint32(label[446+12:], size/512)
	_, err = f.Write(label)
	if err := errors.Join(err, f.Truncate(offset+size), f.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, "-E", "offset="+strconv.FormatInt(offset, 10), image, "32M")
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v (the Makefile installs e2fsprogs)\n%s", err, out)
	}
	return image
}

func TestExport(t *testing.T) {
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	guest := t.TempDir()
	for name, text := range map[string]string{
		"external/repo/a-1_0.tar.bz2": "a", "external/repo/b-1_0.tar.bz2": "b", "external/repo/base.tar.bz2": "base",
		"external/repo-lfs/a-1_0.tar.bz2": "other", "steps/SHA256SUMS.pkgs": sum("a") + "  a-1_0.tar.bz2\n" + sum("b") + "  b-1_0.tar.bz2\n",
	} {
		writeTestFile(t, filepath.Join(guest, name), text)
	}
	image := guestDisk(t, guest, atGiB)
	tree := smallTree(t)
	writeTestFile(t, filepath.Join(tree, "steps/SHA256SUMS.pkgs"), sum("a")+"  a-1_0.tar.bz2\n"+sum("x")+"  b-1_0.tar.bz2\n"+sum("c")+"  c-1_0.tar.bz2\n")
	writeTestFile(t, filepath.Join(tree, "steps-lfs/SHA256SUMS.pkgs"), "")
	// The run has moved on to another image, as a checkpoint makes it do: the first one is as it was then.
	run := runFolder(t, "payload.img", "gone.img", "checkpoints/now.img").Path()
	disks := filepath.Join(run, "disks")
	now := filepath.Join(disks, "checkpoints", "now.img")
	err := errors.Join(os.MkdirAll(filepath.Dir(now), 0o700), os.Link(image, now), os.Link(guestDisk(t, filepath.Join(guest, "steps"), atGiB), filepath.Join(disks, "target.img")))
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(run, "disks", "payload.img"), strings.Repeat("no filesystem", 1000))
	out := filepath.Join(t.TempDir(), "out")
	for _, tt := range []struct {
		args   []string
		status int
		stdout string
		stderr string
	}{
		{[]string{image, "--out", out}, 0, "3 packages, 2 same, 1 not listed anywhere\n" + out + "\n", ""},
		{[]string{"--run", run}, 0, "3 packages, 2 same, 1 not listed anywhere\n", ""},
		{[]string{guest}, 0, "3 packages, 2 same, 1 not listed anywhere\n", ""},
		{[]string{image, "--tree", tree}, 4, "repo/b-1_0.tar.bz2: different: sha256 " + sum("b") + ", listed " + sum("x") + "\nrepo/c-1_0.tar.bz2: missing\n" +
			"repo-lfs/a-1_0.tar.bz2: extra\n3 packages, 1 same, 1 different, 1 missing, 1 extra\n", "1 different, 1 missing, 1 extra: not the packages"},
		{[]string{image, "--out", out}, 2, "", "is not empty"},
		{[]string{image, "--run", run}, 2, "", "one of them"},
		{nil, 2, "", "one of them"},
		{[]string{"--run", guest}, 2, "", "not the folder of a run"},
		{[]string{filepath.Join(run, "disks", "payload.img")}, 2, "", "no filesystem"},
		{[]string{image + "x"}, 2, "", "no such file"},
	} {
		status, stdout, stderr := runMain(t, append([]string{"export"}, tt.args...)...)
		if status != tt.status || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
			t.Errorf("%q: status %d, want %d\n%s", tt.args, status, tt.status, stderr)
		}
		if diff := cmp.Diff(tt.stdout, stdout); diff != "" {
			t.Errorf("%q (-want +got)\n%s", tt.args, diff)
		}
	}
	for name, want := range map[string]string{
		"repo/a-1_0.tar.bz2": "a", "repo/base.tar.bz2": "base", "repo-lfs/a-1_0.tar.bz2": "other",
		"repo/SHA256SUMS.pkgs":     sum("a") + "  a-1_0.tar.bz2\n" + sum("b") + "  b-1_0.tar.bz2\n",
		"repo-lfs/SHA256SUMS.pkgs": sum("other") + "  a-1_0.tar.bz2\n",
	} {
		if got, err := os.ReadFile(filepath.Join(out, name)); string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	status, stdout, _ := runMain(t, "export", image, "--json")
	var got exported
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 0 || got.Status != "same" || len(got.Packages) != 3 {
		t.Errorf("JSON: %d, %v\n%s", status, err, stdout)
	}
}

// A run that has ended well has no disks any more, and an image in use is left alone.
func TestExportNothing(t *testing.T) {
	run := t.TempDir()
	writeTestFile(t, filepath.Join(run, "console.log"), "")
	status, _, stderr := runMain(t, "export", "--run", run)
	if status != 2 || !strings.Contains(stderr, "no disks are left of it") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
