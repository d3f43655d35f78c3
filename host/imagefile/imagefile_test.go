// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package imagefile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q (qemu-utils; the Makefile installs it): %v\n%s", name, args, err, out)
	}
}

// rawImage creates a raw image with data that compresses, data that does not, and zeros.
func rawImage(t testing.TB, size int) string {
	t.Helper()
	data := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	for at := 0; at+8192 < size; at += 8192 * (1 + random.IntN(5)) {
		part := data[at : at+8192]
		if random.IntN(2) == 0 {
			copy(part, strings.Repeat(fmt.Sprintf("at %d. ", at), 8192/10))
			continue
		}
		for i := range part {
			part[i] = byte(random.Uint32())
		}
	}
	return write(t, data)
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a disk,with.img")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// converted creates a qcow2 image of a raw one.
func converted(t testing.TB, raw string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), raw, path)...)
	return path
}

// over creates a layer over an image, with writes to it.
func over(t testing.TB, below Layer, size string, args []string, writes ...string) Layer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "over.qcow2")
	create := append([]string{"create", "-q", "-f", "qcow2", "-b", below.Path, "-F", string(below.Format)}, args...)
	if create = append(create, path); size != "" {
		create = append(create, size)
	}
	run(t, "qemu-img", create...)
	for _, w := range writes {
		run(t, "qemu-io", "-f", "qcow2", "-c", w, path)
	}
	return Layer{path, QCOW2}
}

// checkDisk compares what is read here with what qemu-img makes of the same chain.
func checkDisk(t *testing.T, c Chain) {
	t.Helper()
	back := filepath.Join(t.TempDir(), "back.img")
	run(t, "qemu-img", "convert", "--image-opts", "-O", "raw", c.Options(), back)
	want, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Size() != int64(len(want)) {
		t.Fatalf("size %d, want %d", d.Size(), len(want))
	}
	got := make([]byte, len(want)+1)
	if n, err := d.ReadAt(got, 0); n != len(want) || !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
		t.Errorf("read as a whole: %d bytes, %v, equal: %t", n, err, bytes.Equal(got[:n], want))
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		from := random.IntN(len(want))
		part := make([]byte, random.IntN(min(10000, len(want)-from)+1))
		if n, err := d.ReadAt(part, int64(from)); err != nil || n != len(part) || !bytes.Equal(part, want[from:from+n]) {
			t.Fatalf("%d bytes at %d: %d, %v", len(part), from, n, err)
		}
	}
	if n, err := d.ReadAt(got[:1], d.Size()+5); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d, %v", n, err)
	}
	if stored, err := d.Stored(t.Context()); err != nil || stored < 0 {
		t.Errorf("stored: %d, %v", stored, err)
	}
}

func TestRead(t *testing.T) {
	raw := rawImage(t, 3<<20+512*3)
	checkDisk(t, Chain{{raw, Raw}})
	for name, args := range map[string][]string{
		"version 2":            {"-o", "compat=0.10"},
		"version 2, deflate":   {"-c", "-o", "compat=0.10"},
		"version 3":            nil,
		"deflate":              {"-c"},
		"zstd":                 {"-c", "-o", "compression_type=zstd"},
		"zstd, 2 MiB":          {"-c", "-o", "compression_type=zstd,cluster_size=2M"},
		"zstd, not compressed": {"-o", "compression_type=zstd"},
		"512 bytes":            {"-o", "cluster_size=512"},
		"512 bytes, deflate":   {"-c", "-o", "cluster_size=512"},
		"4 KiB, deflate":       {"-c", "-o", "cluster_size=4k"},
		"2 MiB":                {"-o", "cluster_size=2M"},
		"preallocated":         {"-o", "preallocation=metadata"},
	} {
		t.Run(name, func(t *testing.T) { checkDisk(t, Chain{{converted(t, raw, args...), QCOW2}}) })
	}
}

func TestReadChain(t *testing.T) {
	raw := Layer{rawImage(t, 2<<20), Raw}
	small := []string{"-o", "cluster_size=4k"}
	writes := []string{"write -P 7 5000 70000", "write -z 100k 20k", "write -P 9 1M 512", "discard 1536k 64k"}
	one := over(t, raw, "3M", nil, writes...)
	two := over(t, one, "1M", small, "write -P 8 6000 100", "write -P 0 200k 9k")
	three := over(t, two, "4M", []string{"-o", "compat=0.10"}, "write -P 1 3M 64k")
	packed := Layer{converted(t, raw.Path, "-c"), QCOW2}
	for name, c := range map[string]Chain{
		"two": {one, raw}, "three": {two, one, raw}, "four": {three, two, one, raw},
		"qcow2 below": {over(t, packed, "", nil, writes...), packed},
	} {
		t.Run(name, func(t *testing.T) { checkDisk(t, c) })
	}
}

// The record decides what lies below a layer, not the name in its header.
func TestRecordDecides(t *testing.T) {
	other, recorded := Layer{rawImage(t, 1<<20), Raw}, Layer{write(t, bytes.Repeat([]byte("x"), 1<<20)), Raw}
	top := over(t, other, "", nil)
	checkDisk(t, Chain{top, recorded})
	for name, c := range map[string]Chain{
		"nothing":        {},
		"not on record":  {top},
		"nothing there":  {{converted(t, recorded.Path), QCOW2}, recorded},
		"below raw":      {recorded, other},
		"another format": {{recorded.Path, "vmdk"}},
		"not qcow2":      {{recorded.Path, QCOW2}},
		"no file":        {{t.TempDir(), Raw}},
	} {
		if err := c.Check(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Chain{{fifo, Raw}}).Check(); !errors.Is(err, ErrFormat) {
		t.Errorf("a FIFO: %v", err)
	}
	if err := (Chain{top, {fifo + "x", Raw}}).Check(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that is gone: %v", err)
	}
}

// patch gives a copy of data with bytes at an offset replaced.
func patch(data []byte, at int64, with ...byte) []byte {
	out := bytes.Clone(data)
	copy(out[at:], with)
	return out
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Each way in which a header can lead elsewhere, or cannot be right, is refused by name.
func TestHeaderRefused(t *testing.T) {
	raw := rawImage(t, 1<<20)
	whole := read(t, converted(t, raw))
	backed := func(name string) []byte {
		out := patch(whole, 8, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, byte(len(name)))
		return patch(out, 0x4000, []byte(name)...)
	}
	dataFile := filepath.Join(t.TempDir(), "with-data.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+filepath.Join(t.TempDir(), "data"), dataFile, "1M")
	extended := filepath.Join(t.TempDir(), "extended.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", extended, "1M")
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"backing file":      {backed("/etc/passwd"), "names a backing file"},
		"backing nbd":       {backed("nbd://localhost:10809/x"), "names a backing file"},
		"backing json":      {backed(`json:{"driver":"file"}`), "names a backing file"},
		"data file":         {read(t, dataFile), "external data file"},
		"extended L2":       {read(t, extended), "extended L2"},
		"encryption":        {patch(whole, 32, 0, 0, 0, 2), "encrypted (method 2)"},
		"old encryption":    {patch(whole, 32, 0, 0, 0, 1), "encrypted (method 1)"},
		"damaged":           {patch(whole, 79, 2), "marked as damaged"},
		"unknown feature":   {patch(whole, 72, 0x80), "unknown features"},
		"compression":       {patch(whole, 104, 7), "compression 7"},
		"zstd, not said":    {patch(whole, 104, 1), "compression 1"},
		"zlib, not said":    {patch(whole, 79, 8), "compression 0"},
		"version 1":         {patch(whole, 4, 0, 0, 0, 1), "qcow"},
		"version 4":         {patch(whole, 4, 0, 0, 0, 4), "version 4"},
		"short header":      {patch(whole, 100, 0, 0, 0, 72), "cut"},
		"tiny clusters":     {patch(whole, 20, 0, 0, 0, 8), "2^8"},
		"huge clusters":     {patch(whole, 20, 0, 0, 0, 22), "2^22"},
		"wrapping clusters": {patch(whole, 20, 0xff, 0xff, 0xff, 0xff), "clusters"},
		"negative size":     {patch(whole, 24, 0x80), "bytes with an L1 table"},
		"large size":        {patch(whole, 24, 0, 0, 1), "bytes with an L1 table"},
		"no L1":             {patch(whole, 36, 0, 0, 0, 0), "bytes with an L1 table"},
		"huge L1":           {patch(whole, 36, 0xff, 0xff, 0xff, 0xff), "L1 table"},
		"L1 after the end":  {patch(whole, 40, 0, 0, 0x7f), "L1 table"},
		"negative L1":       {patch(whole, 40, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0), "L1 table"},
		"crooked L1":        {patch(whole, 47, 8), "L1 table"},
	} {
		path := write(t, tt.data)
		c, err := Named(path, "")
		if c != nil || !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), rawHint) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if _, err := Named(path, QCOW2); !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), rawHint) {
			t.Errorf("%s, stated to be qcow2: %v", name, err)
		}
		c, err = Named(path, Raw)
		if err != nil {
			t.Fatalf("%s, stated to be raw: %v", name, err)
		}
		d, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, d.Size())
		if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, tt.data) {
			t.Errorf("%s, stated to be raw: not read as it is: %v", name, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A header that is cut anywhere is refused.
func TestHeaderCut(t *testing.T) {
	raw := rawImage(t, 1<<20)
	for _, args := range [][]string{{"-o", "compat=0.10,cluster_size=512"}, {"-o", "cluster_size=512"}} {
		whole := read(t, converted(t, raw, args...))
		if _, err := newQCOW2(bytes.NewReader(whole), int64(len(whole)), false); err != nil {
			t.Fatal(err)
		}
		for n := range be64(whole, 40) + 8*uint64(be32(whole, 36)) { // up to the end of the L1 table
			if _, err := newQCOW2(bytes.NewReader(whole[:n]), int64(n), false); !errors.Is(err, ErrFormat) {
				t.Fatalf("%q: cut to %d bytes: %v", args, n, err)
			}
		}
	}
}

func TestNamed(t *testing.T) {
	raw := rawImage(t, 1<<20)
	for path, want := range map[string]Format{raw: Raw, converted(t, raw): QCOW2} {
		for _, stated := range []Format{"", want} {
			if c, err := Named(path, stated); err != nil || len(c) != 1 || c[0] != (Layer{path, want}) {
				t.Errorf("%s stated as %q: %v, %v", path, stated, c, err)
			}
		}
	}
	if _, err := Named(raw, "vmdk"); !errors.Is(err, ErrFormat) {
		t.Errorf("vmdk: %v", err)
	}
	if _, err := Named(raw+"x", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	for n := range 12 { // too small for a magic
		if _, err := Named(write(t, bytes.Repeat([]byte("x"), n)), ""); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, s := range signatures() {
		data := make([]byte, 4096)
		at := s.at
		if at < 0 {
			at += int64(len(data))
		}
		path := write(t, patch(data, at, []byte(s.magic)...))
		if _, err := Named(path, ""); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), s.name) {
			t.Errorf("%s: %v", s.name, err)
		}
		if _, err := Named(path, Raw); err != nil {
			t.Errorf("%s, stated to be raw: %v", s.name, err)
		}
	}
}

// What qemu-img itself creates in the other formats is refused by its name.
func TestNamedOthers(t *testing.T) {
	for driver, name := range map[string]string{"qcow": "qcow", "qed": "QED", "vmdk": "VMDK", "vdi": "VDI", "vhdx": "VHDX", "vpc": "VHD", "parallels": "Parallels"} {
		path := filepath.Join(t.TempDir(), "disk")
		run(t, "qemu-img", "create", "-q", "-f", driver, path, "16M")
		if _, err := Named(path, ""); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), ": "+name+", want raw or qcow2") {
			t.Errorf("%s: %v", driver, err)
		}
	}
}

// tables gives an image with clusters of 512 bytes, and where its first L2 table is.
func tables(t testing.TB) (data []byte, l1, l2 int64) {
	t.Helper()
	data = read(t, converted(t, rawImage(t, 64<<10), "-o", "cluster_size=512"))
	l1 = int64(be64(data, 40))
	return data, l1, int64(be64(data, int(l1)) & offsetMask)
}

func TestTablesRefused(t *testing.T) {
	data, l1, l2 := tables(t)
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for name, bad := range map[string][]byte{
		"L1 after the end": patch(data, l1, number(1<<40)...),
		"L2 after the end": patch(data, l2, number(1<<40)...),
		"L2 at the end":    patch(data, l2, number(uint64(len(data)+511)&^511)...),
		"deflate":          patch(data, l2, number(entryCompressed|uint64(l1))...),
		"after the end":    patch(data, l2, number(entryCompressed|1<<50)...),
	} {
		q, err := newQCOW2(bytes.NewReader(bad), int64(len(bad)), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := q.piece(make([]byte, 512), 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	v2 := read(t, converted(t, rawImage(t, 64<<10), "-o", "compat=0.10,cluster_size=512"))
	at := int(be64(v2, int(be64(v2, 40))) & offsetMask)
	v2[at+7] |= entryZero
	q, err := newQCOW2(bytes.NewReader(v2), int64(len(v2)), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.piece(make([]byte, 512), 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a cluster of zeros in version 2: %v", err)
	}
}

// bomb is a qcow2 image of 6 clusters of 64 KiB that maps one of them size/64 KiB times.
func bomb(size int64) []byte {
	const cluster, l1, l2, at = 1 << 16, 3 << 16, 4 << 16, 5 << 16
	data := make([]byte, 6*cluster)
	be := binary.BigEndian
	copy(data, qcow2Magic+"\x00\x00\x00\x03")
	be.PutUint32(data[20:], 16)
	be.PutUint64(data[24:], uint64(size))
	be.PutUint32(data[36:], uint32(size>>29))
	be.PutUint64(data[40:], l1)
	be.PutUint32(data[96:], 4)
	be.PutUint32(data[100:], headerV3)
	for i := range int(size >> 29) {
		be.PutUint64(data[l1+8*i:], 1<<63|l2)
	}
	for i := range cluster / 8 {
		be.PutUint64(data[l2+8*i:], 1<<63|at)
	}
	copy(data[at:], bytes.Repeat([]byte("boom"), cluster/4))
	return data
}

// counting counts the bytes that are read.
type counting struct {
	io.ReaderAt
	bytes int64
}

func (c *counting) ReadAt(b []byte, at int64) (int, error) {
	c.bytes += int64(len(b))
	return c.ReaderAt.ReadAt(b, at)
}

// An image that maps one cluster many times costs nothing to read in places, and its size is refused before it is copied.
func TestBomb(t *testing.T) {
	data := bomb(1 << 40)
	in := &counting{ReaderAt: bytes.NewReader(data)}
	q, err := newQCOW2(in, int64(len(data)), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.piece(make([]byte, 4096), 1<<40-4096); err != nil || in.bytes > 1<<20 {
		t.Errorf("%v, %d bytes were read", err, in.bytes)
	}
	if n, err := q.stored(t.Context()); !errors.Is(err, ErrCorrupt) || in.bytes > 1<<20 {
		t.Errorf("%d, %v, %d bytes were read", n, err, in.bytes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.stored(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	clear(data[4<<16 : 5<<16]) // the same table a million times, with nothing in it
	if n, err := q.stored(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("empty tables: %d, %v", n, err)
	}
}

// patched is an image of which some bytes are others.
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

// Whatever a qcow2 file says, reading it ends, without a panic and in bounds.
func FuzzQCOW2(f *testing.F) {
	raw := rawImage(f, 128<<10)
	var images []*bytes.Reader
	for i, args := range [][]string{
		{"-o", "compat=0.10,cluster_size=512"}, {"-o", "cluster_size=4k"}, {"-c", "-o", "cluster_size=4k"}, {"-c", "-o", "compression_type=zstd,cluster_size=4k"},
	} {
		data := read(f, converted(f, raw, args...))
		images = append(images, bytes.NewReader(data))
		q, err := newQCOW2(images[i], int64(len(data)), false)
		if err != nil {
			f.Fatal(err)
		}
		want, b := read(f, raw), make([]byte, 128<<10)
		if err := (&Disk{layers: []layer{q}, files: []*os.File{nil}}).read(0, b, 0); err != nil || !bytes.Equal(b, want) {
			f.Fatalf("the seed does not parse: %v", err)
		}
		l1 := binary.BigEndian.Uint64(data[40:])
		l2 := be64(data, int(l1)) & offsetMask
		f.Add(uint8(i), uint32(24), []byte{0, 0, 0, 1}, int64(1<<20))
		f.Add(uint8(i), uint32(l1), []byte{0x80, 0, 0, 0}, int64(1000))
		f.Add(uint8(i), uint32(l2), []byte{0x40, 0, 0, 0}, int64(1000))
		f.Add(uint8(i), uint32(be64(data, int(l2))&0xffffff), []byte{7}, int64(0))
	}
	f.Fuzz(func(t *testing.T, of uint8, at uint32, patch []byte, where int64) {
		image := images[int(of)%len(images)]
		q, err := newQCOW2(patched{image, int64(at) % image.Size(), patch}, image.Size(), len(patch)%2 == 1)
		if err != nil {
			return
		}
		for _, from := range []int64{0, where, q.size - 512} {
			if from < 0 {
				continue
			}
			b := make([]byte, 2048)
			n, _, err := q.piece(b, from)
			if err == nil && (n <= 0 || n > len(b)) {
				t.Errorf("%d of %d bytes", n, len(b))
			}
		}
		if n, err := q.stored(t.Context()); err == nil && n > image.Size()<<maxRatio {
			t.Errorf("%d bytes in a file of %d", n, image.Size())
		}
	})
}
