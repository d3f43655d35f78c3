// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sampleDep has the shape of depmod's output: dependencies closed over, what loads first last.
const sampleDep = `kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko
kernel/lib/crc16.ko:
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc-t10dif.ko: kernel/crypto/crct10dif_common.ko
kernel/crypto/crct10dif_common.ko:
kernel/scsi/sd_mod.ko: kernel/lib/crc-t10dif.ko kernel/scsi/scsi_mod.ko kernel/crypto/crct10dif_common.ko
kernel/scsi/scsi_mod.ko:
kernel/drivers/usb/storage/usb-storage.ko: kernel/scsi/scsi_mod.ko
`

func sampleKernel(t *testing.T, dep, builtin string) Kernel {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{"modules.dep": dep, "modules.builtin": builtin} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(dep) {
		file, _, _ := strings.Cut(line, ":")
		full := filepath.Join(dir, filepath.FromSlash(file))
		if !strings.HasPrefix(file, "kernel/") || filepath.Ext(full) != ".ko" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Kernel{Release: "6.1.0-9-686", ModulesDir: dir}
}

func TestModules(t *testing.T) {
	k := sampleKernel(t, sampleDep, "kernel/drivers/tty/serial/8250/8250.ko\n")
	set, err := k.Modules([]string{"sd-mod", "8250", "ext4", "usb_storage", "crc16"})
	if err != nil {
		t.Fatal(err)
	}
	wantLoad := "crct10dif_common\nscsi_mod\ncrc-t10dif\nsd_mod\njbd2\ncrc16\next4\nusb-storage\n"
	if diff := cmp.Diff(wantLoad, string(set.Load)); diff != "" {
		t.Errorf("load list (-want +got):\n%s", diff)
	}
	wantDep := `kernel/crypto/crct10dif_common.ko:
kernel/scsi/scsi_mod.ko:
kernel/lib/crc-t10dif.ko: kernel/crypto/crct10dif_common.ko
kernel/scsi/sd_mod.ko: kernel/lib/crc-t10dif.ko kernel/scsi/scsi_mod.ko kernel/crypto/crct10dif_common.ko
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc16.ko:
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko
kernel/drivers/usb/storage/usb-storage.ko: kernel/scsi/scsi_mod.ko
`
	if diff := cmp.Diff(wantDep, string(set.Dep)); diff != "" {
		t.Errorf("modules.dep (-want +got):\n%s", diff)
	}
	first := set.Modules[0]
	want := Module{Name: "crct10dif_common", Size: int64(len("kernel/crypto/crct10dif_common.ko")),
		Path:   "usr/lib/modules/6.1.0-9-686/kernel/crypto/crct10dif_common.ko",
		Source: filepath.Join(k.ModulesDir, "kernel/crypto/crct10dif_common.ko")}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("first module (-want +got):\n%s", diff)
	}
	if len(set.Modules) != 8 || set.DepPath() != "usr/lib/modules/6.1.0-9-686/modules.dep" ||
		set.LoadPath() != "etc/modules-load.d/kindling.conf" {
		t.Errorf("%d modules, paths %s and %s", len(set.Modules), set.DepPath(), set.LoadPath())
	}
	if again, err := parseModulesDep(strings.NewReader(string(set.Dep))); err != nil || len(again) != 8 {
		t.Errorf("trimmed modules.dep read back: %d modules, %v", len(again), err)
	}
}

func TestModulesErrors(t *testing.T) {
	tests := []struct {
		name, dep, builtin string
		want               error
	}{
		{"unknown", "kernel/a.ko:\n", "", ErrNoModule},
		{"no colon", "kernel/x.ko\n", "", ErrModuleList},
		{"absolute", "/lib/x.ko:\n", "", ErrModuleList},
		{"climbing", "kernel/../../x.ko:\n", "", ErrModuleList},
		{"climbing dependency", "kernel/x.ko: ../y.ko\n", "", ErrModuleList},
		{"compressed", "kernel/x.ko.xz:\n", "", ErrModuleList},
		{"dependency not listed", "kernel/x.ko: kernel/y.ko\n", "", ErrModuleList},
		{"file twice", "kernel/x.ko:\nkernel/x.ko:\n", "", ErrModuleList},
		{"name twice", "kernel/x.ko:\nupdates/x.ko:\n", "", ErrModuleList},
		{"depends on itself", "kernel/x.ko: kernel/x.ko\n", "", ErrModuleList},
		{"circle", "kernel/x.ko: kernel/y.ko\nkernel/y.ko: kernel/x.ko\n", "", ErrModuleList},
		{"control character", "kernel/\x1b[2Jx.ko:\n", "", ErrModuleList},
		{"endless line", "kernel/" + strings.Repeat("x", maxModuleLine) + ".ko:\n", "", ErrModuleList},
		{"too many", strings.Repeat("\n", maxModules+1), "", ErrModuleList},
		{"hostile builtin list", "kernel/a.ko:\n", "../../x.ko\n", ErrModuleList},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range map[string]string{"modules.dep": tt.dep, "modules.builtin": tt.builtin} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			set, err := Kernel{Release: "1", ModulesDir: dir}.Modules([]string{"x"})
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(ModuleSet{}, set); diff != "" {
				t.Errorf("result beside an error (-want +got):\n%s", diff)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("error is no clean line: %q", err)
			}
		})
	}
}

func TestModulesMissingFile(t *testing.T) {
	k := sampleKernel(t, sampleDep, "")
	if err := os.Remove(filepath.Join(k.ModulesDir, "kernel/fs/jbd2/jbd2.ko")); err != nil {
		t.Fatal(err)
	}
	_, err := k.Modules([]string{"ext4"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "jbd2.ko") {
		t.Errorf("missing module file: %v", err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(k.ModulesDir, "kernel/fs/jbd2/jbd2.ko")); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Modules([]string{"ext4"}); !errors.Is(err, ErrModuleList) {
		t.Errorf("module file that is a link: %v", err)
	}
}

// A modules.dep that was cut anywhere is refused or names fewer modules; it never gives another answer.
func TestModulesDepTruncated(t *testing.T) {
	whole, err := parseModulesDep(strings.NewReader(sampleDep))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(sampleDep) {
		part, err := parseModulesDep(strings.NewReader(sampleDep[:n]))
		if err != nil {
			if !errors.Is(err, ErrModuleList) {
				t.Fatalf("cut at %d: %v", n, err)
			}
			continue
		}
		for file := range part {
			if _, found := whole[file]; !found {
				t.Errorf("cut at %d: module %q out of nowhere", n, file)
			}
		}
	}
}

func TestModuleListsAreInTheKernelsNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, name := range append(DefaultModules(), StorageModules()...) {
		if seen[moduleName(name)] || strings.ContainsAny(name, "/. ") {
			t.Errorf("module %q is there twice or no plain name", name)
		}
		seen[moduleName(name)] = true
	}
}

func FuzzParseModulesDep(f *testing.F) {
	for _, seed := range []string{sampleDep, "kernel/a.ko:\n"} {
		if _, err := parseModulesDep(strings.NewReader(seed)); err != nil {
			f.Fatalf("seed: %v", err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		deps, err := parseModulesDep(strings.NewReader(data))
		if err != nil {
			return
		}
		names := make([]string, 0, len(deps))
		for file := range deps {
			names = append(names, moduleName(file))
		}
		order, err := moduleClosure(deps, nil, names)
		if err != nil {
			return
		}
		if len(order) != len(deps) {
			t.Fatalf("%d modules in order, %d known", len(order), len(deps))
		}
		again, err := parseModulesDep(strings.NewReader(string(formatModulesDep(deps, order))))
		if err != nil {
			t.Fatalf("written and read back: %v", err)
		}
		if diff := cmp.Diff(fmt.Sprint(deps), fmt.Sprint(again)); diff != "" {
			t.Errorf("written and read back (-want +got):\n%s", diff)
		}
	})
}
