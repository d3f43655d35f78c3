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
	"syscall"
	"time"

	"kindling/host/options"
	"kindling/host/tree"
	"kindling/steps"
)

// scriptsCmd is "kindling scripts": it writes what the tree's own script generator would write in the guest, below a
// folder. The folder appears as a whole or not at all.
type scriptsCmd struct {
	Tree      string   `help:"The live-bootstrap checkout."                                   required:"" placeholder:"DIR"`
	Config    string   `help:"The bootstrap.cfg to evaluate the manifest with."               required:"" placeholder:"FILE"`
	Out       string   `help:"Where to write; must not exist yet, or be empty."               required:"" placeholder:"DIR"`
	ExtraRoot []string `help:"A folder to take for the extra root steps-NAME: DIR or NAME=DIR; may be repeated." sep:"none" placeholder:"DIR"`
	Root      string   `help:"The root to generate; others than /steps begin in bash."        default:"/steps"`
}

// Help implements kong.HelpProvider.
func (scriptsCmd) Help() string {
	return examples(
		"kindling scripts --tree ~/live-bootstrap --config bootstrap.cfg --out scripts",
		"what the tree's own generator writes for this configuration",
	)
}

// Run writes the scripts, and the number of files to out.
func (c *scriptsCmd) Run(ctx context.Context, out io.Writer) error {
	files, err := c.generate(ctx)
	if err == nil {
		err = checkNew(c.Out)
	}
	if err != nil {
		return inputError(err)
	}
	if err := writeNewFolder(ctx, c.Out, files); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d files written below %s\n", len(files), c.Out)
	return err
}

// generate makes the files.
func (c *scriptsCmd) generate(ctx context.Context) ([]steps.File, error) {
	cfg, err := readConfig(ctx, c.Config)
	if err != nil {
		return nil, err
	}
	checkout, err := openTree(c.Tree, &options.Extra{ExtraRoot: c.ExtraRoot})
	if err != nil {
		return nil, err
	}
	defer checkout.Close()
	if err := requireSeeds(checkout, cfg); err != nil {
		return nil, err
	}
	root := rootName(c.Root)
	plan, err := steps.NewPlan(checkout.FS(), root, cfg)
	if err != nil {
		return nil, inTree(c.Tree, err)
	}
	var env []byte
	if root == steps.MainRoot {
		// Scripts in bash source it in the guest; only kaem's have it written into them.
		if env, err = fs.ReadFile(checkout.FS(), path.Join(root, "env")); err != nil {
			return nil, inTree(c.Tree, err)
		}
	}
	files, err := plan.Scripts(env)
	return files, inTree(c.Tree, err)
}

// requireSeeds reports what is missing in front of the scripts: a guest reaches them from the seeds.
func requireSeeds(t *tree.Tree, cfg *steps.Config) error {
	arch := cfg.Get("ARCH_DIR")
	if arch == "" {
		arch = "x86"
	}
	return t.RequireSeeds(arch, cfg.Get("KERNEL_BOOTSTRAP") == "True")
}

// readConfig reads a configuration, which a shell may also give as a pipe: until ctx ends.
func readConfig(ctx context.Context, name string) (*steps.Config, error) {
	file, err := os.OpenFile(filepath.Clean(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open config: %w", err)
	}
	defer file.Close()
	defer context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })()
	return steps.ParseConfig(name, file)
}

// writeNewFolder writes files below a temporary folder beside dir and then gives that the name dir.
func writeNewFolder(ctx context.Context, dir string, files []steps.File) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("out folder: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-")
	if err != nil {
		return fmt.Errorf("make out folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeBelow(tmp, file); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	// An empty folder stands in the way of a rename; a folder that has been filled meanwhile cannot be removed.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace empty out folder: %w", err)
	}
	return os.Rename(tmp, dir)
}

// checkNew reports why dir cannot be written: it exists and is not empty, or is no folder.
func checkNew(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("out folder: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("out folder %s: is not empty: name a new one, or remove it", dir)
	}
	return nil
}

func writeBelow(dir string, file steps.File) error {
	name := filepath.Join(dir, filepath.FromSlash(file.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	if err := os.WriteFile(name, file.Data, file.Mode); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	return nil
}
