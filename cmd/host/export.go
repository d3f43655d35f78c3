// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/options"
	"kindling/host/packages"
	"kindling/host/rundir"
	"kindling/host/tree"
	"kindling/steps"
)

// exportCmd is "kindling export": it takes the packages out of an image, without root, and says whether they are those
// of the tree's list.
type exportCmd struct {
	Image     pathName         `arg:"" help:"The guest's disk, as an image, or the folder of a chroot." optional:""`
	Folder    pathName         `help:"A run, in place of an image: what is left of its disks." name:"run" placeholder:"DIR"`
	Format    imagefile.Format `help:"The format of the image, raw or qcow2; without it the beginning of the file decides." enum:",raw,qcow2" default:"" placeholder:"FORMAT"`
	Out       pathName         `help:"Folder for the packages and a SHA256SUMS.pkgs of them, new or empty; without it they are compared only." placeholder:"DIR"`
	Tree      string           `help:"The live-bootstrap checkout with the lists to compare with (default: those in the image)." placeholder:"DIR"`
	Allow     []string         `help:"A file or folder outside the run folder that the record of the run may name; repeatable." sep:"none" placeholder:"PATH"`
	ExtraRoot []string         `help:"A folder to take for the extra root steps-NAME: DIR or NAME=DIR; may be repeated." sep:"none" placeholder:"DIR"`
	JSON      bool             `help:"Write the result as JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (exportCmd) Help() string {
	return examples(
		"kindling export --run kindling-runs/latest --out packages", "the packages that a run with --keep has made",
		"kindling export disk.img --tree ~/live-bootstrap", "whether those of a disk are the ones that the tree lists",
		"kindling export disk.img --json", "the same against the list in the image, for programs",
	)
}

// exported is the result as JSON.
type exported struct {
	Status   string             `json:"status"` // same, different or unlisted
	Image    string             `json:"image"`
	Out      string             `json:"out,omitempty"`
	Same     int                `json:"same"`
	Changed  int                `json:"different"`
	Missing  int                `json:"missing"`
	Extra    int                `json:"extra"`
	Unlisted int                `json:"unlisted"`
	Packages []packages.Package `json:"packages"`
}

// Run implements the verb. Packages that are not those of a list are a status of their own, behind the whole list.
func (c *exportCmd) Run(ctx context.Context, s streams) error {
	if (c.Image == "") == (c.Folder == "") {
		return usageError("give an image or --run, one of them")
	}
	if c.Out != "" {
		if err := checkNew(string(c.Out)); err != nil {
			return inputError(err)
		}
	}
	guest, err := c.open(ctx)
	if err != nil {
		return orInterrupted(ctx, inputError(err))
	}
	result, err := c.export(ctx, guest)
	if err = errors.Join(err, guest.close()); err != nil {
		return assembleError(ctx, err)
	}
	if err := c.print(s.text(), result); err != nil {
		return err
	}
	if wrong := result.Changed + result.Missing + result.Extra; wrong > 0 {
		return &exitError{statusOther, fmt.Sprintf("%s: %d different, %d missing, %d extra: not the packages of the list", result.Image,
			result.Changed, result.Missing, result.Extra)}
	}
	return nil
}

// exportSource is a guest's root filesystem.
type exportSource struct {
	fs.FS
	name  string
	close func() error
}

// open opens the image, or what a run has left.
func (c *exportCmd) open(ctx context.Context) (exportSource, error) {
	if c.Image != "" {
		return openGuest(ctx, string(c.Image), c.Format)
	}
	if c.Format != "" {
		return exportSource{}, usageError(runFormat)
	}
	dir, m, err := openRun(string(c.Folder))
	if err != nil {
		return exportSource{}, err
	}
	defer dir.Close()
	if _, err := fs.Stat(dir.FS(), rundir.Disks+"/steps"); err == nil { // a chroot, with modes of its own
		return openGuest(ctx, dir.At(rundir.Disks), "")
	}
	disks, err := disksOf(dir, m, c.Allow)
	if err != nil {
		return exportSource{}, err
	}
	var failed []error
	for _, disk := range disks {
		if _, err := os.Stat(disk[0].Path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		guest, err := openDisk(ctx, disk)
		if err == nil {
			if _, err = fs.Stat(guest, "steps"); err == nil {
				return guest, nil
			}
			err = errors.Join(err, guest.close())
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return exportSource{}, fmt.Errorf("run %s: no disks are left of it: a run that ends well keeps them with --keep only", c.Folder)
	}
	return exportSource{}, fmt.Errorf("run %s: %w", c.Folder, errors.Join(failed...))
}

// openGuest opens an image, or a folder that holds what one would hold.
func openGuest(ctx context.Context, name string, format imagefile.Format) (exportSource, error) {
	info, err := os.Stat(name)
	if err != nil {
		return exportSource{}, err
	}
	if info.IsDir() {
		folder, err := tree.OpenFolder(name) // a guest's: nothing in it blocks, and no link leads out
		if err != nil {
			return exportSource{}, err
		}
		return exportSource{folder, name, folder.Close}, nil
	}
	chain, err := imagefile.Named(name, format)
	if err != nil {
		return exportSource{}, err
	}
	return openDisk(ctx, chain)
}

func openDisk(ctx context.Context, chain imagefile.Chain) (exportSource, error) {
	image, err := diskimage.Open(ctx, chain, diskimage.Options{})
	if err != nil {
		return exportSource{}, err
	}
	return exportSource{image, chain[0].Path, image.Close}, nil
}

// export reads every package of every root once.
func (c *exportCmd) export(ctx context.Context, guest exportSource) (exported, error) {
	result := exported{Image: guest.name, Out: string(c.Out), Packages: []packages.Package{}}
	roots, err := packages.Roots(guest)
	if err != nil {
		return result, err
	}
	lists, err := c.lists(guest, roots)
	if err != nil {
		return result, err
	}
	for _, root := range roots {
		all, err := c.root(ctx, guest, root, lists[root])
		if err != nil {
			return result, fmt.Errorf("%s: %w", guest.name, err)
		}
		result.Packages = append(result.Packages, all...)
	}
	result.count()
	return result, nil
}

// lists are the lists to compare with, by root; nil where there is none.
func (c *exportCmd) lists(guest fs.FS, roots []string) (map[string][]packages.Sum, error) {
	from := guest
	if c.Tree != "" {
		t, err := openTree(c.Tree, &options.Extra{ExtraRoot: c.ExtraRoot})
		if err != nil {
			return nil, err
		}
		defer t.Close()
		from = t.FS()
	} else if len(c.ExtraRoot) > 0 {
		dirs, err := (&options.Extra{ExtraRoot: c.ExtraRoot}).Folders()
		if err != nil {
			return nil, err
		}
		extras, err := tree.OpenExtras(dirs)
		if err != nil {
			return nil, err
		}
		defer extras.Close()
		from = tree.Mount(guest, extras.Mounts())
	}
	lists := map[string][]packages.Sum{}
	for _, root := range roots {
		list, err := packages.List(from, root)
		if err != nil {
			return nil, err
		}
		lists[root] = list
	}
	return lists, nil
}

// root exports one root.
func (c *exportCmd) root(ctx context.Context, guest fs.FS, root string, list []packages.Sum) ([]packages.Package, error) {
	if c.Out == "" {
		return packages.Compare(ctx, guest, root, list, nil)
	}
	dir := filepath.Join(string(c.Out), path.Base(steps.Repo(root)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	all, err := packages.Compare(ctx, guest, root, list, func(name string) (packages.File, error) {
		return renameio.NewPendingFile(filepath.Join(dir, name), renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o644))
	})
	if err != nil {
		return nil, err
	}
	return all, renameio.WriteFile(filepath.Join(dir, packages.ListName), packages.Sums(all), 0o644)
}

func (e *exported) count() {
	for _, p := range e.Packages {
		switch p.Status {
		case packages.Same:
			e.Same++
		case packages.Different:
			e.Changed++
		case packages.Missing:
			e.Missing++
		case packages.Extra:
			e.Extra++
		case packages.Unlisted:
			e.Unlisted++
		}
	}
	switch {
	case e.Changed+e.Missing+e.Extra > 0:
		e.Status = "different"
	case e.Same > 0 || e.Unlisted == 0:
		e.Status = "same"
	default:
		e.Status = "unlisted"
	}
}

// print writes what is not as listed, and the totals.
func (c *exportCmd) print(out io.Writer, e exported) error {
	if c.JSON {
		return writeJSON(out, e)
	}
	p := &printer{out: out}
	for _, pkg := range e.Packages {
		name := path.Join(path.Base(steps.Repo(pkg.Root)), pkg.Name)
		switch pkg.Status {
		case packages.Same, packages.Unlisted:
		case packages.Different:
			p.printf("%s: different: sha256 %s, listed %s\n", name, pkg.SHA256, pkg.Wanted)
		case packages.Missing, packages.Extra:
			p.printf("%s: %s\n", name, pkg.Status)
		}
	}
	there := slices.Clone(e.Packages)
	there = slices.DeleteFunc(there, func(p packages.Package) bool { return p.Status == packages.Missing })
	parts := []string{fmt.Sprintf("%d packages", len(there))}
	for _, n := range []struct {
		count int
		what  string
	}{
		{e.Same, "same"}, {e.Changed, "different"}, {e.Missing, "missing"}, {e.Extra, "extra"}, {e.Unlisted, "not listed anywhere"},
	} {
		if n.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	p.printf("%s\n", strings.Join(parts, ", "))
	if e.Out != "" {
		p.printf("%s\n", e.Out)
	}
	return p.err
}
