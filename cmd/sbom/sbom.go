// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// licence is Kindling's own, as SPDX has it.
const licence = "GPL-3.0-or-later"

// program is one binary with what it says of itself.
type program struct {
	name   string
	sha256 string
	info   *debug.BuildInfo
}

func readProgram(path string) (program, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return program{}, err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return program{}, fmt.Errorf("%s: %w", path, err)
	}
	return program{name: filepath.Base(path), sha256: hex.EncodeToString(sum.Sum(nil)), info: info}, nil
}

// setting is what the toolchain has recorded under a key, "" if nothing.
func (p program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func (p program) ref() string { return "program:" + p.name }

// document is the bill of all programs: each one a component that depends on its modules, which appear once.
func document(programs []program) *cdx.BOM {
	bom := cdx.NewBOM()
	root := cdx.Component{Type: cdx.ComponentTypeApplication, BOMRef: "kindling", Name: "kindling", Licenses: ours()}
	bom.Metadata = &cdx.Metadata{Component: &root}
	sum := sha256.New()
	modules := make(map[string]cdx.Component)
	var components []cdx.Component
	var edges []cdx.Dependency
	var refs []string
	for _, p := range programs {
		fmt.Fprintln(sum, p.name, p.sha256)
		if commit := p.setting("vcs.revision"); commit != "" && root.Version == "" {
			root.Version, bom.Metadata.Timestamp = commit, p.setting("vcs.time")
		}
		var needs []string
		for _, m := range p.modules() {
			modules[m.BOMRef] = m
			needs = append(needs, m.BOMRef)
		}
		components = append(components, p.component())
		edges = append(edges, cdx.Dependency{Ref: p.ref(), Dependencies: &needs})
		refs = append(refs, p.ref())
	}
	for _, m := range modules {
		components = append(components, m)
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	edges = append(edges, cdx.Dependency{Ref: root.BOMRef, Dependencies: &refs})
	bom.SerialNumber = serial(sum.Sum(nil))
	bom.Components, bom.Dependencies = &components, &edges
	return bom
}

// component is the program itself.
func (p program) component() cdx.Component {
	properties := []cdx.Property{{Name: "go:version", Value: p.info.GoVersion}}
	for _, key := range []string{"GOOS", "GOARCH", "GO386", "GOAMD64", "CGO_ENABLED", "-trimpath", "vcs.revision", "vcs.time", "vcs.modified"} {
		if value := p.setting(key); value != "" {
			properties = append(properties, cdx.Property{Name: "go:" + key, Value: value})
		}
	}
	return cdx.Component{
		Type: cdx.ComponentTypeApplication, BOMRef: p.ref(), Name: p.name, Licenses: ours(), Properties: &properties,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: p.sha256}},
	}
}

// modules are what is linked into the program: Go's own library, and the modules in the order in which they stand there.
func (p program) modules() []cdx.Component {
	out := []cdx.Component{module("std", strings.TrimPrefix(p.info.GoVersion, "go"), "")}
	for _, m := range p.info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out = append(out, module(m.Path, m.Version, m.Sum))
	}
	return out
}

// module is a library. Go's own checksum of a module is no plain hash of a file: it stands there as a property.
func module(path, version, sum string) cdx.Component {
	url := "pkg:golang/" + path + "@" + version
	c := cdx.Component{Type: cdx.ComponentTypeLibrary, BOMRef: url, Name: path, Version: version, PackageURL: url}
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return c
}

func ours() *cdx.Licenses { return &cdx.Licenses{{License: &cdx.License{ID: licence}}} }

// serial is a UUID of version 8 (RFC 9562) made of a sum: the same programs have the same.
func serial(sum []byte) string {
	id := slices.Clone(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func write(out io.Writer, bom *cdx.BOM) error {
	encoder := cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(bom); err != nil {
		return fmt.Errorf("write the bill of materials: %w", err)
	}
	return nil
}
