// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package stage0 makes a bootstrapped disk ready for extra roots: it says whether its /init enters them at all, and what
// has to change on it so that the next boot does.
//
// It decides from what an image holds; package diskimage makes the changes. An /init is never changed. It is called by
// "kindling run --stage0-image", which gives it a copy of the user's image.
package stage0

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kindling/host/diskimage"
	"kindling/internal/event"
	"kindling/internal/history"
	"kindling/steps"
)

// Handoff is what enters extra roots when a disk is booted.
type Handoff string

// The kinds of /init that do.
const (
	HandoffAgent  Handoff = "agent"  // Kindling's agent, which keeps a journal
	HandoffScript Handoff = "script" // a script with the same marker
	HandoffTree   Handoff = "tree"   // a tree's own script, which knows BUILD_GUIX_ALSO
)

// treeMarker is the function of a tree's own /init that enters steps-guix.
const treeMarker = "run_steps_guix_if_requested"

// Errors that callers tell apart.
var (
	ErrNoHandoff = errors.New("its /init does not enter extra roots")
	ErrDone      = errors.New("everything that is asked for is done in it already")
)

// Places in a guest, below its root.
const (
	initPath    = "init"
	agentPath   = "kindling/init"
	configPath  = "steps/bootstrap.cfg"
	journalPath = "kindling/journal"
	distfileDir = "external/distfiles"
	doneDir     = "kindling/extra-done" // a file for each root that is done, where no agent keeps a journal

	maxInit    = 64 << 20
	maxText    = 16 << 20
	maxJournal = 256 << 20
)

// Guest is the filesystem of an image. diskimage.Image has it.
type Guest interface {
	fs.FS
	ReadFile(name string, limit int64) ([]byte, error)
	Plan(dst string, src fs.FS) ([]diskimage.Change, error)
}

// Check looks for the marker in a guest's /init. Without one, the error wraps ErrNoHandoff.
func Check(g Guest) (Handoff, error) {
	text, err := g.ReadFile(initPath, maxInit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: there is none: this is no disk that a bootstrap has finished", ErrNoHandoff)
	}
	if err != nil {
		return "", fmt.Errorf("read /init: %w", err)
	}
	if line, _, _ := bytes.Cut(text, []byte("\n")); string(line) == "#!/"+agentPath { // the agent leaves a line in its place
		if text, err = g.ReadFile(agentPath, maxInit); err != nil {
			return "", fmt.Errorf("read /%s: %w", agentPath, err)
		}
	}
	program := bytes.HasPrefix(text, []byte("\x7fELF"))
	marked := bytes.Contains(text, []byte(steps.HandoffMarker))
	switch {
	case marked && program:
		return HandoffAgent, nil
	case marked:
		return HandoffScript, nil
	case !program && bytes.Contains(text, []byte(treeMarker)):
		return HandoffTree, nil
	}
	return "", fmt.Errorf("%w: it has no marker %q, and is left as it is: make the image anew with this Kindling", ErrNoHandoff,
		steps.HandoffMarker)
}

// Request says what shall run on a disk.
type Request struct {
	Names []string // extra roots, in the order in which they run
	Tree  fs.FS    // has the folder of each
}

// Work is what a request changes.
type Work struct {
	Changes []diskimage.Change // in order
	// Missing are the distfiles that the roots' steps need and that are not on the disk, or are another size there than
	// a file can have.
	Missing []steps.Distfile
	Notes   []string // what happens to each root, for people
}

// Prepare works out what has to change in a guest for a request. A root that the guest has begun goes on where it was,
// unless its files are others now: then it begins anew, with an empty repository, since its steps may be others too. If
// nothing is left to do the error wraps ErrDone.
func Prepare(g Guest, handoff Handoff, r Request) (Work, error) {
	w := &worker{guest: g, handoff: handoff}
	if handoff == HandoffTree && !slices.Equal(r.Names, []string{steps.GuixName}) {
		return Work{}, fmt.Errorf("%w: that of this tree knows the root %s alone", ErrNoHandoff, steps.GuixName)
	}
	if err := w.read(); err != nil {
		return Work{}, err
	}
	config, err := steps.PlainConfig(configPath, w.config)
	if err != nil {
		return Work{}, err
	}
	w.noteRefused()
	plans, err := steps.NewExtraPlans(r.Tree, r.Names, config)
	if err != nil {
		return Work{}, err
	}
	left := 0
	for i, plan := range plans {
		done, err := w.root(r.Names[i], plan, r.Tree)
		if err != nil {
			return Work{}, fmt.Errorf("extra root %s: %w", r.Names[i], err)
		}
		if !done {
			left++
		}
	}
	if left == 0 {
		return Work{}, fmt.Errorf("%w: %s", ErrDone, strings.Join(r.Names, ", "))
	}
	return w.finish(r.Names, plans)
}

// worker prepares one request.
type worker struct {
	guest   Guest
	handoff Handoff
	config  []byte // bootstrap.cfg
	journal []byte // nil without one
	history history.Run
	work    Work
	anew    []string // names of roots that begin anew
}

func (w *worker) read() (err error) {
	if w.config, err = w.guest.ReadFile(configPath, maxText); err != nil {
		return fmt.Errorf("read /%s: %w", configPath, err)
	}
	if w.handoff != HandoffAgent {
		return nil
	}
	if w.journal, err = w.guest.ReadFile(journalPath, maxJournal); err != nil {
		return fmt.Errorf("read /%s: %w", journalPath, err)
	}
	w.history, err = history.Read(context.Background(), bytes.NewReader(w.journal))
	return err
}

// root works out one root, and reports whether it is done.
func (w *worker) root(name string, plan *steps.Plan, tree fs.FS) (done bool, err error) {
	src, err := fs.Sub(tree, plan.Root)
	if err != nil {
		return false, err
	}
	changes, err := w.guest.Plan(plan.Root, src)
	if err != nil {
		return false, err
	}
	begun, finished := w.progress(name, plan)
	changed := slices.ContainsFunc(changes, w.isNews)
	switch {
	case begun == 0:
		w.note("extra root %s: %d steps", name, len(plan.Steps))
	case changed:
		w.note("extra root %s: its files are others now: it begins anew", name)
		w.beginAnew(name, plan.Root)
	case finished:
		w.note("extra root %s: is done", name)
		return true, nil
	default:
		w.note("extra root %s: goes on behind %d of %d steps", name, begun, len(plan.Steps))
		return false, nil // what a step has left there is the agent's to mend
	}
	w.work.Changes = append(w.work.Changes, changes...)
	return false, w.scripts(plan)
}

func (w *worker) note(format string, args ...any) {
	w.work.Notes = append(w.work.Notes, fmt.Sprintf(format, args...))
}

// progress counts the steps of a root that the journal knows, and reports whether all of the plan are done.
func (w *worker) progress(name string, plan *steps.Plan) (begun int, finished bool) {
	if _, err := fs.Stat(w.guest, path.Join(doneDir, name)); err == nil && w.handoff == HandoffScript {
		return len(plan.Steps), true
	}
	done := map[string]bool{}
	for _, s := range w.history.Steps {
		if strings.HasPrefix(s.ID, name+".") {
			begun++
			done[s.ID] = s.Status == string(event.StatusOK)
		}
	}
	finished = begun > 0
	for _, s := range plan.Steps {
		finished = finished && done[s.ID()]
	}
	return begun, finished
}

// isNews reports a change of what a file holds. A mode that an early kernel has lost, or a file that a build has left
// behind, makes no other root.
func (w *worker) isNews(c diskimage.Change) bool {
	if c.Remove || c.Mode.IsDir() {
		return false
	}
	now, err := w.guest.ReadFile(c.Path, int64(len(c.Data)))
	return c.Mode&fs.ModeSymlink != 0 || err != nil || !bytes.Equal(now, c.Data)
}

// beginAnew takes away what is left of an earlier run of a root: its packages, its plan, and its lines of the journal.
func (w *worker) beginAnew(name, root string) {
	w.anew = append(w.anew, name)
	for _, gone := range []string{steps.Repo(root), path.Join(doneDir, name), "kindling/plan." + root + ".cfg", "kindling/plan." + root + ".manifest"} {
		if _, err := fs.Stat(w.guest, gone); err == nil {
			w.work.Changes = append(w.work.Changes, diskimage.Change{Path: gone, Remove: true})
		}
	}
}

// scripts adds the generated scripts of a root where no agent runs its steps.
func (w *worker) scripts(plan *steps.Plan) error {
	if w.handoff == HandoffAgent {
		return nil
	}
	files, err := plan.Scripts(nil)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Path != steps.ConfigPath {
			w.put(strings.TrimPrefix(f.Path, "/"), f.Data)
		}
	}
	return nil
}

func (w *worker) put(name string, data []byte) {
	w.work.Changes = append(w.work.Changes, diskimage.Change{Path: name, Mode: 0o644, Data: data})
}

// finish asks for the roots, last: a disk that was left half-way asks for nothing.
func (w *worker) finish(names []string, plans []*steps.Plan) (Work, error) {
	files, err := steps.Distfiles(plans, steps.MediaOptions{})
	if err != nil {
		return Work{}, err
	}
	for _, f := range files {
		if _, err := fs.Stat(w.guest, path.Join(distfileDir, f.Name)); errors.Is(err, fs.ErrNotExist) && f.Active {
			w.work.Missing = append(w.work.Missing, f)
		}
	}
	if len(w.anew) > 0 && w.handoff == HandoffAgent {
		w.put(journalPath, without(w.journal, w.anew))
	}
	config, err := requested(w.config, names)
	if err != nil {
		return Work{}, err
	}
	if w.handoff != HandoffAgent {
		for _, p := range plans {
			for _, v := range p.Defined {
				config = append(config, v.Name+"="+v.Value+"\n"...)
			}
		}
	}
	if !bytes.Equal(config, w.config) {
		w.put(configPath, config)
	}
	return w.work, nil
}

// AddDistfile is the changes that put a distfile into a guest.
func AddDistfile(g Guest, name string, data []byte) []diskimage.Change {
	var changes []diskimage.Change
	for _, dir := range []string{"external", distfileDir} {
		if _, err := fs.Stat(g, dir); errors.Is(err, fs.ErrNotExist) {
			changes = append(changes, diskimage.Change{Path: dir, Mode: fs.ModeDir | 0o755})
		}
	}
	return append(changes, diskimage.Change{Path: path.Join(distfileDir, name), Mode: 0o644, Data: data})
}

// requested is a bootstrap.cfg that asks for these roots and no others. All its other lines stay.
func requested(config []byte, names []string) ([]byte, error) {
	ask := &steps.Config{}
	if err := steps.SetExtraNames(ask, names); err != nil {
		return nil, err
	}
	var out []byte
	for line := range bytes.Lines(config) {
		name, _, _ := bytes.Cut(line, []byte("="))
		if string(name) != steps.VarExtraBuild && string(name) != steps.VarBuildGuixAlso {
			out = append(out, line...)
		}
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, ask.Bytes()...), nil
}

// noteRefused notes values of the guest's bootstrap.cfg that are not used for the plan.
func (w *worker) noteRefused() {
	for line := range bytes.Lines(w.config) {
		line = append(bytes.TrimRight(line, "\r\n"), '\n')
		name, _, _ := bytes.Cut(line, []byte("="))
		_, err := steps.ParseConfig(configPath, bytes.NewReader(line))
		if _, bad := steps.ParseConfig(configPath, strings.NewReader(string(name)+"=\n")); bad == nil && err != nil {
			w.note("not used for the plan: %v", err)
		}
	}
}

// without is a journal without the lines about the steps of some roots.
func without(journal []byte, names []string) []byte {
	var out []byte
	for line := range bytes.Lines(journal) {
		e, err := event.Decode(line)
		name, _, _ := strings.Cut(e.Step, ".")
		if err == nil && strings.Contains(e.Step, ".") && slices.Contains(names, name) {
			continue
		}
		out = append(out, line...)
	}
	return out
}
