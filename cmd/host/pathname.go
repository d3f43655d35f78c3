// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"
)

// pathName is a file or a folder that an option names, absolute, with ~ for the user's own. It is never empty when it
// was given: kong's own paths would make the current folder of that.
type pathName string

// UnmarshalText implements encoding.TextUnmarshaler; kong calls it.
func (p *pathName) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("is empty: give a name, or leave the option out")
	}
	*p = pathName(kong.ExpandPath(string(text)))
	return nil
}

// cacheDir is the folder of Debian's packages: the given one, or the user's own.
func cacheDir(given pathName) (string, error) {
	if given != "" {
		return string(given), nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", usageError("no cache folder: %s; name one with --cache", err)
	}
	return filepath.Join(base, "kindling"), nil
}
