// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"kindling/host/tree"
	"kindling/steps"
)

// ErrMissing says that distfiles are not in their folder.
var ErrMissing = errors.New("distfiles are missing")

// MissingError names the distfiles that are not in their folder. It wraps ErrMissing.
type MissingError struct {
	Dir   string
	Names []string // in the order of need
}

// Error names a few of them.
func (e *MissingError) Error() string {
	const shown = 5
	names := strings.Join(e.Names[:min(len(e.Names), shown)], ", ")
	if len(e.Names) > shown {
		names += ", ..."
	}
	return fmt.Sprintf("%s: %d %v (%s): get them with kindling fetch", e.Dir, len(e.Names), ErrMissing, names)
}

// Unwrap returns ErrMissing.
func (e *MissingError) Unwrap() error { return ErrMissing }

// found is a distfile and where it is on the host.
type found struct {
	steps.Distfile
	source *tree.Source
}

// entry is the distfile as an entry of a medium, to be verified.
func (f found) entry(name string) Entry {
	return Entry{Path: name, Size: f.source.Size, Source: f.source, SHA256: f.SHA256}
}

// findDistfiles looks for everything that goes on a medium.
func (p *planner) findDistfiles() error {
	dir, err := filepath.Abs(p.a.Options.Distfiles)
	if err != nil {
		return fmt.Errorf("distfiles: %w", err)
	}
	p.a.Options.Distfiles = dir
	missing := &MissingError{Dir: dir}
	network := 0
	if p.distfiles, err = p.open(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("distfiles: %w", err)
	}
	for _, f := range p.a.Distfiles {
		if f.Medium == steps.MediumNetwork && f.Again == "" {
			network++
			continue
		}
		source, err := p.findDistfile(f.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing.Names = append(missing.Names, f.Name)
			continue
		case err != nil:
			return fmt.Errorf("distfiles: %w", err)
		}
		p.files = append(p.files, found{f, source})
	}
	if len(missing.Names) > 0 {
		return missing
	}
	if network > 0 && len(p.a.Options.Boot.Mirrors) == 0 {
		p.warn("no mirror is given: the guest downloads %d distfiles from their origins", network)
	}
	return nil
}

func (p *planner) findDistfile(name string) (*tree.Source, error) {
	if p.distfiles == nil {
		return nil, fs.ErrNotExist
	}
	return tree.Find(p.distfiles, name, filepath.Join(p.a.Options.Distfiles, name))
}

// listFolder lists the whole folder of distfiles where rootfs.py copies all of it, whatever the plan needs: with all
// sources, in place of a payload. Hidden files and unfinished downloads (".part") are not taken along.
func (p *planner) listFolder() error {
	if p.distfiles == nil {
		return fmt.Errorf("distfiles: %s: %w", p.a.Options.Distfiles, fs.ErrNotExist)
	}
	all, err := tree.List(p.distfiles, ".")
	if err != nil {
		return fmt.Errorf("distfiles %s: %w", p.a.Options.Distfiles, err)
	}
	p.folder = slices.DeleteFunc(all, func(e tree.Entry) bool {
		return strings.HasPrefix(e.Path, ".") || strings.Contains(e.Path, "/.") || strings.HasSuffix(e.Path, ".part")
	})
	return nil
}

// addFolder puts the whole folder of distfiles below dir; what the plan knows is verified.
func (p *planner) addFolder(s *fileset, dir string) {
	for _, e := range p.folder {
		s.addHost(dir+"/"+e.Path, p.distfiles, e.Path, filepath.Join(p.a.Options.Distfiles, filepath.FromSlash(e.Path)), e)
	}
	for _, f := range p.files {
		s.add(f.entry(dir + "/" + f.Name))
	}
}

// addNeeded puts those distfiles below dir that keep says.
func (p *planner) addNeeded(s *fileset, dir string, keep func(found) bool) {
	s.dir(dir)
	for _, f := range p.files {
		if keep(f) {
			s.add(f.entry(dir + "/" + f.Name))
		}
	}
}
