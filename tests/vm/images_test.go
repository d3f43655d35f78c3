// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The same inputs give the same images, whatever the folder and the time.
func TestImagesAreReproducible(t *testing.T) {
	t.Parallel()
	var sums [2]map[string][sha256.Size]byte
	for i := range sums {
		cmd, dir := command(t.Context(), t, "--dry-run")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		sums[i] = map[string][sha256.Size]byte{}
		for _, name := range []string{"initramfs.cpio", "payload.img"} {
			sums[i][name] = sum(t, filepath.Join(dir, "disks", name))
		}
		time.Sleep(1100 * time.Millisecond) // so that a time in an image would differ
	}
	for name, first := range sums[0] {
		if sums[1][name] != first {
			t.Errorf("%s differs between two builds", name)
		}
	}
}

func sum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// A dry run shows the command and leaves nothing; with --keep it leaves the media.
func TestDryRun(t *testing.T) {
	t.Parallel()
	needs(t, "qemu-system-x86_64", "depmod", "dpkg-deb", "apt-get")
	for _, keep := range []bool{false, true} {
		args := []string{"run", "--dry-run", "--accel", "tcg"}
		if keep {
			args = append(args, "--keep")
		}
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "kindling"), args...)
		cmd.Dir = t.TempDir()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		if !bytes.HasPrefix(out, []byte("qemu-system-x86_64 ")) || !bytes.Contains(out, []byte("-sandbox on,")) || bytes.Contains(out, []byte("seed")) {
			t.Errorf("keep %t: %s", keep, out)
		}
		left, err := os.ReadDir(cmd.Dir)
		if err != nil || (len(left) > 0) != keep || strings.Contains(stderr.String(), "media: ") != keep {
			t.Errorf("keep %t: left %v, %v; said %s", keep, left, err, stderr.String())
		}
	}
}
