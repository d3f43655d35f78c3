// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/licensecheck"
)

// errLicence says that the licence of a module is not known.
var errLicence = errors.New("licence not recognized")

// leastCovered is how much of a licence file known texts must make up, in percent: the rest is names and headings.
const leastCovered = 75

// licenceFile matches the names of files with the licence of a whole module.
var licenceFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying)([.-].*)?$`)

// moduleDirs are the folders of the modules of this build in the module cache, by path@version, and of Go's own library,
// by "std".
func moduleDirs() (map[string]string, error) {
	out, err := goOutput("list", "-m", "-f", "{{if .Replace}}{{.Replace.Path}}@{{.Replace.Version}}{{else}}{{.Path}}@{{.Version}}{{end}}\t{{.Dir}}", "all")
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for line := range bytes.Lines(out) {
		name, dir, _ := strings.Cut(strings.TrimSpace(string(line)), "\t")
		dirs[name] = dir
	}
	root, err := goOutput("env", "GOROOT")
	dirs["std"] = strings.TrimSpace(string(root))
	return dirs, err
}

func goOutput(args ...string) ([]byte, error) {
	out, err := exec.Command("go", args...).Output() //nolint:noctx // it ends by itself
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}

// licencesOf reads the licence files at the top of a module and returns the SPDX identifiers of the texts in them, sorted.
func licencesOf(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLicence, err)
	}
	var ids []string
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		found := licensecheck.Scan(text)
		if found.Percent < leastCovered {
			return nil, fmt.Errorf("%w: %s: %.0f%% of it is known", errLicence, filepath.Join(dir, e.Name()), found.Percent)
		}
		for _, m := range found.Match {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: no licence file in %s", errLicence, dir)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// licences is one identifier, or an expression of all of them.
func licences(ids []string) *cdx.Licenses {
	if len(ids) == 1 {
		return &cdx.Licenses{{License: &cdx.License{ID: ids[0]}}}
	}
	return &cdx.Licenses{{Expression: strings.Join(ids, " AND ")}}
}

// addLicences gives each library of a bill the licences that its module has.
func addLicences(bom *cdx.BOM, dirs map[string]string) error {
	for i := range *bom.Components {
		c := &(*bom.Components)[i]
		if c.Type != cdx.ComponentTypeLibrary {
			continue
		}
		name := c.Name + "@" + c.Version
		if c.Name == "std" {
			name = "std"
		}
		if dirs[name] == "" {
			return fmt.Errorf("module %s: %w: it is not in the module cache: run 'go mod download'", name, errLicence)
		}
		ids, err := licencesOf(dirs[name])
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		c.Licenses = licences(ids)
	}
	return nil
}
