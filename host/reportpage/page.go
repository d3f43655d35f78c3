// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package reportpage renders the account of a run as one HTML page that needs nothing but itself: no network, no
// scripts, no other file. It is meant to be kept, and to be given to others.
//
// What stands in a report and in a log comes from a guest that nobody trusts: everything goes through html/template,
// and control characters, which could hide or reorder text, are shown by their names. The package reads the run folder
// through an fs.FS that cannot lead out of it, and writes to an io.Writer; it changes nothing. It is called by cmd/host.
package reportpage

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"strings"

	"kindling/host/report"
)

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

// Source is where a page comes from.
type Source struct {
	Report report.Report
	Run    fs.FS  // the run folder, for the logs; nil leaves them out
	Name   string // what the run folder is called, for the reader
}

// Render writes the page.
func Render(w io.Writer, s Source) error {
	page, err := template.New("page").Funcs(template.FuncMap{"visible": visible}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("report page: %w", err)
	}
	if err := page.Execute(w, newView(s)); err != nil {
		return fmt.Errorf("report page: %w", err)
	}
	return nil
}

// controls are the names of the characters below a space (ECMA-48).
const controls = "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"

// visible shows what cannot be seen: control characters by their names, what hides or reorders its neighbours by its
// number, bytes that are no text as the replacement character. Line breaks and tabs stay.
func visible(s string) string {
	names := strings.Fields(controls)
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t':
			out.WriteRune(r)
		case r < 0x20:
			fmt.Fprintf(&out, "‹%s›", names[r])
		case r == 0x7f:
			out.WriteString("‹DEL›")
		case r >= 0x80 && r < 0xa0, r == 0x61c, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e,
			r >= 0x2060 && r <= 0x206f, r == 0xfeff, r >= 0xe0000 && r <= 0xe007f:
			fmt.Fprintf(&out, "‹U+%04X›", r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}
