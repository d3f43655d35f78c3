// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kindling/guest/repair"
	"kindling/steps"
)

// beforeDir holds, for the build that is under way, what was in the package repository before it.
const beforeDir = home + "/before"

// keepDir has second names of the programs that the build may be about to replace.
const keepDir = beforeDir + "/keep"

// wasBegun reports whether an earlier life began the step and did not end it well.
func (a *agent) wasBegun(s steps.Step) bool {
	return a.state.Started == s.ID() || a.state.Failed == s.ID()
}

// remember notes what a build will have to be told apart from, if it is cut short. What an earlier life has noted for
// the same step is the truth.
func (a *agent) remember(s steps.Step) error {
	path := filepath.Join(beforeDir, s.ID())
	if s.Kind != steps.KindBuild {
		return nil
	}
	if _, err := os.Stat(path); err == nil && a.wasBegun(s) {
		return nil
	}
	names, err := repair.Snapshot("/", repoOf(s))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(beforeDir); err != nil { // those of steps that are done
		return err
	}
	if err := os.MkdirAll(beforeDir, 0o755); err != nil {
		return err
	}
	if err := repair.Keep("/", keepDir); err != nil {
		return fmt.Errorf("keep the programs that a build needs: %w", err)
	}
	return writeFile(path, names)
}

// mend makes a step that was begun before safe to run, or finishes it. It reports whether the step is done.
func (a *agent) mend(s steps.Step) (done bool, err error) {
	if !a.wasBegun(s) {
		return false, nil
	}
	a.note("step %d (%s) was begun before and not ended: mending what it left", s.At, s)
	switch s.Kind {
	case steps.KindBuild:
		done, err = a.mendBuild(s)
	case steps.KindUninstall:
		done, err = true, finishUninstall("/", repoOf(s), s.Args)
	case steps.KindJump:
		// The jump of an extra root is to another kernel that this disk boots, and this is the boot after it.
		done = s.Root != "" && a.state.Started == s.ID()
	}
	if err != nil {
		return false, fmt.Errorf("mend what was left of it: %w", err)
	}
	return done, nil
}

func (a *agent) mendBuild(s steps.Step) (bool, error) {
	config, err := readConfig()
	if err != nil {
		return false, err
	}
	before, err := os.ReadFile(filepath.Join(beforeDir, s.ID()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	outcome, err := repair.Build{
		Root: "/", Package: s.Name, Steps: a.planOf(s).Root, Repo: repoOf(s), Before: before,
		Unchecked: config.Get("UPDATE_CHECKSUMS") == "True", Say: a.note,
	}.Repair()
	if err != nil || outcome == repair.Finished {
		return err == nil, err
	}
	restored, err := repair.Restore("/", keepDir)
	for _, name := range restored {
		a.note("/%s is back, as it was before the build", name)
	}
	return false, err
}

// repoOf is the package repository that a step's root has, below the root of the filesystem.
func repoOf(s steps.Step) string { return steps.Repo(cmp.Or(s.Root, steps.MainRoot)) }

// finishUninstall does what is left of an uninstall: of files by their path, and of packages by their archive.
func finishUninstall(root, repo string, args []string) error {
	for _, arg := range args {
		if strings.HasPrefix(arg, "/") {
			if err := os.Remove(filepath.Join(root, arg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		archive, err := repair.LatestArchive(root, repo, arg)
		if err != nil {
			return err
		}
		if archive == "" {
			return fmt.Errorf("uninstall %s: its package is not in the repository", arg)
		}
		if err := repair.Uninstall(archive, root); err != nil {
			return err
		}
	}
	return nil
}
