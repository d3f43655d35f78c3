// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package resume

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A medium has the same bytes wherever and whenever it is made; a BIOS finds GRUB on it, and GRUB the files.
func TestMedium(t *testing.T) {
	var first []byte
	for i := range 2 {
		dir := t.TempDir()
		m := Medium{Kernel: filepath.Join(dir, "k"), Initramfs: filepath.Join(dir, "i"), Cmdline: "console=tty0 kindling.resume"}
		err := errors.Join(os.WriteFile(m.Kernel, []byte(kernel("k")), 0o600), os.WriteFile(m.Initramfs, bytes.Repeat([]byte("i"), 2<<20), 0o644),
			os.Chtimes(m.Kernel, time.Unix(int64(1000*i), 0), time.Unix(int64(1000*i), 0)))
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "medium.img")
		size, err := m.Write(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(out)
		if err != nil || int64(len(data)) != size {
			t.Fatalf("%d bytes, said %d, %v", len(data), size, err)
		}
		if first == nil {
			first = data
		} else if !bytes.Equal(first, data) {
			t.Error("the same files give different bytes")
		}
	}
	id := binary.LittleEndian.Uint32(first[440:])
	if first[510] != 0x55 || first[511] != 0xaa || first[446] != 0x80 || id == 0 || int64(binary.LittleEndian.Uint32(first[458:]))*512 != int64(len(first)-mediumStart) {
		t.Errorf("first sector: % x", first[440:512])
	}
	if rest := first[462:510]; !bytes.Equal(rest, make([]byte, len(rest))) {
		t.Errorf("behind the one entry: % x", rest)
	}
	got := make(map[string]int64)
	archive := tar.NewReader(bytes.NewReader(first[mediumStart:]))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h.Size
	}
	if d := cmp.Diff(map[string]int64{"vmlinuz": int64(len(kernel("k"))), "initramfs.cpio": 2 << 20}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestMediumRefuses(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "medium.img")
	for name, m := range map[string]Medium{
		"a quote":    {Cmdline: "x='\nreboot\n'"},
		"no kernel":  {Kernel: filepath.Join(dir, "none"), Cmdline: "x"},
		"no newline": {Cmdline: "a\nb"},
	} {
		if _, err := m.Write(t.Context(), out); err == nil {
			t.Errorf("%s: written", name)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}
