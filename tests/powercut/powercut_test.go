// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package powercut

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// qemuIO runs QEMU's own client.
func qemuIO(t *testing.T, socket string, commands ...string) error {
	t.Helper()
	args := []string{"-f", "raw", "-t", "writeback"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	cmd := exec.Command("qemu-io", append(args, "nbd:unix:"+socket)...)
	out, err := cmd.CombinedOutput()
	t.Logf("%q: %v\n%s", commands, err, out)
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v (qemu-utils; the Makefile installs it)", err)
	}
	return err
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "disk.img"), filepath.Join(dir, "s")
	d, err := Serve(path, socket, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<20)); err != nil {
		t.Fatal(err)
	}
	sectors := func(want string) map[byte]int {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[byte]int)
		for i := 0; i < 64<<10; i += sectorSize {
			if data[i] != data[i+sectorSize-1] {
				t.Errorf("%s: a torn sector at %d", want, i)
			}
			seen[data[i]]++
		}
		return seen
	}
	// A machine that ends by itself loses nothing.
	if err := qemuIO(t, socket, "write -P 1 0 64k", "read -P 1 0 64k", "flush", "write -P 2 0 512", "read -P 2 0 512"); err != nil {
		t.Fatal(err)
	}
	if seen := sectors("closed"); seen[1] != 127 || seen[2] != 1 {
		t.Errorf("closed: %v", seen)
	}
	// What was flushed stays; of what was not, some is there and some is not. The machine is dead.
	d.CutAfter(3)
	if err := qemuIO(t, socket, "write -P 3 0 32k", "flush", "write -P 4 0 64k", "write -P 5 0 64k", "read 0 512"); err == nil {
		t.Error("the machine outlives the cut")
	}
	seen := sectors("cut")
	if seen[1] == 0 || seen[3] == 0 || seen[4] == 0 || seen[5] == 0 || seen[2] != 0 || d.Lost() < 64 || d.Lost() > 128 {
		t.Errorf("cut: %v, %d sectors lost", seen, d.Lost())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := 0
	for block := range slices.Chunk(data[:64<<10], 4096) {
		if bytes.Count(block, block[:1]) < len(block) {
			torn++
		}
	}
	if torn == 0 {
		t.Error("no block of 4 KiB is torn")
	}
	// Forced writes need no flush.
	d.CutAfter(2)
	if err := qemuIO(t, socket, "write -f -P 6 0 64k", "write -P 7 128k 512"); err == nil {
		t.Error("the machine outlives the cut")
	}
	if seen := sectors("forced"); seen[6] != 128 {
		t.Errorf("forced: %v", seen)
	}
	// A write that is refused changes nothing, and is one that went wrong, not the end.
	d.Refuse([]byte{8, 8})
	if err := qemuIO(t, socket, "write -P 8 0 64k"); err == nil {
		t.Error("a refused write went well")
	}
	d.Refuse(nil)
	if seen := sectors("refused"); seen[6] != 128 {
		t.Errorf("refused: %v", seen)
	}
	if err := qemuIO(t, socket, "write -P 8 0 64k"); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
