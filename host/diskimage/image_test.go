// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/imagefile"
	"kindling/host/programs"
	"kindling/internal/ext4"
)

// atGiB is where a bootstrap's partition begins.
const atGiB = 1 << 30

func command(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	path, err := programs.Find(name)
	if err != nil {
		t.Fatalf("%v (the Makefile installs it)", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// disk makes an image with a filesystem from offset on, that holds the file "marker" and a few more.
func disk(t *testing.T, offset int64) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{"src/marker": "old", "src/etc/keep": "kept", "src/steps-x/gone/a": "x", "src/steps-x/same": "same"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "src/link")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a disk?.img") // what e2fsprogs take for options
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if offset > 0 {
		sector := make([]byte, sectorSize)
		binary.LittleEndian.PutUint32(sector[labelID:], 0xdeadbeef)
		entry := sector[labelTable:]
		entry[4] = 0x83
		binary.LittleEndian.PutUint32(entry[8:], uint32(offset/sectorSize))
		binary.LittleEndian.PutUint32(entry[12:], 1<<31) // beyond the end of the image, as builder-hex0's is
		sector[510], sector[511] = 0x55, 0xaa
		if _, err := f.Write(sector); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(offset+32<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	device := (&Image{chain: raw(path), temp: dir, Partition: Partition{Offset: offset}})
	name, err := device.device()
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ = strings.Cut(name, "?")
	command(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-d", filepath.Join(dir, "src"), "-E", "offset="+strconv.FormatInt(offset, 10), name, "32M")
	return path
}

// unclean leaves a change of the file "marker" in the journal, as a machine does that loses its power.
func unclean(t *testing.T, path string, offset int64) {
	t.Helper()
	dir := t.TempDir()
	i := &Image{chain: raw(path), temp: dir, Partition: Partition{Offset: offset}}
	device, err := i.device()
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1024)
	copy(block, "new")
	if err := os.WriteFile(filepath.Join(dir, "block"), block, 0o644); err != nil {
		t.Fatal(err)
	}
	out := command(t, "bmap /marker 0\n", "debugfs", "-f", "-", device)
	fields := strings.Fields(out)
	number := fields[len(fields)-1]
	command(t, "jo -c\njw -b "+number+" "+filepath.Join(dir, "block")+"\njc\n", "debugfs", "-w", "-f", "-", device)
}

func raw(path string) imagefile.Chain { return imagefile.Chain{{Path: path, Format: imagefile.Raw}} }

func open(t *testing.T, path string, o Options) *Image { return openChain(t, raw(path), o) }

func openChain(t *testing.T, c imagefile.Chain, o Options) *Image {
	t.Helper()
	i, err := Open(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func content(t *testing.T, i *Image, name string) string {
	t.Helper()
	data, err := i.ReadFile(name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOpen(t *testing.T) {
	for _, offset := range []int64{0, 1 << 20, atGiB} {
		path := disk(t, offset)
		i := open(t, path, Options{})
		want := ""
		if offset > 0 {
			want = "deadbeef-01"
		}
		if i.Partition.Offset != offset || i.Partition.PartUUID() != want {
			t.Errorf("offset %d: %+v", offset, i.Partition)
		}
		if got := content(t, i, "marker"); got != "old" {
			t.Errorf("offset %d: %q", offset, got)
		}
	}
	for _, size := range []int64{0, 1, 512, 1 << 20} {
		empty := filepath.Join(t.TempDir(), "empty.img")
		if err := errors.Join(os.WriteFile(empty, nil, 0o644), os.Truncate(empty, size)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), raw(empty), Options{}); !errors.Is(err, ErrNoFilesystem) {
			t.Errorf("a blank disk of %d bytes: %v", size, err)
		}
	}
	if _, err := Open(t.Context(), raw(t.TempDir()), Options{}); err == nil {
		t.Error("a folder is no image")
	}
}

// What stands in the journal of an unclean filesystem is seen, and put into place only before something is written.
func TestReplay(t *testing.T) {
	path := disk(t, atGiB)
	unclean(t, path, atGiB)
	before := read(t, path)
	temp := t.TempDir()
	i := open(t, path, Options{Temp: temp})
	if got := content(t, i, "marker"); !strings.HasPrefix(got, "new") {
		t.Errorf("read: %q", got)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 || !bytes.Equal(before, read(t, path)) {
		t.Errorf("reading has changed the image, or left something behind: %v", left)
	}
	i = open(t, path, Options{Write: true, Temp: temp})
	if got := content(t, i, "marker"); !strings.HasPrefix(got, "new") {
		t.Errorf("written back: %q", got)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	device, err := (&Image{chain: raw(path), temp: temp, Partition: Partition{Offset: atGiB}}).device()
	if err != nil {
		t.Fatal(err)
	}
	if out := command(t, "", "e2fsck", "-f", "-n", device); strings.Contains(out, "journal recovery") {
		t.Errorf("e2fsck still sees a journal to replay:\n%s", out)
	}
	if out := command(t, "", "debugfs", "-R", "cat /marker", device); !strings.Contains(out, "new") {
		t.Errorf("debugfs: %q", out)
	}
}

// read reads the data of a sparse file behind the first GiB.
func read(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, atGiB, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestQcow2(t *testing.T) {
	path := disk(t, 1<<20)
	unclean(t, path, 1<<20)
	dir := t.TempDir()
	alone := imagefile.Layer{Path: filepath.Join(dir, "alone.qcow2"), Format: imagefile.QCOW2}
	over := imagefile.Layer{Path: filepath.Join(dir, "over.qcow2"), Format: imagefile.QCOW2}
	command(t, "", "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", path, alone.Path)
	command(t, "", "qemu-img", "create", "-q", "-f", "qcow2", "-b", alone.Path, "-F", "qcow2", over.Path)
	t.Setenv("TMPDIR", filepath.Join(dir, "none")) // nothing is unpacked
	for _, c := range []imagefile.Chain{{alone}, {over, alone}} {
		if got := content(t, openChain(t, c, Options{}), "marker"); !strings.HasPrefix(got, "new") {
			t.Errorf("%s: %q", c.Options(), got)
		}
		if _, err := Open(t.Context(), c, Options{Write: true}); !errors.Is(err, imagefile.ErrFormat) {
			t.Errorf("writing to %s: %v", c.Options(), err)
		}
	}
	for _, c := range []imagefile.Chain{{over}, {alone, over, alone}, {}} {
		if _, err := Open(t.Context(), c, Options{}); !errors.Is(err, imagefile.ErrFormat) {
			t.Errorf("not the files of %s: %v", c.Options(), err)
		}
	}
}

// A machine and this package keep off each other, by QEMU's own locks.
func TestLocks(t *testing.T) {
	path := disk(t, 0)
	i := open(t, path, Options{Write: true})
	if out, err := exec.Command("qemu-io", "-f", "raw", "-c", "write 0 512", path).CombinedOutput(); err == nil {
		t.Errorf("QEMU writes to an image that is open here:\n%s", out)
	}
	if _, err := Open(t.Context(), raw(path), Options{Write: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("open twice: %v", err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	server := exec.Command("qemu-nbd", "-f", "raw", "-k", socket, "-t", path)
	if err := server.Start(); err != nil {
		t.Fatalf("qemu-nbd (qemu-utils; the Makefile installs it): %v", err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	deadline := time.Now().Add(20 * time.Second)
	c, err := net.Dial("unix", socket)
	for ; err != nil; c, err = net.Dial("unix", socket) {
		if time.Now().After(deadline) {
			t.Fatalf("qemu-nbd does not come up: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	defer func() { _ = c.Close() }()
	// qemu-nbd listens before it opens the image and greets after.
	greeting := make([]byte, 8)
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "NBDMAGIC" {
		t.Fatalf("greeting of qemu-nbd: %q, %v", greeting, err)
	}
	if _, err := Open(t.Context(), raw(path), Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("while QEMU has it: %v", err)
	}
}

// A folder of the image becomes what a folder of the host is; nothing else changes.
func TestWrite(t *testing.T) {
	path := disk(t, atGiB)
	src := t.TempDir()
	long := strings.Repeat("0123456789abcdef", 5000)
	for name, data := range map[string]string{"same": "same", "new/deep/f": long, "a b": "space", "gone": "a file where a folder was"} {
		p := filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(data), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("same", filepath.Join(src, "l")); err != nil {
		t.Fatal(err)
	}
	i := open(t, path, Options{Write: true})
	for range 2 {
		changes, err := i.Plan("steps-x", os.DirFS(src))
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Apply(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Apply(t.Context(), []Change{{Path: "etc/new.cfg", Mode: 0o600, Data: []byte("A=b\n")}, {Path: "marker", Remove: true}}); err != nil {
		t.Fatal(err)
	}
	changes, err := i.Plan("steps-x", os.DirFS(src))
	if err != nil || len(changes) > 0 {
		t.Errorf("left to do: %+v, %v", changes, err)
	}
	got := make(map[string]string)
	err = fs.WalkDir(i, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Type() == 0 {
			got[name] = info.Mode().String() + " " + content(t, i, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"etc/keep": "-rw-r--r-- kept", "etc/new.cfg": "-rw------- A=b\n", "steps-x/same": "-rwxr-xr-x same",
		"steps-x/new/deep/f": "-rwxr-xr-x " + long, "steps-x/a b": "-rwxr-xr-x space", "steps-x/gone": "-rwxr-xr-x a file where a folder was"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	check := &Image{chain: raw(path), temp: t.TempDir(), Partition: Partition{Offset: atGiB}}
	device, err := check.device()
	if err != nil {
		t.Fatal(err)
	}
	command(t, "", "e2fsck", "-f", "-n", device)
}

func TestWriteRefuses(t *testing.T) {
	path := disk(t, 0)
	if err := open(t, path, Options{}).Apply(t.Context(), nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("not for writing: %v", err)
	}
}

func TestWriteRefusesChanges(t *testing.T) {
	i := open(t, disk(t, 0), Options{Write: true})
	for name, c := range map[string]Change{
		"a quote":       {Path: `a"b`, Data: []byte("x")},
		"a newline":     {Path: "a\nrm /marker", Data: []byte("x")},
		"a climb":       {Path: "../a", Data: []byte("x")},
		"through link":  {Path: "link/passwd", Data: []byte("x")},
		"through file":  {Path: "marker/x", Data: []byte("x")},
		"no folder":     {Path: "none/x", Data: []byte("x")},
		"device":        {Path: "dev", Mode: fs.ModeDevice},
		"too much":      {Path: "big", Data: bytes.Repeat([]byte("x"), 40<<20)},
		"link's target": {Path: "l2", Mode: fs.ModeSymlink | 0o777, Data: []byte("a\"\nrm /marker")},
	} {
		if err := i.Apply(t.Context(), []Change{c}); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if got := content(t, i, "marker"); got != "old" {
		t.Errorf("marker: %q", got)
	}
}

// The one partition that sfdisk 2.19.1 of the tree's move_disk.sh was seen to write on a disk of 16 GiB. It writes no number
// of the disk, and Linux makes a PARTUUID of 0 as of any other.
func TestPartitionOfSfdisk(t *testing.T) {
	sector := make([]byte, sectorSize)
	sector[510], sector[511] = 0x55, 0xaa
	copy(sector[labelTable:], "\x00\x3f\xe0\xff\x83\x3f\xe0\xff\x00\x00\x20\x00\x00\x00\xe0\x01")
	got, err := partitions(bytes.NewReader(sector), 16<<30)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Partition{{Number: 1, Offset: 1 << 30, Size: 15 << 30}}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if id := got[0].PartUUID(); id != "00000000-01" {
		t.Errorf("PARTUUID=%s", id)
	}
}

func TestPartitions(t *testing.T) {
	sector := make([]byte, sectorSize)
	sector[510], sector[511] = 0x55, 0xaa
	copy(sector[labelTable:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0})
	copy(sector[labelTable+16:], []byte{0, 0, 0, 0, 0x05, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0})
	copy(sector[labelTable+32:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(sector[labelTable+48:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	got, err := partitions(bytes.NewReader(sector), 8192)
	if err != nil {
		t.Fatal(err)
	}
	want := []Partition{{Number: 1, Offset: 512, Size: 1024}, {Number: 4, Offset: 1536, Size: 8192 - 1536}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for n := range sectorSize {
		if got, err := partitions(bytes.NewReader(sector[:n]), int64(n)); err != nil || got != nil {
			t.Fatalf("cut to %d bytes: %v, %v", n, got, err)
		}
	}
}

func FuzzPartitions(f *testing.F) {
	sector := make([]byte, sectorSize)
	copy(sector[labelTable:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0})
	sector[510], sector[511] = 0x55, 0xaa
	if got, err := partitions(bytes.NewReader(sector), 4096); err != nil || len(got) != 1 {
		f.Fatalf("the seed does not parse: %v, %v", got, err)
	}
	f.Add(sector, int64(4096))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		got, err := partitions(bytes.NewReader(data), size)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range got {
			if p.Offset <= 0 || p.Size <= 0 || p.Offset+p.Size > size {
				t.Errorf("%+v in %d bytes", p, size)
			}
		}
	})
}

// converted is a qcow2 image of a raw one, and over a layer that an image gets, with another one's name in its header.
func converted(t *testing.T, from imagefile.Layer) imagefile.Layer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "torn, and.qcow2")
	command(t, "", "qemu-img", "convert", "-f", "raw", "-O", "qcow2", from.Path, path)
	return imagefile.Layer{Path: path, Format: imagefile.QCOW2}
}

func over(t *testing.T, below, named imagefile.Layer) imagefile.Layer {
	t.Helper()
	info, err := os.Stat(below.Path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "over.qcow2")
	create := []string{"create", "-q", "-f", "qcow2", "-b", named.Path, "-F", string(named.Format), path}
	if below.Format == imagefile.Raw {
		create = append(create, strconv.FormatInt(info.Size(), 10))
	}
	command(t, "", "qemu-img", create...)
	return imagefile.Layer{Path: path, Format: imagefile.QCOW2}
}

// disguise writes the header of a qcow2 image that names a backing file into the boot code of a disk, as a guest can.
func disguise(t *testing.T, path, backing string) {
	t.Helper()
	fake := filepath.Join(t.TempDir(), "fake.qcow2")
	command(t, "", "qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-b", backing, "-F", "raw", fake)
	header, err := os.ReadFile(fake)
	if err != nil || !bytes.Contains(header[:labelID], []byte(backing)) {
		t.Fatalf("the header does not fit into the boot code: %v", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(header[:labelID], 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// What a power cut has torn is made whole in the image itself, and nothing else changes in it; damage is left alone.
func TestMend(t *testing.T) {
	image := disk(t, 1<<20)
	unclean(t, image, 1<<20)
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	head := []byte("\xc0\x3b\x39\x98\x00\x00\x00\x02") // of a commit block
	at := bytes.Index(whole, head)
	if at < 0 || bytes.Count(whole, head) != 1 {
		t.Fatal("no commit block")
	}
	tornAt := func(t *testing.T, places ...int) imagefile.Chain {
		data := bytes.Clone(whole)
		for _, p := range places {
			data[p] ^= 0xff
		}
		path := filepath.Join(t.TempDir(), "torn image")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return raw(path)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("secret"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, layers := range map[string]func(imagefile.Chain) imagefile.Chain{
		"raw":      func(c imagefile.Chain) imagefile.Chain { return c },
		"qcow2":    func(c imagefile.Chain) imagefile.Chain { return imagefile.Chain{converted(t, c[0])} },
		"over raw": func(c imagefile.Chain) imagefile.Chain { return append(imagefile.Chain{over(t, c[0], c[0])}, c...) },
		"over both": func(c imagefile.Chain) imagefile.Chain {
			q := converted(t, c[0])
			return imagefile.Chain{over(t, q, q), q}
		},
		// Its header names another file than the record does.
		"over a secret": func(c imagefile.Chain) imagefile.Chain {
			return append(imagefile.Chain{over(t, c[0], imagefile.Layer{Path: secret, Format: imagefile.Raw})}, c...)
		},
		// The guest has written a header to its raw disk, which names another file.
		"disguised": func(c imagefile.Chain) imagefile.Chain { disguise(t, c[0].Path, secret); return c },
		"over one that is disguised": func(c imagefile.Chain) imagefile.Chain {
			c = append(imagefile.Chain{over(t, c[0], c[0])}, c...)
			disguise(t, c[1].Path, secret)
			return c
		},
	} {
		c := layers(tornAt(t, at+600))
		i := openChain(t, c, Options{})
		if i.Torn() == "" {
			t.Fatalf("%s: nothing is torn", name)
		}
		if err := i.Mend(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := content(t, i, "marker"); !strings.HasPrefix(got, "new") || i.Torn() != "" {
			t.Errorf("%s: %q, torn %q", name, got, i.Torn())
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
		back := filepath.Join(t.TempDir(), "back.img")
		command(t, "", "qemu-img", "convert", "--image-opts", "-O", "raw", c.Options(), back)
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got[sectorSize:], whole[sectorSize:]) {
			t.Errorf("%s: the image is not what it was before it was torn: %v", name, err)
		}
		if i := openChain(t, c, Options{}); i.Torn() != "" {
			t.Errorf("%s: repaired, and still torn: %s", name, i.Torn())
		}
	}
	if data, err := os.ReadFile(secret); err != nil || !bytes.Equal(data, bytes.Repeat([]byte("secret"), 1<<20)) {
		t.Errorf("another file of the host was written to: %v", err)
	}
	path := tornAt(t, at-1024)[0].Path // what the whole transaction has written
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), raw(path), Options{Write: true}); !errors.Is(err, ext4.ErrCorrupt) {
		t.Errorf("damage: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("damage was written to: %v", err)
	}
}
