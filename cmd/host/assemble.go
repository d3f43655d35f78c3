// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/term"

	"kindling"
	"kindling/host/assemble"
	"kindling/host/budget"
	"kindling/host/options"
	"kindling/host/report"
)

// agentNone is the value of --agent that leaves the tree's own scripts in charge.
const agentNone = "off"

// assembleCmd is "kindling assemble": it makes the boot media of a tree, in place of the tree's own rootfs.py.
type assembleCmd struct {
	Boot  options.Rootfs  `embed:""`
	Media options.Payload `embed:""`
	Extra options.Extra   `embed:""`
	Net   options.Net     `embed:""`

	Tree      string `help:"The live-bootstrap checkout, with its submodules; it is only read." required:"" placeholder:"DIR"`
	Distfiles string `help:"Folder of the distfiles (default: distfiles in the tree)." placeholder:"DIR"`
	Out       string `help:"Folder for the media; --target by another name." placeholder:"DIR"`
	Agent     string `help:"The agent's program, or off (default: kindling-init-386 beside this program)." placeholder:"FILE|off"`
	DoneEvent bool   `help:"Without an agent: have the last after script tell the host that all went well."`
	Initramfs bool   `help:"With --kernel: make an initramfs of what is on the disk as well."`
}

// Help implements kong.HelpProvider.
func (assembleCmd) Help() string {
	return examples(
		"kindling assemble --tree ~/live-bootstrap --distfiles ~/distfiles --out media --bare-metal --external-sources",
		"images for a real machine, and what to do with them",
		"kindling assemble --tree ~/live-bootstrap --out media --qemu --mirrors https://mirror.example --agent off",
		"an image for QEMU that downloads its sources, without the agent",
	)
}

// Run decides, writes, and says what there is.
func (c *assembleCmd) Run(ctx context.Context, s streams) error {
	assembly, err := c.plan(ctx)
	if err != nil {
		return err
	}
	defer assembly.Close()
	for _, w := range append(assembly.Warnings, tight(assembly.Budget)...) {
		s.notef("kindling: warning: %s\n", w)
	}
	result, err := assembly.Write(ctx, c.out(), assembleProgress(s))
	if err != nil {
		return assembleError(ctx, err)
	}
	for _, image := range result.Images {
		fmt.Fprintf(s.text(), "%-10s %14d  %s\n", image.Name, image.Size, image.Path)
	}
	for _, line := range assembly.Instructions(result.Dir) {
		fmt.Fprintln(s.text(), line)
	}
	return nil
}

// plan decides what goes where. Whatever is wrong is wrong with the options, the tree or the distfiles.
func (c *assembleCmd) plan(ctx context.Context) (*assemble.Assembly, error) {
	if c.Out != "" && c.Boot.Target != "" && c.Boot.Target != "target" && filepath.Clean(c.Out) != filepath.Clean(c.Boot.Target) {
		return nil, usageError("--out %s and --target %s name two folders: give one of them", c.Out, c.Boot.Target)
	}
	agent, err := c.agent()
	if err != nil {
		return nil, err
	}
	assembly, err := assemble.Plan(ctx, assemble.Options{
		Boot: c.Boot, Payload: c.Media, Extra: c.Extra, Net: c.Net, Tree: c.Tree, Distfiles: c.Distfiles, Agent: agent,
		Importer: kindling.PayloadImportSource, DoneEvent: c.DoneEvent, Initramfs: c.Initramfs,
	})
	if err != nil {
		return nil, assembleError(ctx, err)
	}
	return assembly, nil
}

// tight is what the early kernels' limits will probably not hold; what they certainly do not hold was an error before.
func tight(r *budget.Report) []string {
	if r == nil {
		return nil
	}
	var lines []string
	for _, row := range r.Rows {
		if row.Verdict == budget.ProbablyOver && row.Used != nil {
			lines = append(lines, fmt.Sprintf("budget: %s, %s: about %d of %d %s; %s", row.Kernel, row.What, *row.Used, row.Limit,
				row.Unit, row.Advice))
		}
	}
	return lines
}

func (c *assembleCmd) out() string {
	if c.Out != "" {
		return c.Out
	}
	return c.Boot.Target
}

// agent is the agent's program, "" for none.
func (c *assembleCmd) agent() (string, error) {
	switch {
	case c.Agent == agentNone || c.Boot.Chroot || c.Boot.Bwrap:
		return "", nil
	case c.Agent != "":
		return c.Agent, checkAgent(c.Agent, elf.EM_386)
	}
	path, err := besideUs("kindling-init-386")
	if err != nil {
		return "", err
	}
	return path, checkAgent(path, elf.EM_386)
}

// assembleError gives an error its exit status: an interruption is told apart from input that cannot be used.
func assembleError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted; nothing unfinished is left under a final name"}
	}
	if known, ok := errors.AsType[*exitError](err); ok {
		return known
	}
	return inputError(err)
}

// assembleProgress shows how far the writing is, on a terminal only.
func assembleProgress(s streams) func(assemble.Progress) {
	if !term.IsTerminal(int(s.err.Fd())) {
		return nil
	}
	return func(p assemble.Progress) {
		percent := int64(100)
		if p.Total > 0 {
			percent = min(100*p.Done/p.Total, 100)
		}
		fmt.Fprintf(s.err, "\r\x1b[K%3d %%  %s", percent, p.Medium)
		if percent == 100 {
			fmt.Fprint(s.err, "\r\x1b[K")
		}
	}
}
