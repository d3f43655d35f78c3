// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// put makes a disk of 256 KiB with texts at places.
func put(texts map[int]string) []byte {
	data := make([]byte, 256<<10)
	for at, text := range texts {
		copy(data[at:], text)
	}
	return data
}

func TestSignatures(t *testing.T) {
	const bootable = "\x55\xaa"
	tests := []struct {
		name string
		data []byte
		want []Signature
	}{
		{"zeros", put(nil), nil},
		{"nothing", nil, nil},
		{"MBR", put(map[int]string{510: bootable, 446 + 4: "\x83"}), []Signature{{Name: "MBR partition table"}}},
		{"MBR, second entry", put(map[int]string{510: bootable, 446 + 16: "\x80", 446 + 16 + 4: "\x0c"}),
			[]Signature{{Name: "MBR partition table"}}},
		{"boot sector", put(map[int]string{510: bootable}), []Signature{{Name: "boot sector"}}},
		{"boot sector with code", put(map[int]string{510: bootable, 446: "\xeb\x12\x34\x56\x78"}), []Signature{{Name: "boot sector"}}},
		{"GPT", put(map[int]string{510: bootable, 446 + 4: "\xee", 512: "EFI PART"}), []Signature{{Name: "GPT partition table"}}},
		{"GPT, large blocks", put(map[int]string{4096: "EFI PART"}), []Signature{{Name: "GPT partition table"}}},
		{"FAT32", put(map[int]string{510: bootable, 0x52: "FAT32   ", 0x47: "MY STICK   "}),
			[]Signature{{"FAT filesystem", "MY STICK"}}},
		{"FAT16", put(map[int]string{510: bootable, 0x36: "FAT16   ", 0x2b: "NO NAME    "}), []Signature{{Name: "FAT filesystem"}}},
		{"NTFS", put(map[int]string{510: bootable, 3: "NTFS    "}), []Signature{{Name: "NTFS filesystem"}}},
		{"ISO", put(map[int]string{0x8001: "CD001", 0x8028: "DEBIAN\x1b[31m"}), []Signature{{"ISO 9660 filesystem", "DEBIAN"}}},
		{"two at once", put(map[int]string{0x8001: "CD001", 512: "EFI PART"}),
			[]Signature{{Name: "GPT partition table"}, {Name: "ISO 9660 filesystem"}}},
		{"payload", put(map[int]string{0: "LBPAYLD1"}), []Signature{{Name: "LBPAYLD1 payload"}}},
		{"LUKS", put(map[int]string{0: "LUKS\xba\xbe\x00\x02"}), []Signature{{Name: "LUKS encryption"}}},
		{"LVM", put(map[int]string{512: "LABELONE", 512 + 24: "LVM2 001"}), []Signature{{Name: "LVM physical volume"}}},
		{"md", put(map[int]string{4096: "\xfc\x4e\x2b\xa9"}), []Signature{{Name: "md RAID member"}}},
		{"swap", put(map[int]string{4086: "SWAPSPACE2", 0x41c: "myswap"}), []Signature{{"swap space", "myswap"}}},
		{"f2fs", put(map[int]string{1024: "\x10\x20\xf5\xf2", 1024 + 0x7c: "c\x00a\x00r\x00d\x00"}), []Signature{{"f2fs filesystem", "card"}}},
		{"f2fs, wide label", put(map[int]string{1024: "\x10\x20\xf5\xf2", 1024 + 0x7c: "c\x01"}), []Signature{{Name: "f2fs filesystem"}}},
		{"btrfs", put(map[int]string{0x10040: "_BHRfS_M", 0x1012b: "data"}), []Signature{{"btrfs filesystem", "data"}}},
		{"xfs", put(map[int]string{0: "XFSB", 108: "twelve bytes and more"}), []Signature{{"xfs filesystem", "twelve bytes"}}},
		{"ext2", put(map[int]string{1024 + 0x38: "\x53\xef", 1024 + 0x78: "old"}), []Signature{{"ext2 filesystem", "old"}}},
		{"ext3", put(map[int]string{1024 + 0x38: "\x53\xef", 1024 + 0x5c: "\x04"}), []Signature{{Name: "ext3 filesystem"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Signatures(bytes.NewReader(tt.data), int64(len(tt.data)))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("signatures (-want +got):\n%s", diff)
			}
			// Cut anywhere, it finds less, and never more.
			for _, n := range []int{0, 1, 511, 512, 1024, 1100, 4086, 4096, 0x8001, 0x10040} {
				n = min(n, len(tt.data))
				if few := Signatures(bytes.NewReader(tt.data[:n]), int64(n)); len(few) > len(got) {
					t.Errorf("the first %d bytes alone look like %v", n, few)
				}
				_ = Signatures(bytes.NewReader(tt.data[:n]), int64(len(tt.data))) // shorter than it is said to be
			}
		})
	}
}

// TestSignaturesOfPrograms looks at what the programs that make filesystems make.
func TestSignaturesOfPrograms(t *testing.T) {
	for want, args := range map[string][]string{
		"ext2 filesystem": {"mke2fs", "-q", "-t", "ext2", "-L", "name"},
		"ext3 filesystem": {"mke2fs", "-q", "-t", "ext3", "-L", "name"},
		"ext4 filesystem": {"mke2fs", "-q", "-t", "ext4", "-L", "name"},
		"swap space":      {"mkswap", "-q", "-L", "name"},
	} {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 8<<20); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(args[0], append(args[1:], path)...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if err := findProgram(cmd, args[0]); err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
		image, err := OpenImage(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Signature{{want, "name"}}, image.Signatures()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", args, diff)
		}
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	}
}

// findProgram looks for a program where root has it as well.
func findProgram(cmd *exec.Cmd, name string) error {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			cmd.Path, cmd.Err = filepath.Join(dir, name), nil
			return nil
		}
	}
	return cmd.Err
}

func FuzzSignatures(f *testing.F) {
	f.Add(put(map[int]string{510: "\x55\xaa", 446 + 4: "\x83"})[:1024], int64(1024))
	f.Add(put(map[int]string{1024 + 0x38: "\x53\xef"})[:4096], int64(8192))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		for _, s := range Signatures(bytes.NewReader(data), size) {
			if s.Name == "" || s.Label != clean(s.Label) {
				t.Errorf("signature %+v", s)
			}
		}
	})
}
