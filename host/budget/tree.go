// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Files of the tree that are read for numbers.
const (
	fiwixScriptName = "steps/jump/fiwix.sh"
	hexReadmeName   = "builder-hex0/README.md"
	hexMapName      = "builder-hex0/builder-hex0-x86-stage2.hex0"
	kexecGlob       = "steps/kexec-fiwix-*/src/kexec-fiwix.c"
	initrdGlob      = "steps/lwext4-*/files/make_fiwix_initrd.c"
	customGlob      = "steps/fiwix-*/files/custom_*.h"
)

// ReadLimits reads the limits out of a live-bootstrap checkout. fiwix opens Fiwix' own archive (.tar.gz) for the
// headers that the tree does not have; nil: there is none.
//
// What is not there is assumed, and so labelled; a warning says that a file is there and does not say what it should.
// Errors are *ParseError, for a file that contradicts itself, and those of tree.
func ReadLimits(tree fs.FS, fiwix func() (io.ReadCloser, error)) (Limits, []string, error) {
	r := limitReader{tree: tree, limits: assumed()}
	headers := func() error { return r.readHeaders(fiwix) }
	for _, read := range []func() error{r.readScript, r.readHex0, r.readKexec, headers} {
		if err := read(); err != nil {
			return Limits{}, nil, err
		}
	}
	return r.limits, r.warnings, nil
}

// limitReader reads one tree.
type limitReader struct {
	tree     fs.FS
	limits   Limits
	warnings []string
}

// open hands a file to read; a file that is not there is none.
func (r *limitReader) open(name string, read func(io.Reader) error) (found bool, err error) {
	file, err := r.tree.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open %s: %w", name, err)
	}
	defer file.Close()
	return true, read(file)
}

func (r *limitReader) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

func (r *limitReader) readScript() error {
	var script FiwixScript
	found, err := r.open(fiwixScriptName, func(file io.Reader) (err error) {
		script, err = ParseFiwixScript(fiwixScriptName, file)
		return err
	})
	if err != nil || !found {
		return err
	}
	r.limits.script(script)
	if script.Ramdisk.Value == 0 {
		size, err := r.readInitrdDefault()
		switch {
		case err != nil:
			return err
		case script.Makes && size.Value != 0:
			r.limits.Ramdisk = size
		default:
			r.warn("%s: no make_fiwix_initrd -s: a ramdisk of %d KiB is assumed", fiwixScriptName,
				r.limits.Ramdisk.Value/kib)
		}
	}
	if script.KexecWindow.Value == 0 {
		r.warn("%s: no kexec_size=: a window of %d KiB is assumed", fiwixScriptName, r.limits.KexecWindow.Value/kib)
	}
	if len(script.CommandLines) == 0 {
		r.warn("%s: no kexec-fiwix -c: Fiwix' command line is not known", fiwixScriptName)
	}
	return nil
}

// initrdRE is the size in KiB that make_fiwix_initrd takes without -s, and addrRE the address that kexec-fiwix copies
// the ramdisk to.
var (
	initrdRE = regexp.MustCompile(`^\s*initrd_size\s*=\s*([0-9]{1,12})\s*;`)
	addrRE   = regexp.MustCompile(`\bmod_start\s*=\s*(0[xX][0-9A-Fa-f]{1,16})\s*;`)
)

// readInitrdDefault reads the size that make_fiwix_initrd takes without -s; zero: not found.
func (r *limitReader) readInitrdDefault() (Number, error) {
	n, err := r.find(initrdGlob, initrdRE)
	n.Value = times(n.Value, kib)
	return n, err
}

// readKexec reads where the ramdisk begins.
func (r *limitReader) readKexec() error {
	n, err := r.find(kexecGlob, addrRE)
	if err == nil && n.Value != 0 {
		r.limits.RamdiskAddr = n
	}
	return err
}

// find looks for the first line that re matches in the first file that glob matches; zero: not found.
func (r *limitReader) find(glob string, re *regexp.Regexp) (Number, error) {
	names, err := r.glob(glob)
	if err != nil || len(names) == 0 {
		return Number{}, err
	}
	var n Number
	_, err = r.open(names[0], func(file io.Reader) error {
		text, err := readText(names[0], file)
		if err != nil {
			return err
		}
		line := 0
		for l := range strings.Lines(text) {
			line++
			m := re.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			value, err := strconv.ParseUint(m[1], 0, 32)
			if err != nil || value == 0 {
				return parseErrorf(names[0], line, "%s is no number from 1 to 2^32-1", clip(m[1]))
			}
			n = Number{Value: int64(value), Basis: FromTree, Source: at(names[0], line)}
			return nil
		}
		return nil
	})
	return n, err
}

// glob is fs.Glob, sorted; more than one package of a kind is worth a warning, because only one of them is read.
func (r *limitReader) glob(pattern string) ([]string, error) {
	names, err := fs.Glob(r.tree, pattern)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", pattern, err)
	}
	slices.Sort(names)
	packages := slices.Clone(names)
	for i, name := range packages {
		packages[i] = strings.Join(strings.Split(name, "/")[:2], "/")
	}
	if packages = slices.Compact(packages); len(packages) > 1 {
		r.warn("%s and %s: only the first is read for limits", packages[0], packages[1])
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, packages[0]+"/") })
	}
	return names, nil
}

func (r *limitReader) readHex0() error {
	_, err := r.open(hexReadmeName, func(f io.Reader) error { return ParseHexReadme(hexReadmeName, f, &r.limits) })
	if err != nil {
		return err
	}
	_, err = r.open(hexMapName, func(f io.Reader) error { return ParseHexMap(hexMapName, f, &r.limits) })
	return err
}

// readHeaders reads Fiwix' own headers, and then the tree's, which have the last word.
func (r *limitReader) readHeaders(fiwix func() (io.ReadCloser, error)) error {
	defines := Defines{}
	if fiwix != nil {
		r.readArchive(fiwix, defines)
	}
	names, err := r.glob(customGlob)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := r.open(name, func(f io.Reader) error { return defines.Read(name, FromTree, f) }); err != nil {
			return err
		}
	}
	r.limits.headers(defines)
	return nil
}

// readArchive reads the headers in Fiwix' archive. One that cannot be read is not an error here: whether it is the file
// that the sources name is a matter of its checksum.
func (r *limitReader) readArchive(fiwix func() (io.ReadCloser, error), defines Defines) {
	archive, err := fiwix()
	if err != nil {
		r.warn("Fiwix' headers: %v: defaults are assumed", err)
		return
	}
	defer archive.Close()
	found := Defines{}
	if err := ReadFiwixArchive(archive, found); err != nil {
		r.warn("Fiwix' headers: %v: defaults are assumed", err)
		return
	}
	for name, define := range found {
		defines[name] = define
	}
}

// FiwixPackage is the folder in the tree of the package that the limits of Fiwix are read from, such as
// "steps/fiwix-1.5.0-lb1"; its sources file names the archive for ReadLimits. Empty: there is none.
func FiwixPackage(tree fs.FS) string {
	names, err := fs.Glob(tree, "steps/fiwix-*/sources")
	if err != nil || len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return path.Dir(names[0])
}
