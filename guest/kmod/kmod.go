// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package kmod loads kernel modules by name, with what they depend on, from the index that depmod(8) writes. It leaves
// the unpacking of compressed modules to the kernel, which can do it from Linux 5.17 on: decompressors would be a tenth
// of the agent. It knows neither aliases nor soft dependencies: whoever lists the modules puts those in order. Package
// guest calls it at every boot of a kernel that has modules.
package kmod

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of an index. Debian's has about 4,000 modules, and lines below 1,000 bytes.
const (
	maxModules = 50_000
	maxLine    = 64 << 10
)

// Errors of a Prober.
var (
	ErrNoModule = errors.New("no such kernel module")
	ErrIndex    = errors.New("malformed modules.dep")
)

// Index is what modules.dep says: which file is which module, and what has to be loaded before it.
type Index struct {
	files map[string]string   // name, with '_' for '-', to file
	deps  map[string][]string // file to the files it needs, in the order of modules.dep
}

// ReadIndex reads modules.dep (modules.dep(5)): "file.ko: dependency.ko ...", with paths relative to its own folder.
func ReadIndex(r io.Reader) (Index, error) {
	x := Index{files: map[string]string{}, deps: map[string][]string{}}
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	for n := 1; in.Scan(); n++ {
		file, rest, found := strings.Cut(in.Text(), ":")
		deps := strings.Fields(rest)
		for _, f := range append([]string{file}, deps...) {
			if !found || !fs.ValidPath(f) || n > maxModules {
				return Index{}, fmt.Errorf("%w: line %d: %.200q", ErrIndex, n, in.Text())
			}
		}
		x.files[nameOf(file)] = file
		x.deps[file] = deps
	}
	if err := in.Err(); err != nil {
		return Index{}, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	return x, nil
}

// nameOf is the name of a module file: without folder and suffixes, and with '_' for '-', which are equal in names.
func nameOf(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// Order lists the files that a module needs, each behind what it needs itself, the module's own last.
func (x Index) Order(name string) ([]string, error) {
	file, found := x.files[nameOf(name)]
	if !found {
		return nil, fmt.Errorf("%w: %.100q", ErrNoModule, name)
	}
	var order []string
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(string) error
	visit = func(file string) error {
		deps, found := x.deps[file]
		switch {
		case state[file] == done:
			return nil
		case state[file] == open:
			return fmt.Errorf("%w: %s needs itself", ErrIndex, file)
		case !found:
			return fmt.Errorf("%w: %s is needed and not listed", ErrIndex, file)
		}
		state[file] = open
		for _, d := range deps {
			if err := visit(d); err != nil {
				return err
			}
		}
		state[file] = done
		order = append(order, file)
		return nil
	}
	return order, visit(file)
}

// Prober loads modules of one kernel, each once.
type Prober struct {
	dir    string
	index  Index
	loaded map[string]bool
	insert func(path string) error
}

// NewProber reads the index of the running kernel's modules.
func NewProber() (*Prober, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	return newProber(unix.ByteSliceToString(name.Release[:]), []string{"/lib/modules", "/usr/lib/modules"}, insert)
}

// newProber takes the first of the folders that has modules of that release.
func newProber(release string, folders []string, insert func(string) error) (*Prober, error) {
	var missing error
	for _, folder := range folders {
		dir := filepath.Join(folder, release)
		f, err := os.Open(filepath.Join(dir, "modules.dep"))
		if errors.Is(err, fs.ErrNotExist) {
			missing = err
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		index, err := ReadIndex(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		return &Prober{dir: dir, index: index, loaded: map[string]bool{}, insert: insert}, nil
	}
	return nil, missing
}

// Probe loads a module and what it depends on. One that the kernel has already is no error.
func (p *Prober) Probe(name string) error {
	order, err := p.index.Order(name)
	if err != nil {
		return err
	}
	for _, file := range order {
		if p.loaded[file] {
			continue
		}
		if err := p.insert(filepath.Join(p.dir, file)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", file, err)
		}
		p.loaded[file] = true
	}
	return nil
}

// insert gives a module file to the kernel.
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(f.Fd()), "", flags)
}
