// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
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
