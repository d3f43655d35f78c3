// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package repair makes a step that was cut short safe to run again.
//
// The tree's own helpers assume that every step ran to its end: the revision of a package is counted from the files in
// the repository, so a left-over archive raises it; bash, tar and bzip2 are removed before they are unpacked anew, so a
// cut there leaves a system without them; a second uninstall of a package aborts. What a step had done is undone here,
// or finished, without any program of the guest: archives are read by Go's own tar and bzip2.
//
// A build packs before it installs, and checks the sum in between. So there are two cases: without a complete, right
// archive nothing outside the build's own folders has changed yet, and those are cleaned; with one, the archive is
// applied again, which finishes the step. Called by package guest when the journal shows a start without an end.
package repair

import (
	"bufio"
	"compress/bzip2"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Paths below the root of the guest that a build uses (steps/helpers.sh and steps/env of the tree).
const (
	destDir     = "tmp/destdir"
	fileList    = "tmp/filelist.txt"
	removingDir = "tmp/removing"
	sumsName    = "SHA256SUMS.pkgs"
)

// leftovers are files and folders that a cut build or uninstall leaves and its repetition stumbles over.
func leftovers() []string {
	return []string{destDir, fileList, removingDir, "tmp/filelist", "tmp/checksum", "tmp/bzip2", "tmp/tar", "tmp/random"}
}

// Snapshot lists what is in the package repository repo below root, one name a line, sorted: it is taken before a build
// starts.
func Snapshot(root, repo string) ([]byte, error) {
	entries, err := os.ReadDir(filepath.Join(root, repo))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the package repository: %w", err)
	}
	var out strings.Builder
	for _, e := range entries {
		if strings.ContainsAny(e.Name(), "\n") {
			return nil, fmt.Errorf("package repository: the name %q has a newline", e.Name())
		}
		out.WriteString(e.Name() + "\n")
	}
	return []byte(out.String()), nil
}

// Build is a build step that was cut short.
type Build struct {
	Root    string // of the guest's filesystem, "/" on the guest
	Package string // name-version, as in the manifest
	Steps   string // folder of the root's packages below Root, "steps"
	Repo    string // package repository below Root, "external/repo"
	Before  []byte // Snapshot from before the step; nil if there is none, when the step had not begun
	// Unchecked says that the tree does not check sums in this run (UPDATE_CHECKSUMS): a whole archive is a right one.
	Unchecked bool
	Say       func(format string, args ...any)
}

// Outcome says what is left to do.
type Outcome int

// The outcomes.
const (
	RunAgain Outcome = iota // the system is as it was before the step
	Finished                // the package is installed: the step is done
)

// Repair undoes or finishes the build. After an error it may be called again.
func (b Build) Repair() (Outcome, error) {
	added, err := b.added()
	if err != nil {
		return RunAgain, err
	}
	archive, err := b.complete(added)
	if err != nil {
		return RunAgain, err
	}
	outcome := RunAgain
	if archive != "" {
		b.Say("%s is complete: installing it again", filepath.Base(archive))
		if err := Apply(archive, b.Root); err != nil {
			return RunAgain, err
		}
		added = slices.DeleteFunc(added, func(n string) bool { return n == filepath.Base(archive) })
		outcome = Finished
	}
	for _, name := range added {
		b.Say("removing %s, left by a build that was cut short", name)
		if err := os.Remove(filepath.Join(b.Root, b.Repo, name)); err != nil {
			return RunAgain, err
		}
	}
	return outcome, b.clean()
}

// clean removes what the build keeps outside the repository.
func (b Build) clean() error {
	paths := append(leftovers(), filepath.Join(b.Steps, b.Package, "build"))
	var failed []error
	for _, p := range paths {
		failed = append(failed, os.RemoveAll(filepath.Join(b.Root, p)))
	}
	return errors.Join(failed...)
}

// added lists what has come into the repository since the snapshot. Only files of the package itself can have.
func (b Build) added() ([]string, error) {
	now, err := Snapshot(b.Root, b.Repo)
	if err != nil || b.Before == nil {
		return nil, err
	}
	before := strings.Split(string(b.Before), "\n")
	var added []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(now), "\n"), "\n") {
		if name != "" && !slices.Contains(before, name) && strings.HasPrefix(name, b.Package+"_") {
			added = append(added, name)
		}
	}
	return added, nil
}

// complete gives the path of the archive that the build has finished, "" if it has not.
func (b Build) complete(added []string) (string, error) {
	var archives []string
	for _, name := range added {
		if strings.HasSuffix(name, ".tar.bz2") {
			archives = append(archives, name)
		}
	}
	if len(archives) != 1 || slices.Contains(added, strings.TrimSuffix(archives[0], ".bz2")) {
		return "", nil // none, or bzip2 was still at work: it removes the .tar when it is done
	}
	path := filepath.Join(b.Root, b.Repo, archives[0])
	want, err := b.storedSum(archives[0])
	if err != nil {
		return "", err
	}
	got, whole, err := sumAndTest(path)
	if err != nil || !whole {
		return "", err
	}
	if got == want || b.Unchecked {
		return path, nil
	}
	return "", nil
}

// storedSum is the sum that the tree has for an archive, "" if it has none.
func (b Build) storedSum(name string) (string, error) {
	f, err := os.Open(filepath.Join(b.Root, b.Steps, sumsName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		if fields := strings.Fields(in.Text()); len(fields) == 2 && strings.TrimPrefix(fields[1], "*") == name {
			return fields[0], nil
		}
	}
	return "", in.Err()
}

// sumAndTest reads an archive once: its sha256, and whether it is a whole bzip2 file.
func sumAndTest(path string) (sum string, whole bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	hash := sha256.New()
	tee := io.TeeReader(f, hash)
	_, damaged := io.Copy(io.Discard, bzip2.NewReader(tee))
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return "", false, err
	}
	return hex.EncodeToString(hash.Sum(nil)), damaged == nil, nil
}
