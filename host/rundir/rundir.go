// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package rundir makes and knows the folder that a run leaves behind:
//
//	console.log     the first serial port, as the guest wrote it
//	events.jsonl    the second serial port: event lines (package event), as the guest wrote them
//	qemu.log        QEMU's own output
//	steps/ID.log    the log of each step
//	report.json     the result (package report)
//	view.json       how the run stands, about once a second while it goes on (package progress)
//	pid             the process that drives it
//	plan.json       what the run is to do (package audit)
//	machine.json    what it takes to go on with the run (package resume)
//	disks/          disk images and overlays that belong to this run alone
//
// It makes names, folders and the link "latest"; it never reads what is in the files. A name that comes from the guest
// becomes a file name only after ValidStepID. It is called by cmd/host and package watch.
package rundir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// DefaultBase is where runs go when nobody says where: a folder in the current one.
const DefaultBase = "kindling-runs"

// Latest is the link in a base folder to its newest run.
const Latest = "latest"

// The names in a run folder.
const (
	consoleLog = "console.log"
	eventsLog  = "events.jsonl"
	qemuLog    = "qemu.log"
	reportFile = "report.json"
	viewFile   = "view.json"
	pidFile    = "pid"
	ownLog     = "kindling.log"
	machine    = "machine.json"
	planFile   = "plan.json"
	stepsDir   = "steps"
	disksDir   = "disks"
)

// maxTries bounds the search for a free name among runs that start within the same second.
const maxTries = 100

// Errors of this package.
var (
	ErrNotEmpty = errors.New("run folder is not empty")
	ErrName     = errors.New("not a safe file name")
	ErrBusy     = errors.New("run folder is in use")
)

var stepIDRE = regexp.MustCompile(`^[A-Za-z0-9._+-]{1,200}$`)

// ValidStepID reports whether id, which comes from the guest, may become a file name: 1 to 200 letters, digits, dots,
// underscores, plus and minus signs, and no name of dots alone.
func ValidStepID(id string) bool { return stepIDRE.MatchString(id) && strings.Trim(id, ".") != "" }

// Options say where the folder shall be.
type Options struct {
	Path  string    // the folder itself (--run DIR): new or empty; "latest" is left alone then
	Base  string    // otherwise: its parent; empty means DefaultBase
	Label string    // what the run is about, part of the name; reduced to letters, digits, ".", "_", "+", "-"
	Now   time.Time // when the run began, part of the name (UTC)
}

// Dir is one run folder. It holds no open file; its methods may be called from several goroutines.
type Dir struct {
	path  string // absolute
	given bool   // the folder itself was there before
	base  string // the folder that runs are made in; "" for a folder of the user's choice
}

// Create makes the folder with everything that is empty at first. The folder is refused with ErrNotEmpty when there is
// something in it already; where two runs race for one folder, one of them gets it. After an error nothing that Create
// made is left.
func Create(o Options) (*Dir, error) {
	if o.Path != "" {
		return createAt(o.Path)
	}
	base := o.Base
	if base == "" {
		base = DefaultBase
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	name := o.Now.UTC().Format("20060102T150405Z")
	if label := cleanLabel(o.Label); label != "" {
		name += "-" + label
	}
	dir, err := createNumbered(base, name)
	if err != nil {
		return nil, err
	}
	if err := renameio.Symlink(filepath.Base(dir.path), filepath.Join(base, Latest)); err != nil {
		return nil, errors.Join(fmt.Errorf("run folder: link %s: %w", filepath.Join(base, Latest), err),
			os.RemoveAll(dir.path))
	}
	dir.base = filepath.Dir(dir.path)
	return dir, nil
}

// createNumbered makes base/name, or base/name-2 and so on when a run of the same second is there already.
func createNumbered(base, name string) (*Dir, error) {
	for try := 1; try <= maxTries; try++ {
		path := filepath.Join(base, name)
		if try > 1 {
			path += "-" + strconv.Itoa(try)
		}
		err := os.Mkdir(path, 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
		return fill(path, true)
	}
	return nil, fmt.Errorf("run folder %s: %d runs with this name already", filepath.Join(base, name), maxTries)
}

func createAt(path string) (*Dir, error) {
	made := false
	switch err := os.Mkdir(path, 0o755); {
	case err == nil:
		made = true
	case errors.Is(err, os.ErrExist):
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
		if len(entries) > 0 {
			return nil, fmt.Errorf("%w: %s: name a new one or remove it", ErrNotEmpty, path)
		}
	default:
		return nil, fmt.Errorf("run folder: %w", err)
	}
	return fill(path, made)
}

// fill makes the contents. The console log is made exclusively: it decides a race between two runs.
func fill(path string, made bool) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	d := &Dir{path: abs, given: !made}
	first, err := os.OpenFile(d.ConsoleLog(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w: %s: another run has taken it", ErrNotEmpty, path)
	}
	if err == nil {
		err = first.Close()
	}
	for _, name := range []string{stepsDir, disksDir} {
		if err == nil {
			err = os.Mkdir(d.join(name), 0o755)
		}
	}
	for _, file := range []string{d.Events(), d.QEMULog()} {
		if err == nil {
			err = os.WriteFile(file, nil, 0o644)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run folder: %w", err), d.removeNew())
	}
	return d, nil
}

// removeNew takes back what a run has made: all of a folder that Create made itself, the run's own files in a given one.
func (d *Dir) removeNew() error {
	if !d.given {
		return os.RemoveAll(d.path)
	}
	var errs []error
	for _, name := range []string{consoleLog, eventsLog, qemuLog, reportFile, machine, planFile, viewFile, pidFile, ownLog, stepsDir, disksDir} {
		errs = append(errs, os.RemoveAll(d.join(name)))
	}
	return errors.Join(errs...)
}

// Open names an existing run folder. It fails when path holds no console log, the first thing that Create makes.
func Open(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	d := &Dir{path: abs}
	if _, err := os.Lstat(d.ConsoleLog()); err != nil {
		return nil, fmt.Errorf("run folder %s: not the folder of a run: %w", path, err)
	}
	return d, nil
}

// Path is the folder, absolute.
func (d *Dir) Path() string { return d.path }

// ConsoleLog is where the first serial port goes.
func (d *Dir) ConsoleLog() string { return d.join(consoleLog) }

// Events is where the second serial port goes.
func (d *Dir) Events() string { return d.join(eventsLog) }

// QEMULog is where QEMU's own output goes.
func (d *Dir) QEMULog() string { return d.join(qemuLog) }

// Report is the machine-readable result.
func (d *Dir) Report() string { return d.join(reportFile) }

// View is how the run stands.
func (d *Dir) View() string { return d.join(viewFile) }

// OwnLog is what a detached run has to say.
func (d *Dir) OwnLog() string { return d.join(ownLog) }

// Machine is what it takes to go on with the run.
func (d *Dir) Machine() string { return d.join(machine) }

// Plan is what the run is to do.
func (d *Dir) Plan() string { return d.join(planFile) }

// Steps is the folder of the step logs.
func (d *Dir) Steps() string { return d.join(stepsDir) }

// Disks is the folder of the disk images that belong to this run.
func (d *Dir) Disks() string { return d.join(disksDir) }

// StepLog is the log of a step, or ErrName for an ID that must not become a file name.
func (d *Dir) StepLog(id string) (string, error) {
	if !ValidStepID(id) {
		return "", fmt.Errorf("step log: %w: %.40q", ErrName, id)
	}
	return filepath.Join(d.Steps(), id+".log"), nil
}

// Disk is a file in Disks, such as "target.img"; name is no path.
func (d *Dir) Disk(name string) (string, error) {
	if !ValidStepID(name) {
		return "", fmt.Errorf("disk: %w: %.40q", ErrName, name)
	}
	return filepath.Join(d.Disks(), name), nil
}

// Rel gives a path in the folder relative to it, as reports name files; other paths come back unchanged.
func (d *Dir) Rel(path string) string {
	rel, err := filepath.Rel(d.path, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return rel
}

// OpenQEMULog opens the log for QEMU's own output, for appending.
func (d *Dir) OpenQEMULog() (*os.File, error) {
	f, err := os.OpenFile(d.QEMULog(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	return f, nil
}

// Lock makes the run this process's own until the file that it gives is closed, or the process ends however. It fails
// with ErrBusy when another process has it.
func (d *Dir) Lock() (io.Closer, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: another kindling has %s; wait for its end", ErrBusy, d.path)
	}
	if err == nil {
		err = os.WriteFile(d.join(pidFile), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Busy reports whether a process has the lock.
func (d *Dir) Busy() (bool, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return false, fmt.Errorf("run folder: %w", err)
	}
	defer func() { _ = f.Close() }()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) // shared, so that two who look do not see each other
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("run folder: %w", err)
	}
	return false, nil
}

// PID is the process that has taken the lock. It means something only while the folder is Busy.
func (d *Dir) PID() (int, error) {
	data, err := os.ReadFile(d.join(pidFile))
	if err != nil {
		return 0, fmt.Errorf("run folder: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("run folder: %s has no process ID", d.join(pidFile))
	}
	return pid, nil
}

// RemoveDisks removes everything in Disks, which is most of a run's size, and the folder. It may be repeated.
func (d *Dir) RemoveDisks() error {
	if err := os.RemoveAll(d.Disks()); err != nil {
		return fmt.Errorf("run folder: remove disks: %w", err)
	}
	return nil
}

// Remove takes back the folder of a run that never began, the link "latest" beside it if that leads to it, and the
// folder of runs if that is empty then. A run's folder that was there before stays, empty as it was.
func (d *Dir) Remove() error {
	link := filepath.Join(filepath.Dir(d.path), Latest)
	var errs []error
	if target, err := os.Readlink(link); err == nil && target == filepath.Base(d.path) {
		errs = append(errs, os.Remove(link))
	}
	if err := errors.Join(append(errs, d.removeNew())...); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	if d.base != "" {
		_ = os.Remove(d.base) // it stays if there are other runs in it
	}
	return nil
}

func (d *Dir) join(name string) string { return filepath.Join(d.path, name) }

// cleanLabel reduces a label to at most 60 characters that are safe in a file name.
func cleanLabel(label string) string {
	const limit = 60
	var out strings.Builder
	for _, r := range label {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '+':
			out.WriteRune(r)
		case !strings.HasSuffix(out.String(), "-"):
			out.WriteByte('-')
		}
		if out.Len() >= limit {
			break
		}
	}
	return strings.Trim(out.String(), "-.")
}
