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
	"strings"

	"kindling/host/options"
	"kindling/host/planview"
	"kindling/steps"
)

// planCmd is "kindling plan": it shows what a bootstrap with these options would do, before anything is made. It needs
// the tree only: no mirror, no distfiles, no kernel.
type planCmd struct {
	Boot  options.Rootfs  `embed:""`
	Media options.Payload `embed:""`

	Tree string `help:"The live-bootstrap checkout." required:"" placeholder:"DIR"`
	Root string `help:"The root to plan, such as /steps-guix." default:"/steps"`
	JSON bool   `help:"Write JSON with stable field names." name:"json"`
}

// Run writes the plan to out. Whatever is wrong is wrong with the options or the tree.
func (c *planCmd) Run(ctx context.Context, out io.Writer) error {
	view, err := c.view()
	if err != nil {
		return usageError("%s", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.JSON {
		return view.JSON(out)
	}
	return view.Text(out)
}

// view plans as the assembled image will: with the payload imports in the manifest if there is a payload.
func (c *planCmd) view() (*planview.View, error) {
	if err := errors.Join(c.Boot.Validate(), c.Media.Check(&c.Boot)); err != nil {
		return nil, err
	}
	tree, err := openTree(c.Tree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	root := rootName(c.Root)
	manifest, err := steps.ReadManifest(tree.FS(), root)
	if err != nil {
		return nil, inTree(c.Tree, err)
	}
	payload := c.Media.Wanted(&c.Boot)
	if payload && root == steps.MainRoot {
		if manifest, err = manifest.WithPayloadImport(); err != nil {
			return nil, inTree(c.Tree, err)
		}
	}
	plan, err := steps.NewPlanOf(manifest, tree.FS(), root, c.Media.Config(&c.Boot))
	if err != nil {
		return nil, inTree(c.Tree, err)
	}
	view, err := planview.New(plan, planview.Facts{
		Tree: c.Tree, Mode: string(c.Boot.Mode()), Media: c.Media.Media(&c.Boot), Payload: payload,
		Warnings: c.Boot.Warnings(),
	})
	return view, inTree(c.Tree, err)
}

// openTree opens a checkout so that nothing outside of it can be read through it.
func openTree(dir string) (*os.Root, error) {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open tree: %w", err)
	}
	if _, err := fs.Stat(tree.FS(), steps.MainRoot); err != nil {
		_ = tree.Close()
		return nil, fmt.Errorf("tree %s: no folder %q in it: name the top folder of a live-bootstrap checkout", dir,
			steps.MainRoot)
	}
	return tree, nil
}

// inTree says in which tree an error was found; the names in it begin at the tree's top.
func inTree(dir string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tree %s: %w", dir, err)
}

// rootName is the folder in the tree of a root as the user names it, which is its path in the guest.
func rootName(root string) string { return strings.Trim(root, "/") }
