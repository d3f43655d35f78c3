// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package resume

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/internal/event"
)

func raw(paths ...string) []imagefile.Chain {
	var disks []imagefile.Chain
	for _, p := range paths {
		disks = append(disks, imagefile.Chain{{Path: p, Format: imagefile.Raw}})
	}
	return disks
}

// image makes a disk with the files, as a whole ext4.
func image(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, "root", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "disk.img")
	if out, err := exec.Command("/sbin/mke2fs", "-q", "-t", "ext4", "-d", filepath.Join(dir, "root"), path, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs (e2fsprogs; the Makefile installs it): %v\n%s", err, out)
	}
	return path
}

func journal(t *testing.T, events ...event.Event) string {
	t.Helper()
	var out strings.Builder
	for _, e := range events {
		line, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(line)
	}
	return out.String()
}

func kernel(text string) string { return strings.Repeat("\x00", 0x202) + "HdrS" + text }

func TestDisk(t *testing.T) {
	bootable := event.Event{Kind: event.KindStep, Number: 5, Step: "005-improve-make_bootable", Name: "improve: make_bootable", Status: event.StatusOK}
	path := image(t, map[string]string{
		"kindling/journal": journal(t, event.Event{Kind: event.KindPlan, Name: "b", Total: 9}, bootable),
		"kindling/init":    "agent", "kindling/log/005-improve-make_bootable.log": "said",
		"boot/vmlinuz": kernel("x"),
	})
	other := image(t, map[string]string{"etc/passwd": "x"})
	blank := filepath.Join(t.TempDir(), "blank.img")
	if err := errors.Join(os.WriteFile(blank, nil, 0o644), os.Truncate(blank, 1<<20)); err != nil {
		t.Fatal(err)
	}
	d, err := Find(t.Context(), raw(filepath.Join(t.TempDir(), "gone"), blank, other, path), diskimage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Index != 3 || d.History.Next() != 6 || d.History.Total != 9 || d.History.Steps[0].LogSize != 4 {
		t.Errorf("%+v", d)
	}
	log, err := d.Log(d.History.Steps[0])
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(log); err != nil || string(text) != "said" {
		t.Errorf("log: %q, %v", text, err)
	}
	agent, err := d.Agent()
	if err != nil || string(agent) != "agent" {
		t.Errorf("agent: %q, %v", agent, err)
	}
	if image, err := d.Kernel(); err != nil || string(image) != kernel("x") {
		t.Errorf("kernel: %d bytes, %v", len(image), err)
	}
	for sector, want := range map[string]bool{"": false, "GRUB \x00Geom": true} {
		boots(t, path, sector)
		if got, err := d.BootsItself(); err != nil || got != want {
			t.Errorf("boots itself with %q in its first sector: %t, %v", sector, got, err)
		}
	}
	moving := image(t, map[string]string{"kindling/journal": journal(t, event.Event{Kind: event.KindPlan, Name: "b", Total: 9},
		event.Event{Kind: event.KindStep, Number: 4, Step: "004-jump-move_disk", Name: "jump: move_disk", Status: event.StatusStart})})
	if _, err := Find(t.Context(), raw(blank, other, moving), diskimage.Options{}); !errors.Is(err, ErrNoRun) {
		t.Errorf("no run: %v", err)
	}
}

// boots puts a boot sector on a disk.
func boots(t *testing.T, path, text string) {
	t.Helper()
	sector := make([]byte, 512)
	copy(sector[0x180:], text)
	sector[510], sector[511] = 0x55, 0xaa
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(sector, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestKernel(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  error
	}{
		"none":     {map[string]string{}, fs.ErrNotExist},
		"not one":  {map[string]string{"boot/vmlinuz": "#!/bin/sh"}, ErrKernel},
		"cut":      {map[string]string{"boot/vmlinuz": kernel("")[:0x205]}, ErrKernel},
		"a kernel": {map[string]string{"boot/vmlinuz": kernel("")}, nil},
	} {
		tt.files["kindling/journal"] = journal(t, event.Event{Kind: event.KindPlan, Total: 1})
		d, err := Open(t.Context(), raw(image(t, tt.files))[0], diskimage.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Kernel(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCmdline(t *testing.T) {
	for _, tt := range []struct {
		line Cmdline
		want string
	}{
		{Cmdline{PartUUID: "0badcafe-01", Mirrors: []string{"http://10.0.2.2:1", "http://10.0.2.2:2"}, Args: []string{"console=ttyS0"}},
			"root=PARTUUID=0badcafe-01 panic=1 console=ttyS0 rw rootflags=nodelalloc,dioread_lock init=/kindling/init " +
				"kindling.mirrors=http://10.0.2.2:1,http://10.0.2.2:2 kindling.resume rootwait"},
		{Cmdline{}, "panic=1 kindling.resume"},
	} {
		got, err := tt.line.Render()
		if err != nil || got != tt.want {
			t.Errorf("%q, %v, want %q", got, err, tt.want)
		}
	}
}

// Disks that are gone are said to be, and are not taken for those of a run that has not come far.
func TestFindGone(t *testing.T) {
	_, err := Find(t.Context(), raw(filepath.Join(t.TempDir(), "gone.img")), diskimage.Options{})
	if !errors.Is(err, ErrNoRun) || !strings.Contains(err.Error(), "its disks are gone") {
		t.Errorf("got %v", err)
	}
}
