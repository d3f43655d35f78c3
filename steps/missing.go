// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// Missing lists the steps of the plan that a tree has nothing for, each as "name:line: ...": a build without a folder, an
// improvement or a jump without a script. Such a step would end a bootstrap hours after it began. Names for which known
// gives true come from elsewhere.
func (p *Plan) Missing(tree fs.FS, known func(Step) bool) []string {
	var missing []string
	for _, s := range p.Steps {
		name := path.Join(p.Root, s.Name)
		switch s.Kind {
		case KindImprove, KindJump:
			name = path.Join(p.Root, string(s.Kind), s.Name+".sh")
		case KindUninstall:
			continue
		}
		if _, err := fs.Stat(tree, name); errors.Is(err, fs.ErrNotExist) && !known(s) {
			missing = append(missing, fmt.Sprintf("%s/manifest:%d: %s: the tree has no %s", p.Root, s.Line, s.directive(), name))
		}
	}
	return missing
}
