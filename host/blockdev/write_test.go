// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is an Image in memory.
type memory struct {
	data  []byte
	holes bool // zeros are holes
	size  int64
}

func newMemory(data []byte) *memory { return &memory{data: data, size: int64(len(data))} }

func (m *memory) Size() int64 { return m.size }

func (m *memory) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(b, off)
}

func (m *memory) Hole(off, n int64) bool {
	return m.holes && len(bytes.Trim(m.data[off:off+n], "\x00")) == 0
}

// fakeDisk is a Target in memory, and what was asked of it.
type fakeDisk struct {
	data      []byte
	zeros     bool // it can zero by itself
	calls     []string
	fail      string // the call that fails
	failAfter int    // after so many that do not
	flip      int64  // this byte reads back differently; -1 for none
}

var errDisk = errors.New("disk error")

func newFakeDisk(size int) *fakeDisk {
	return &fakeDisk{data: bytes.Repeat([]byte{0xa5}, size), flip: -1}
}

func (d *fakeDisk) call(name string, args ...any) error {
	d.calls = append(d.calls, strings.TrimSpace(name+" "+strings.Trim(fmt.Sprint(args...), "[]")))
	if name == d.fail {
		if d.failAfter == 0 {
			return errDisk
		}
		d.failAfter--
	}
	return nil
}

func (d *fakeDisk) WriteAt(b []byte, off int64) (int, error) {
	if err := d.call("write", off, len(b)); err != nil {
		return 0, err
	}
	return copy(d.data[off:], b), nil
}

func (d *fakeDisk) Zero(off, n int64) error {
	if !d.zeros {
		return ErrNoZero
	}
	if err := d.call("zero", off, n); err != nil {
		return err
	}
	clear(d.data[off : off+n])
	return nil
}

func (d *fakeDisk) Flush(off, n int64) error {
	if d.fail != "flush" {
		return nil
	}
	return d.call("flush", off, n)
}

func (d *fakeDisk) Sync() error { return d.call("sync") }

func (d *fakeDisk) Forget() error { return d.call("forget") }

func (d *fakeDisk) ReadBack(off, n int64) ([]byte, error) {
	if err := d.call("read", off, n); err != nil {
		return nil, err
	}
	b := bytes.Clone(d.data[off : off+n])
	if d.flip >= off && d.flip < off+n {
		b[d.flip-off] ^= 1
	}
	return b, nil
}

// noise is data of a given size without zeros in a row.
func noise(size int) []byte {
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestCopy(t *testing.T) {
	const chunk = ChunkSize
	odd := noise(chunk + 1234)
	holes := append(append(noise(chunk), make([]byte, 2*chunk)...), 7)
	tests := []struct {
		name   string
		data   []byte
		disk   int
		holes  bool
		zeros  bool
		zeroed int64
		tail   int64
		calls  string
	}{
		{name: "odd size, small disk", data: odd, disk: len(odd) + 512, tail: 512,
			calls: "write 0 4194304,write 4194304 1234,write 4195538 512,sync,forget,read 0 4194304,read 4194304 1234,read 4195538 512"},
		{name: "as large as the disk", data: odd, disk: len(odd),
			calls: "write 0 4194304,write 4194304 1234,sync,forget,read 0 4194304,read 4194304 1234"},
		{name: "large disk", data: odd[:10], disk: 3 * chunk, tail: TailSize,
			calls: "write 0 10,write 11534336 1048576,sync,forget,read 0 10,read 11534336 1048576"},
		{name: "holes", data: holes, disk: len(holes), holes: true, zeros: true, zeroed: 2 * chunk,
			calls: "write 0 4194304,zero 4194304 4194304,zero 8388608 4194304,write 12582912 1,sync,forget," +
				"read 0 4194304,read 4194304 4194304,read 8388608 4194304,read 12582912 1"},
		{name: "holes, disk cannot zero", data: holes, disk: len(holes), holes: true,
			calls: "write 0 4194304,write 4194304 4194304,write 8388608 4194304,write 12582912 1,sync,forget," +
				"read 0 4194304,read 4194304 4194304,read 8388608 4194304,read 12582912 1"},
		{name: "zeros are no holes", data: holes, disk: len(holes), zeros: true,
			calls: "write 0 4194304,write 4194304 4194304,write 8388608 4194304,write 12582912 1,sync,forget," +
				"read 0 4194304,read 4194304 4194304,read 8388608 4194304,read 12582912 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, disk := newMemory(tt.data), newFakeDisk(tt.disk)
			img.holes, disk.zeros = tt.holes, tt.zeros
			var last Progress
			phases := map[Phase]bool{}
			result, err := Copy(t.Context(), img, disk, int64(tt.disk), func(p Progress) {
				if p.Phase == last.Phase && p.Done <= last.Done || p.Total != img.size || p.Done > p.Total {
					t.Errorf("progress %+v after %+v", p, last)
				}
				last, phases[p.Phase] = p, true
			})
			if err != nil {
				t.Fatal(err)
			}
			if last.Phase != Verifying || last.Done != img.size || len(phases) != 3 {
				t.Errorf("progress ends with %+v, phases %v", last, phases)
			}
			want := Result{Size: img.size, SHA256: digest(tt.data), Zeroed: tt.zeroed, Tail: tt.tail}
			if diff := cmp.Diff(want, result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			expected := append(bytes.Clone(tt.data), bytes.Repeat([]byte{0xa5}, tt.disk-len(tt.data))...)
			clear(expected[int64(len(expected))-tt.tail:])
			if !bytes.Equal(expected, disk.data) {
				t.Error("the disk has other bytes than it should")
			}
			if diff := cmp.Diff(strings.Split(tt.calls, ","), disk.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCopyFailures(t *testing.T) {
	data := noise(ChunkSize + 100)
	tests := []struct {
		name   string
		change func(*memory, *fakeDisk)
		is     error
		half   bool // the user hears that the disk is half-written
		text   string
	}{
		{"first write", func(_ *memory, d *fakeDisk) { d.fail = "write" }, errDisk, true, "half-written"},
		{"second write", func(_ *memory, d *fakeDisk) { d.fail, d.failAfter = "write", 1 }, errDisk, true, "half-written"},
		{"tail", func(_ *memory, d *fakeDisk) { d.fail, d.failAfter = "write", 2 }, errDisk, true, "zero the end of the disk"},
		{"flush", func(_ *memory, d *fakeDisk) { d.fail = "flush" }, errDisk, true, "half-written"},
		{"sync", func(_ *memory, d *fakeDisk) { d.fail = "sync" }, errDisk, true, "half-written"},
		{"zero", func(m *memory, d *fakeDisk) { clear(m.data); m.holes, d.zeros, d.fail = true, true, "zero" }, errDisk, true, ""},
		{"image cut", func(m *memory, _ *fakeDisk) { m.data = m.data[:ChunkSize+7] }, io.ErrUnexpectedEOF, true, "read image at byte 4194311"},
		{"forget", func(_ *memory, d *fakeDisk) { d.fail = "forget" }, errDisk, false, "not compared"},
		{"read", func(_ *memory, d *fakeDisk) { d.fail, d.failAfter = "read", 1 }, errDisk, false, "not compared"},
		{"first byte", func(_ *memory, d *fakeDisk) { d.flip = 0 }, ErrDifferent, false, "between bytes 0 and 4194304"},
		{"last byte", func(_ *memory, d *fakeDisk) { d.flip = ChunkSize + 99 }, ErrDifferent, false, "between bytes 4194304 and 4194404"},
		{"tail byte", func(_ *memory, d *fakeDisk) { d.flip = int64(len(d.data)) - 1 }, ErrDifferent, false, "between bytes 11534336 and 12582912"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, disk := newMemory(bytes.Clone(data)), newFakeDisk(3*ChunkSize)
			tt.change(img, disk)
			_, err := Copy(t.Context(), img, disk, int64(len(disk.data)), nil)
			if !errors.Is(err, tt.is) || errors.Is(err, ErrHalfWritten) != tt.half || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v", err)
			}
		})
	}
	disk := newFakeDisk(10)
	if _, err := Copy(t.Context(), newMemory(noise(11)), disk, 10, nil); err == nil || errors.Is(err, ErrHalfWritten) || disk.calls != nil {
		t.Errorf("an image that is too large: %v, %v", err, disk.calls)
	}
}

func TestCopyInterrupted(t *testing.T) {
	data := noise(3 * ChunkSize)
	for _, tt := range []struct {
		phase Phase
		half  bool
	}{{Writing, true}, {Verifying, false}} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Copy(ctx, newMemory(data), newFakeDisk(len(data)), int64(len(data)), func(p Progress) {
			if p.Phase == tt.phase {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrHalfWritten) != tt.half {
			t.Errorf("%s: error %v", tt.phase, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	disk := newFakeDisk(len(data))
	if _, err := Copy(ctx, newMemory(data), disk, int64(len(data)), nil); errors.Is(err, ErrHalfWritten) || disk.calls != nil {
		t.Errorf("ended before it began: %v, %v", err, disk.calls)
	}
}

func TestImageFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("end"), 5*ChunkSize); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(8 * ChunkSize); err != nil {
		t.Fatal(err)
	}
	img, err := OpenImage(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.Size() != 8*ChunkSize {
		t.Errorf("size %d", img.Size())
	}
	var holes []int
	for i := range 8 {
		if img.Hole(int64(i)*ChunkSize, ChunkSize) {
			holes = append(holes, i)
		}
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 6, 7}, holes); diff != "" {
		t.Errorf("holes (-want +got):\n%s", diff)
	}
	if err := f.Truncate(6 * ChunkSize); err != nil {
		t.Fatal(err)
	}
	if img.Hole(6*ChunkSize, ChunkSize) {
		t.Error("what has been cut off since is a hole")
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{empty, dir, "/dev/null", filepath.Join(dir, "none")} {
		if _, err := OpenImage(bad); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
