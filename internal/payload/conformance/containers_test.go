// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package conformance

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kindling/internal/payload"
)

// file is one file of a container, as the test wants it: nothing of it needs to be right.
type file struct {
	name string
	data string
	size int64 // said instead of the true size when it is not 0
}

// container renders files with u64 or u32 numbers. It is not payload.Write, which refuses what is wrong.
func container(wide bool, files ...file) []byte {
	var b bytes.Buffer
	number := func(n int64) {
		if wide {
			b.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
		} else {
			b.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
		}
	}
	b.WriteString(payload.Magic)
	number(int64(len(files)))
	for _, f := range files {
		number(int64(len(f.name)))
		if f.size == 0 {
			f.size = int64(len(f.data))
		}
		number(f.size)
		b.WriteString(f.name)
		b.WriteString(f.data)
	}
	return b.Bytes()
}

// digest returns a sha256 as SHA256SUMS has it.
func digest(data string) string {
	d := sha256.Sum256([]byte(data))
	return hex.EncodeToString(d[:])
}

// sumsOf returns the SHA256SUMS of files.
func sumsOf(files ...file) string {
	var s strings.Builder
	for _, f := range files {
		fmt.Fprintf(&s, "%s  %s\n", digest(f.data), f.name)
	}
	return s.String()
}

// withSums puts the right SHA256SUMS in front of files.
func withSums(files ...file) []file {
	return append([]file{{name: payload.SumsName, data: sumsOf(files...)}}, files...)
}

// noise returns n bytes that depend on the seed only.
func noise(n int, seed uint64) string {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	if _, err := r.Read(b); err != nil {
		panic(err) // it never fails, by its documentation
	}
	return string(b)
}

// tree is a directory as text: a file's content, "dir", or "-> " and a link's target, by path.
type tree map[string]string

// snapshot returns what is below base.
func snapshot(t testing.TB, base string) tree {
	t.Helper()
	got := tree{}
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == base {
			return err
		}
		name, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			got[name] = "dir"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			got[name] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			got[name] = "file " + string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// plant makes below base what the tree says. Parents come before children by name.
func (want tree) plant(t testing.TB, base string) {
	t.Helper()
	for name, what := range want {
		path := filepath.Join(base, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case what == "dir":
			err = os.MkdirAll(path, 0o755)
		case strings.HasPrefix(what, "-> "):
			err = os.Symlink(strings.TrimPrefix(what, "-> "), path)
		default:
			err = os.WriteFile(path, []byte(strings.TrimPrefix(what, "file ")), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// holding returns the tree of an import into dst: its parents, itself, and files.
func holding(files ...file) tree {
	got := tree{"dst": "dir"}
	for _, f := range files {
		got["dst/"+f.name] = "file " + f.data
	}
	return got
}

// with returns the tree with one more entry.
func (want tree) with(name, what string) tree {
	got := tree{name: what}
	for k, v := range want {
		if k != name {
			got[k] = v
		}
	}
	return got
}
