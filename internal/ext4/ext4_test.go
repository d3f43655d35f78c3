// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// sample makes a folder with what a filesystem can hold.
func sample(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, data string, mode fs.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/passwd", "root:x:0:0\n", 0o600)
	write("usr/bin/su", strings.Repeat("program", 3000), fs.ModeSetuid|0o755)
	write("odd/ space \"quote\" \\ \n", "odd", 0o644)
	write("empty", "", 0o444)
	for i := range 300 { // more than one block of a folder
		write(fmt.Sprintf("many/a rather long name for a file, so that they need room %03d", i), fmt.Sprint(i), 0o644)
	}
	links := map[string]string{"bin": "usr/bin", "up": "../../../../etc/passwd", "abs": "/etc/passwd", "usr/bin/sh": "su", "loop": "loop",
		"long": strings.Repeat("usr/../", 40) + "etc/passwd", "x": "etc"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(9) { // fragments, direct and through two levels of a block map
		if _, err := fmt.Fprintf(sparse, "at %d", i); err != nil {
			t.Fatal(err)
		}
		if _, err := sparse.Seek(int64(20_000)<<i, io.SeekStart); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(sparse.Truncate(10_000_000), sparse.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// image makes a filesystem of a folder.
func image(t testing.TB, dir, size string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs.img")
	mke2fs := "/sbin/mke2fs"
	out, err := exec.Command(mke2fs, append(append([]string{"-q", "-F", "-d", dir}, args...), path, size)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s (e2fsprogs; the Makefile installs it): %v\n%s", mke2fs, err, out)
	}
	return path
}

func open(t testing.TB, path string) *FS {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	fsys, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// listing is everything about a tree that is compared.
func listing(t *testing.T, fsys fs.FS) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == "lost+found" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case d.Type() != info.Mode().Type():
			return fmt.Errorf("%s: type %s in the folder, %s in the inode", name, d.Type(), info.Mode())
		case info.Mode().IsRegular():
			f, err := fsys.Open(name)
			if err != nil {
				return err
			}
			sum := sha256.New()
			if _, err := io.Copy(sum, f); err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %x %d", info.Size(), sum.Sum(nil), info.ModTime().Unix())
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := fs.ReadLink(fsys, name)
			if err != nil {
				return err
			}
			text += " -> " + to
		}
		got[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What mke2fs has put in comes out, in every layout that Linux has used for it.
func TestRead(t *testing.T) {
	dir := sample(t)
	want := listing(t, os.DirFS(dir))
	const bytesOnly = "odd/\xff\x1b" // a name that Go's own fs.FS would not take
	if err := os.WriteFile(filepath.Join(dir, bytesOnly), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"ext4":          {"-t", "ext4"},
		"ext4, 1 KiB":   {"-t", "ext4", "-b", "1024"},
		"ext4, 32 bit":  {"-t", "ext4", "-O", "^64bit,^metadata_csum"},
		"ext3":          {"-t", "ext3"},
		"ext2, 1 KiB":   {"-t", "ext2", "-b", "1024"},
		"ext2, rev 0":   {"-t", "ext2", "-r", "0", "-O", "none"},
		"large inodes":  {"-t", "ext4", "-I", "1024"},
		"small groups":  {"-t", "ext4", "-b", "1024", "-g", "2048", "-N", "4000"},
		"64 KiB blocks": {"-t", "ext4", "-b", "65536", "-O", "^has_journal"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := open(t, image(t, dir, "64M", args...))
			got := listing(t, fsys)
			if _, there := got[bytesOnly]; !there {
				t.Errorf("%q is missing", bytesOnly)
			}
			delete(got, bytesOnly)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			for _, name := range []string{"bin/sh", "abs", "up", "long", "usr/../bin/../bin/su"} {
				if info, err := fsys.Stat(name); err != nil || !info.Mode().IsRegular() {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := fsys.Stat("loop"); err == nil {
				t.Error("a loop of links leads somewhere")
			}
			if data, err := fsys.ReadFile("up", 100); err != nil || string(data) != "root:x:0:0\n" {
				t.Errorf("a link that climbs: %q, %v", data, err)
			}
			if _, err := fsys.ReadFile("etc/passwd", 3); !errors.Is(err, ErrTooLarge) {
				t.Errorf("limit: %v", err)
			}
			if _, err := fsys.Open("etc/none"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("missing: %v", err)
			}
		})
	}
}

func TestInterface(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d", "f"), []byte("text"), 0o644)); err != nil {
		t.Fatal(err)
	}
	fsys := open(t, image(t, dir, "256K", "-t", "ext2"))
	// fstest opens ill-formed names and wants them refused, which for a filesystem of any bytes they are not.
	if err := fstest.TestFS(strict{fsys}, "d/f"); err != nil {
		t.Error(err)
	}
}

type strict struct{ *FS }

func (s strict) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return s.FS.Open(name)
}

func (s strict) ReadFile(name string) ([]byte, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return s.FS.ReadFile(name, 1<<20)
}

func TestOpenRefuses(t *testing.T) {
	good, err := os.ReadFile(image(t, t.TempDir(), "128K", "-t", "ext2", "-b", "1024"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		at   int
		data []byte
		want error
	}{
		"magic":      {0x38, []byte{0, 0}, ErrNotExt4},
		"feature":    {0x60, []byte{2, 0x80, 0, 0}, ErrUnsupported},
		"block size": {0x18, []byte{9}, ErrCorrupt},
		"inodes":     {0x28, []byte{0, 0, 0, 0}, ErrCorrupt},
		"inode size": {0x58, []byte{1, 1}, ErrCorrupt},
		"no blocks":  {0x4, []byte{0, 0, 0, 0}, ErrCorrupt},
		"first":      {0x14, []byte{7}, ErrCorrupt},
	} {
		bad := bytes.Clone(good)
		copy(bad[superOffset+tt.at:], tt.data)
		if _, err := Open(bytes.NewReader(bad)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	for n := range 2048 {
		if _, err := Open(bytes.NewReader(good[:n])); err == nil {
			t.Fatalf("cut to %d bytes: opened", n)
		}
	}
}

// Features that are not supported are named, whatever the size of a block is.
func TestUnsupportedFeatures(t *testing.T) {
	for _, block := range []string{"1024", "4096"} {
		for _, feature := range []string{"bigalloc", "inline_data", "meta_bg", "encrypt", "casefold"} {
			f, err := os.Open(image(t, t.TempDir(), "8M", "-t", "ext4", "-b", block, "-O", "^resize_inode,"+feature))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := Open(f); !errors.Is(err, ErrUnsupported) || !strings.HasSuffix(err.Error(), ": "+feature) {
				t.Errorf("%s, blocks of %s bytes: %v", feature, block, err)
			}
		}
	}
	if err := unsupported(1<<31|1<<16|1, incompatNames()); err.Error() != ErrUnsupported.Error()+": compression, encrypt, bit 31" {
		t.Error(err)
	}
}

// Whatever an image says, reading it ends, without a panic and in bounds. The images stay as they are, and the fuzzer
// changes some of their bytes: one that mutates whole images copies them more than it tries them.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d", "f"), []byte("text"), 0o644),
		os.Symlink("d/f", filepath.Join(dir, "l"))); err != nil {
		f.Fatal(err)
	}
	var images []*bytes.Reader
	for _, args := range [][]string{{"-t", "ext2", "-b", "1024", "-N", "16"}, {"-t", "ext4", "-b", "1024", "-N", "16", "-O", "^has_journal,^resize_inode"}} {
		data, err := os.ReadFile(image(f, dir, "128K", args...))
		if err != nil {
			f.Fatal(err)
		}
		images = append(images, bytes.NewReader(data))
		fsys, err := Open(images[len(images)-1])
		if err != nil {
			f.Fatal(err)
		}
		if text, err := fsys.ReadFile("l", 10); err != nil || string(text) != "text" {
			f.Fatalf("a seed does not parse: %q, %v", text, err)
		}
		root, err := fsys.inode(rootInode)
		if err != nil {
			f.Fatal(err)
		}
		folder, err := fsys.locate(root, 0)
		if err != nil {
			f.Fatal(err)
		}
		of := uint8(len(images) - 1)
		f.Add(of, uint32(superOffset+0x58), []byte{0, 1})
		f.Add(of, uint32(folder.at*1024), []byte{3, 0, 0, 0})
	}
	f.Fuzz(func(_ *testing.T, of uint8, at uint32, patch []byte) {
		data := images[int(of)%len(images)]
		fsys, err := Open(patched{data, int64(at) % data.Size(), patch})
		if err != nil {
			return
		}
		seen := 0
		_ = fs.WalkDir(fsys, ".", func(name string, _ fs.DirEntry, _ error) error {
			if seen++; seen > 20 || strings.Count(name, "/") > 20 {
				return fs.SkipAll
			}
			_, _ = fsys.ReadLink(name)
			if in, err := fsys.Open(name); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(in, 1<<14))
			}
			return nil
		})
	})
}
