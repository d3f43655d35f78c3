// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"kindling/steps"
)

// extraRoots has the tree's shell scripts run the extra roots, where no agent does: their scripts, generated as the main
// ones are, and a wrapper of after.sh. A root that the tree's own after.sh runs is left to it.
func (a *applier) extraRoots() error {
	own, err := fs.ReadFile(a.in.Tree, after)
	if err != nil {
		return fmt.Errorf("overlay: %w (without the agent, extra roots run in improve: after)", err)
	}
	runner := "#!/bin/bash\n#\n# Written by kindling: the extra roots that were asked for, in their order.\n\nset -e\n"
	for _, plan := range a.in.Extra {
		if err := a.extraScripts(plan); err != nil {
			return err
		}
		script := "/" + plan.Root + "/0.sh"
		if bytes.Contains(own, []byte(script)) {
			a.warn("%s runs %s itself: that root is left to it, and its place in the order as well", after, script)
			continue
		}
		for _, v := range plan.Defined {
			runner += "echo '" + strings.ReplaceAll(v.Name+"="+v.Value, "'", `'\''`) + "' >> " + steps.ConfigPath + "\n"
		}
		name := strings.TrimPrefix(plan.Root, steps.ExtraPrefix)
		runner += "bash " + script + "\nmkdir -p /" + doneDir + "\n: > /" + doneDir + "/" + name + "\n"
	}
	a.add(extraRunner, []byte(runner))
	a.add(wrapped(after), own)
	return a.embedded(after)
}

// doneDir has a file for each extra root that is done, where no agent keeps a journal.
const doneDir = "kindling/extra-done"

// handoff has the /init of the finished disk enter extra roots that are asked for later.
func (a *applier) handoff() error {
	own, err := fs.ReadFile(a.in.Tree, bootable)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	a.add(wrapped(bootable), own)
	return a.embedded(bootable, handoff)
}

// extraScripts adds the scripts of one root.
func (a *applier) extraScripts(plan *steps.Plan) error {
	for _, s := range plan.Steps {
		if s.Kind == steps.KindJump {
			return fmt.Errorf("%w: %s/manifest:%d: %s: a jump in an extra root needs the agent: nothing else goes on behind it", ErrTree,
				plan.Root, s.Line, s)
		}
	}
	scripts, err := plan.Scripts(nil)
	if err != nil {
		return err
	}
	for _, f := range scripts {
		if f.Path != steps.ConfigPath { // there is one for all roots, and it is the main root's
			a.add(strings.TrimPrefix(f.Path, "/"), f.Data)
		}
	}
	return nil
}

// keepSources wraps the tree's clean_sources.sh, which knows the main steps only.
func (a *applier) keepSources() error {
	own, err := fs.ReadFile(a.in.Tree, cleaner)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing deletes them
	}
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	a.add(extraSources, []byte(strings.Join(a.in.Keep, "\n")+"\n"))
	a.add(wrapped(cleaner), own)
	return a.embedded(cleaner)
}
