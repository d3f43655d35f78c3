// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kindling/host/assemble"
	"kindling/host/options"
	"kindling/internal/payload"
)

// smallDisks makes the disks of a case small enough to be made often.
func (c modeCase) smallDisks() modeCase {
	c.boot.TargetSize = 160
	if c.boot.Kernel != "" {
		c.boot.TargetSize += 1024 // the partition begins at 1 GiB
	}
	return c
}

func write(t *testing.T, a *assemble.Assembly, dir string) assemble.Result {
	t.Helper()
	result, err := a.Write(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// fileDigest is a digest of the size of a file and of all its blocks that are not zero; where it has holes does not
// count, and they are not read.
func fileDigest(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	fmt.Fprintln(h, info.Size())
	block := make([]byte, 4096)
	for at := int64(0); ; {
		if at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
			return fmt.Sprintf("%x", h.Sum(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		at -= at % int64(len(block))
		n, err := f.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if bytes.IndexFunc(block[:n], func(r rune) bool { return r != 0 }) >= 0 {
			fmt.Fprintln(h, at)
			h.Write(block[:n])
		}
		at += int64(n)
	}
}

// Every medium is the same, byte for byte, wherever the tree is, whenever, by whom and in whichever order its files were
// written.
func TestReproducible(t *testing.T) {
	odd := shape{0o664, time.Unix(1.1e9, 7), true, -1}
	if os.Geteuid() == 0 {
		odd.owner = 1234
	}
	parents := [2]string{t.TempDir(), filepath.Join(t.TempDir(), "another place")}
	trees := [2]small{makeTree(t, parents[0], usualShape()), makeTree(t, parents[1], odd)}
	before := [2]contents{readFolder(t, trees[0].tree, true), readFolder(t, trees[1].tree, true)}
	repo := makeRepo(t)
	for _, c := range modeCases(repo) {
		t.Run(c.name, func(t *testing.T) {
			c := c.smallDisks()
			var digests [2]map[string]string
			for i, s := range trees {
				out := filepath.Join(parents[i], "out", c.name)
				a := c.plan(t, s)
				digests[i] = map[string]string{}
				for _, image := range write(t, a, out).Images {
					if image.Name == "root" {
						for name, what := range readFolder(t, out, true) {
							digests[i][name] = what
						}
						continue
					}
					digests[i][image.Name] = fileDigest(t, image.Path)
				}
				noLeftovers(t, filepath.Dir(out))
			}
			if diff := cmp.Diff(digests[0], digests[1]); diff != "" {
				t.Errorf("two assemblies differ (-first +second):\n%s", diff)
			}
		})
	}
	for i, s := range trees {
		if diff := cmp.Diff(before[i], readFolder(t, s.tree, true)); diff != "" {
			t.Errorf("assembling changed a tree (-before +after):\n%s", diff)
		}
	}
}

// noLeftovers looks for files without a final name.
func noLeftovers(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasPrefix(d.Name(), ".kindling") || strings.HasPrefix(d.Name(), ".init") ||
			strings.HasPrefix(d.Name(), ".payload") || strings.HasPrefix(d.Name(), ".disk") || strings.HasPrefix(d.Name(), ".external")) {
			t.Errorf("left over: %s", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The image as text: everything in it is text but for the boot sector and the padding.
func TestGoldenBoot(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	c := modeCase{boot: bare(nil), payload: options.Payload{Payload: "off"}}
	out := t.TempDir()
	write(t, c.plan(t, s), out)
	data, err := os.ReadFile(filepath.Join(out, "init.img"))
	if err != nil {
		t.Fatal(err)
	}
	start := srcfsStart(t, s.tree)
	end := len(strings.TrimRight(string(data), "\x00"))
	golden(t, "boot.srcfs", string(data[start:end]))
	parts := readBoot(t, filepath.Join(out, "init.img"), start)
	if got := parts.order; len(got) != len(parts.records) || got[0] != "." {
		t.Errorf("order: %q", got)
	}
}

// What is on the disks is what was decided, and e2fsck finds them sound. PATH is an ordinary user's, without mke2fs.
func TestDisks(t *testing.T) {
	t.Setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
	s, repo := makeTree(t, t.TempDir(), shape{0o660, time.Unix(1e9, 0), false, -1}), makeRepo(t)
	for _, c := range modeCases(repo) {
		c := c.smallDisks()
		a := c.plan(t, s)
		out := filepath.Join(t.TempDir(), "out")
		var disks []*assemble.Medium
		for i := range a.Media {
			if a.Media[i].Format == assemble.FormatExt3 {
				disks = append(disks, &a.Media[i])
			}
		}
		if len(disks) == 0 {
			continue
		}
		write(t, a, out)
		for _, m := range disks {
			offset := int64(1 << 20)
			if m.Name == "disk" {
				offset = 1 << 30
			}
			if diff := cmp.Diff(wanted(t, m), readExt3(t, filepath.Join(out, m.File), offset, true)); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", c.name, m.File, diff)
			}
			if m.Name == "disk" {
				ownFiles(t, filepath.Join(out, m.File), offset)
			}
		}
	}
}

// ownFiles looks whether /init and the seed that it is a copy of are two files: with one of two names, a bootstrap that
// rewrites /init would change its seed.
func ownFiles(t *testing.T, image string, offset int64) {
	t.Helper()
	for _, name := range []string{"/init", "/bootstrap-seeds/POSIX/x86/kaem-optional-seed"} {
		out, err := tool(t, "debugfs", "-R", "stat "+name, fmt.Sprintf("%s?offset=%d", image, offset)).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "\nLinks: 1 ") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// wanted is what a medium shall hold, with modes.
func wanted(t *testing.T, m *assemble.Medium) contents {
	t.Helper()
	want := contents{}
	for _, e := range m.Entries {
		switch {
		case e.Dir:
			want[e.Path] = "0755 " + folder
		default:
			src, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(src)
			if err = errors.Join(err, src.Close()); err != nil {
				t.Fatal(err)
			}
			mode := "0644 "
			if e.Exec {
				mode = "0755 "
			}
			want[e.Path] = mode + digestOf(data)
		}
	}
	return want
}

func TestFolder(t *testing.T) {
	s := makeTree(t, t.TempDir(), shape{0o600, time.Unix(1e9, 0), false, -1})
	c := modeCase{boot: bare(func(o *options.Rootfs) { o.BareMetal, o.Chroot = false, true })}
	a := c.plan(t, s)
	out := filepath.Join(t.TempDir(), "deep", "out")
	write(t, a, out)
	want := wanted(t, &a.Media[0])
	if diff := cmp.Diff(want, readFolder(t, out, true)); diff != "" {
		t.Errorf("folder (-want +got):\n%s", diff)
	}
	if _, err := a.Write(t.Context(), out, nil); !errors.Is(err, assemble.ErrOccupied) {
		t.Errorf("into an occupied folder: %v", err)
	}
	// A later stage of the tree's CI brings its distfiles to what an earlier one has left.
	later := bare(func(o *options.Rootfs) {
		o.BareMetal, o.Bwrap, o.InternalCI, o.ExternalSources = false, true, "pass2", true
	})
	b := modeCase{boot: later}.plan(t, s)
	write(t, b, out)
	for name, what := range wanted(t, &b.Media[0]) {
		want[name] = what
	}
	if diff := cmp.Diff(want, readFolder(t, out, true)); diff != "" {
		t.Errorf("folder of a later stage (-want +got):\n%s", diff)
	}
	noLeftovers(t, filepath.Dir(out))
}

// The payload holds what was decided, and its importer gets the parts that bootstrap.cfg names.
func TestPayload(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	for _, c := range modeCases(makeRepo(t)) {
		a := c.smallDisks().plan(t, s)
		if a.Payload == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			write(t, a, out)
			early := imported(t, out, payload.ImportOptions{ID: a.Config.Get("PAYLOAD_ID"), Count: orNone(a.Payload.Early)})
			rest := imported(t, out, payload.ImportOptions{ID: a.Payload.ID, Skip: a.Payload.RestSkip, Count: orNone(a.Payload.Rest)})
			for i, f := range a.Media[len(a.Media)-1].Entries {
				if early[f.Path] != (i < a.Payload.Early) || rest[f.Path] != (i >= a.Payload.RestSkip) {
					t.Errorf("%s: early %t, rest %t", f.Path, early[f.Path], rest[f.Path])
				}
			}
			for _, f := range a.Distfiles {
				if f.Late && !rest[f.Name] {
					t.Errorf("%s is needed on Linux, and the late import does not bring it", f.Name)
				}
			}
		})
	}
}

func orNone(count int) int {
	if count == 0 {
		return payload.CountNone
	}
	return count
}

func imported(t *testing.T, dir string, opt payload.ImportOptions) map[string]bool {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "payload.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	to := t.TempDir()
	if _, err := payload.Import(t.Context(), f, to, opt); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for name := range readFolder(t, to, false) {
		names[name] = true
	}
	return names
}

// A distfile that is not what the tree says, or not what it was, is named, and nothing gets its final name; what was
// there under that name stays.
func TestSpoiledSources(t *testing.T) {
	spoil := map[string]func(string) error{
		"other bytes": func(name string) error { return os.WriteFile(name, []byte("fiwix's sources\n"), 0o644) },
		"longer":      func(name string) error { return os.WriteFile(name, []byte("Fiwix's sources, and more\n"), 0o644) },
		"shorter":     func(name string) error { return os.WriteFile(name, []byte("Fiwix"), 0o644) },
		"gone":        os.Remove,
		"a folder":    func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o755)) },
	}
	formats := []string{"bootstrap", "payload", "kernel", "chroot"} // one case for each
	for _, c := range modeCases(makeRepo(t)) {
		for how, do := range spoil {
			if how != "other bytes" && !slices.Contains(formats, c.name) {
				continue
			}
			for _, victim := range []string{"fiwix-1.0.tar.gz", "linux-1.0.tar.gz"} {
				s := makeTree(t, t.TempDir(), usualShape())
				a := c.smallDisks().plan(t, s)
				if !carries(a, victim) {
					continue
				}
				name := filepath.Join(s.distfiles, victim)
				if victim != "fiwix-1.0.tar.gz" && how == "other bytes" {
					do = func(name string) error { return os.WriteFile(name, []byte("linux's sources\n"), 0o644) }
				}
				if err := do(name); err != nil {
					t.Fatal(err)
				}
				spoiledWrite(t, c.name+", "+victim+" "+how, a, victim)
			}
		}
	}
}

func carries(a *assemble.Assembly, name string) bool {
	for i := range a.Media {
		for _, e := range a.Media[i].Entries {
			if filepath.Base(e.Path) == name {
				return true
			}
		}
	}
	return false
}

func spoiledWrite(t *testing.T, what string, a *assemble.Assembly, victim string) {
	t.Helper()
	out := t.TempDir()
	isFolder := a.Media[0].Format == assemble.FormatFolder
	if !isFolder {
		for i := range a.Media {
			if err := os.WriteFile(filepath.Join(out, a.Media[i].File), []byte("earlier"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	result, err := a.Write(t.Context(), out, nil)
	if err == nil || !strings.Contains(err.Error(), victim) {
		t.Errorf("%s: error %v", what, err)
	}
	if failed := len(result.Images); !isFolder && failed < len(a.Media) {
		data, err := os.ReadFile(filepath.Join(out, a.Media[failed].File))
		if err != nil || string(data) != "earlier" {
			t.Errorf("%s: %s was replaced: %.20q, %v", what, a.Media[failed].File, data, err)
		}
	}
	noLeftovers(t, out)
	if isFolder && len(readFolder(t, out, false)) > 0 {
		t.Errorf("%s: something is in the folder", what)
	}
}

// An interrupted Write leaves nothing behind.
func TestInterrupted(t *testing.T) {
	s, repo := makeTree(t, t.TempDir(), usualShape()), makeRepo(t)
	for _, c := range modeCases(repo) {
		a := c.smallDisks().plan(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		out := t.TempDir()
		if _, err := a.Write(ctx, out, nil); !errors.Is(err, context.Canceled) && !strings.Contains(fmt.Sprint(err), "killed") {
			t.Errorf("%s: %v", c.name, err)
		}
		if left := readFolder(t, out, false); len(left) > 0 {
			t.Errorf("%s: left over: %v", c.name, left)
		}
	}
}

func TestProgress(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	for _, c := range modeCases(makeRepo(t)) {
		a := c.smallDisks().plan(t, s)
		var last assemble.Progress
		if _, err := a.Write(t.Context(), filepath.Join(t.TempDir(), "out"), func(p assemble.Progress) { last = p }); err != nil {
			t.Fatal(err)
		}
		if !c.initrd && (last.Done != last.Total || last.Total == 0) {
			t.Errorf("%s: at the end %+v", c.name, last)
		}
	}
}

func TestRoom(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	c := modeCase{boot: bare(func(o *options.Rootfs) { o.Kernel, o.TargetSize = os.DevNull, 1024+64 })}
	_, err := assemble.Plan(t.Context(), c.options(t, s))
	if !errors.Is(err, assemble.ErrRoom) || !strings.Contains(err.Error(), "--target-size") {
		t.Errorf("a disk with a full journal: %v", err)
	}
	c = modeCase{payload: options.Payload{Payload: "off"}, boot: bare(func(o *options.Rootfs) { o.ExternalSources, o.TargetSize = true, 2048<<10 })}
	if _, err = assemble.Plan(t.Context(), c.options(t, s)); !errors.Is(err, assemble.ErrRoom) || !strings.Contains(err.Error(), "an MBR") {
		t.Errorf("a disk of 2 TiB: %v", err)
	}
}

func TestPreseed(t *testing.T) {
	s := makeTree(t, t.TempDir(), usualShape())
	good := makePreseed(t)
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) string {
		name := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for what, name := range map[string]string{
		"empty": write(nil), "cut": write(data[:700]), "no tar": write([]byte(strings.Repeat("x", 2000))), "gone": good + "x",
		"a gzip that is none": write([]byte("\x1f\x8bxxxx")),
	} {
		c := modeCase{boot: bare(func(o *options.Rootfs) { o.EarlyPreseed = name }), payload: options.Payload{Payload: "off"}}
		if _, err := assemble.Plan(t.Context(), c.options(t, s)); err == nil || !strings.Contains(err.Error(), "--early-preseed") {
			t.Errorf("%s: %v", what, err)
		}
	}
	c := modeCase{boot: bare(func(o *options.Rootfs) { o.Chroot, o.BareMetal, o.EarlyPreseed = true, false, good })}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := c.plan(t, s).Write(t.Context(), out, nil); err != nil {
		t.Fatal(err)
	}
	got := readFolder(t, out, false)
	for name, want := range map[string]string{
		"usr/bin/kaem": digestOf([]byte("\x7fkaem")), "usr/bin/sh": digestOf([]byte("\x7fkaem")), "usr/bin/link": "link kaem",
		"kaem.x86": digestOf([]byte("set -ex\n/script-generator /steps/manifest\n")), "steps/stale": "",
		"external/distfiles/stale": "", "seed.kaem": "",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}
