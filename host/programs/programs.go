// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package programs finds the programs of this host that Kindling starts. It starts none; every package of the host that
// does calls it, and package doctor, so that what doctor finds is what runs.
package programs

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// Find is the path of a program: in PATH or, because PATH of an ordinary Debian user lacks them, in /usr/sbin or /sbin. A
// name with a slash is a path already. The error wraps exec.ErrNotFound if there is none.
func Find(name string) (string, error) { return find(name, "/usr/sbin", "/sbin") }

func find(name string, folders ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || strings.Contains(name, "/") {
		return path, err
	}
	for _, dir := range folders {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}
