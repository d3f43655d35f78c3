// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// tellingLine picks the line of apt's or dpkg's output that says best why it failed: the first error of apt ("E: "),
// else of dpkg ("dpkg-deb: error: "), else an error of one address ("Err:"), else the last line.
func tellingLine(lines []string) string {
	for _, prefix := range []string{"E: ", "dpkg-deb: error: ", "depmod: ERROR: ", "Err:"} {
		for i, line := range lines {
			rest, found := strings.CutPrefix(line, prefix)
			if !found {
				continue
			}
			if prefix == "Err:" && i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
				rest += ":" + lines[i+1] // apt gives the reason on a line of its own
			}
			return oneLine(rest)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return oneLine(lines[len(lines)-1])
}

// worthShowing keeps out of the progress what apt repeats, what only means something to apt, and errors: these come
// back as errors if they matter.
func worthShowing(line string) bool {
	for _, prefix := range []string{" ", "E: ", "Reading package lists"} {
		if strings.HasPrefix(line, prefix) {
			return false
		}
	}
	return true
}

// blame finds the wanted package that a line of apt's output is about, or "". The longest name wins: "libc6-dev" is
// not "libc6".
func blame(line string, names []string) string {
	best := ""
	for _, token := range strings.FieldsFunc(line, notNameByte) {
		token, _, _ = strings.Cut(token, "_") // name_version_arch.deb
		if slices.Contains(names, token) && len(token) > len(best) {
			best = token
		}
	}
	return best
}

// notNameByte reports what stands between the package names and file names of a line.
func notNameByte(r rune) bool {
	isName := r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || strings.ContainsRune("+.-_~%", r)
	return !isName
}

// errControl is the error of control data that are not what deb-control(5) describes.
var errControl = errors.New("malformed control data")

// parseControl reads the first paragraph of control data: "Field: value" lines, continued by lines that begin with
// white space, up to an empty line. Field names keep their case; the last of equal fields is an error.
func parseControl(data []byte) (map[string]string, error) {
	fields := make(map[string]string)
	last := ""
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := scanner.Text()
		if strings.TrimSpace(line) == "" {
			if len(fields) > 0 {
				break
			}
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if last == "" {
				return nil, fmt.Errorf("%w: continuation without a field: %.80q", errControl, line)
			}
			fields[last] += "\n" + strings.TrimSpace(line)
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if _, twice := fields[name]; !found || name == "" || twice {
			return nil, fmt.Errorf("%w: %.80q", errControl, line)
		}
		last, fields[name] = name, strings.TrimSpace(value)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errControl, err)
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%w: nothing in it", errControl)
	}
	return fields, nil
}

// matchingDependency gives the only package among the dependencies (deb-control(5): "a (= 1), b | c") whose name
// matches the pattern.
func matchingDependency(depends string, pattern *regexp.Regexp) (string, error) {
	var found []string
	for _, group := range strings.FieldsFunc(depends, func(r rune) bool { return r == ',' || r == '|' }) {
		name, _, _ := strings.Cut(strings.TrimSpace(group), " ")
		name, _, _ = strings.Cut(name, ":")
		if pattern.MatchString(name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w: one dependency like %s wanted, %d found in %.200q", errControl, pattern, len(found),
			depends)
	}
	return found[0], nil
}
