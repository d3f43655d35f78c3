// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package devnodes

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// ErrInTheWay is what the error wraps when something that may hold data, such as a directory with files in it, stands
// where a node or the directory of nodes is to be.
var ErrInTheWay = errors.New("something else is in the way")

// State is what stands under a name.
type State struct {
	Mode   fs.FileMode // as of os.Lstat; 0 with Exists false
	Size   int64       // bytes
	Major  uint32      // of a device
	Minor  uint32
	Exists bool
}

// FS is what Create does to the file system. Names are paths below the root. Root implements it; tests record calls.
type FS interface {
	// State looks at a name without following a symbolic link; a missing name is a State, not an error.
	State(name string) (State, error)
	// Mkdir makes a directory with the permission bits 0755.
	Mkdir(name string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Mknod makes a device node with exactly the node's permission bits, under a name that may differ from the node's.
	Mknod(name string, n Node) error
	// Symlink makes a symbolic link.
	Symlink(target, name string) error
	// Rename gives a file another name, replacing what is not a directory there.
	Rename(from, to string) error
}

// Action is what is to be done about one name.
type Action string

// The actions that Decide knows.
const (
	Keep    Action = "keep"    // the right node is there
	Make    Action = "make"    // nothing is there
	Replace Action = "replace" // something is there that takes the node's place, and does not matter
	Refuse  Action = "refuse"  // something is there that may matter
)

// Decide compares what stands under a node's name with the node. A device with the right type and numbers is kept
// whatever its permission bits, and any symbolic link is kept for a symbolic link, because a /dev that is shared with
// a running system has its own way to say the same. Files and wrong nodes are replaced: a regular /dev/null is what
// the first program that writes to it leaves behind. A directory is refused.
func Decide(n Node, s State) Action {
	kind := s.Mode.Type()
	switch {
	case !s.Exists:
		return Make
	case kind == fs.ModeDir:
		return Refuse
	case n.Type == Symlink && kind == fs.ModeSymlink:
		return Keep
	case n.Type == Char && kind == fs.ModeDevice|fs.ModeCharDevice && s.Major == n.Major && s.Minor == n.Minor:
		return Keep
	case n.Type == Block && kind == fs.ModeDevice && s.Major == n.Major && s.Minor == n.Minor:
		return Keep
	}
	return Replace
}

// Done is what Create did about one node.
type Done struct {
	Node   Node
	Action Action // Keep, Make or Replace
}

// Create makes the nodes below the root of fsys, in the order of the table, with the directories that they need. It
// can be repeated: what is right already is left alone. A name is never missing in between when a node replaces
// something. The first failure ends it; what was done until then is returned with the error, which names the node.
func Create(fsys FS, table []Node) ([]Done, error) {
	var done []Done
	for _, n := range table {
		action, err := create(fsys, n)
		if err != nil {
			return done, fmt.Errorf("create %s %s: %w", n.Type, n.Name, err)
		}
		done = append(done, Done{Node: n, Action: action})
	}
	return done, nil
}

func create(fsys FS, n Node) (Action, error) {
	if err := checkNode(n); err != nil {
		return Refuse, err
	}
	if err := ensureDir(fsys, path.Dir(n.Name)); err != nil {
		return Refuse, err
	}
	state, err := fsys.State(n.Name)
	if err != nil {
		return Refuse, err
	}
	action := Decide(n, state)
	switch action {
	case Make:
		return action, put(fsys, n.Name, n)
	case Replace:
		return action, replace(fsys, n)
	case Refuse:
		return action, fmt.Errorf("%w (a directory)", ErrInTheWay)
	}
	return action, nil
}

// checkNode refuses what no table of ours has: a path that leaves the root, a type without a meaning.
func checkNode(n Node) error {
	if !fs.ValidPath(n.Name) || n.Name == "." {
		return fmt.Errorf("%q is not a path below a root", n.Name)
	}
	if n.Type != Char && n.Type != Block && n.Type != Symlink {
		return fmt.Errorf("no such type of node: %d", n.Type)
	}
	return nil
}

// put makes n under the given name.
func put(fsys FS, name string, n Node) error {
	if n.Type == Symlink {
		return fsys.Symlink(n.Target, name)
	}
	return fsys.Mknod(name, n)
}

// replace makes n under a temporary name and renames it.
func replace(fsys FS, n Node) error {
	tmp := path.Join(path.Dir(n.Name), ".kindling-"+path.Base(n.Name))
	old, err := fsys.State(tmp) // of a call that was cut short
	if err == nil && old.Exists {
		err = fsys.Remove(tmp)
	}
	if err != nil {
		return err
	}
	if err := put(fsys, tmp, n); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, n.Name); err != nil {
		return errors.Join(err, fsys.Remove(tmp))
	}
	return nil
}

// ensureDir makes a directory and those above it. An empty regular file in its place is replaced: that is what
// builder-hex0 leaves of an empty directory.
func ensureDir(fsys FS, dir string) error {
	if dir == "." {
		return nil
	}
	if err := ensureDir(fsys, path.Dir(dir)); err != nil {
		return err
	}
	s, err := fsys.State(dir)
	switch {
	case err != nil:
		return err
	case s.Exists && s.Mode.IsDir():
		return nil
	case s.Exists && s.Mode.IsRegular() && s.Size == 0:
		if err := fsys.Remove(dir); err != nil {
			return err
		}
	case s.Exists:
		return fmt.Errorf("directory %s: %w", dir, ErrInTheWay)
	}
	return fsys.Mkdir(dir)
}
