// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"io"
	"path"
	"strings"
)

// maxName is the longest file name of a distfile, in bytes: Linux's own limit, which the early kernels have as well.
const maxName = 255

// Source is one line of a package's sources file: something to fetch before the package is built.
type Source struct {
	Type   string // "f" a file, "g" or "git" a snapshot of a git repository
	URL    string // where to download it; "_": nowhere, only mirrors have it
	GitURL string // "g" and "git" only: repository and reference, as "https://host/repository~reference"
	SHA256 string // lower-case hex
	Name   string // the file name in distfiles
	Line   int    // 1-based
}

// ParseSources reads a sources file:
//
//	line = "f" url sha256 [name]
//	     | ("g" | "git") git-url (snapshot-url | "_") sha256 [name]
//
// Trees before October 2025 have files without types, known by a first line that begins with a URL; all lines of such a
// file are
//
//	line = url sha256 [name]
//	     | "git://"... (snapshot-url | "_") sha256 [name]
//
// and are read as those of type "f" and "git". Words stand between single spaces, one space at the end of a line is ignored. Without a name the file is named as
// the last part of the URL; "_" (there is no snapshot) needs a name. Errors are *ParseError with name and line.
func ParseSources(name string, r io.Reader) ([]Source, error) {
	data, err := readLimited(name, r)
	if err != nil {
		return nil, err
	}
	var sources []Source
	first, _, _ := strings.Cut(string(data), " ")
	untyped := isURL(first)
	number := 0
	for line := range strings.SplitAfterSeq(string(data), "\n") {
		number++
		if line == "" {
			break // behind the last newline
		}
		text, terminated := strings.CutSuffix(line, "\n")
		source, msg := parseSource(text, untyped)
		if msg == "" && !terminated {
			msg = "the last line does not end in a newline: the shell in the guest would not read it"
		}
		if msg != "" {
			return nil, parseErrorf(name, number, "%s", msg)
		}
		source.Line = number
		sources = append(sources, source)
	}
	return sources, nil
}

// parseSource parses one line without its newline, and without a type if it is untyped.
func parseSource(line string, untyped bool) (s Source, msg string) {
	if bad := badByte(line); bad != "" {
		return Source{}, bad
	}
	if line == "" {
		return Source{}, "an empty line: remove it"
	}
	fields := strings.Split(strings.TrimSuffix(line, " "), " ")
	for _, field := range fields {
		if field == "" || strings.Contains(field, "\t") {
			return Source{}, "a tab, two spaces or a space at the beginning: words stand between single spaces"
		}
	}
	switch {
	case untyped && strings.HasPrefix(fields[0], "git://"):
		s.Type = "git"
	case untyped:
		s.Type = "f"
	default:
		s.Type, fields = fields[0], fields[1:]
	}
	switch s.Type {
	case "f":
	case "g", "git":
		if len(fields) > 0 {
			s.GitURL, fields = fields[0], fields[1:]
		}
	default:
		return Source{}, "unknown type " + quote(s.Type) + ": f (a file), g or git (a snapshot of a repository) are known"
	}
	if len(fields) < 2 {
		return Source{}, "too few words: a line is " + sourceForm(s.Type, untyped)
	}
	if len(fields) > 3 {
		return Source{}, "unexpected " + quote(fields[3]) + ": a line is " + sourceForm(s.Type, untyped)
	}
	s.URL, s.SHA256 = fields[0], fields[1]
	if len(fields) == 3 {
		s.Name = fields[2]
	}
	return finishSource(s)
}

// finishSource checks the parts and finds the default name.
func finishSource(s Source) (Source, string) {
	if !isSHA256(s.SHA256) {
		return Source{}, quote(s.SHA256) + " is no sha256: 64 lower-case hex digits are needed"
	}
	if s.GitURL != "" && !isURL(s.GitURL) {
		return Source{}, quote(s.GitURL) + " is no URL: write scheme://..."
	}
	if s.URL == "_" && s.Name == "" {
		return Source{}, "without a snapshot URL (\"_\") a file name is needed at the end of the line"
	}
	if s.URL != "_" && !isURL(s.URL) {
		return Source{}, quote(s.URL) + " is no URL: write scheme://..., or _ for none"
	}
	if s.Name == "" {
		s.Name = path.Base(s.URL)
		if strings.HasSuffix(s.URL, "/") {
			return Source{}, quote(s.URL) + " has no last part: add a file name at the end of the line"
		}
	}
	if msg := CheckDistfileName(s.Name); msg != "" {
		return Source{}, "the file name " + quote(s.Name) + " " + msg + ": add another name at the end of the line"
	}
	return s, ""
}

// CheckDistfileName says why s cannot be the name of a file in distfiles, or "". The name becomes a word in shell
// scripts, a file name on ext2 and in a payload, and the end of a mirror's URL.
func CheckDistfileName(s string) string {
	switch {
	case s == "" || s == "." || s == "..":
		return "names no file"
	case len(s) > maxName:
		return "is too long (255 bytes are possible)"
	case s[0] == '-':
		return "begins with \"-\""
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c > '~' || strings.IndexByte("/\\\"'`$&|;<>()*?[]{}#!", c) >= 0 {
			return "has a character that is not safe in a file name"
		}
	}
	return ""
}

func sourceForm(kind string, untyped bool) string {
	form := "url sha256 [name]"
	if kind != "f" {
		form = "git-url snapshot-url-or-_ sha256 [name]"
	}
	if !untyped {
		form = kind + " " + form
	}
	return "\"" + form + "\""
}

func isSHA256(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 64
}

// isURL is a coarse check: a scheme, something behind it, and nothing that a shell would expand or split.
func isURL(s string) bool {
	scheme, rest, found := strings.Cut(s, "://")
	if !found || rest == "" || scheme == "" || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz+") != "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte("\\\"'`<>|", c) >= 0 {
			return false
		}
	}
	return true
}
