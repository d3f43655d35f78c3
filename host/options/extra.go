// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"kindling/steps"
)

// Extra asks for extra roots. Embed it in a kong command beside Rootfs.
type Extra struct {
	ExtraRoot     []string `help:"A folder to take along as the extra root steps-NAME: DIR (NAME is its own name, with or without steps-) or NAME=DIR; may be repeated." sep:"none" placeholder:"DIR"`
	ExtraBuild    []string `help:"Run the extra root NAME when the main steps are done: steps-NAME of the tree, or one of --extra-root; may be repeated, and runs in this order." sep:"none" placeholder:"NAME"`
	BuildGuixAlso bool     `help:"The same as --extra-build=guix, behind all others."`
}

// Names are the extra roots that are asked for, in the order in which they run.
func (e *Extra) Names() []string {
	names := slices.Clone(e.ExtraBuild)
	if e.BuildGuixAlso && !slices.Contains(names, steps.GuixName) {
		names = append(names, steps.GuixName)
	}
	return names
}

// Folders are the folders of --extra-root, by the name of the root. Errors: a name that is none, or that two of them have.
func (e *Extra) Folders() (map[string]string, error) {
	folders := map[string]string{}
	for _, arg := range e.ExtraRoot {
		name, dir, found := strings.Cut(arg, "=")
		if !found || strings.Contains(name, "/") {
			dir = arg
			abs, err := filepath.Abs(dir)
			if err != nil {
				return nil, fmt.Errorf("--extra-root %s: %w", arg, err)
			}
			name = strings.TrimPrefix(filepath.Base(abs), steps.ExtraPrefix)
		}
		if _, err := steps.ExtraRoot(name); err != nil {
			return nil, fmt.Errorf("--extra-root %s: %w; give it one with NAME=DIR", arg, err)
		}
		if dir == "" {
			return nil, fmt.Errorf("--extra-root %s: no folder behind the =", arg)
		}
		if other, found := folders[name]; found {
			return nil, fmt.Errorf("--extra-root %s: %s is the extra root %s already; give it another name with NAME=DIR", arg, other, name)
		}
		folders[name] = dir
	}
	return folders, nil
}

// Check reports the first thing that cannot be as it stands.
func (e *Extra) Check() error {
	if _, err := e.Folders(); err != nil {
		return err
	}
	if err := steps.SetExtraNames(&steps.Config{}, e.Names()); err != nil {
		return fmt.Errorf("--extra-build: %w", err)
	}
	return nil
}

// Config adds the request to bootstrap.cfg, at its end: BUILD_GUIX_ALSO=True if guix is asked for, for a tree's own
// scripts, and EXTRA_BUILD=NAME,NAME. Without a request it adds nothing.
func (e *Extra) Config(c *steps.Config) error { return steps.SetExtraNames(c, e.Names()) }

// Warnings are the folders that nothing asks for, by the name of the root; they are not taken along.
func (e *Extra) Warnings() []string {
	folders, err := e.Folders()
	if err != nil {
		return nil // Check says so
	}
	var warnings []string
	asked := e.Names()
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		if !slices.Contains(asked, name) {
			warnings = append(warnings, fmt.Sprintf("--extra-root %s: nothing asks for it, so it is not taken along (--extra-build %s)", name, name))
		}
	}
	return warnings
}
