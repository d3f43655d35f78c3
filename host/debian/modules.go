// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of the module indexes that are read. Debian's have about 4,000 modules, and lines below 1,000 bytes.
const (
	maxModules    = 50_000
	maxModuleLine = 64 << 10
)

// DefaultModules are the modules that QEMU's default machine (i440FX: IDE disks, an e1000 card) needs for a root on
// ext4, and ahci for its q35 machine. They are in load order: ext4 asks for a crc32c algorithm by an alias that
// modules.dep does not know, so crc32c_generic stands before it.
func DefaultModules() []string {
	return []string{"ata_piix", "ahci", "sd_mod", "crc32c_generic", "ext4", "e1000"}
}

// StorageModules are further modules for disks on USB, NVMe and virtio.
func StorageModules() []string {
	return []string{"uhci_hcd", "ehci_pci", "xhci_pci", "usb_storage", "uas", "nvme", "virtio_pci", "virtio_blk"}
}

// Module is one module file.
type Module struct {
	Name   string // of the file, without its suffix; modprobe and the agent take '-' and '_' as equal
	Path   string // in the guest, relative to the root of a merged-/usr tree: usr/lib/modules/<release>/kernel/...
	Source string // absolute path on the host
	Size   int64
}

// ModuleSet is what goes into an initramfs so that a set of modules can be loaded there.
type ModuleSet struct {
	Release string
	Modules []Module // in load order: a module stands after all that it depends on
	Size    int64    // of all module files, in bytes
	Dep     []byte   // content of usr/lib/modules/<release>/modules.dep with these modules alone
	Load    []byte   // content of etc/modules-load.d/kindling.conf (modules-load.d(5)): all names in load order
}

// DepPath is where the guest's tools look for Dep, relative to the root of a merged-/usr tree.
func (s ModuleSet) DepPath() string { return path.Join(modulesPath(s.Release), "modules.dep") }

// LoadPath is where Load belongs, relative to the root.
func (s ModuleSet) LoadPath() string { return "etc/modules-load.d/kindling.conf" }

func modulesPath(release string) string { return path.Join("usr/lib/modules", release) }

// Errors of Modules.
var (
	ErrNoModule   = errors.New("no such kernel module")
	ErrModuleList = errors.New("malformed module list")
)

// Modules gives the named modules ('-' and '_' are equal) with all that they depend on. Names that the kernel has built
// in are left out; others that it does not have are ErrNoModule.
func (k Kernel) Modules(names []string) (ModuleSet, error) {
	deps, err := readModuleFile(k.ModulesDir, "modules.dep", parseModulesDep)
	if err != nil {
		return ModuleSet{}, err
	}
	builtin, err := readModuleFile(k.ModulesDir, "modules.builtin", parseModulesBuiltin)
	if err != nil {
		return ModuleSet{}, err
	}
	order, err := moduleClosure(deps, builtin, names)
	if err != nil {
		return ModuleSet{}, fmt.Errorf("modules of %s: %w", k.Release, err)
	}
	set := ModuleSet{Release: k.Release, Dep: formatModulesDep(deps, order)}
	for _, file := range order {
		source := filepath.Join(k.ModulesDir, filepath.FromSlash(file))
		info, err := os.Lstat(source)
		if err != nil {
			return ModuleSet{}, fmt.Errorf("modules of %s: %w", k.Release, err)
		}
		if !info.Mode().IsRegular() {
			return ModuleSet{}, fmt.Errorf("modules of %s: %w: %s is no regular file", k.Release, ErrModuleList, file)
		}
		m := Module{Name: strings.TrimSuffix(path.Base(file), ".ko"), Source: source, Size: info.Size(),
			Path: path.Join(modulesPath(k.Release), file)}
		set.Modules = append(set.Modules, m)
		set.Size += m.Size
		set.Load = append(append(set.Load, m.Name...), '\n')
	}
	return set, nil
}

func readModuleFile[T any](dir, name string, parse func(io.Reader) (T, error)) (value T, err error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return value, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if value, err = parse(f); err != nil {
		return value, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return value, nil
}

// parseModulesDep reads modules.dep (modules.dep(5)): "file.ko: dependency.ko ..." with paths relative to the file's
// own folder. The result maps each file to its dependencies; every dependency has an entry of its own.
func parseModulesDep(r io.Reader) (map[string][]string, error) {
	deps := make(map[string][]string)
	err := eachLine(r, func(line string) error {
		file, rest, found := strings.Cut(line, ":")
		if !found {
			return errors.New("no colon")
		}
		list := strings.Fields(rest)
		for _, f := range append([]string{file}, list...) {
			if err := checkModuleFile(f); err != nil {
				return err
			}
		}
		if _, twice := deps[file]; twice {
			return fmt.Errorf("%s stands there twice", file)
		}
		deps[file] = list
		return nil
	})
	if err != nil {
		return nil, err
	}
	for file, list := range deps {
		for _, dep := range list {
			if _, found := deps[dep]; !found {
				return nil, fmt.Errorf("%w: %s needs %s, which is not listed", ErrModuleList, file, dep)
			}
		}
	}
	return deps, nil
}

// parseModulesBuiltin reads modules.builtin, a list of files that are part of the kernel. The result has their names.
func parseModulesBuiltin(r io.Reader) (map[string]bool, error) {
	names := make(map[string]bool)
	err := eachLine(r, func(line string) error {
		names[moduleName(line)] = true
		return checkModuleFile(line)
	})
	return names, err
}

// eachLine calls f for each line that is not empty; errors get the line's number.
func eachLine(r io.Reader, f func(line string) error) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxModuleLine)
	for n := 1; scanner.Scan(); n++ {
		if n > maxModules {
			return fmt.Errorf("%w: more than %d lines", ErrModuleList, maxModules)
		}
		if scanner.Text() == "" {
			continue
		}
		if err := f(scanner.Text()); err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrModuleList, n, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrModuleList, err)
	}
	return nil
}

func checkModuleFile(file string) error {
	switch {
	case !fs.ValidPath(file) || strings.ContainsFunc(file, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("path %.200q", file)
	case !strings.HasSuffix(file, ".ko"):
		return fmt.Errorf("%.200s is no uncompressed module (.ko)", file)
	}
	return nil
}

// moduleName is the name under which a module file is looked for.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// moduleClosure gives the files of the wanted modules and of all that they depend on, dependencies first, otherwise in
// the order of names.
func moduleClosure(deps map[string][]string, builtin map[string]bool, names []string) ([]string, error) {
	byName := make(map[string]string, len(deps))
	for file := range deps {
		if other, twice := byName[moduleName(file)]; twice {
			return nil, fmt.Errorf("%w: two modules have one name: %s, %s", ErrModuleList, min(file, other),
				max(file, other))
		}
		byName[moduleName(file)] = file
	}
	w := moduleWalk{deps: deps, state: make(map[string]walkState)}
	for _, name := range names {
		file, found := byName[moduleName(name)]
		if !found {
			if builtin[moduleName(name)] {
				continue
			}
			return nil, fmt.Errorf("%w: %.100q", ErrNoModule, name)
		}
		if err := w.visit(file); err != nil {
			return nil, err
		}
	}
	return w.order, nil
}

type walkState int

const (
	unseen walkState = iota
	open
	done
)

// moduleWalk is a depth-first walk over dependencies.
type moduleWalk struct {
	deps  map[string][]string
	state map[string]walkState
	order []string
}

func (w *moduleWalk) visit(file string) error {
	switch w.state[file] {
	case done:
		return nil
	case open:
		return fmt.Errorf("%w: %s depends on itself", ErrModuleList, file)
	}
	w.state[file] = open
	// modules.dep lists what must be loaded first last.
	for _, dep := range slices.Backward(w.deps[file]) {
		if err := w.visit(dep); err != nil {
			return err
		}
	}
	w.state[file] = done
	w.order = append(w.order, file)
	return nil
}

// formatModulesDep writes modules.dep for the given files.
func formatModulesDep(deps map[string][]string, files []string) []byte {
	var out []byte
	for _, file := range files {
		out = append(append(out, file...), ':')
		for _, dep := range deps[file] {
			out = append(append(out, ' '), dep...)
		}
		out = append(out, '\n')
	}
	return out
}
