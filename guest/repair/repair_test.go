// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package repair

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packed makes a package archive of headers; a regular file's content is its Linkname field.
func packed(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		data := ""
		if h.Typeflag == tar.TypeReg {
			data, h.Linkname = h.Linkname, ""
			h.Size = int64(len(data))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bzip2", "-c")
	cmd.Stdin = &buf
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("bzip2 (the Makefile installs it): %v", err)
	}
	return out
}

func write(t *testing.T, root, name, data string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// tree lists what is below root: files with content, links with target, folders.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name, _ := filepath.Rel(root, p)
		switch {
		case d.IsDir():
			got[name] = "/"
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			got[name] = "-> " + to
			return err
		default:
			data, err := os.ReadFile(p)
			got[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func pkg(t *testing.T) []byte {
	return packed(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./"}, tar.Header{Typeflag: tar.TypeDir, Name: "./usr/"},
		tar.Header{Typeflag: tar.TypeDir, Name: "./usr/bin/"}, tar.Header{Typeflag: tar.TypeReg, Name: "./usr/bin/x", Linkname: "new"},
		tar.Header{Typeflag: tar.TypeLink, Name: "./usr/bin/hard", Linkname: "./usr/bin/x"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "./usr/bin/soft", Linkname: "x"},
		tar.Header{Typeflag: tar.TypeDir, Name: "./usr/share/"},
		tar.Header{Typeflag: tar.TypeReg, Name: "./usr/share/doc", Linkname: "text", Mode: 0o600},
	)
}

func TestBuild(t *testing.T) {
	archive := pkg(t)
	sum := fmt.Sprintf("%x", sha256.Sum256(archive))
	installed := map[string]string{"usr/bin/x": "new", "usr/bin/hard": "new", "usr/bin/soft": "-> x", "usr/share/doc": "text", "usr/share": "/"}
	for i, tt := range []struct {
		name  string
		files map[string]string // in the repository beyond what was there before
		sums  string
		loose bool // UPDATE_CHECKSUMS
		want  Outcome
		repo  []string // left of files
	}{
		{"before anything was packed", nil, "", false, RunAgain, nil},
		{"in the middle of tar", map[string]string{"p-1_1.tar": "half"}, sum + "  p-1_1.tar.bz2\n", false, RunAgain, nil},
		{"in the middle of bzip2", map[string]string{"p-1_1.tar": "all", "p-1_1.tar.bz2": string(archive)}, sum + "  p-1_1.tar.bz2\n", false, RunAgain, nil},
		{"packed, right sum", map[string]string{"p-1_1.tar.bz2": string(archive)}, "00  other\n" + sum + "  p-1_1.tar.bz2\n", false, Finished, []string{"p-1_1.tar.bz2"}},
		{"packed, wrong sum", map[string]string{"p-1_1.tar.bz2": string(archive)}, "00  p-1_1.tar.bz2\n", false, RunAgain, nil},
		{"packed, no sum", map[string]string{"p-1_1.tar.bz2": string(archive)}, "", false, RunAgain, nil},
		{"packed, sums not checked", map[string]string{"p-1_1.tar.bz2": string(archive)}, "", true, Finished, []string{"p-1_1.tar.bz2"}},
		{"cut archive, sums not checked", map[string]string{"p-1_1.tar.bz2": string(archive[:len(archive)-9])}, "", true, RunAgain, nil},
		{"a file of another package stays", map[string]string{"q-1_0.tar": "x"}, "", false, RunAgain, []string{"q-1_0.tar"}},
	} {
		// Every second case is one of an extra root.
		steps, repo := "steps", "external/repo"
		if i%2 == 1 {
			steps, repo = "steps-x", "external/repo-x"
		}
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, repo+"/p-1_0.tar.bz2", "first build")
			write(t, root, "usr/bin/keep", "keep")
			before, err := Snapshot(root, repo)
			if err != nil {
				t.Fatal(err)
			}
			for name, data := range tt.files {
				write(t, root, filepath.Join(repo, name), data)
			}
			for _, name := range []string{"tmp/destdir/usr/x", "tmp/filelist.txt", "tmp/bzip2", steps + "/p-1/build/obj.o", "tmp/removing/a"} {
				write(t, root, name, "left over")
			}
			if tt.sums != "" {
				write(t, root, steps+"/SHA256SUMS.pkgs", tt.sums)
			}
			b := Build{Root: root, Package: "p-1", Steps: steps, Repo: repo, Before: before, Unchecked: tt.loose, Say: t.Logf}
			for range 2 { // it may itself be cut short and repeated
				got, err := b.Repair()
				if err != nil || got != tt.want {
					t.Fatalf("outcome %d, %v, want %d", got, err, tt.want)
				}
			}
			want := map[string]string{"external": "/", repo: "/", repo + "/p-1_0.tar.bz2": "first build",
				"usr": "/", "usr/bin": "/", "usr/bin/keep": "keep", "tmp": "/", steps: "/", steps + "/p-1": "/"}
			if tt.sums != "" {
				want[steps+"/SHA256SUMS.pkgs"] = tt.sums
			}
			for _, name := range tt.repo {
				want[repo+"/"+name] = tt.files[name]
			}
			if tt.want == Finished {
				for k, v := range installed {
					want[k] = v
				}
			}
			if d := cmp.Diff(want, tree(t, root)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// A package with its own programs half removed is installed by Go alone; what runs from an old file goes on.
func TestApplyReplaces(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "p.tar.bz2")
	if err := os.WriteFile(name, pkg(t), 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, root, "usr/bin/x", "old, and longer than the new one")
	write(t, root, "usr/bin/x"+newSuffix, "left by a cut")
	old, err := os.Open(filepath.Join(root, "usr/bin/x"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	for range 2 {
		if err := Apply(name, root); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 3)
	if _, err := old.ReadAt(buf, 0); err != nil || string(buf) != "old" {
		t.Errorf("the old file was written to: %q, %v", buf, err)
	}
	got := tree(t, root)
	for k, want := range map[string]string{"usr/bin/x": "new", "usr/bin/hard": "new", "usr/bin/soft": "-> x"} {
		if got[k] != want {
			t.Errorf("%s: %q, want %q", k, got[k], want)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "usr/share/doc")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info, err)
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "../evil", Linkname: "x"},
		{Typeflag: tar.TypeLink, Name: "a", Linkname: "../../etc/passwd"},
		{Typeflag: tar.TypeFifo, Name: "fifo"},
	} {
		root := t.TempDir()
		name := filepath.Join(root, "p.tar.bz2")
		if err := os.WriteFile(name, packed(t, h), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Apply(name, root); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", h.Name, err)
		}
	}
}

func TestUninstall(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "p.tar.bz2")
	data := pkg(t)
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Apply(name, root); err != nil {
		t.Fatal(err)
	}
	write(t, root, "usr/share/doc", "of a later package")
	for range 2 { // a second time, and after a cut, nothing is missed
		if err := Uninstall(name, root); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"usr": "/", "usr/share": "/", "usr/share/doc": "of a later package", "p.tar.bz2": string(data)}
	if d := cmp.Diff(want, tree(t, root)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestLatestArchive(t *testing.T) {
	root := t.TempDir()
	if got, err := LatestArchive(root, "external/repo-x", "p-1"); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, n := range []string{"p-1_0.tar.bz2", "p-1_1.tar.bz2", "p-10_2.tar.bz2"} {
		write(t, root, "external/repo-x/"+n, "")
	}
	write(t, root, "external/repo/p-1_2.tar.bz2", "of another root")
	if got, err := LatestArchive(root, "external/repo-x", "p-1"); filepath.Base(got) != "p-1_1.tar.bz2" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
