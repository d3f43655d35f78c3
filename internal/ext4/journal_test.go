// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// debugfs runs commands on an image.
func debugfs(t testing.TB, path string, commands ...string) string {
	t.Helper()
	cmd := exec.Command("/sbin/debugfs", "-w", "-f", "-", path)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("debugfs (e2fsprogs; the Makefile installs it): %v\n%s", err, out)
	}
	return string(out)
}

// unclean makes an image whose journal has changes of three files: one block for "a"; one for "b" that looks like the
// journal's own; one for "c" that is revoked later.
func unclean(t testing.TB, open string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := image(t, dir, "4M", append([]string{"-t", "ext4", "-b", "1024", "-N", "16"}, args...)...)
	commands := []string{open}
	for _, name := range []string{"a", "b", "c"} {
		fields := strings.Fields(debugfs(t, path, "bmap /"+name+" 0"))
		block := make([]byte, 1024)
		copy(block, "new "+name)
		if name == "b" {
			copy(block, "\xc0\x3b\x39\x98")
		}
		staged := filepath.Join(dir, name+".block")
		if err := os.WriteFile(staged, block, 0o644); err != nil {
			t.Fatal(err)
		}
		number := fields[len(fields)-1]
		commands = append(commands, fmt.Sprintf("jw -b %s %s", number, staged))
		if name == "c" {
			commands = append(commands, fmt.Sprintf("jw -r %s", number))
		}
	}
	debugfs(t, path, append(commands, "jc")...)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func recovered(t testing.TB, data []byte) *FS {
	t.Helper()
	fsys, err := Open(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !fsys.NeedsRecovery() {
		t.Fatal("the journal is empty")
	}
	again, err := fsys.Recovered()
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// memory is an image in memory.
type memory []byte

func (m memory) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }

func TestRecovered(t *testing.T) {
	for name, tt := range map[string]struct{ features, open string }{
		"checksums 3": {"metadata_csum,64bit", "jo -c -v 3"}, "checksums 2": {"metadata_csum,^64bit", "jo -c -v 2"},
		"64 bit": {"64bit,^metadata_csum", "jo"}, "plain": {"^metadata_csum,^64bit", "jo"},
	} {
		t.Run(name, func(t *testing.T) {
			data := unclean(t, tt.open, "-O", tt.features)
			before := bytes.Clone(data)
			fsys := recovered(t, data)
			for name, want := range map[string]string{"a": "new a", "b": "\xc0\x3b\x39\x98b", "c": "old c"} {
				if got, err := fsys.ReadFile(name, 5); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v, want %q", name, got, err, want)
				}
			}
			if !bytes.Equal(before, data) {
				t.Error("reading has written")
			}
			if err := fsys.WriteBack(memory(data)); err != nil {
				t.Fatal(err)
			}
			again, err := Open(bytes.NewReader(data))
			if err != nil || again.NeedsRecovery() {
				t.Fatalf("written back: %v, still unclean: %t", err, again.NeedsRecovery())
			}
			if got, err := again.ReadFile("a", 5); err != nil || string(got) != "new a" {
				t.Errorf("written back: %q, %v", got, err)
			}
			path := filepath.Join(t.TempDir(), "img")
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("/sbin/e2fsck", "-f", "-n", path).CombinedOutput(); err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}

// Nothing is written behind the end of a filesystem that claims to be larger than what it is on.
func TestWriteBackInBounds(t *testing.T) {
	data := unclean(t, "jo", "-O", "^metadata_csum,^64bit")
	first, _ := layout(t, data)
	const blocks = superOffset + 4
	binary.LittleEndian.PutUint32(data[blocks:], 2*le32(data, blocks))
	binary.BigEndian.PutUint32(data[first.descriptor+12:], uint32(len(data)/1024)) // the first tag
	before := bytes.Clone(data)
	if err := recovered(t, data).WriteBack(memory(data)); !errors.Is(err, ErrCorrupt) || !bytes.Equal(before, data) {
		t.Errorf("%v, changed: %t", err, !bytes.Equal(before, data))
	}
}

// A ring of blocks can say that it holds more blocks than there are: each descriptor's data being other descriptors.
func TestJournalLies(t *testing.T) {
	const ring, tags, transactions = 1024, 98, 130
	data := make([]byte, ring*1024)
	l := &log{fs: &FS{r: bytes.NewReader(data), blockSize: 1024, blocks: ring}, first: 1, start: 1, sequence: 7}
	for i := range uint64(ring) {
		l.where = append(l.where, i)
	}
	record := func(at uint32, kind, sequence uint32) []byte {
		b := data[at*1024:]
		for i, v := range []uint32{journalMagic, kind, sequence} {
			binary.BigEndian.PutUint32(b[4*i:], v)
		}
		return b[12:]
	}
	at := l.start
	for n := range uint32(transactions) {
		b := record(at, blockDescriptor, l.sequence+n)
		for i := range tags {
			binary.BigEndian.PutUint16(b[8*i+6:], tagSameUUID)
		}
		binary.BigEndian.PutUint16(b[8*(tags-1)+6:], tagSameUUID|tagLast)
		for range tags + 1 {
			at = l.after(at)
		}
		record(at, blockCommit, l.sequence+n)
		at = l.after(at)
	}
	if blocks, err := l.replay(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%d blocks, %v", len(blocks), err)
	}
}

// Whatever a journal says, reading it ends, without a panic and in bounds.
func FuzzJournal(f *testing.F) {
	data := unclean(f, "jo -c")
	fsys := recovered(f, data)
	if got, err := fsys.ReadFile("a", 5); err != nil || string(got) != "new a" {
		f.Fatalf("the seed does not parse: %q, %v", got, err)
	}
	log, err := fsys.openLog()
	if err != nil {
		f.Fatal(err)
	}
	start := uint32(log.where[0]) * 1024
	f.Add(start+0x10, []byte{0x80, 0, 0, 0})
	f.Add(start+0x14, []byte{0, 0, 0, 9})
	f.Add(start+1024+12, []byte{0, 0, 0, 7, 0, 0, 0, 1})
	f.Add(uint32(1024+0xe0), []byte{7})
	f.Add(uint32(1024+0x30), []byte{7})
	_, last := layout(f, data)
	f.Add(uint32(last.commit+600), []byte{7})
	f.Add(uint32(last.descriptor+600), []byte{7})
	f.Fuzz(func(_ *testing.T, at uint32, patch []byte) {
		data := bytes.Clone(data)
		copy(data[int(at)%len(data):], patch)
		fsys, err := Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		fsys, err = fsys.Recovered()
		if err != nil {
			return
		}
		if in, err := fsys.Open("a"); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(in, 1<<16))
		}
		_, _ = fs.ReadDir(fsys, ".")
		_ = fsys.Mend(memory(data))
		_ = fsys.WriteBack(memory(data))
	})
}
