// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// Bounds of an archive of Fiwix, whose real one has 3 MiB in 600 entries.
const (
	maxArchive        = 256 << 20 // bytes, unpacked
	maxArchiveEntries = 50_000
)

// archiveHeaders are the headers of Fiwix that have limits, without the order in which an archive has them.
func archiveHeaders() map[string]bool {
	return map[string]bool{
		"include/fiwix/config.h": true, "include/fiwix/limits.h": true, "include/fiwix/kparms.h": true,
	}
}

// ReadFiwixArchive reads the macros of Fiwix' headers out of its .tar.gz, as a stream: it stops behind the last header
// that it needs. Errors name what is wrong: no gzip, no tar, cut short, a header missing or no text.
func ReadFiwixArchive(r io.Reader, defines Defines) error {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("read archive: %w", noEOF(err))
	}
	archive := tar.NewReader(io.LimitReader(unzipped, maxArchive))
	missing := archiveHeaders()
	for range maxArchiveEntries {
		if len(missing) == 0 {
			return nil
		}
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", noEOF(err))
		}
		name := withoutTop(entry.Name)
		if entry.Typeflag != tar.TypeReg || !missing[name] {
			continue
		}
		delete(missing, name)
		if err := defines.Read(name, FromDistfile, archive); err != nil {
			return noEOF(err)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("read archive: no %s in it", strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
	}
	return nil
}

// withoutTop is a path in an archive without its first folder, such as "fiwix-1.5.0-lb1".
func withoutTop(name string) string {
	_, rest, _ := strings.Cut(path.Clean(name), "/")
	return rest
}

// noEOF makes the end of a file in its middle an error that says so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("cut short: %w", io.ErrUnexpectedEOF)
	}
	return err
}
