// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// contents is what a medium holds: for each path what kind of thing it is and, of a file, size and digest.
type contents map[string]string

func digestOf(data []byte) string {
	return fmt.Sprintf("file %d %x", len(data), sha256.Sum256(data))
}

const folder = "folder"

// bootParts are the parts of a builder-hex0 image.
type bootParts struct {
	head     string // digest of stage1 and stage2 with their padding
	records  contents
	order    []string // the paths as they stand in the image
	commands string
	padding  int64 // zeros between the commands and the end of the file
	size     int64
}

// readBoot takes a builder-hex0 image apart; where its srcfs begins is known from the tree.
func readBoot(t *testing.T, name string, start int64) bootParts {
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
	// What is behind the last MiB of data is a hole; a real image is read as a whole.
	data, err := io.ReadAll(io.LimitReader(f, 2<<30))
	if err != nil {
		t.Fatal(err)
	}
	parts := bootParts{head: digestOf(data[:start]), records: contents{}, size: info.Size()}
	rest := data[start:]
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		fields := strings.SplitN(string(line), " ", 3)
		if !found || len(fields) != 3 || fields[0] != "src" {
			t.Fatalf("%s: no record at %d: %.80q", name, len(data)-len(rest), line)
		}
		size, err := strconv.Atoi(fields[1])
		if err != nil || size > len(after) {
			t.Fatalf("%s: record %.80q: %v", name, line, err)
		}
		if fields[2] != "." && !strings.HasPrefix(fields[2], "./") {
			break // the commands
		}
		if _, twice := parts.records[fields[2]]; twice {
			t.Errorf("%s: %s is there twice", name, fields[2])
		}
		parts.records[fields[2]] = digestOf(after[:size])
		parts.order = append(parts.order, fields[2])
		rest = after[size:]
	}
	end := bytes.IndexByte(rest, 0)
	parts.commands = string(rest[:end])
	parts.padding = info.Size() - int64(len(data)-len(rest)+end)
	if i := bytes.IndexFunc(rest[end:], func(r rune) bool { return r != 0 }); i >= 0 {
		t.Errorf("%s: something behind the commands, at %d", name, len(data)-len(rest)+end+i)
	}
	return parts
}

// readFolder walks a folder; links are told by where they lead.
func readFolder(t *testing.T, dir string, modes bool) contents {
	t.Helper()
	found := contents{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := ""
		if modes {
			mode = fmt.Sprintf("%04o ", info.Mode().Perm())
		}
		switch {
		case d.IsDir():
			found[rel] = mode + folder
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(name)
			found[rel] = "link " + link
			return err
		default:
			data, err := os.ReadFile(name)
			found[rel] = mode + digestOf(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// readExt3 unpacks the partition of a disk and walks it. e2fsck has to find nothing wrong with it.
func readExt3(t *testing.T, image string, offset int64, modes bool) contents {
	t.Helper()
	at := image + "?offset=" + strconv.FormatInt(offset, 10)
	if out, err := tool(t, "e2fsck", "-f", "-n", at).CombinedOutput(); err != nil {
		t.Errorf("e2fsck %s: %v\n%s", image, err, out)
	}
	dir := t.TempDir()
	cmd := tool(t, "debugfs", "-R", "rdump / "+dir, at)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	found := readFolder(t, dir, modes)
	delete(found, "lost+found")
	return found
}

// tool runs a program of e2fsprogs, which has to be there where tests must not be left out.
func tool(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: install e2fsprogs", err)
		}
		t.Skipf("SKIPPED: %v: install e2fsprogs", err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}
