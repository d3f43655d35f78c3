// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package programs

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	inPath, sbin := t.TempDir(), t.TempDir()
	for _, path := range []string{inPath + "/both", sbin + "/both", sbin + "/admin"} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(sbin+"/text", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", inPath)
	for name, want := range map[string]string{
		"both": inPath + "/both", "admin": sbin + "/admin", sbin + "/admin": sbin + "/admin", "text": "", "none": "", inPath + "/admin": "",
	} {
		got, err := find(name, "/nonexistent", sbin)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
		if want == "" && !strings.Contains(name, "/") && !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOneLookUp wants every program of the host to be found by Find.
func TestOneLookUp(t *testing.T) {
	other := regexp.MustCompile(`exec\.(LookPath\(|Command\("|CommandContext\(\w+, ")`)
	for _, root := range []string{"../../host", "../../cmd/host"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "programs.go" {
				return err
			}
			source, err := os.ReadFile(path)
			if found := other.Find(source); found != nil {
				t.Errorf("%s: %s: use programs.Find", path, found)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
