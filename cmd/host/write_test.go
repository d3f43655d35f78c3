// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/u-root/u-root/pkg/mount/loop"
	"golang.org/x/sys/unix"

	"kindling/host/blockdev"
)

// loopDisk is a loop device and the file behind it. It needs root: without, the test is skipped, but never in CI.
func loopDisk(t *testing.T, size int) (device, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, bytes.Repeat([]byte{'.'}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 20 { // another process may be quicker
		device, err = loop.FindDevice()
		if err == nil {
			err = loop.SetFile(device, file)
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skipf("loop devices need root: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loop.ClearFile(device); err != nil {
			t.Error(err)
		}
	})
	return device, file
}

func TestWrite(t *testing.T) {
	const size = 4 << 20
	device, file := loopDisk(t, size)
	name := filepath.Base(device)
	image := filepath.Join(t.TempDir(), "image")
	data := strings.Repeat("bytes of an image ", 1000)
	writeTestFile(t, image, data)

	for want, args := range map[string][]string{
		"there is no terminal to ask on: give --yes-erase " + name:      {image, device},
		"--yes-erase sdz: the disk's name is " + name + "; nothing was": {image, device, "--yes-erase", "sdz"},
		": name a whole disk, as in /dev/sdX":                           {image, image},
		"is no regular file":                                            {device, device},
		"no such file":                                                  {image, device + "x"},
	} {
		status, stdout, stderr := runMain(t, append([]string{"write"}, args...)...)
		if status != statusUsage || stdout != "" || !strings.Contains(lastLine(stderr), want) {
			t.Errorf("%v: status %d, %q, want %q", args, status, stderr, want)
		}
	}
	if !bytes.Equal(bytes.Repeat([]byte{'.'}, size), []byte(readTestFile(t, file))) {
		t.Fatal("the disk was written to")
	}

	status, stdout, stderr := runMain(t, "write", image, device, "--yes-erase", name, "--json")
	if status != statusOK {
		t.Fatalf("status %d: %s", status, stderr)
	}
	got := parseJSON[written](t, stdout)
	if got.Disk != name || got.Bytes != int64(len(data)) || !got.Verified || got.DiskSize != size || got.Tail != blockdev.TailSize {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(stderr, name+": (no model name) 4.2 MB virtual\n") || !strings.Contains(stderr, "image: "+image+" 18.0 kB, ") {
		t.Errorf("description:\n%s", stderr)
	}
	onDisk := readTestFile(t, file)
	if onDisk[:len(data)] != data || strings.Trim(onDisk[len(data):size-blockdev.TailSize], ".") != "" ||
		strings.Trim(onDisk[size-blockdev.TailSize:], "\x00") != "" {
		t.Error("the disk has other bytes than it should")
	}
	status, stdout, _ = runMain(t, "write", image, device, "--yes-erase", name)
	if status != statusOK || !strings.HasPrefix(stdout, name+": 18.0 kB written, read back and the same, sha256 ") {
		t.Errorf("status %d: %s", status, stdout)
	}

	writeTestFile(t, image, strings.Repeat("x", size+1))
	status, _, stderr = runMain(t, "write", image, device, "--yes-erase", name)
	if want := name + " has 4194304 bytes, the image needs 4194305"; status != statusUsage || !strings.Contains(lastLine(stderr), want) {
		t.Errorf("status %d: %q, want %q", status, stderr, want)
	}
}

// TestWriteOpensFirst has a disk that another program has: that is the error, and no question.
func TestWriteOpensFirst(t *testing.T) {
	device, _ := loopDisk(t, 4<<20)
	image := filepath.Join(t.TempDir(), "image")
	writeTestFile(t, image, "bytes of an image")
	other, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	status, _, stderr := runMain(t, "write", image, device)
	if want := device + ": " + blockdev.ErrBusy.Error() + "; nothing was written"; status != statusUsage || !strings.HasSuffix(lastLine(stderr), want) {
		t.Errorf("status %d: %q, want %q", status, stderr, want)
	}
}

func TestOpenError(t *testing.T) {
	c := &writeCmd{Image: "my image", Device: "/dev/sdb"}
	denied := &fs.PathError{Op: "open", Path: "/dev/sdb", Err: unix.EACCES}
	checkUsage(t, c.openError(denied, false), "open /dev/sdb: permission denied; nothing was written: write as root: "+
		"sudo kindling write 'my image' /dev/sdb")
	if got := c.openError(denied, true).Error(); got != "open /dev/sdb: permission denied; nothing was written" {
		t.Error(got)
	}
	checkUsage(t, c.openError(blockdev.ErrBusy, false), blockdev.ErrBusy.Error()+"; nothing was written")
}

// TestConfirm types at a terminal.
func TestConfirm(t *testing.T) {
	tests := []struct {
		name, typed string
		want        string // part of the error; "" is none
	}{
		{"right", "sdb\n", ""},
		{"with blanks", " sdb \n", ""},
		{"yes", "yes\n", "that is not sdb; nothing was written"},
		{"nothing", "\n", "that is not sdb"},
		{"another", "sdc\n", "that is not sdb"},
		{"path", "/dev/sdb\n", "that is not sdb"},
		{"end of input", "\x04", "no answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			master, terminal, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer master.Close()
			defer terminal.Close()
			if _, err := master.WriteString(tt.typed); err != nil {
				t.Fatal(err)
			}
			screen, err := os.Create(filepath.Join(t.TempDir(), "screen"))
			if err != nil {
				t.Fatal(err)
			}
			defer screen.Close()
			err = (&writeCmd{}).confirm(t.Context(), streams{err: screen}, terminal, "sdb")
			if tt.want == "" && err != nil {
				t.Error(err)
			}
			if tt.want != "" {
				checkUsage(t, err, tt.want)
			}
			if got := readTestFile(t, screen.Name()); got != "Everything on sdb will be lost. Type its name to go on: " {
				t.Errorf("question %q", got)
			}
		})
	}
}

// TestConfirmInterrupted presses Ctrl-C instead of answering.
func TestConfirmInterrupted(t *testing.T) {
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer terminal.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	err = (&writeCmd{}).confirm(ctx, streams{err: null}, terminal, "sdb")
	var exit *exitError
	if !errors.As(err, &exit) || exit.status != 130 {
		t.Errorf("error %v", err)
	}
	_, _ = master.WriteString("\n") // ends the reading
}

func TestInterruptedLine(t *testing.T) {
	half := fmt.Errorf("%w; %w", context.Canceled, blockdev.ErrHalfWritten)
	if got := interruptedLine("sdb", half); got != "interrupted: sdb: "+blockdev.ErrHalfWritten.Error() {
		t.Error(got)
	}
	if got := interruptedLine("sdb", context.Canceled); got != "interrupted: sdb: the image was written, but not compared" {
		t.Error(got)
	}
}

func TestDescribe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	writeTestFile(t, path, "LBPAYLD1 and more")
	image, err := blockdev.OpenImage(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	disk := &blockdev.Disk{
		Name: "sdb", Model: "SanDisk Ultra Fit", Serial: "4C53", Transport: "usb", Removable: true, Size: 30752000000,
		Parts: []blockdev.Part{{Name: "sdb1", Start: 1 << 20, Size: 15e9}},
		Contents: []blockdev.Content{
			{Device: "sdb", Signatures: []blockdev.Signature{{Name: "MBR partition table"}}},
			{Device: "sdb1", Signatures: []blockdev.Signature{{Name: "FAT filesystem", Label: "BOOT"}}},
		},
		Uses: []blockdev.Use{{Device: "sdb1", Kind: blockdev.UseMounted, Where: "/media/x"}},
	}
	var out bytes.Buffer
	if err := describe(&out, disk, "the image", image); err != nil {
		t.Fatal(err)
	}
	want := "sdb: SanDisk Ultra Fit 30.8 GB serial 4C53 usb removable\n" +
		"  sdb                      MBR partition table\n" +
		"  sdb1            15.0 GB  FAT filesystem \"BOOT\"\n" +
		"  sdb1 is mounted on /media/x\n" +
		"image: the image 17 B, LBPAYLD1 payload\n"
	if out.String() != want {
		t.Errorf("description:\n%s\nwant:\n%s", out.String(), want)
	}
	err = refusalError(disk, disk.Refusals(1<<40))
	checkUsage(t, err, "sdb is not written to: sdb has 30752000000 bytes, the image needs 1099511627776; "+
		"sdb1 is mounted on /media/x: unmount it first")
}
