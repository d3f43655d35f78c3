// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
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
	"kindling/steps/overlay"
)

// planCmd is "kindling plan": it shows what a bootstrap with these options would do, before anything is made. It needs
// the tree only: no mirror, no distfiles, no kernel. With distfiles, the budgets have real sizes.
type planCmd struct {
	Boot  options.Rootfs  `embed:""`
	Media options.Payload `embed:""`

	Tree      string `help:"The live-bootstrap checkout." required:"" placeholder:"DIR"`
	Root      string `help:"The root to plan, such as /steps-guix." default:"/steps"`
	Distfiles string `help:"Folder of the distfiles, for the budgets (default: distfiles in the tree)." placeholder:"DIR"`
	Agent     string `help:"The agent's program, or off (default: kindling-init-386 beside this program)." placeholder:"FILE|off"`
	JSON      bool   `help:"Write JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (planCmd) Help() string {
	return examples(
		"kindling plan --tree ~/live-bootstrap --qemu --external-sources",
		"what runs where, what goes on which medium, and whether it fits",
		"kindling plan --tree ~/live-bootstrap --bare-metal --json", "the same for a program",
		"kindling plan --tree ~/live-bootstrap --chroot --root /steps-guix", "the steps of another root",
	)
}

// Run writes the plan to out. Whatever is wrong is wrong with the options or the tree; a limit of an early kernel that
// is exceeded is an error behind the whole plan.
func (c *planCmd) Run(ctx context.Context, out io.Writer) error {
	view, err := c.view()
	if err != nil {
		return usageError("%s", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	write := view.Text
	if c.JSON {
		write = view.JSON
	}
	if err := write(out); err != nil {
		return err
	}
	if view.Budgets != nil {
		if err := view.Budgets.Err(); err != nil {
			return usageError("%s", err)
		}
	}
	return nil
}

// view plans as the assembled image will: with the payload imports in the manifest if there is a payload.
func (c *planCmd) view() (*planview.View, error) {
	if err := errors.Join(c.Boot.Validate(), c.Media.Check(&c.Boot), checkInputs(&c.Boot)); err != nil {
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
		if manifest, err = payloadManifest(tree.FS()); err != nil {
			return nil, inTree(c.Tree, err)
		}
	}
	plan, err := steps.NewPlanOf(manifest, tree.FS(), root, c.Media.Config(&c.Boot))
	if err != nil {
		return nil, inTree(c.Tree, err)
	}
	facts := planview.Facts{
		Tree: c.Tree, Mode: string(c.Boot.Mode()), Media: c.Media.Media(&c.Boot), Payload: payload,
		Warnings: c.Boot.Warnings(),
	}
	facts.Warnings = append(facts.Warnings, plan.Missing(tree.FS(), overlay.Provides)...)
	if root == steps.MainRoot {
		if err := c.held(tree.FS(), plan, &facts); err != nil {
			return nil, inTree(c.Tree, err)
		}
	}
	view, err := planview.New(plan, facts)
	return view, inTree(c.Tree, err)
}

// checkInputs reports files of options that are not there, or are no files: a plan that could not be carried out is none.
func checkInputs(boot *options.Rootfs) error {
	for _, in := range []struct {
		option, path string
		folder       bool
	}{
		{"--kernel", boot.Kernel, false}, {"--repo", boot.Repo, true}, {"--early-preseed", boot.EarlyPreseed, false},
	} {
		if in.path == "" {
			continue
		}
		info, err := os.Stat(in.path)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", in.option, err)
		case in.folder && !info.IsDir():
			return fmt.Errorf("%s %s: is no folder", in.option, in.path)
		case !in.folder && !info.Mode().IsRegular():
			return fmt.Errorf("%s %s: is no regular file", in.option, in.path)
		}
	}
	return nil
}

// payloadManifest is the manifest as it stands on media with a payload.
func payloadManifest(tree fs.FS) (steps.Manifest, error) {
	name := steps.MainRoot + "/manifest"
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return steps.Manifest{}, err
	}
	if text, err = overlay.Manifest(name, text); err != nil {
		return steps.Manifest{}, err
	}
	return steps.ParseManifest(name, bytes.NewReader(text))
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
