// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Sbom writes the bill of materials of Go programs, in CycloneDX's JSON, to standard output: what the Go toolchain has
// recorded in each of them (debug/buildinfo), with the licences of the modules as their files in the module cache have
// them, and nothing that depends on when or where it runs.
//
//	sbom PROGRAM...
//
// It is called by "make dist" only and is no part of a release.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// run reads the programs and writes the document.
func run(paths []string, out io.Writer) error {
	if len(paths) == 0 {
		return fmt.Errorf("name at least one program")
	}
	var programs []program
	for _, path := range paths {
		p, err := readProgram(path)
		if err != nil {
			return err
		}
		programs = append(programs, p)
	}
	dirs, err := moduleDirs()
	if err != nil {
		return err
	}
	bom := document(programs)
	if err := addLicences(bom, dirs); err != nil {
		return err
	}
	return write(out, bom)
}
