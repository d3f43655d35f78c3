// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

// Missing lists the steps of the plan that a tree has nothing for, each as "name:line: ...": a build without a folder or
// without the script of its pass, an improvement or a jump without a script. Such a step would end a bootstrap hours
// after it began. Names for which known gives true come from elsewhere. In bash, a package with a makefile of the tree,
// mk/main.mk, needs no script: build of helpers.sh then does the usual.
func (p *Plan) Missing(tree fs.FS, known func(Step) bool) []string {
	var missing []string
	for _, s := range p.Steps {
		var needs []string
		folder := path.Join(p.Root, s.Name)
		script := path.Join(folder, fmt.Sprintf("pass%d", s.Pass))
		switch {
		case s.Kind == KindUninstall:
			continue
		case s.Kind != KindBuild:
			needs = []string{path.Join(p.Root, string(s.Kind), s.Name+".sh")}
		case s.Family == FamilyKaem:
			needs = []string{folder, script + ".kaem"}
		case gone(tree, path.Join(folder, "mk/main.mk")):
			needs = []string{folder, script + ".sh"}
		}
		i := slices.IndexFunc(needs, func(name string) bool { return gone(tree, name) })
		if i >= 0 && !known(s) {
			name := needs[i]
			missing = append(missing, fmt.Sprintf("%s/manifest:%d: %s: the tree has no %s", p.Root, s.Line, s.directive(), name))
		}
	}
	return missing
}

func gone(tree fs.FS, name string) bool {
	_, err := fs.Stat(tree, name)
	return errors.Is(err, fs.ErrNotExist)
}
