// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package kmod

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// index is as depmod writes it: shared and deep dependencies, both spellings, a compressed module.
const index = `kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko kernel/fs/mbcache.ko
kernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko
kernel/lib/crc16.ko:
kernel/fs/mbcache.ko:
kernel/drivers/scsi/sd-mod.ko.xz: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/scsi_mod.ko:
loop/a.ko: loop/b.ko
loop/b.ko: loop/a.ko
torn.ko: not-there.ko
`

func TestOrder(t *testing.T) {
	x, err := ReadIndex(strings.NewReader(index))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want []string
		err  error
	}{
		{"ext4", []string{"kernel/lib/crc16.ko", "kernel/fs/jbd2/jbd2.ko", "kernel/fs/mbcache.ko", "kernel/fs/ext4/ext4.ko"}, nil},
		{"sd_mod", []string{"kernel/drivers/scsi/scsi_mod.ko", "kernel/drivers/scsi/sd-mod.ko.xz"}, nil},
		{"scsi-mod", []string{"kernel/drivers/scsi/scsi_mod.ko"}, nil},
		{"ext", nil, ErrNoModule},
		{"", nil, ErrNoModule},
		{"a", nil, ErrIndex},
		{"torn", nil, ErrIndex},
	} {
		got, err := x.Order(tt.name)
		if !errors.Is(err, tt.err) || err == nil && !cmp.Equal(tt.want, got) {
			t.Errorf("%q: got %v, %v", tt.name, got, err)
		}
	}
}

func TestReadIndexRefuses(t *testing.T) {
	for _, bad := range []string{"no colon\n", "/etc/a.ko:\n", "a.ko: ../b.ko\n", ":\n", "a.ko: " + strings.Repeat("b.ko ", maxLine/5) + "\n",
		strings.Repeat("a.ko:\n", maxModules+1)} {
		if _, err := ReadIndex(strings.NewReader(bad)); !errors.Is(err, ErrIndex) {
			t.Errorf("%.40q: got %v", bad, err)
		}
	}
}

// Each file is given to the kernel once, from the folder that has this kernel's modules.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "second", "6.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "second", "6.1", "modules.dep"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	folders := []string{filepath.Join(dir, "first"), filepath.Join(dir, "second")}
	var got []string
	answers := map[string]error{"crc16.ko": unix.EEXIST, "scsi_mod.ko": unix.ENOEXEC}
	p, err := newProber("6.1", folders, func(path string) error {
		got = append(got, strings.TrimPrefix(path, dir))
		return answers[filepath.Base(path)]
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Probe("ext4"), p.Probe("jbd2"), p.Probe("ext4")); err != nil {
		t.Error(err)
	}
	if err := p.Probe("sd_mod"); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("a module that the kernel refuses: got %v", err)
	}
	base := "/second/6.1/kernel/"
	want := []string{base + "lib/crc16.ko", base + "fs/jbd2/jbd2.ko", base + "fs/mbcache.ko", base + "fs/ext4/ext4.ko", base + "drivers/scsi/scsi_mod.ko"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("loaded (-want +got)\n%s", d)
	}
	if _, err := newProber("6.2", folders, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another kernel's modules: got %v", err)
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add(index)
	f.Add("a.ko:")
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ReadIndex(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, file := range x.files {
			order, err := x.Order(name)
			if err == nil && order[len(order)-1] != file {
				t.Errorf("%q ends with %q", name, order)
			}
			for _, path := range order {
				if !filepath.IsLocal(path) {
					t.Errorf("%q leaves its folder", path)
				}
			}
		}
	})
}
