// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package rundir makes and knows the folder that a run leaves behind:
//
//	console.log     the first serial port, as the guest wrote it
//	events.jsonl    the second serial port: event lines (package event), as the guest wrote them
//	qemu.log        QEMU's own output
//	steps/ID.log    the log of each step
//	report.json     the result (package report)
//	control         the socket by which other kindlings watch and stop the run (package control)
//	plan.json       what the run is to do (package audit)
//	machine.json    what it takes to go on with the run (package machine)
//	serialN.in, .out  the pipes of a serial port, while the machine runs (package qemu)
//	disks/          disk images and overlays that belong to this run alone
//
// A folder is its owner's alone (mode 0700, files 0600). One that exists may come from anywhere: it is opened only if it
// belongs to this user and no other user may write to it, its files are opened below an os.Root, and only regular files,
// never links. A name that comes from the guest becomes a file name only after ValidStepID. The package never looks at
// what is in the files. It is called by cmd/host and package watch.
package rundir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"kindling/internal/shell"
)

// DefaultBase is where runs go when nobody says where: a folder in the current one.
const DefaultBase = "kindling-runs"

// Latest is the link in a base folder to the run there that started last.
const Latest = "latest"

// The names in a run folder.
const (
	ConsoleLog = "console.log"
	Events     = "events.jsonl"
	QEMULog    = "qemu.log"
	Report     = "report.json"
	Machine    = "machine.json"
	Plan       = "plan.json"
	Control    = "control"
	OwnLog     = "kindling.log" // of a detached run
	Steps      = "steps"
	Disks      = "disks"
)

// maxTries bounds the search for a free name among runs that start within the same second.
const maxTries = 100

// Errors of this package.
var (
	ErrNotEmpty = errors.New("run folder is not empty")
	ErrName     = errors.New("not a safe file name")
	ErrBusy     = errors.New("run folder is in use")
	ErrTrust    = errors.New("run folder is not trusted")
	ErrFile     = errors.New("not a plain file of a run folder")
)

var stepIDRE = regexp.MustCompile(`^[A-Za-z0-9._+-]{1,200}$`)

// ValidStepID reports whether id, which comes from the guest, may become a file name: 1 to 200 letters, digits, dots,
// underscores, plus and minus signs, and no name of dots alone.
func ValidStepID(id string) bool { return stepIDRE.MatchString(id) && strings.Trim(id, ".") != "" }

// Options say where the folder shall be.
type Options struct {
	Path  string    // the folder itself (--run DIR): new or empty; it never becomes "latest"
	Base  string    // otherwise: its parent; empty means DefaultBase
	Label string    // what the run is about, part of the name; reduced to letters, digits, ".", "_", "+", "-"
	Now   time.Time // when the run began, part of the name (UTC)
}

// Dir is one run folder. Its methods may be called from several goroutines.
type Dir struct {
	root  *os.Root
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
	dir.base = filepath.Dir(dir.path)
	return dir, nil
}

// SetLatest has the link "latest" lead to a folder that Create has made in a base folder; for other folders it does
// nothing. It is for a run whose machine has started.
func (d *Dir) SetLatest() error {
	if d.base == "" {
		return nil
	}
	link := filepath.Join(d.base, Latest)
	if err := renameio.Symlink(filepath.Base(d.path), link); err != nil {
		return fmt.Errorf("run folder: link %s: %w", link, err)
	}
	return nil
}

// createNumbered makes base/name, or base/name-2 and so on when a run of the same second is there already.
func createNumbered(base, name string) (*Dir, error) {
	for try := 1; try <= maxTries; try++ {
		path := filepath.Join(base, name)
		if try > 1 {
			path += "-" + strconv.Itoa(try)
		}
		err := os.Mkdir(path, 0o700)
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
	switch err := os.Mkdir(path, 0o700); {
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
	if !made { // it is empty
		if err := os.Chmod(path, 0o700); err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
	}
	d, err := openRoot(path)
	if err != nil {
		return nil, err
	}
	d.given = !made
	first, err := d.root.OpenFile(ConsoleLog, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w: %s: another run has taken it", ErrNotEmpty, path)
	}
	if err == nil {
		err = first.Close()
	}
	for _, name := range []string{Steps, Disks} {
		if err == nil {
			err = d.root.Mkdir(name, 0o700)
		}
	}
	for _, name := range []string{Events, QEMULog} {
		if err == nil {
			err = d.root.WriteFile(name, nil, 0o600)
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
	for _, name := range []string{ConsoleLog, Events, QEMULog, Report, Machine, Plan, Control, OwnLog, Steps, Disks, "serial0.in", "serial0.out", "serial1.in", "serial1.out"} {
		errs = append(errs, d.root.RemoveAll(name))
	}
	return errors.Join(errs...)
}

// Open opens an existing run folder; path may be a link such as "latest". It fails when the folder holds no console log,
// the first thing that Create makes, and with ErrTrust when another user owns it or may write to it.
func Open(path string) (*Dir, error) {
	d, err := openRoot(path)
	if err != nil {
		return nil, err
	}
	if _, err := d.root.Lstat(ConsoleLog); err != nil {
		return nil, errors.Join(fmt.Errorf("run folder %s: not the folder of a run: %w", path, err), d.Close())
	}
	for _, name := range []string{Steps, Disks} {
		info, err := d.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) { // the disks of a run that went well are removed
			continue
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%w: %s is not a folder", ErrFile, filepath.Join(d.path, name))
		}
		if err == nil {
			err = trusted(info, filepath.Join(d.path, name))
		}
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// openRoot opens a folder that can be trusted.
func openRoot(path string) (*Dir, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return nil, fmt.Errorf("run folder %s: not the folder of a run: %w", path, err)
	}
	root, err := os.OpenRoot(resolved)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	d := &Dir{root: root, path: resolved}
	info, err := root.Stat(".")
	if err == nil {
		err = trusted(info, resolved)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// trusted reports a folder that another user owns or may write to: what is in it decides what is started and read.
func trusted(info fs.FileInfo, path string) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to user %d: go on as that user, or look at it and take it with: %s",
			ErrTrust, path, st.Uid, shell.Line([]string{"chown", "-R", strconv.Itoa(os.Geteuid()), path}))
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%w: other users may write to %s: look at it, then: %s", ErrTrust, path,
			shell.Line([]string{"chmod", "-R", "go-w", path}))
	}
	return nil
}

// Close closes the folder.
func (d *Dir) Close() error { return d.root.Close() }

// Open opens a regular file of the folder for reading.
func (d *Dir) Open(name string) (*os.File, error) {
	if err := d.Check(name, 0); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("run folder %s: %w", d.path, err)
	}
	return f, nil
}

// Read reads a regular file of at most limit bytes.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: larger than %d bytes", ErrFile, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(d.path, name), err)
	}
	return data, nil
}

// Append opens a regular file for appending, and makes it if it is not there.
func (d *Dir) Append(name string) (*os.File, error) {
	if err := d.Check(name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("run folder %s: %w", d.path, err)
	}
	return f, nil
}

// Write gives the file its content: it is complete under its name, or not there.
func (d *Dir) Write(name string, data []byte) error {
	tmp := name + ".new"
	if err := d.root.RemoveAll(tmp); err != nil {
		return fmt.Errorf("run folder %s: %w", d.path, err)
	}
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("run folder %s: %w", d.path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = d.root.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("run folder %s: write %s: %w", d.path, name, err), d.root.RemoveAll(tmp))
	}
	return nil
}

// Check reports a file of the folder that is not of the type want: 0 for a regular file, fs.ModeDir for a folder. No link
// leads to it, and no other user owns it or may write to it or to a folder above it.
func (d *Dir) Check(name string, want fs.FileMode) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%w: %q", ErrFile, name)
	}
	for at := filepath.Clean(name); at != "."; at = filepath.Dir(at) {
		info, err := d.root.Lstat(at)
		if err != nil {
			return fmt.Errorf("run folder %s: %w", d.path, err)
		}
		if info.Mode().Type() != want {
			return fmt.Errorf("%w: %s: %s", ErrFile, filepath.Join(d.path, at), info.Mode())
		}
		if err := trusted(info, filepath.Join(d.path, at)); err != nil {
			return err
		}
		want = fs.ModeDir
	}
	return nil
}

// Remove removes a file, or a folder with all that is in it; one that does not exist is not an error.
func (d *Dir) Remove(name string) error {
	if err := d.root.RemoveAll(name); err != nil {
		return fmt.Errorf("run folder %s: %w", d.path, err)
	}
	return nil
}

// Free reports whether nothing has the name.
func (d *Dir) Free(name string) bool {
	_, err := d.root.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// Size is the size of a regular file, 0 if it is not there.
func (d *Dir) Size(name string) int64 {
	if info, err := d.root.Lstat(name); err == nil && info.Mode().IsRegular() {
		return info.Size()
	}
	return 0
}

// Path is the folder, absolute.
func (d *Dir) Path() string { return d.path }

// At is the path of something in the folder, absolute: for messages, and for programs that are started.
func (d *Dir) At(name string) string { return filepath.Join(d.path, name) }

// FS is the folder.
func (d *Dir) FS() fs.FS { return d.root.FS() }

// StepLog is the name in the folder of a step's log, or ErrName for an ID that must not become a file name.
func StepLog(id string) (string, error) {
	if !ValidStepID(id) {
		return "", fmt.Errorf("step log: %w: %.40q", ErrName, id)
	}
	return filepath.Join(Steps, id+".log"), nil
}

// Rel gives a path in the folder relative to it, as reports name files; other paths come back unchanged.
func (d *Dir) Rel(path string) string {
	rel, err := filepath.Rel(d.path, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return rel
}

// Lock makes the run this process's own until the file that it gives is closed, or the process ends however. It fails
// with ErrBusy when another process has it.
func (d *Dir) Lock() (io.Closer, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: another kindling has %s; wait for its end", ErrBusy, d.path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Busy reports whether a process has the lock.
func (d *Dir) Busy() (bool, error) {
	f, err := d.root.Open(".")
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

// Discard removes the folder of a run that never began, and the base folder if that is empty then. A run's folder that was
// there before stays, empty as it was.
func (d *Dir) Discard() error {
	if err := d.removeNew(); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	if d.base != "" {
		_ = os.Remove(d.base) // it stays if there are other runs in it
	}
	return nil
}

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
