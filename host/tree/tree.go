// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package tree opens a live-bootstrap checkout and lists what is in it: sorted, with links followed, and confined to the
// checkout.
//
// It never writes, and it decides nothing about media. It is called by host/assemble and by the verbs of cmd/host that
// take --tree.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// KexecFiwix is the program that starts Fiwix, and KexecFiwixSHA256 the sha256 of the baseline that Kindling is tested
// with (live-bootstrap 984b8322). Kindling never changes it.
const (
	KexecFiwix       = "steps/kexec-fiwix-1.0/src/kexec-fiwix.c"
	KexecFiwixSHA256 = "34f6049c12e470e11f873bb46ef67ccfcb6bec5f7e913ea2ed6089dfff7fb3dc"
)

// The folders of a checkout.
const (
	Steps       = "steps"
	Seed        = "seed"
	Stage0      = "seed/stage0-posix"
	BuilderHex0 = "builder-hex0"
	Distfiles   = "distfiles" // where rootfs.py keeps them
)

// Errors that callers tell apart.
var (
	ErrShape = errors.New("not a complete live-bootstrap checkout")
	ErrEntry = errors.New("file that no medium can carry")
)

// Limits of one listing. The tree has about 2,000 files in 12 levels; a link that leads upwards ends at MaxDepth.
const (
	MaxEntries = 1 << 20
	MaxDepth   = 64
)

// Tree is an open checkout.
type Tree struct {
	dir    string
	root   *Folder
	extras *Extras
	fsys   fs.FS // with the extra roots that stand elsewhere
}

// Open opens the checkout in dir so that nothing outside of it can be read through it. It only looks for the manifest:
// Require checks what a medium needs besides.
func Open(dir string) (*Tree, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open tree: %w", err)
	}
	root, err := OpenFolder(abs)
	if err != nil {
		return nil, fmt.Errorf("open tree: %w", err)
	}
	t := &Tree{dir: abs, root: root, extras: &Extras{}, fsys: root}
	if err := t.Require(Steps + "/manifest"); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return t, nil
}

// Dir is the absolute path of the checkout.
func (t *Tree) Dir() string { return t.dir }

// FS is the checkout as a file system, with the extra roots that were added. It ends with Close.
func (t *Tree) FS() fs.FS { return t.fsys }

// Close ends the use of the tree.
func (t *Tree) Close() error { return errors.Join(t.extras.Close(), t.root.Close()) }

// Require reports, as an error that wraps ErrShape, the first of the given files or folders that is missing, or that is
// a folder with nothing in it, as that of a submodule that was not fetched.
func (t *Tree) Require(names ...string) error {
	for _, name := range names {
		info, err := t.root.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("tree %s: %w: there is no %s: name the top folder of a checkout, and fetch its submodules "+
				"(git submodule update --init --recursive)", t.dir, ErrShape, name)
		case err != nil:
			return fmt.Errorf("tree %s: %w", t.dir, err)
		case !info.IsDir():
			continue
		}
		entries, err := fs.ReadDir(t.FS(), name)
		if err != nil {
			return fmt.Errorf("tree %s: %w", t.dir, err)
		}
		if len(entries) == 0 {
			return fmt.Errorf("tree %s: %w: %s is empty: fetch the submodules (git submodule update --init --recursive)",
				t.dir, ErrShape, name)
		}
	}
	return nil
}

// firstFolder matches a folder of stage0-posix as its first scripts name it: "./M2libc/x86", "../M2-Planet/cc.c", or
// "cd mescc-tools-extra".
var firstFolder = regexp.MustCompile(`(?m)(?:\.\.?/|^cd )([A-Za-z0-9][A-Za-z0-9_.-]*)(?:/|$)`)

// RequireSeeds reports, as Require does, what is missing of stage0-posix to start from the seeds: the programs or sources
// that a medium starts with, and the folders (submodules of the submodule) that the first scripts name. arch is the
// folder of the architecture, such as "x86". A kernel bootstrap needs the hex0 sources instead of the seeds as programs.
func (t *Tree) RequireSeeds(arch string, kernelBootstrap bool) error {
	const seeds = "bootstrap-seeds"
	if err := t.Require(Stage0); err != nil {
		return err
	}
	read := func(name string) string {
		text, err := fs.ReadFile(t.root, Stage0+"/"+name)
		if err != nil {
			return "" // an architecture without that script
		}
		return string(text)
	}
	submodules := read(".gitmodules")
	scripts := read("kaem."+strings.ToLower(arch)) + read(arch+"/kaem.run")
	for _, pass := range []string{"seed", "mini", "full"} {
		scripts += read(arch + "/mescc-tools-" + pass + "-kaem.kaem")
	}
	for _, found := range firstFolder.FindAllStringSubmatch("./"+arch+"/\n"+scripts, -1) {
		name := Stage0 + "/" + found[1]
		_, err := t.root.Stat(name)
		created := errors.Is(err, fs.ErrNotExist) && !strings.Contains(submodules, "path = "+found[1]+"\n")
		if created || kernelBootstrap && found[1] == seeds {
			continue
		}
		if err := t.Require(name); err != nil {
			return err
		}
	}
	if kernelBootstrap {
		return t.Require(Stage0+"/kaem.x86", Stage0+"/x86/hex0_x86.hex0", Stage0+"/x86/kaem-minimal.hex0")
	}
	return t.Require(Stage0+"/"+seeds, Stage0+"/"+seeds+"/POSIX/"+arch+"/kaem-optional-seed")
}

// Find finds a regular file of the tree or of an extra root.
func (t *Tree) Find(name string) (*Source, error) { return Find(t.fsys, name, t.Path(name)) }

// Entry is a file or a folder.
type Entry struct {
	Path string // relative to what was listed, with slashes
	Dir  bool
	Exec bool  // somebody may execute it
	Size int64 // in bytes; 0 for a folder
}

// List lists everything below the folder name of fsys, in byte order of the paths, each folder before what is in it. The
// folder itself is not in the list, and neither is what is called ".git": a folder in a clone, a file with a path of the
// host in a submodule or a worktree. Links are followed, as rootfs.py's copies do. Errors name the file: those of fsys, a
// link that leads nowhere or out of fsys, and ErrEntry for devices, pipes, sockets, links that lead in circles, and
// names with a control character.
func List(fsys fs.FS, name string) ([]Entry, error) {
	l := &lister{fsys: fsys, base: name}
	if err := l.dir("", 0); err != nil {
		return nil, err
	}
	return l.entries, nil
}

type lister struct {
	fsys    fs.FS
	base    string
	entries []Entry
}

func (l *lister) dir(rel string, depth int) error {
	full := path.Join(l.base, rel)
	if depth > MaxDepth {
		return fmt.Errorf("list %s: %w: more than %d folders in one another: a link leads in a circle", full, ErrEntry, MaxDepth)
	}
	entries, err := fs.ReadDir(l.fsys, full)
	if err != nil {
		return fmt.Errorf("list %s: %w", full, err)
	}
	for _, e := range entries {
		if e.Name() == ".git" {
			continue
		}
		if err := l.entry(path.Join(rel, e.Name()), e, depth); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) entry(rel string, e fs.DirEntry, depth int) error {
	full := path.Join(l.base, rel)
	if i := strings.IndexFunc(e.Name(), func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("list %q: %w: a control character in its name", full, ErrEntry)
	}
	info, err := fs.Stat(l.fsys, full)
	if err != nil {
		return fmt.Errorf("list %s: %w", full, err)
	}
	if len(l.entries) >= MaxEntries {
		return fmt.Errorf("list %s: %w: more than %d files", l.base, ErrEntry, MaxEntries)
	}
	switch {
	case info.IsDir():
		l.entries = append(l.entries, Entry{Path: rel, Dir: true})
		return l.dir(rel, depth+1)
	case info.Mode().IsRegular():
		l.entries = append(l.entries, Entry{Path: rel, Exec: info.Mode()&0o111 != 0, Size: info.Size()})
		return nil
	}
	return fmt.Errorf("list %s: %w: neither a regular file nor a folder", full, ErrEntry)
}
