// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/google/renameio/v2"

	"kindling/host/reportpage"
	"kindling/host/rundir"
)

// reportCmd is "kindling report": it makes a page of a run's report, to keep or to give away.
type reportCmd struct {
	Folder string `arg:"" name:"run" help:"The folder of the run." optional:"" default:"${runs}/latest"`
	Output string `help:"The page (default: report.html in the run's folder); - is standard output." short:"o" placeholder:"FILE"`
}

// Help implements kong.HelpProvider.
func (reportCmd) Help() string {
	return examples(
		"kindling report", "a page about the newest run, in its folder",
		"kindling report out -o bootstrap.html", "about the run in out, with a name of its own",
	)
}

// Run implements the verb. The page gets its name when it is complete.
func (c *reportCmd) Run(s streams) error {
	dir, err := rundir.Open(c.Folder)
	if err != nil {
		return inputError(err)
	}
	defer dir.Close()
	doc, err := readReport(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return usageError("%s: there is no report.json: the run goes on, or was killed", c.Folder)
	}
	if err != nil {
		return inputError(err)
	}
	var page bytes.Buffer
	source := reportpage.Source{Report: doc, Run: dir.FS(), Name: filepath.Base(dir.Path()) + "/report.json"}
	if err := reportpage.Render(&page, source); err != nil {
		return err
	}
	if c.Output == "-" {
		_, err := page.WriteTo(s.out)
		return err
	}
	path := c.Output
	if path == "" {
		path = dir.At("report.html")
		err = dir.Write("report.html", page.Bytes())
	} else {
		err = renameio.WriteFile(path, page.Bytes(), 0o644)
	}
	if err != nil {
		return usageError("write page: %s", err)
	}
	_, err = fmt.Fprintln(s.text(), path)
	return err
}
