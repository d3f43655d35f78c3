// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package rundir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))

// tree lists everything below dir, folders with a slash, links with their target.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if d.IsDir() {
			name += "/"
		} else if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			name += " -> " + target
		}
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var contents = []string{"console.log", "disks/", "events.jsonl", "qemu.log", "steps/"}

func TestCreateInBase(t *testing.T) {
	base := filepath.Join(t.TempDir(), "runs", "here")
	for range 2 {
		if _, err := Create(Options{Base: base, Label: "demo/../x y", Now: now}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Create(Options{Base: base, Now: now.Add(time.Minute)})
	if err == nil {
		err = d.SetLatest()
	}
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range []string{"20260102T020405Z-demo-..-x-y", "20260102T020405Z-demo-..-x-y-2", "20260102T020505Z"} {
		want = append(want, name+"/")
		for _, c := range contents {
			want = append(want, name+"/"+c)
		}
	}
	want = append(want, "latest -> 20260102T020505Z")
	if diff := cmp.Diff(want, tree(t, base)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !filepath.IsAbs(d.Path()) || d.Path() != filepath.Join(base, "20260102T020505Z") {
		t.Errorf("path %s", d.Path())
	}
}

func TestCreateAtPath(t *testing.T) {
	dir := t.TempDir()
	t.Run("new and empty", func(t *testing.T) {
		if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"new", "empty"} {
			d, err := Create(Options{Path: filepath.Join(dir, name), Label: "ignored", Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(contents, tree(t, d.Path())); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
	t.Run("not empty", func(t *testing.T) {
		_, err := Create(Options{Path: filepath.Join(dir, "new")})
		if !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), filepath.Join(dir, "new")) {
			t.Errorf("error %v, want ErrNotEmpty with the path", err)
		}
	})
	for name, path := range map[string]string{
		"a file": filepath.Join(dir, "new", "console.log"), "no parent": filepath.Join(dir, "a", "b"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Create(Options{Path: path}); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
		})
	}
	if got := tree(t, dir); len(got) != 2*(len(contents)+1) {
		t.Errorf("something is left behind: %q", got)
	}
}

func TestCreateRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	var wins, refusals int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := Create(Options{Path: path})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.Is(err, ErrNotEmpty):
				refusals++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins != 1 || refusals != 15 {
		t.Errorf("%d won, %d were refused", wins, refusals)
	}
	if diff := cmp.Diff(contents, tree(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLatestIsNoLink has a folder where the link shall be.
func TestLatestIsNoLink(t *testing.T) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, Latest), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Create(Options{Base: base, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetLatest(); err == nil || !strings.Contains(err.Error(), "latest") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(d.Path()); err != nil {
		t.Errorf("the run's folder: %v", err)
	}
}

// TestLatestOfStarted has runs that start and runs that do not: the link is about those that do.
func TestLatestOfStarted(t *testing.T) {
	base := t.TempDir()
	create := func(o Options) *Dir {
		d, err := Create(o)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	leadsTo := func(want *Dir) {
		t.Helper()
		if got, err := filepath.EvalSymlinks(filepath.Join(base, Latest)); err != nil || got != want.Path() {
			t.Errorf("latest is %s, %v; want %s", got, err, want.Path())
		}
	}
	live := create(Options{Base: base, Now: now})
	if _, err := os.Lstat(filepath.Join(base, Latest)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link before a run has started: %v", err)
	}
	if err := live.SetLatest(); err != nil {
		t.Fatal(err)
	}
	fails := create(Options{Base: base, Now: now})
	leadsTo(live)
	if err := fails.Discard(); err != nil {
		t.Fatal(err)
	}
	leadsTo(live)
	named := create(Options{Path: filepath.Join(base, "named")})
	if err := named.SetLatest(); err != nil {
		t.Fatal(err)
	}
	leadsTo(live)
	// A user's link to a run with a name of its own is the user's.
	link := filepath.Join(base, Latest)
	if err := errors.Join(os.Remove(link), os.Symlink("named", link), named.Discard()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Errorf("the user's link: %v", err)
	}
}

func TestNames(t *testing.T) {
	d := create(t)
	for got, want := range map[string]string{d.At(ConsoleLog): "console.log", d.At(Disks): "disks", "/elsewhere": "/elsewhere"} {
		if rel := d.Rel(got); rel != want {
			t.Errorf("%s is %s, want %s", got, rel, want)
		}
	}
	if log, err := StepLog("012-build-bash-2.05b-pass1"); err != nil || log != "steps/012-build-bash-2.05b-pass1.log" {
		t.Errorf("step log %s, %v", log, err)
	}
	for _, bad := range []string{"", ".", "..", "a/b", "../x", "a b", "a\x00", "ä", strings.Repeat("x", 201)} {
		if log, err := StepLog(bad); !errors.Is(err, ErrName) {
			t.Errorf("StepLog(%q) = %s, %v", bad, log, err)
		}
	}
}

func TestFiles(t *testing.T) {
	d := create(t)
	for _, text := range []string{"one\n", "two\n"} {
		f, err := d.Append(QEMULog)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := d.Write(Machine, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{QEMULog: "one\ntwo\n", Machine: "{}"} {
		if data, err := d.Read(name, int64(len(want))); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if _, err := d.Read(name, int64(len(want))-1); !errors.Is(err, ErrFile) {
			t.Errorf("%s, too large: %v", name, err)
		}
	}
	if d.Size(QEMULog) != 8 || d.Size("none") != 0 {
		t.Errorf("sizes %d, %d", d.Size(QEMULog), d.Size("none"))
	}
}

func create(t *testing.T) *Dir {
	t.Helper()
	d, err := Create(Options{Path: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Links, pipes and devices in a foreign folder are neither read nor written.
func TestForeignFiles(t *testing.T) {
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := create(t)
	for name, err := range map[string]error{
		"link": os.Symlink(precious, d.At("link")), "pipe": syscall.Mkfifo(d.At("pipe"), 0o600), "folder": os.Mkdir(d.At("folder"), 0o700),
		"inside": os.Symlink(ConsoleLog, d.At("inside")), "sub/file": os.Symlink(t.TempDir(), d.At("sub")), "../x": nil,
	} {
		if err != nil {
			t.Fatal(err)
		}
		if data, err := d.Read(name, 100); err == nil {
			t.Errorf("%s: read %q", name, data)
		}
		if f, err := d.Append(name); err == nil {
			t.Errorf("%s: opened for writing", name)
			f.Close()
		}
	}
	if err := d.Write("link", []byte("new")); err != nil { // the link is replaced, not followed
		t.Error(err)
	}
	if data, err := os.ReadFile(precious); err != nil || string(data) != "precious" {
		t.Errorf("outside: %q, %v", data, err)
	}
}

// A run is its owner's alone, and one that others may have written to is not opened.
func TestTrust(t *testing.T) {
	d := create(t)
	for name, want := range map[string]fs.FileMode{".": 0o700, Steps: 0o700, Disks: 0o700, ConsoleLog: 0o600, Events: 0o600} {
		if info, err := os.Stat(d.At(name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	for _, name := range []string{".", Steps, Disks} {
		if err := os.Chmod(d.At(name), 0o770); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d.Path()); !errors.Is(err, ErrTrust) || !strings.Contains(err.Error(), "chmod -R go-w "+d.At(name)) {
			t.Errorf("%s writable by others: %v", name, err)
		}
		if err := os.Chmod(d.At(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(d.Path(), 1234, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d.Path()); !errors.Is(err, ErrTrust) || !strings.Contains(err.Error(), "belongs to user 1234") {
			t.Errorf("another user's: %v", err)
		}
	}
	linked := create(t)
	if err := errors.Join(os.Remove(linked.At(Disks)), os.Symlink(t.TempDir(), linked.At(Disks))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(linked.Path()); !errors.Is(err, ErrFile) {
		t.Errorf("disks as a link: %v", err)
	}
}

func TestRemove(t *testing.T) {
	base := t.TempDir()
	first, err := Create(Options{Base: base, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Create(Options{Base: base, Label: "x", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Discard(); err != nil {
		t.Fatal(err)
	}
	want := []string{"20260102T020405Z-x/"}
	for _, c := range contents {
		want = append(want, "20260102T020405Z-x/"+c)
	}
	if diff := cmp.Diff(want, tree(t, base)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := second.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(base); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty folder of runs is left: %v", err)
	}
}

func TestOpen(t *testing.T) {
	made, err := Create(Options{Path: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(made.Path())
	if err != nil || d.Path() != made.Path() {
		t.Errorf("Open = %v, %v", d, err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of another folder: %v", err)
	}
}

func TestCleanLabel(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "demo": "demo", "a b/c": "a-b-c", "///": "", "..": "", "ü": "", "x\x00\ny": "x-y",
		strings.Repeat("ab/", 100): strings.Repeat("ab-", 20)[:59],
	} {
		if got := cleanLabel(in); got != want {
			t.Errorf("cleanLabel(%q) = %q, want %q", in, got, want)
		}
	}
}

// A folder that the user made is not the run's to remove.
func TestRemoveKeepsGivenFolder(t *testing.T) {
	path := t.TempDir()
	d, err := Create(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.At("disks/target.img"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
