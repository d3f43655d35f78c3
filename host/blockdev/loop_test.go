// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// loopDisk attaches a file of a given size to a loop device and returns the device and the file. It needs root:
// without, the test is skipped, but never in CI.
func loopDisk(t *testing.T, size int64, flags uint32) (device, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	device, err := attach(file, flags)
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skipf("loop devices need root: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := detach(device); err != nil {
			t.Error(err)
		}
	})
	return device, file
}

// attach finds a free loop device; another process may be quicker.
func attach(file string, flags uint32) (string, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer backing.Close()
	for range 20 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", err
		}
		device := fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: 512}
		config.Info.Flags = flags
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err = errors.Join(err, loop.Close()); !errors.Is(err, unix.EBUSY) {
			return device, err
		}
	}
	return "", unix.EBUSY
}

func detach(device string) error {
	loop, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, loop.Fd(), unix.LOOP_CLR_FD, 0)
	if errno != 0 {
		return errors.Join(errno, loop.Close())
	}
	return loop.Close()
}

func imageFile(t *testing.T, data []byte) *ImageFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := OpenImage(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	return img
}

// TestLoopWrite writes to a real block device, with a hole, a size that is no multiple of anything, and old data.
func TestLoopWrite(t *testing.T) {
	const size = 6*ChunkSize + 512
	device, file := loopDisk(t, size, 0)
	if err := os.WriteFile(file, bytes.Repeat([]byte{0xa5}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	data := noise(3*ChunkSize + 777)
	clear(data[ChunkSize : 2*ChunkSize])
	img := imageFile(t, data)
	if _, err := img.file.WriteString("x"); err == nil {
		t.Fatal("an image is open for writing")
	}
	punch(t, img.file.Name(), ChunkSize, ChunkSize)

	host := System()
	disk, err := host.Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	if disk.Size != size || disk.Transport != "virtual" || disk.Path != device || len(disk.Contents) != 1 {
		t.Errorf("disk %+v", disk)
	}
	if refusals := disk.Refusals(img.Size()); refusals != nil {
		t.Fatalf("refused: %v", refusals)
	}
	target, err := host.OpenExclusive(disk)
	if err != nil {
		t.Fatal(err)
	}
	// While it is being written, nobody else gets it.
	if _, err := host.OpenExclusive(disk); !errors.Is(err, ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	result, err := Copy(t.Context(), img, target, disk.Size, nil)
	if err := errors.Join(err, target.Close()); err != nil {
		t.Fatal(err)
	}
	if result.SHA256 != digest(data) || result.Tail != TailSize || result.Zeroed != ChunkSize {
		t.Errorf("result %+v", result)
	}
	want := append(bytes.Clone(data), bytes.Repeat([]byte{0xa5}, size-len(data))...)
	clear(want[size-TailSize:])
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the disk has other bytes than it should")
	}
}

// punch makes a hole.
func punch(t *testing.T, name string, off, n int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
		t.Fatal(err)
	}
}

// TestLoopReadBack changes what is behind the device while the page cache still has what was written: reading back has
// to see the difference.
func TestLoopReadBack(t *testing.T) {
	device, file := loopDisk(t, 2*ChunkSize, 0)
	disk, err := System().Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	target, err := System().OpenExclusive(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	img := newMemory(noise(ChunkSize))
	_, err = Copy(t.Context(), img, target, disk.Size, func(p Progress) {
		if p.Phase != Syncing {
			return
		}
		if err := target.Sync(); err != nil {
			t.Error(err)
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := f.WriteAt([]byte("rotten"), 1000); err != nil {
			t.Error(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	if !errors.Is(err, ErrDifferent) {
		t.Errorf("error %v, want %v", err, ErrDifferent)
	}
}

func TestLoopReadOnly(t *testing.T) {
	device, _ := loopDisk(t, 1<<20, unix.LO_FLAGS_READ_ONLY)
	disk, err := System().Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	if r := disk.Refusals(1); len(r) != 1 || r[0].Reason != ReasonReadOnly {
		t.Errorf("refusals %v", r)
	}
}

// TestLoopMounted mounts a filesystem: the disk is refused, and if the look came before, the kernel refuses it.
func TestLoopMounted(t *testing.T) {
	device, file := loopDisk(t, 8<<20, 0)
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-L", "a name", file)
	if err := findProgram(cmd, "mke2fs"); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	host := System()
	before, err := host.Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Contents) != 1 || len(before.Contents[0].Signatures) != 1 || before.Contents[0].Signatures[0].Label != "a name" {
		t.Errorf("contents %+v", before.Contents)
	}
	point := filepath.Join(t.TempDir(), "mount point")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(device, point, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unmount(point); err != nil {
			t.Error(err)
		}
	}()
	disk, err := host.Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s is mounted on %s: unmount it first", disk.Name, point)
	if len(point) > maxText {
		want = fmt.Sprintf("%s is mounted on %s...: unmount it first", disk.Name, point[:maxText])
	}
	if r := disk.Refusals(1); len(r) != 1 || r[0].Text != want {
		t.Errorf("refusals %v, want %q", r, want)
	}
	if _, err := host.OpenExclusive(before); !errors.Is(err, ErrBusy) {
		t.Errorf("a mounted disk is opened: %v", err)
	}
}

// TestLoopPartition tells the kernel about a partition on a disk and mounts that: the whole disk is refused.
func TestLoopPartition(t *testing.T) {
	const start, size = 1 << 20, 8 << 20
	device, _ := loopDisk(t, 16<<20, 0)
	part := addPartition(t, device, start, size)
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-L", "inside", part)
	if err := findProgram(cmd, "mke2fs"); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	host := System()
	before, err := host.Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(part)
	if diff := cmp.Diff([]Part{{Name: name, Start: start, Size: size}}, before.Parts); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
	want := []Content{{Device: before.Name}, {Device: name, Signatures: []Signature{{"ext4 filesystem", "inside"}}}}
	if diff := cmp.Diff(want, before.Contents); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	point := t.TempDir()
	if err := unix.Mount(part, point, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unmount(point); err != nil {
			t.Error(err)
		}
	}()
	disk, err := host.Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Use{{name, UseMounted, point}}, disk.Uses); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
	if r := disk.Refusals(1); len(r) != 1 || r[0].Reason != ReasonInUse {
		t.Errorf("refusals %v", r)
	}
	if _, err := host.OpenExclusive(before); !errors.Is(err, ErrBusy) {
		t.Errorf("the disk of a mounted partition is opened: %v", err)
	}
	inside, err := host.Inspect(part)
	if err != nil {
		t.Fatal(err)
	}
	if inside.PartOf != disk.Name || inside.Refusals(1)[0].Reason != ReasonPartition {
		t.Errorf("partition %+v", inside)
	}
}

// addPartition tells the kernel (linux/blkpg.h) about a partition; no table has to be on the disk.
func addPartition(t *testing.T, device string, start, size int64) string {
	t.Helper()
	type partition struct {
		start, length int64
		number        int32
		_             [128 + 4]byte // names, which nobody reads, and what the alignment leaves
	}
	type request struct {
		op, flags, size int32
		data            *partition
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &partition{start: start, length: size, number: 1}
	call := func(fd uintptr, op int32) error {
		r := request{op: op, size: int32(unsafe.Sizeof(*p)), data: p}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKPG, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		return nil
	}
	if err := call(f.Fd(), unix.BLKPG_ADD_PARTITION); err != nil {
		t.Fatalf("add partition: %v", err)
	}
	t.Cleanup(func() {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err == nil {
			err = errors.Join(call(f.Fd(), unix.BLKPG_DEL_PARTITION), f.Close())
		}
		if err != nil {
			t.Errorf("delete partition: %v", err)
		}
	})
	name := device + "p1"
	for range 100 { // udev, or the kernel's devtmpfs
		if _, err := os.Stat(name); err == nil {
			return name
		}
		time.Sleep(10 * time.Millisecond)
	}
	var number Number
	if _, err := fmt.Sscanf(attribute("/sys/class/block/"+filepath.Base(name), "dev"), "%d:%d", &number.Major, &number.Minor); err != nil {
		t.Fatalf("partition %s: %v", name, err)
	}
	name = filepath.Join(t.TempDir(), filepath.Base(name)) // a container has a /dev of its own
	if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(number.Major, number.Minor))); err != nil {
		t.Fatal(err)
	}
	return name
}

func unmount(point string) error {
	var err error
	for range 50 {
		if err = unix.Unmount(point, 0); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// TestLoopOnLoop has a loop device behind another one: the lower one is in use.
func TestLoopOnLoop(t *testing.T) {
	lower, _ := loopDisk(t, 1<<20, 0)
	upper, err := attach(lower, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := detach(upper); err != nil {
			t.Error(err)
		}
	}()
	disk, err := System().Inspect(lower)
	if err != nil {
		t.Fatal(err)
	}
	want := Use{Device: filepath.Base(lower), Kind: UseLoop, Where: filepath.Base(upper)}
	if len(disk.Uses) != 1 || disk.Uses[0] != want {
		t.Errorf("uses %v, want %v", disk.Uses, want)
	}
}

// TestLoopSwapped puts another disk behind the name between the look and the opening.
func TestLoopSwapped(t *testing.T) {
	device, file := loopDisk(t, 1<<20, 0)
	disk, err := System().Inspect(device)
	if err != nil {
		t.Fatal(err)
	}
	if err := detach(device); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 2<<20); err != nil {
		t.Fatal(err)
	}
	again, err := attach(file, 0)
	if err != nil {
		t.Fatal(err)
	}
	if again != device {
		t.Logf("the file is at %s now", again)
		t.Cleanup(func() { _ = detach(again) })
		disk.Path = again
	}
	if _, err := System().OpenExclusive(disk); err == nil || !strings.Contains(err.Error(), "is another disk than a moment ago") {
		t.Errorf("error %v", err)
	}
}
