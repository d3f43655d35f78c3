// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package fhs

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree is everything below a folder: content of files, targets of links, "dir".
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, _ := filepath.Rel(root, path)
		switch d.Type() {
		case fs.ModeDir:
			got[name] = "dir"
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			got[name] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
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

func fresh() map[string]string {
	return map[string]string{
		"etc": "dir", "run": "dir", "var": "dir", "var/log": "dir", "var/lock": "dir", "var/spool": "dir", "var/tmp": "dir",
		"var/cache": "dir", "etc/mtab": "-> /proc/mounts", "etc/resolv.conf": preferred, "etc/resolv.conf.head": preferred,
		"etc/passwd": string(passwd()), "etc/group": string(group()),
	}
}

func TestFinalize(t *testing.T) {
	for _, tt := range []struct {
		name string
		have map[string]string // files and, with "-> ", links
		want map[string]string // what differs from a fresh system's
	}{
		{"nothing there", nil, nil},
		{"empty folders that came through builder-hex0 as files", map[string]string{"run": "", "var/tmp": ""}, nil},
		{"mtab is a file, as mount makes it", map[string]string{"etc/mtab": "proc /proc proc rw 0 0\n"}, nil},
		{"mtab is another link", map[string]string{"etc/mtab": "-> /proc/self/mounts"}, nil},
		{"a link that was not finished", map[string]string{"etc/mtab.kindling": "-> x", "etc/passwd.kindling": "ro"}, nil},
		{"users stay", map[string]string{"etc/passwd": "me:x:0:0::/:/bin/sh\n", "etc/group": ""},
			map[string]string{"etc/passwd": "me:x:0:0::/:/bin/sh\n", "etc/group": ""}},
		{"the head file stays, and is first in a new resolv.conf", map[string]string{"etc/resolv.conf.head": "# mine\nnameserver 9.9.9.9\n"},
			map[string]string{"etc/resolv.conf.head": "# mine\nnameserver 9.9.9.9\n", "etc/resolv.conf": "nameserver 9.9.9.9\n"}},
		{"the preferred nameserver is put before that of DHCP",
			map[string]string{"etc/resolv.conf": "# by DHCP\nsearch lan\noptions rotate\nnameserver 10.0.2.3\n"},
			map[string]string{"etc/resolv.conf": "search lan\noptions rotate\nnameserver 1.1.1.1\nnameserver 10.0.2.3\n"}},
		{"not a byte of a right one changes", map[string]string{"etc/resolv.conf": "# mine\nnameserver 1.1.1.1\nnameserver 10.0.2.3\n"},
			map[string]string{"etc/resolv.conf": "# mine\nnameserver 1.1.1.1\nnameserver 10.0.2.3\n"}},
		{"an empty resolv.conf", map[string]string{"etc/resolv.conf": ""}, nil},
		{"a link to nowhere", map[string]string{"etc/resolv.conf": "-> /run/systemd/resolve/stub-resolv.conf"}, nil},
		{"a head without nameservers wants none", map[string]string{"etc/resolv.conf.head": "options rotate\n", "etc/resolv.conf": "nameserver 10.0.2.3\n"},
			map[string]string{"etc/resolv.conf.head": "options rotate\n", "etc/resolv.conf": "nameserver 10.0.2.3\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, data := range tt.have {
				put(t, filepath.Join(root, name), data)
			}
			want := fresh()
			for name, data := range tt.want {
				want[name] = data
			}
			for range 2 { // a second time changes nothing
				if err := Finalize(root); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, tree(t, root)); d != "" {
					t.Fatalf("(-want +got)\n%s", d)
				}
			}
		})
	}
}

func put(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if target, ok := strings.CutPrefix(data, "-> "); ok {
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is in the way and is not empty is somebody's.
func TestFinalizeRefuses(t *testing.T) {
	for _, name := range []string{"run", "etc/resolv.conf/file", "etc/mtab/file"} {
		root := t.TempDir()
		put(t, filepath.Join(root, name), "data")
		if err := Finalize(root); err == nil {
			t.Errorf("%s: no error", name)
		}
		if data, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(data) != "data" {
			t.Errorf("%s has changed: %q, %v", name, data, err)
		}
	}
}

// A named pipe must not hold up a boot.
func TestFinalizePipe(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/passwd"), "")
	if err := syscall.Mkfifo(filepath.Join(root, "etc/resolv.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Finalize(root); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("got %v", err)
	}
}

// The lists are those of the tree: packages can depend on a name or a number.
func TestAccounts(t *testing.T) {
	for name, tt := range map[string]struct {
		text, sum string
		form      *regexp.Regexp
	}{
		"passwd": {string(passwd()), passwdSum, regexp.MustCompile(`^[a-z]+:x:[0-9]+:[0-9]+:[A-Za-z -]+:/[a-z/]+:/[a-z/]+$`)},
		"group":  {string(group()), groupSum, regexp.MustCompile(`^[a-z]+:x:[0-9]+:[a-z]*$`)},
	} {
		for line := range strings.SplitSeq(strings.TrimSuffix(tt.text, "\n"), "\n") {
			if !tt.form.MatchString(line) {
				t.Errorf("%s: %q", name, line)
			}
		}
		sum := sha256.Sum256([]byte(tt.text))
		if got := hex.EncodeToString(sum[:]); got != tt.sum {
			t.Errorf("%s has the sha256 %s, the tree's has %s", name, got, tt.sum)
		}
	}
}

// sha256 of what the tree's improve/finalize_fhs.sh writes (live-bootstrap 984b8322).
const (
	passwdSum = "c66a5d462e12b18458b7bdf2b6781ea51dbd58380ad7e9ac5ff2b95be94ac981"
	groupSum  = "26a26dbefa7bca09fb0ea78c80eaf0d99984e97dd62a946bce8754def82bcb23"
)
