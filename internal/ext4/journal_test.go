// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"bytes"
	"context"
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
	again, err := fsys.Recovered(t.Context())
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

// ring is a journal of blocks of 1 KiB in memory.
type ring struct {
	*log
	data []byte
}

func newRing(blocks uint64) ring {
	data := make([]byte, blocks*1024)
	l := &log{fs: &FS{r: bytes.NewReader(data), blockSize: 1024, blocks: blocks}, first: 1, start: 1, sequence: 7}
	for i := range blocks {
		l.where = append(l.where, i)
	}
	return ring{l, data}
}

// record writes the head of a record and gives the rest of its block.
func (r ring) record(at, kind, sequence uint32) []byte {
	b := r.data[at*1024 : (at+1)*1024]
	for i, v := range []uint32{journalMagic, kind, sequence} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
	return b[12:]
}

// A ring of blocks can claim that it holds more blocks than there are: each descriptor's data being other descriptors.
func TestJournalLies(t *testing.T) {
	const tags, transactions = 98, 130
	l := newRing(1024)
	at := l.start
	for n := range uint32(transactions) {
		b := l.record(at, blockDescriptor, l.sequence+n)
		for i := range tags {
			binary.BigEndian.PutUint16(b[8*i+6:], tagSameUUID)
		}
		binary.BigEndian.PutUint16(b[8*(tags-1)+6:], tagSameUUID|tagLast)
		for range tags + 1 {
			at = l.after(at)
		}
		l.record(at, blockCommit, l.sequence+n)
		at = l.after(at)
	}
	if blocks, err := l.replay(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%d blocks, %v", len(blocks), err)
	}
}

// A journal full of the same revocations costs no more than a number of them: repeated ones count.
func TestJournalRevocations(t *testing.T) {
	const full = (1024 - 16) / 4
	l := newRing(4 * maxRevokes / full)
	for n, at := uint32(0), l.start; at+1 < uint32(len(l.where)); n, at = n+1, at+2 {
		binary.BigEndian.PutUint32(l.record(at, blockRevoke, l.sequence+n), 1024)
		l.record(at+1, blockCommit, l.sequence+n)
	}
	count := &boundedReader{ctx: t.Context(), r: l.fs.r, left: maxReplayRead}
	l.fs.r = count
	if _, err := l.replay(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if read := (maxReplayRead - count.left) / 1024; read > 2*maxRevokes/full+2 {
		t.Errorf("%d blocks were read before it was refused", read)
	}
}

// A journal of a size that mke2fs does not create is refused before anything of it is read, and so is one that is larger
// than its filesystem.
func TestJournalSize(t *testing.T) {
	whole := unclean(t, "jo", "-O", "^metadata_csum,^64bit,^extents")
	fsys, err := Open(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	table := make([]byte, 32)
	if err := fsys.read(table, 2, 0); err != nil {
		t.Fatal(err)
	}
	const journalInode, sizeAt, blocksAt = 8, 4, superOffset + 4
	inode := int64(le32(table, 8))*1024 + (journalInode-1)*fsys.inodeSize
	for _, tt := range []struct {
		size, blocks uint32
		want         error
	}{
		{(maxJournal + 1) << 10, maxJournal * 2, ErrTooLarge}, {8 << 20, 4096, ErrCorrupt}, {1 << 10, 4096, ErrCorrupt},
	} {
		data := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(data[inode+sizeAt:], tt.size)
		binary.LittleEndian.PutUint32(data[blocksAt:], tt.blocks)
		fsys, err := Open(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fsys.Recovered(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("a journal of %d bytes in %d blocks: %v, want %v", tt.size, tt.blocks, err, tt.want)
		}
	}
}

// cancelling ends a context at its n-th read.
type cancelling struct {
	r      io.ReaderAt
	reads  int
	n      int
	cancel context.CancelFunc
}

func (c *cancelling) ReadAt(b []byte, at int64) (int, error) {
	if c.reads++; c.reads == c.n {
		c.cancel()
	}
	return c.r.ReadAt(b, at)
}

// A context that ends during a replay ends it: nothing more is read.
func TestRecoveredCancelled(t *testing.T) {
	data := bytes.NewReader(unclean(t, "jo -c", "-O", "metadata_csum"))
	for n := 2; ; n++ { // the first read is that of Open
		ctx, cancel := context.WithCancel(t.Context())
		in := &cancelling{r: data, n: n, cancel: cancel}
		fsys, err := Open(in)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fsys.Recovered(ctx)
		cancel()
		if err == nil { // it was the last one of the replay, or a later one
			if n < 15 {
				t.Errorf("only %d reads can be cancelled", n-2)
			}
			return
		}
		if !errors.Is(err, context.Canceled) || in.reads != n {
			t.Fatalf("cancelled at read %d: %v after %d reads", n, err, in.reads)
		}
	}
}

// patched is an image of which some bytes are others. Nothing is written to it.
type patched struct {
	*bytes.Reader
	at    int64
	patch []byte
}

func (p patched) ReadAt(b []byte, at int64) (int, error) {
	n, err := p.Reader.ReadAt(b, at)
	if from := max(at, p.at); from < min(at+int64(n), p.at+int64(len(p.patch))) {
		copy(b[from-at:n], p.patch[from-p.at:])
	}
	return n, err
}

func (p patched) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

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
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		image := patched{bytes.NewReader(data), int64(at) % int64(len(data)), patch}
		fsys, err := Open(image)
		if err != nil {
			return
		}
		fsys, err = fsys.Recovered(t.Context())
		if err != nil {
			return
		}
		if in, err := fsys.Open("a"); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(in, 1<<16))
		}
		_, _ = fs.ReadDir(fsys, ".")
		_ = fsys.Mend(image)
		_ = fsys.WriteBack(image)
	})
}
