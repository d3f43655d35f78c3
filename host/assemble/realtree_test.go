// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/assemble"
	"kindling/host/options"
	"kindling/host/tree"
)

// The environment variables that name a complete live-bootstrap checkout, submodules included, and a folder with its
// distfiles (with the sha256 that the checkout names). Neither can be part of this repository.
const (
	envTree      = "KINDLING_TREE"
	envDistfiles = "KINDLING_DISTFILES"
)

// startRootfs runs the tree's own rootfs.py up to the point where it would start a machine or a chroot.
const startRootfs = `
import sys
sys.argv = ["rootfs.py"] + sys.argv[1:]
import rootfs
class Ran:
    stdout = b"/usr/sbin/chroot"
rootfs.run = lambda *a, **k: Ran()
rootfs.run_as_root = lambda *a, **k: Ran()
rootfs.main()
`

// TestRootfs assembles with rootfs.py and with Kindling, without an agent and a payload, and compares what is on the
// media.
func TestRootfs(t *testing.T) {
	checkout, distfiles := os.Getenv(envTree), os.Getenv(envDistfiles)
	if checkout == "" || distfiles == "" {
		t.Logf("set %s=DIR (a complete live-bootstrap checkout) and %s=DIR to run this test", envTree, envDistfiles)
		t.Skipf("%s or %s is not set", envTree, envDistfiles)
	}
	repo, preseed := makeRepo(t), makePreseed(t)
	mirror := []string{"http://mirror.invalid/lb", "http://other.invalid/x"}
	for name, boot := range map[string]options.Rootfs{
		"a":                 {BareMetal: true},
		"a-qemu":            {Qemu: true, TargetSize: 300},
		"a-small-target":    {Qemu: true, TargetSize: 1},
		"a-no-config":       {BareMetal: true, NoCreateConfig: true},
		"a-interactive":     {Qemu: true, TargetSize: 300, Interactive: true, Configurator: true, Swap: 128},
		"b":                 {BareMetal: true, ExternalSources: true},
		"c":                 {BareMetal: true, Kernel: os.DevNull},
		"c-qemu":            {Qemu: true, TargetSize: 4096, Kernel: os.DevNull},
		"d":                 {BareMetal: true, Kernel: os.DevNull, ExternalSources: true},
		"e":                 {BareMetal: true, Repo: repo},
		"e-sources":         {BareMetal: true, Repo: repo, ExternalSources: true},
		"e-kernel":          {BareMetal: true, Repo: repo, Kernel: os.DevNull},
		"f-chroot":          {Chroot: true},
		"f-chroot-sources":  {Chroot: true, ExternalSources: true, UpdateChecksums: true},
		"f-bwrap":           {Bwrap: true, InternalCI: "pass1"},
		"f-bwrap-repo":      {Bwrap: true, ExternalSources: true, Repo: repo},
		"preseed-chroot":    {Chroot: true, EarlyPreseed: preseed},
		"preseed-bootstrap": {BareMetal: true, EarlyPreseed: preseed},
	} {
		t.Run(name, func(t *testing.T) {
			boot.Arch, boot.Cores, boot.QemuRAM, boot.Mirrors, boot.Target = "x86", 3, 4096, mirror, "target"
			if boot.TargetSize == 0 {
				boot.TargetSize = 16 << 10
			}
			compareWithRootfs(t, checkout, distfiles, boot)
		})
	}
}

func compareWithRootfs(t *testing.T, checkout, distfiles string, boot options.Rootfs) {
	t.Helper()
	theirs, ours := t.TempDir(), filepath.Join(t.TempDir(), "out")
	copied := filepath.Join(theirs, "tree")
	copyTree(t, checkout, copied)
	if err := os.Symlink(absolute(t, distfiles), filepath.Join(copied, "distfiles")); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(theirs, "target")
	if boot.Kernel != "" { // rootfs.py copies into this folder, and does not make it
		if err := os.MkdirAll(filepath.Join(target, "disk"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-c", startRootfs}, rootfsArgs(boot, target)...)...)
	cmd.Dir = copied
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rootfs.py: %v\n%s", err, out)
	}
	assembly, err := assemble.Plan(t.Context(), assemble.Options{
		Boot: boot, Payload: options.Payload{Payload: "off", PayloadStage: "auto"}, Tree: checkout, Distfiles: distfiles,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := assembly.Write(t.Context(), ours, nil); err != nil {
		t.Fatal(err)
	}
	for i := range assembly.Media {
		compareMedium(t, &assembly.Media[i], checkout, target, ours)
	}
}

func compareMedium(t *testing.T, m *assemble.Medium, checkout, theirs, ours string) {
	t.Helper()
	switch m.Format {
	case assemble.FormatBoot:
		start := srcfsStart(t, checkout)
		want, got := readBoot(t, filepath.Join(theirs, m.File), start), readBoot(t, filepath.Join(ours, m.File), start)
		if diff := cmp.Diff(want.records, got.records); diff != "" {
			t.Errorf("%s: records (-rootfs.py +ours):\n%s", m.File, diff)
		}
		want.order, got.order, want.records, got.records = nil, nil, nil, nil
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(bootParts{})); diff != "" {
			t.Errorf("%s (-rootfs.py +ours):\n%s", m.File, diff)
		}
		t.Logf("%s: %d bytes", m.File, got.size)
	case assemble.FormatExt3:
		offset := int64(1 << 20)
		if m.Name == "disk" {
			offset = 1 << 30
		}
		want, got := readExt3(t, filepath.Join(theirs, m.File), offset, false), readExt3(t, filepath.Join(ours, m.File), offset, false)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-rootfs.py +ours):\n%s", m.File, diff)
		}
		compareTables(t, filepath.Join(theirs, m.File), filepath.Join(ours, m.File))
		t.Logf("%s: %d entries", m.File, len(got))
	case assemble.FormatFolder:
		want, got := readFolder(t, theirs, false), readFolder(t, ours, false)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("folder (-rootfs.py +ours):\n%s", diff)
		}
		t.Logf("folder: %d entries", len(got))
	default:
		t.Errorf("%s is of a format that rootfs.py does not have: %s", m.File, m.Format)
	}
}

// compareTables compares the partition entries of two disks: type, first sector, number of sectors.
func compareTables(t *testing.T, want, got string) {
	t.Helper()
	read := func(name string) string {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		sector := make([]byte, 512)
		if _, err := f.ReadAt(sector, 0); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%x", sector[510:])
		for at := 446; at < 510; at += 16 {
			text += fmt.Sprintf(" type %x lba %x", sector[at+4], sector[at+8:at+16])
		}
		return text
	}
	if diff := cmp.Diff(read(want), read(got)); diff != "" {
		t.Errorf("partition table (-rootfs.py +ours):\n%s", diff)
	}
}

// srcfsStart is where the srcfs begins: behind the boot sector and the text of stage2, at a full sector.
func srcfsStart(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, tree.BuilderHex0, "builder-hex0-x86-stage2.hex0"))
	if err != nil {
		t.Fatal(err)
	}
	return (512 + info.Size() + 511) / 512 * 512
}

// rootfsArgs are the command line of rootfs.py for the options.
func rootfsArgs(o options.Rootfs, target string) []string {
	args := []string{"--target", target, "--cores", o.Cores.String(), "--target-size", o.TargetSize.String() + "M",
		"--swap", o.Swap.String() + "M"}
	for flag, on := range map[string]bool{
		"--qemu": o.Qemu, "--bare-metal": o.BareMetal, "--chroot": o.Chroot, "--bwrap": o.Bwrap,
		"--external-sources": o.ExternalSources, "--no-create-config": o.NoCreateConfig, "--interactive": o.Interactive,
		"--configurator": o.Configurator, "--update-checksums": o.UpdateChecksums,
	} {
		if on {
			args = append(args, flag)
		}
	}
	for flag, value := range map[string]string{
		"--kernel": o.Kernel, "--repo": o.Repo, "--early-preseed": o.EarlyPreseed, "--internal-ci": o.InternalCI,
	} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	return append(append(args, "--mirrors"), o.Mirrors...)
}

func absolute(t *testing.T, name string) string {
	t.Helper()
	abs, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// makeRepo makes a folder of packages.
func makeRepo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bash-2.05b_0.tar.bz2", "deep/er/odd name_0.tar.bz2"} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// makePreseed makes a tarball of a stage that a run can start from.
func makePreseed(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h tar.Header, data string) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./usr/bin/kaem", Typeflag: tar.TypeReg, Mode: 0o755}, "\x7fkaem")
	add(tar.Header{Name: "./usr/bin/sh", Typeflag: tar.TypeLink, Linkname: "./usr/bin/kaem", Mode: 0o755}, "")
	add(tar.Header{Name: "./usr/bin/link", Typeflag: tar.TypeSymlink, Linkname: "kaem"}, "")
	add(tar.Header{Name: "./script-generator", Typeflag: tar.TypeReg, Mode: 0o755}, "generator")
	add(tar.Header{Name: "./steps/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./steps/stale", Typeflag: tar.TypeReg, Mode: 0o644}, "old")
	add(tar.Header{Name: "./external/distfiles/stale", Typeflag: tar.TypeReg, Mode: 0o644}, "old")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "preseed.tar")
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// copyTree copies a checkout without its distfiles, its history, and the ".git" of its submodules.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	names, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n.Name() == tree.Distfiles || n.Name() == ".git" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(from, n.Name()), to)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), "find", to, "-name", ".git", "-prune", "-exec", "rm", "-rf", "{}", "+")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("find: %v\n%s", err, out)
	}
}
