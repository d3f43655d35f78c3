// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// usualTree has every file that limits are read from.
func usualTree() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"steps/jump/fiwix.sh":                        file(usualScript),
		"builder-hex0/README.md":                     file(usualReadme),
		"builder-hex0/builder-hex0-x86-stage2.hex0":  file("# 54000000 - BBFFFFFF files (~1744MB)\n"),
		"steps/kexec-fiwix-1.0/src/kexec-fiwix.c":    file("x;\n\tm->mod_start = 0x1C6000;\n"),
		"steps/lwext4-1.0/files/make_fiwix_initrd.c": file("\tinitrd_size = 262144;\n"),
		"steps/fiwix-1.5.0/files/custom_config.h":    file("#undef NR_PROCS\n#define NR_PROCS\t5000\n#define NR_OPENS 3000\n#define CONFIG_VM_SPLIT22\n#undef CONFIG_OFFSET64\n"),
		"steps/fiwix-1.5.0/files/custom_limits.h":    file("#undef OPEN_MAX\n#define OPEN_MAX 2000\n"),
		"steps/fiwix-1.5.0/sources":                  file(""),
	}
}

const (
	configH = "#define NR_PROCS 64\n#define NR_OPENS 1024\n#define CONFIG_OFFSET64\n#undef CONFIG_VM_SPLIT22\n"
	limitsH = "#define NAME_MAX\t255\t/* bytes in a filename */\n#define OPEN_MAX 256\n"
	kparmsH = "#define CMDL_ARG_LEN\t100\t/* max. length of cmdline argument */\n"
)

// fiwixArchive is a .tar.gz with the shape of Fiwix' own.
func fiwixArchive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	entry := func(header tar.Header, text string) {
		header.Size = int64(len(text))
		if err := archive.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			t.Fatal(err)
		}
	}
	entry(tar.Header{Name: "fiwix-1.5.0-lb1/", Typeflag: tar.TypeDir}, "")
	entry(tar.Header{Name: "fiwix-1.5.0-lb1/kernel/main.c", Typeflag: tar.TypeReg}, strings.Repeat("int main;\n", 1000))
	for _, name := range []string{"config.h", "kparms.h", "limits.h"} {
		if text, found := files[name]; found {
			entry(tar.Header{Name: "fiwix-1.5.0-lb1/include/fiwix/" + name, Typeflag: tar.TypeReg}, text)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func usualArchive(t *testing.T) []byte {
	t.Helper()
	return fiwixArchive(t, map[string]string{"config.h": configH, "kparms.h": kparmsH, "limits.h": limitsH})
}

// opener opens bytes in the place of a file.
func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// basisOf is where each limit comes from.
func basisOf(l Limits) map[string]Number {
	return map[string]Number{
		"HexFiles": l.HexFiles, "HexBytes": l.HexBytes, "HexAreaStart": l.HexAreaStart, "HexAreaEnd": l.HexAreaEnd,
		"HexName": l.HexName, "HexArg": l.HexArg, "HexProcess": l.HexProcess, "HexParents": l.HexParents, "HexRAM": l.HexRAM,
		"Ramdisk": l.Ramdisk, "RamdiskAddr": l.RamdiskAddr, "KexecWindow": l.KexecWindow, "CommandLine": l.CommandLine,
		"CommandLineArg": l.CommandLineArg, "FiwixMemory": l.FiwixMemory, "FiwixFiles": l.FiwixFiles,
		"FiwixProcFiles": l.FiwixProcFiles, "FiwixProcs": l.FiwixProcs, "FiwixReach": l.FiwixReach,
		"LinuxKernel": l.LinuxKernel, "LinuxInitramfs": l.LinuxInitramfs,
	}
}

// TestReadLimits wants every number out of a tree that has all of them, and none copied.
func TestReadLimits(t *testing.T) {
	limits, warnings, err := ReadLimits(usualTree(), opener(usualArchive(t)))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("error %v, warnings %q", err, warnings)
	}
	for name, n := range basisOf(limits) {
		want := FromTree
		if name == "CommandLine" || name == "CommandLineArg" {
			want = FromDistfile
		}
		if n.Basis != want || n.Source == "" || n.Value <= 0 {
			t.Errorf("%s: %+v, want one from the %s", name, n, want)
		}
	}
	config := "steps/fiwix-1.5.0/files/custom_config.h"
	want := map[string]Number{
		"FiwixProcs": fromTree(5000, config+":2 (NR_PROCS)"), "FiwixFiles": fromTree(3000, config+":3 (NR_OPENS)"),
		"FiwixMemory": fromTree(2<<30, config+":4 (CONFIG_VM_SPLIT22)"),
		"FiwixReach":  fromTree(4<<30, config+":5 (CONFIG_OFFSET64 off)"),
		"RamdiskAddr": fromTree(0x1C6000, "steps/kexec-fiwix-1.0/src/kexec-fiwix.c:2"),
		"CommandLine": {256, FromDistfile, "include/fiwix/limits.h:1 (NAME_MAX)"},
	}
	for name, n := range want {
		if diff := cmp.Diff(n, basisOf(limits)[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if len(limits.CommandLines) != 2 {
		t.Errorf("%d command lines", len(limits.CommandLines))
	}
}

// TestReadLimitsAssumes takes files away and wants their numbers assumed, and labelled.
func TestReadLimitsAssumes(t *testing.T) {
	tests := []struct {
		remove  string
		assumed []string
	}{
		{"builder-hex0/README.md", []string{"HexFiles", "HexBytes", "HexName", "HexArg", "HexProcess", "HexParents", "HexRAM"}},
		{"builder-hex0/builder-hex0-x86-stage2.hex0", []string{"HexAreaStart", "HexAreaEnd"}},
		{"steps/jump/fiwix.sh", []string{"Ramdisk", "KexecWindow", "LinuxKernel", "LinuxInitramfs"}},
		{"steps/kexec-fiwix-1.0/src/kexec-fiwix.c", []string{"RamdiskAddr"}},
	}
	for _, test := range tests {
		t.Run(test.remove, func(t *testing.T) {
			tree := usualTree()
			delete(tree, test.remove)
			limits, _, err := ReadLimits(tree, opener(usualArchive(t)))
			if err != nil {
				t.Fatal(err)
			}
			defaults := basisOf(assumed())
			for _, name := range test.assumed {
				if diff := cmp.Diff(defaults[name], basisOf(limits)[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			count := 0
			for _, n := range basisOf(limits) {
				if n.Basis == Assumed {
					count++
				}
			}
			if count != len(test.assumed) {
				t.Errorf("%d numbers are assumed, want %d", count, len(test.assumed))
			}
		})
	}
	limits, warnings, err := ReadLimits(fstest.MapFS{}, nil)
	if diff := cmp.Diff(assumed(), limits); err != nil || len(warnings) > 0 || diff != "" {
		t.Errorf("an empty tree: error %v, warnings %q (-want +got):\n%s", err, warnings, diff)
	}
}

func TestReadLimitsOddTrees(t *testing.T) {
	tests := []struct {
		name    string
		change  func(fstest.MapFS)
		check   func(Limits) bool
		warning string
	}{
		{"size from the program's default", func(tree fstest.MapFS) {
			tree["steps/jump/fiwix.sh"].Data = []byte("make_fiwix_initrd /boot/fiwix.ext2\n")
		}, func(l Limits) bool { return l.Ramdisk.Value == 262144*kib && l.Ramdisk.Basis == FromTree }, "no kexec_size="},
		{"no ramdisk at all", func(tree fstest.MapFS) { tree["steps/jump/fiwix.sh"].Data = []byte("true\n") },
			func(l Limits) bool { return l.Ramdisk.Basis == Assumed }, "no make_fiwix_initrd -s: a ramdisk of 1381376 KiB is assumed"},
		{"wide offsets", func(tree fstest.MapFS) {
			tree["steps/fiwix-1.5.0/files/custom_config.h"].Data = []byte("#define CONFIG_OFFSET64\n")
		}, func(l Limits) bool { return l.FiwixReach.Value == Unlimited && l.FiwixMemory.Value == 1<<30 }, ""},
		{"two Fiwixes", func(tree fstest.MapFS) {
			tree["steps/fiwix-2.0/files/custom_config.h"] = &fstest.MapFile{Data: []byte("#define NR_OPENS 7\n")}
		}, func(l Limits) bool { return l.FiwixFiles.Value == 3000 }, "steps/fiwix-1.5.0 and steps/fiwix-2.0: only the first"},
		{"a README without limits", func(tree fstest.MapFS) { tree["builder-hex0/README.md"].Data = []byte("no limits\n") },
			func(l Limits) bool { return l.HexFiles.Basis == Assumed }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := usualTree()
			test.change(tree)
			limits, warnings, err := ReadLimits(tree, opener(usualArchive(t)))
			if err != nil || !test.check(limits) {
				t.Errorf("error %v, limits %+v", err, limits)
			}
			if test.warning != "" && !strings.Contains(strings.Join(warnings, "\n"), test.warning) {
				t.Errorf("warnings %q, want %q", warnings, test.warning)
			}
		})
	}
}

func TestReadLimitsErrors(t *testing.T) {
	for name, text := range map[string]string{
		"steps/jump/fiwix.sh":                       "make_fiwix_initrd -s 99999999999\n",
		"builder-hex0/README.md":                    "Only 0 files can be created\n",
		"builder-hex0/builder-hex0-x86-stage2.hex0": "# BBFFFFFF - 54000000 files\n",
		"steps/kexec-fiwix-1.0/src/kexec-fiwix.c":   "mod_start = 0xFFFFFFFFFFFF;\n",
		"steps/fiwix-1.5.0/files/custom_config.h":   strings.Repeat("/* long */", maxTextFile/5),
	} {
		tree := usualTree()
		tree[name].Data = []byte(text)
		_, _, err := ReadLimits(tree, nil)
		var parse *ParseError
		if !errors.As(err, &parse) || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: error %v, want a *ParseError that names it", name, err)
		}
	}
	broken := brokenFS{usualTree()}
	if _, _, err := ReadLimits(broken, nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want fs.ErrPermission", err)
	}
}

// brokenFS opens nothing.
type brokenFS struct{ fs.FS }

func (brokenFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// TestBadArchive wants a warning, and defaults, for everything that is no archive of Fiwix.
func TestBadArchive(t *testing.T) {
	whole := usualArchive(t)
	tests := map[string][]byte{
		"empty":             {},
		"no gzip":           []byte("synthetic filler of some length"),
		"no tar":            gzipped(t, bytes.Repeat([]byte("x"), 4096)),
		"empty tar":         gzipped(t, make([]byte, 1024)),
		"a header missing":  fiwixArchive(t, map[string]string{"config.h": configH}),
		"a header too long": fiwixArchive(t, map[string]string{"config.h": strings.Repeat("//////////", maxTextFile/5), "kparms.h": kparmsH, "limits.h": limitsH}),
		"corrupt":           append(append([]byte{}, whole[:len(whole)/2]...), bytes.Repeat([]byte{0xff}, 100)...),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			limits, warnings, err := ReadLimits(usualTree(), opener(data))
			if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "defaults are assumed") {
				t.Errorf("error %v, warnings %q", err, warnings)
			}
			if limits.CommandLine.Basis != Assumed || limits.FiwixFiles.Value != 3000 {
				t.Errorf("limits %+v %+v", limits.CommandLine, limits.FiwixFiles)
			}
		})
	}
	missing := func() (io.ReadCloser, error) { return nil, fs.ErrNotExist }
	if _, warnings, err := ReadLimits(usualTree(), missing); err != nil || len(warnings) != 1 {
		t.Errorf("error %v, warnings %q", err, warnings)
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestArchiveCutAnywhere cuts the archive at every byte: either all headers were there before the cut, or it is an error.
func TestArchiveCutAnywhere(t *testing.T) {
	whole := usualArchive(t)
	complete := Defines{}
	if err := ReadFiwixArchive(bytes.NewReader(whole), complete); err != nil {
		t.Fatal(err)
	}
	cut := 0
	for n := range whole {
		defines := Defines{}
		err := ReadFiwixArchive(bytes.NewReader(whole[:n]), defines)
		switch {
		case err != nil:
			cut++
		case !cmp.Equal(complete, defines):
			t.Fatalf("cut at %d of %d: no error, and other macros", n, len(whole))
		}
	}
	if cut < len(whole)*9/10 {
		t.Errorf("only %d of %d cuts are errors", cut, len(whole))
	}
}

func FuzzArchive(f *testing.F) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for name, text := range map[string]string{"config.h": configH, "kparms.h": kparmsH, "limits.h": limitsH} {
		_ = archive.WriteHeader(&tar.Header{Name: "f/include/fiwix/" + name, Typeflag: tar.TypeReg, Size: int64(len(text))})
		_, _ = io.WriteString(archive, text)
	}
	_, _ = archive.Close(), zipped.Close()
	if err := ReadFiwixArchive(bytes.NewReader(out.Bytes()), Defines{}); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		defines := Defines{}
		if err := ReadFiwixArchive(bytes.NewReader(data), defines); err != nil {
			return
		}
		if len(defines) > maxDefines {
			t.Errorf("%d macros", len(defines))
		}
	})
}

func TestFirstMedium(t *testing.T) {
	file := func(n int) *fstest.MapFile { return &fstest.MapFile{Data: make([]byte, n)} }
	tree := fstest.MapFS{
		"steps/manifest":                          file(10),
		"steps/a/.gitignore":                      file(11),
		"steps/a/empty":                           file(0),
		"seed/after.kaem":                         file(20),
		"seed/stage0-posix/kaem.x86":              file(30),
		"seed/stage0-posix/x86/hex0_x86.hex0":     file(31),
		"seed/stage0-posix/.github/workflow":      file(32),
		"seed/stage0-posix/bootstrap-seeds/POSIX": file(33),
		"README.rst":                              file(40),
	}
	items, warnings, err := FirstMedium(tree, []Item{{Path: "mes.tar.gz", Size: 50}, {Path: "x", Size: UnknownSize}},
		[]Item{{Path: "/steps/manifest", Size: 12}, {Path: "/steps/p/src/p.c", Size: 13}})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("error %v, warnings %q", err, warnings)
	}
	got := map[string]int64{}
	for _, item := range items {
		if _, twice := got[item.Path]; twice {
			t.Errorf("%s is there twice", item.Path)
		}
		got[item.Path] = item.Size
	}
	want := map[string]int64{
		"/.": 0, "/steps": 0, "/steps/manifest": 12, "/steps/a": 0, "/steps/a/empty": 0, "/steps/p": 0, "/steps/p/src": 0,
		"/steps/p/src/p.c": 13, "/after.kaem": 20, "/kaem.x86": 30, "/x86": 0, "/x86/hex0_x86.hex0": 31,
		"/external": 0, "/external/distfiles": 0, "/external/distfiles/mes.tar.gz": 50, "/external/distfiles/x": -1,
		"/bootstrap-seeds": 0, "/bootstrap-seeds/POSIX": 0, "/bootstrap-seeds/POSIX/x86": 0,
		"/bootstrap-seeds/POSIX/x86/hex0-seed": 256, "/bootstrap-seeds/POSIX/x86/kaem-optional-seed": 640, "/init": 640,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, warnings, err = FirstMedium(fstest.MapFS{"steps/manifest": file(1), "seed/x": file(1)}, nil, nil)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "seed/stage0-posix is missing or empty") {
		t.Errorf("without stage0: error %v, warnings %q", err, warnings)
	}
}

func TestFiwixPackage(t *testing.T) {
	if got := FiwixPackage(usualTree()); got != "steps/fiwix-1.5.0" {
		t.Errorf("package %q", got)
	}
	if got := FiwixPackage(fstest.MapFS{}); got != "" {
		t.Errorf("package %q in an empty tree", got)
	}
}

// TestRealTree holds what is read from live-bootstrap 984b8322 against what is known of it. KINDLING_FIWIX may name the
// real archive of Fiwix 1.5.0-lb1.
func TestRealTree(t *testing.T) {
	dir := os.Getenv("KINDLING_TREE")
	if dir == "" {
		t.Skip("set KINDLING_TREE=DIR (a live-bootstrap checkout with its submodules) to run this test")
	}
	var archive func() (io.ReadCloser, error)
	if name := os.Getenv("KINDLING_FIWIX"); name != "" {
		archive = func() (io.ReadCloser, error) { return os.Open(filepath.Clean(name)) }
	}
	limits, warnings, err := ReadLimits(os.DirFS(dir), archive)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("error %v, warnings %q", err, warnings)
	}
	want := basisOf(assumed())
	for name, n := range basisOf(limits) {
		if n.Value != want[name].Value {
			t.Errorf("%s is %d, the documented default is %d", name, n.Value, want[name].Value)
		}
		fiwix := name == "CommandLine" || name == "CommandLineArg"
		submodule := strings.HasPrefix(name, "Hex") && !exists(dir, "builder-hex0/README.md")
		if n.Basis == Assumed && !submodule && (!fiwix || archive != nil) {
			t.Errorf("%s is assumed: %s", name, n.Source)
		}
	}
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}
