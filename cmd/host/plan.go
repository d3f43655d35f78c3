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

	"kindling/host/assemble"
	"kindling/host/options"
	"kindling/host/planview"
	"kindling/host/tree"
	"kindling/steps"
	"kindling/steps/overlay"
)

// planCmd is "kindling plan": it shows what a bootstrap with these options would do, before anything is made. It needs
// the tree only: no mirror, no distfiles, no kernel. With distfiles, the budgets have real sizes.
type planCmd struct {
	Boot  options.Rootfs  `embed:""`
	Media options.Payload `embed:""`
	Extra options.Extra   `embed:""`

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
		return inputError(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	write := view.Text
	if c.JSON {
		write, out = view.JSON, jsonWriter{rawWriter(out)}
	}
	if err := write(out); err != nil {
		return err
	}
	if view.Budgets != nil {
		if err := view.Budgets.Err(); err != nil {
			return inputError(err)
		}
	}
	return nil
}

// view plans as the assembled image will: with the payload imports in the manifest if there is a payload.
func (c *planCmd) view() (*planview.View, error) {
	if err := errors.Join(c.Boot.Validate(), c.Media.Check(&c.Boot), c.Extra.Check(), checkInputs(&c.Boot)); err != nil {
		return nil, err
	}
	tree, err := openTree(c.Tree, &c.Extra)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	if err := assemble.CheckTree(tree, &c.Boot); err != nil {
		return nil, err
	}
	all, err := plans(tree, &c.Boot, &c.Media, &c.Extra, rootName(c.Root))
	if err != nil {
		return nil, inTree(c.Tree, err)
	}
	if err := overlay.CheckSteps(tree.FS(), all); err != nil {
		return nil, inTree(c.Tree, err)
	}
	main, extra := all[0], all[1:]
	facts := planview.Facts{
		Tree: c.Tree, Mode: string(c.Boot.Mode()), Media: c.Media.Media(&c.Boot), Payload: c.Media.Wanted(&c.Boot),
		Extra: extra, Warnings: c.Boot.Warnings(),
	}
	facts.Warnings = append(facts.Warnings, c.Extra.Warnings()...)
	if main.Root == steps.MainRoot {
		if err := c.held(tree.FS(), main, extra, &facts); err != nil {
			return nil, inTree(c.Tree, err)
		}
	}
	view, err := planview.New(main, facts)
	return view, inTree(c.Tree, err)
}

// plans plans a root of a tree, and the extra roots that are asked for behind it.
func plans(
	tree *tree.Tree, boot *options.Rootfs, media *options.Payload, extra *options.Extra, root string,
) ([]*steps.Plan, error) {
	manifest, err := steps.ReadManifest(tree.FS(), root)
	if err != nil {
		return nil, err
	}
	if media.Wanted(boot) && root == steps.MainRoot {
		if manifest, err = payloadManifest(tree.FS()); err != nil {
			return nil, err
		}
	}
	config, err := assemble.TreeConfig(tree, boot, media)
	if err != nil {
		return nil, err
	}
	if err := extra.Config(config); err != nil {
		return nil, err
	}
	main, err := steps.NewPlanOf(manifest, tree.FS(), root, config)
	if err != nil || root != steps.MainRoot {
		return []*steps.Plan{main}, err
	}
	behind, err := steps.NewExtraPlans(tree.FS(), extra.Names(), main.Config)
	return append([]*steps.Plan{main}, behind...), err
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

// openTree opens a checkout so that nothing outside of it can be read through it, with the extra roots of other folders
// beside its steps.
func openTree(dir string, extra *options.Extra) (*tree.Tree, error) {
	dirs, err := extra.Folders()
	if err != nil {
		return nil, err
	}
	t, err := tree.Open(dir)
	if err != nil {
		return nil, err
	}
	err = t.AddExtras(dirs)
	for _, name := range extra.Names() {
		if err == nil {
			err = tree.CheckExtra(t.FS(), name)
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
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
