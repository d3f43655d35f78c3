// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package demo holds the embedded default: a small tree in live-bootstrap's shape, the sources of its packages, an extra
// root, and the variants of it that fail on purpose. It holds data and decides nothing; host/demo assembles media from it.
package demo

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"
)

//go:embed tree roots distfiles variants
var files embed.FS

// Variant names a way in which the embedded default can be made to fail. The empty one does not fail.
type Variant string

// The variants.
const (
	Sound      Variant = ""
	AfterFails Variant = "after-fails" // an after script exits with 3
	BuildFails Variant = "build-fails" // a package does not compile
	PayloadCut Variant = "payload-cut" // the payload image is cut short in the middle of a file
	Panic      Variant = "panic"       // the kernel panics in the middle of a step
)

// Variants lists those that fail.
func Variants() []Variant { return []Variant{AfterFails, BuildFails, PayloadCut, Panic} }

// Tree is the embedded tree, with "steps" at its top as in a checkout of live-bootstrap.
func Tree() fs.FS { return sub("tree") }

// ExtraRoots are the extra roots of the embedded default, by the folder that each has beside "steps". They are no part of
// a run unless it asks for them.
func ExtraRoots() map[string]fs.FS { return map[string]fs.FS{"steps-spark": sub("roots/steps-spark")} }

// sub is one of the embedded folders. That they are there is settled when this is compiled.
func sub(dir string) fs.FS {
	fsys, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // dir is no valid path
	}
	return fsys
}

// Overlay is what a variant lays over the tree: it may be empty.
func Overlay(v Variant) (fs.FS, error) {
	if v == Sound || v == PayloadCut {
		return embed.FS{}, nil
	}
	if !slices.Contains(Variants(), v) {
		return nil, fmt.Errorf("variant %q: there is none of that name", v)
	}
	return sub(path.Join("variants", string(v))), nil
}

// Distfile is one source archive of the embedded default.
type Distfile struct {
	Name string
	Data []byte
}

// Distfiles packs the sources of the packages, one plain tar each: the same bytes everywhere, whose sha256 stands in
// the packages' sources files. They are small, and so held in memory.
func Distfiles() ([]Distfile, error) {
	entries, err := fs.ReadDir(files, "distfiles")
	if err != nil {
		return nil, err
	}
	var out []Distfile
	for _, e := range entries {
		data, err := pack(e.Name())
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.Name(), err)
		}
		out = append(out, Distfile{Name: e.Name() + ".tar", Data: data})
	}
	return append(out, Distfile{Name: "tinder-1.0-check.bin", Data: noise(checkSize)}), nil
}

// checkSize is the size of the file that tinder's package checks itself with, in bytes: enough for an import to be more
// than one buffer.
const checkSize = 3 << 20

// noise gives n bytes of the 32-bit linear congruential generator x' = 1664525 x + 1013904223 (Numerical Recipes), the
// highest byte of each value.
func noise(n int) []byte {
	out := make([]byte, n)
	var x uint32
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// pack makes a tar of one folder of distfiles.
func pack(name string) ([]byte, error) {
	var buf bytes.Buffer
	out := tar.NewWriter(&buf)
	header := func(typ byte, name string, mode, size int64) error {
		return out.WriteHeader(&tar.Header{Typeflag: typ, Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0),
			Format: tar.FormatUSTAR})
	}
	err := fs.WalkDir(files, path.Join("distfiles", name), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := p[len("distfiles/"):]
		if d.IsDir() {
			return header(tar.TypeDir, inside+"/", 0o755, 0)
		}
		data, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		if err := header(tar.TypeReg, inside, 0o644, int64(len(data))); err != nil {
			return err
		}
		_, err = out.Write(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
