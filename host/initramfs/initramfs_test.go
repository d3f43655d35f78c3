// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package initramfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

// record is one record read back.
type record struct {
	Ino, Mode, NLink, Rmajor, Rminor uint64
	Name, Data                       string
}

// readBack reads an archive with u-root's reader, which takes a cut archive for a short one: the trailer is looked for
// beforehand. Fields that must be zero everywhere are checked here.
func readBack(t *testing.T, archive []byte) []record {
	t.Helper()
	trailer := append([]byte(cpio.Trailer), 0)
	if i := bytes.LastIndex(archive, trailer); i < 0 || len(archive)-i-len(trailer) >= 4 || len(archive)%4 != 0 {
		t.Fatalf("archive of %d bytes does not end with a trailer", len(archive))
	}
	all, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var got []record
	for _, r := range all {
		if r.UID != 0 || r.GID != 0 || r.MTime != 0 || r.Major != 0 || r.Minor != 0 {
			t.Errorf("%s: not all zero: %s", r.Name, r.Info)
		}
		data, err := io.ReadAll(io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, record{r.Ino, r.Mode, r.NLink, r.Rmajor, r.Rminor, r.Name, string(data)})
	}
	return got
}

func build(t *testing.T, layers ...Layer) []byte {
	t.Helper()
	var buf bytes.Buffer
	sum, err := Write(t.Context(), &buf, layers...)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(buf.Bytes())
	if sum.Size != int64(buf.Len()) || sum.SHA256 != hex.EncodeToString(digest[:]) {
		t.Errorf("summary %+v of %d bytes with sha256 %x", sum, buf.Len(), digest)
	}
	return buf.Bytes()
}

// hostTree makes a small root folder on the host, its entries in the given order.
func hostTree(t *testing.T, order []int, when time.Time) string {
	t.Helper()
	dir := t.TempDir()
	makers := []func() error{
		func() error { return os.WriteFile(filepath.Join(dir, "usr/bin/bash"), []byte("#!bash"), 0o755) },
		func() error { return os.Symlink("usr/bin", filepath.Join(dir, "bin")) },
		func() error {
			return os.WriteFile(filepath.Join(dir, "usr/bin-x"), []byte("sorts before usr/bin/"), 0o600)
		},
		func() error {
			name := filepath.Join(dir, "usr/bin/su")
			// Chmod after writing: the umask has no say in the sources' modes.
			return errors.Join(os.WriteFile(name, []byte("su"), 0o755), os.Chmod(name, 0o755|fs.ModeSetuid))
		},
		func() error { return os.Mkdir(filepath.Join(dir, "empty"), 0o700) },
		func() error { return os.WriteFile(filepath.Join(dir, "usr/void"), nil, 0o644) },
	}
	if err := os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, i := range order {
		if err := makers[i](); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(name, when, when)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRoundTrip(t *testing.T) {
	host := hostTree(t, []int{0, 1, 2, 3, 4, 5}, time.Unix(1e9, 0))
	embedded := fstest.MapFS{
		"0.sh":             {Data: []byte("#!/bin/bash\n")},
		"manifest":         {Data: []byte("build: x\n")},
		"packages/x/run":   {Data: []byte{0x7f}, Mode: 0o555},
		"packages/x/short": {Data: []byte("#")},
	}
	archive := build(t, Dir(host, ""), FS(embedded, "steps"), Files(append(EarlyDevices(),
		Regular("/usr/bin/bash", 0o700, []byte("later wins")),
		HostFile("kindling/init", 0o755, filepath.Join(host, "usr/bin/su")),
		Directory("tmp", 0o777|fs.ModeSticky),
		Symlink("init", "kindling/init"),
		BlockDevice("dev/sda", 0o660, 8, 0),
	)...))
	want := []record{
		{1, 0o120777, 1, 0, 0, "bin", "usr/bin"},
		{2, 0o040755, 2, 0, 0, "dev", ""},
		{3, 0o020600, 1, 5, 1, "dev/console", ""},
		{4, 0o020666, 1, 1, 3, "dev/null", ""},
		{5, 0o060660, 1, 8, 0, "dev/sda", ""},
		{6, 0o040700, 2, 0, 0, "empty", ""},
		{7, 0o120777, 1, 0, 0, "init", "kindling/init"},
		{8, 0o040755, 2, 0, 0, "kindling", ""},
		{9, 0o100755, 1, 0, 0, "kindling/init", "su"},
		{10, 0o040755, 2, 0, 0, "steps", ""},
		{11, 0o100755, 1, 0, 0, "steps/0.sh", "#!/bin/bash\n"},
		{12, 0o100644, 1, 0, 0, "steps/manifest", "build: x\n"},
		{13, 0o040755, 2, 0, 0, "steps/packages", ""},
		{14, 0o040755, 2, 0, 0, "steps/packages/x", ""},
		{15, 0o100755, 1, 0, 0, "steps/packages/x/run", "\x7f"},
		{16, 0o100644, 1, 0, 0, "steps/packages/x/short", "#"},
		{17, 0o041777, 2, 0, 0, "tmp", ""},
		{18, 0o040755, 2, 0, 0, "usr", ""},
		{19, 0o040755, 2, 0, 0, "usr/bin", ""},
		{20, 0o100600, 1, 0, 0, "usr/bin-x", "sorts before usr/bin/"},
		{21, 0o100700, 1, 0, 0, "usr/bin/bash", "later wins"},
		{22, 0o104755, 1, 0, 0, "usr/bin/su", "su"},
		{23, 0o100644, 1, 0, 0, "usr/void", ""},
	}
	if diff := cmp.Diff(want, readBack(t, archive)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	checkWithCpio(t, archive, want)
}

// checkWithCpio lists and unpacks the archive with GNU cpio.
func checkWithCpio(t *testing.T, archive []byte, want []record) {
	t.Helper()
	exe, err := exec.LookPath("cpio")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("GNU cpio is missing: install the package cpio")
		}
		t.Log("NOT CHECKED with GNU cpio: install the package cpio")
		return
	}
	cmd := exec.CommandContext(t.Context(), exe, "-t", "--quiet")
	cmd.Stdin = bytes.NewReader(archive)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cpio -t: %v", err)
	}
	var names strings.Builder
	for _, r := range want {
		fmt.Fprintln(&names, r.Name)
	}
	if diff := cmp.Diff(names.String(), string(out)); diff != "" {
		t.Errorf("cpio -t (-want +got):\n%s", diff)
	}
	dir := t.TempDir()
	cmd = exec.CommandContext(t.Context(), exe, "-id", "--quiet", "usr/bin/*", "bin", "steps/*")
	cmd.Stdin, cmd.Dir = bytes.NewReader(archive), dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio -i: %v\n%s", err, out)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "bin/bash")); err != nil || string(data) != "later wins" {
		t.Errorf("unpacked by cpio: %q, %v", data, err)
	}
}

func TestDeterministic(t *testing.T) {
	files := []File{Regular("a", 0o644, []byte("1")), Directory("d", 0o755), Regular("d/b", 0o644, []byte("2"))}
	reversed := []File{files[2], files[0], files[1]}
	first := build(t, Dir(hostTree(t, []int{0, 1, 2, 3, 4, 5}, time.Unix(1e9, 5)), ""), Files(files...))
	second := build(t, Dir(hostTree(t, []int{5, 3, 4, 1, 2, 0}, time.Unix(1.7e9, 0)), ""), Files(reversed...))
	if !bytes.Equal(first, second) {
		t.Errorf("two builds differ:\n%s", cmp.Diff(readBack(t, first), readBack(t, second)))
	}
	if bytes.Contains(first, []byte(os.TempDir())) {
		t.Error("a path of the host is in the archive")
	}
}

// The bytes themselves are pinned: a change of u-root's writer or of ours must not go unnoticed.
func TestGoldenBytes(t *testing.T) {
	archive := build(t, Files(Regular("etc/x", 0o644, []byte("hello")), CharDevice("null", 0o666, 1, 3)))
	want := "070701" + "00000001" + "000041ED" + strings.Repeat("0", 16) + "00000002" + strings.Repeat("0", 48) +
		"00000004" + "00000000" + "etc\x00\x00\x00" +
		"070701" + "00000002" + "000081A4" + strings.Repeat("0", 16) + "00000001" + "00000000" + "00000005" +
		strings.Repeat("0", 32) + "00000006" + "00000000" + "etc/x\x00" + "hello\x00\x00\x00" +
		"070701" + "00000003" + "000021B6" + strings.Repeat("0", 16) + "00000001" + "00000000" + "00000000" +
		strings.Repeat("0", 16) + "00000001" + "00000003" + "00000005" + "00000000" + "null\x00\x00" +
		"070701" + strings.Repeat("0", 88) + "0000000B" + "00000000" + "TRAILER!!!\x00\x00\x00\x00"
	if diff := cmp.Diff(want, string(archive)); diff != "" {
		t.Errorf("bytes (-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	file := func(name string) Layer { return Files(Regular(name, 0o644, nil)) }
	link := Files(Symlink("lib", "usr/lib"))
	tests := []struct {
		name   string
		layers []Layer
		is     error
	}{
		{"climbing", []Layer{file("../x")}, ErrPath},
		{"climbing inside", []Layer{file("a/../../x")}, ErrPath},
		{"root itself", []Layer{file("/")}, ErrPath},
		{"two slashes", []Layer{file("//x")}, ErrPath},
		{"empty element", []Layer{file("a//x")}, ErrPath},
		{"dot element", []Layer{file("a/./x")}, ErrPath},
		{"slash at the end", []Layer{file("a/")}, ErrPath},
		{"NUL", []Layer{file("a\x00b")}, ErrPath},
		{"no UTF-8", []Layer{file("a\xff")}, ErrPath},
		{"end mark", []Layer{file("TRAILER!!!")}, ErrPath},
		{"long name", []Layer{file(strings.Repeat("x/", 2500) + "x")}, ErrPath},
		{"climbing prefix", []Layer{FS(fstest.MapFS{"x": {}}, "../up")}, ErrPath},
		{"empty link", []Layer{Files(Symlink("a", ""))}, ErrPath},
		{"NUL in a link", []Layer{Files(Symlink("a", "b\x00"))}, ErrPath},
		{"file over directory", []Layer{file("a/b"), file("a")}, ErrConflict},
		{"directory over file", []Layer{file("a"), Files(Directory("a", 0o755))}, ErrConflict},
		{"below a file", []Layer{file("a"), file("a/b")}, ErrConflict},
		{"through a link", []Layer{link, file("lib/x")}, ErrConflict},
		{"directory over a link", []Layer{link, Files(Directory("lib", 0o755))}, ErrConflict},
		{"link over a directory", []Layer{file("lib/x"), link}, ErrConflict},
		{"device number", []Layer{Files(CharDevice("a", 0o600, 4096, 0))}, ErrLimit},
		{"named pipe", []Layer{Files(File{Path: "a", Mode: fs.ModeNamedPipe})}, ErrKind},
		{"link in an embedded tree", []Layer{FS(fstest.MapFS{"x": {Mode: fs.ModeSymlink, Data: []byte("y")}}, "")}, ErrKind},
		{"directory as content", []Layer{Files(HostFile("a", 0o644, t.TempDir()))}, ErrKind},
		{"missing content", []Layer{Files(HostFile("a", 0o644, "/nonexistent/x"))}, fs.ErrNotExist},
		{"missing layer", []Layer{Dir("/nonexistent/dir", "")}, fs.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Write(t.Context(), io.Discard, tt.layers...)
			if !errors.Is(err, tt.is) || strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 600 {
				t.Errorf("error %q, want %v in one line", err, tt.is)
			}
		})
	}
}

func TestOverride(t *testing.T) {
	archive := build(t,
		Files(Symlink("x", "y"), Regular("f", 0o644, []byte("old")), Directory("d", 0o700), Regular("d/f", 0o600, nil)),
		Files(Regular("x", 0o755, []byte("file")), Symlink("f", "x"), Directory("d", 0o755)))
	want := []record{
		{1, 0o040755, 2, 0, 0, "d", ""},
		{2, 0o100600, 1, 0, 0, "d/f", ""},
		{3, 0o120777, 1, 0, 0, "f", "x"},
		{4, 0o100755, 1, 0, 0, "x", "file"},
	}
	if diff := cmp.Diff(want, readBack(t, archive)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	// A directory that a later layer only passes through keeps the mode it was given.
	archive = build(t, Files(Directory("d", 0o700)), Files(Regular("d/f", 0o600, nil)))
	if got := readBack(t, archive)[0].Mode; got != 0o040700 {
		t.Errorf("mode of a passed directory: %o", got)
	}
}

func TestSpecialFilesOfTheHost(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), io.Discard, Dir(dir, "")); !errors.Is(err, ErrKind) {
		t.Errorf("named pipe: %v", err)
	}
	target := hostTree(t, []int{0}, time.Unix(1e9, 0))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(build(t, Dir(target, "")), build(t, Dir(link, ""))) {
		t.Error("a layer named by a link differs from the layer itself")
	}
}

// A sparse file of more than 4 GiB costs nothing to make; its size does not fit the header.
func TestHugeFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "huge")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, MaxFileSize+1); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: no sparse files here: %v", err)
	}
	for _, layer := range []Layer{Dir(dir, ""), Files(HostFile("x", 0o644, name))} {
		if _, err := Write(t.Context(), io.Discard, layer); !errors.Is(err, ErrLimit) {
			t.Errorf("file of 4 GiB: %v", err)
		}
	}
}

// oneAtATime is an fs.FS that notes how many files are open at once.
type oneAtATime struct {
	fstest.MapFS
	open, most int
}

func (o *oneAtATime) Open(name string) (fs.File, error) {
	f, err := o.MapFS.Open(name)
	if err != nil {
		return nil, err
	}
	o.open++
	o.most = max(o.most, o.open)
	return &noted{f, o}, nil
}

// noted has no ReadAt, as an fs.File need not have one.
type noted struct {
	fs.File
	o *oneAtATime
}

func (n *noted) Close() error {
	n.o.open--
	return n.File.Close()
}

func TestFilesAreOpenedOneAfterAnother(t *testing.T) {
	o := &oneAtATime{MapFS: fstest.MapFS{}}
	for i := range 50 {
		o.MapFS[fmt.Sprintf("f%02d", i)] = &fstest.MapFile{Data: []byte{byte(i)}}
	}
	if got := len(readBack(t, build(t, FS(o, "")))); got != 50 {
		t.Errorf("%d records", got)
	}
	if o.open != 0 || o.most > 1 {
		t.Errorf("%d files left open, %d at once", o.open, o.most)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "initramfs.cpio")
	src := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(src, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := Create(t.Context(), name, Files(HostFile("f", 0o644, src)))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(archive)) != sum.Size || sum.Entries != 1 || len(readBack(t, archive)) != 1 {
		t.Errorf("%d bytes, summary %+v", len(archive), sum)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	failures := map[string]struct {
		ctx    context.Context
		layers []Layer
	}{
		"bad layer":  {t.Context(), []Layer{Files(Regular("../x", 0o644, nil))}},
		"cancelled":  {cancelled, []Layer{Files(HostFile("f", 0o644, src))}},
		"grown file": {t.Context(), []Layer{Files(HostFile("f", 0o644, src)), changing{src, "longer content"}}},
		"cut file":   {t.Context(), []Layer{Files(HostFile("f", 0o644, src)), changing{src, "c"}}},
		"file gone":  {t.Context(), []Layer{Files(HostFile("f", 0o644, src)), changing{src, ""}}},
	}
	for what, f := range failures {
		if err := os.WriteFile(src, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(f.ctx, name, f.layers...); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line", what, err)
		}
		after, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(after, archive) {
			t.Errorf("%s: the earlier archive is not as it was: %v", what, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: left in the folder: %v, %v", what, entries, err)
		}
	}
	if _, err := Create(t.Context(), filepath.Join(dir, "absent", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

// changing is a layer without entries that changes a host file which an earlier layer has listed.
type changing struct{ name, data string }

func (c changing) addTo(*tree) error {
	if c.data == "" {
		return os.Remove(c.name)
	}
	return os.WriteFile(c.name, []byte(c.data), 0o644)
}

func FuzzFileName(f *testing.F) {
	for _, seed := range []string{"a", "usr/bin/bash", "/init"} {
		if _, err := Write(context.Background(), io.Discard, Files(Regular(seed, 0o644, nil))); err != nil {
			f.Fatalf("seed %q: %v", seed, err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		var buf bytes.Buffer
		if _, err := Write(t.Context(), &buf, Files(Regular(name, 0o644, []byte("x")))); err != nil {
			return
		}
		records := readBack(t, buf.Bytes())
		if got := records[len(records)-1].Name; got != strings.TrimPrefix(name, "/") {
			t.Errorf("%q became %q", name, got)
		}
		for _, r := range records {
			if !fs.ValidPath(r.Name) {
				t.Errorf("record %q", r.Name)
			}
		}
	})
}

func TestAgent(t *testing.T) {
	want := []File{{Path: "/home/agent", Mode: 0o755, Data: []byte("x")}, {Path: "init", Mode: 0o755, Data: []byte("#!/home/agent\n")}}
	if diff := cmp.Diff(want, Agent(Regular("/home/agent", 0o755, []byte("x")))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Each boot has a seed of its own, appended to a copy of an archive that stays as it is.
func TestWithSeed(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "a.cpio")
	if _, err := Create(t.Context(), archive, Files(Regular("init", 0o755, []byte("agent")))); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	var boots [][]byte
	for _, name := range []string{"1.cpio", "2.cpio"} {
		dst := filepath.Join(dir, name)
		if err := WithSeed(t.Context(), dst, archive); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(dst)
		if info, statErr := os.Stat(dst); err != nil || statErr != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v, %v", info, err, statErr)
		}
		if !bytes.HasPrefix(data, before) || !bytes.Contains(data[len(before):], []byte(SeedPath)) {
			t.Errorf("%s is not the archive with a seed appended", name)
		}
		boots = append(boots, data)
	}
	if bytes.Equal(boots[0], boots[1]) {
		t.Error("two boots have the same seed")
	}
	if after, err := os.ReadFile(archive); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the archive has changed: %v", err)
	}
}
