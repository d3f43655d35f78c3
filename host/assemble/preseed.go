// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ulikunitz/xz"

	"kindling/host/tree"
)

// ErrPreseed says that an early preseed cannot be used.
var ErrPreseed = errors.New("bad early preseed")

// maxPreseed bounds the number of files in a preseed; one of a whole bootstrap has about 40,000.
const maxPreseed = 1 << 20

// preseed is what --early-preseed brings in place of the seeds: the files of a tarball, without its steps and external.
type preseed struct {
	file    string
	entries []Entry
}

// openPreseed lists a tarball, compressed or not.
func openPreseed(ctx context.Context, file string) (*preseed, error) {
	p := &preseed{file: file}
	err := p.read(ctx, func(e Entry, _ io.Reader) error {
		if len(p.entries) >= maxPreseed {
			return fmt.Errorf("%w: more than %d files", ErrPreseed, maxPreseed)
		}
		p.entries = append(p.entries, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("--early-preseed %s: %w", file, err)
	}
	if len(p.entries) == 0 {
		return nil, fmt.Errorf("--early-preseed %s: %w: it is empty", file, ErrPreseed)
	}
	return p, nil
}

// read calls visit for each entry, in the order of the tarball.
func (p *preseed) read(ctx context.Context, visit func(Entry, io.Reader) error) error {
	source, folder, err := tree.FindFile(p.file)
	if err != nil {
		return err
	}
	defer folder.Close()
	f, err := source.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := decompress(f)
	if err != nil {
		return err
	}
	archive := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrPreseed, err)
		}
		e, wanted, err := tarEntry(h)
		if err != nil {
			return err
		}
		if !wanted {
			continue
		}
		if err := visit(e, archive); err != nil {
			return err
		}
	}
}

// decompress looks at the first bytes.
func decompress(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, bufferSize)
	magic, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(in), nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ")):
		return xz.NewReader(in)
	}
	return in, nil
}

// tarEntry turns a header into an entry; steps and external of a preseed are not wanted, those of the tree are.
func tarEntry(h *tar.Header) (e Entry, wanted bool, err error) {
	name := path.Clean(strings.TrimPrefix(h.Name, "/"))
	if name == "." {
		return Entry{}, false, nil
	}
	if !fs.ValidPath(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Entry{}, false, fmt.Errorf("%w: the name %.100q", ErrPreseed, h.Name)
	}
	if top, _, _ := strings.Cut(name, "/"); top == "steps" || top == "external" {
		return Entry{}, false, nil
	}
	e = Entry{Path: name, Archive: name, Exec: h.Mode&0o111 != 0}
	switch h.Typeflag {
	case tar.TypeDir:
		return Entry{Path: name, Dir: true}, true, nil
	case tar.TypeReg:
		e.Size = h.Size
	case tar.TypeLink:
		e.Archive = path.Clean(strings.TrimPrefix(h.Linkname, "/"))
		e.Size = -1 // that of the file it names
	case tar.TypeSymlink:
		e.Link, e.Archive = h.Linkname, ""
	default:
		return Entry{}, false, fmt.Errorf("%w: %s is neither file, folder nor link", ErrPreseed, name)
	}
	return e, true, nil
}

// addTo puts the files of the preseed in. Hard links become files of their own.
func (p *preseed) addTo(s *fileset) {
	for _, e := range p.entries {
		if e.Size < 0 {
			target, found := s.entries[e.Archive]
			if !found || target.Dir {
				s.fail(fmt.Errorf("%w: %s is a hard link to %s, which does not stand before it", ErrPreseed, e.Path, e.Archive))
				return
			}
			target.Path = e.Path
			e = target
		}
		s.add(e)
	}
}

// resolveLinks replaces symbolic links by what they lead to, for a medium that has none: a file becomes a copy, a folder
// an empty folder, as rootfs.py has it. What leads nowhere is left out.
func (p *preseed) resolveLinks(s *fileset, warn func(string, ...any)) {
	lost := 0
	for name, e := range s.entries {
		if e.Link == "" {
			continue
		}
		target, found := s.follow(name)
		if !found {
			lost++
			delete(s.entries, name)
			continue
		}
		target.Path = name
		s.entries[name] = target
	}
	if lost > 0 {
		warn("--early-preseed: %d symbolic links lead nowhere and are left out: builder-hex0 knows no links", lost)
	}
}

// follow finds what a path leads to, through links in any of its parts.
func (s *fileset) follow(name string) (Entry, bool) {
	for range 40 {
		e, found := s.entries[name]
		if found && e.Link == "" {
			return e, true
		}
		if found {
			next := e.Link
			if !strings.HasPrefix(next, "/") {
				next = path.Join(path.Dir(name), next)
			}
			name = strings.TrimPrefix(path.Clean("/"+next), "/")
			continue
		}
		resolved := false
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if link, found := s.entries[dir]; found && link.Link != "" {
				next := link.Link
				if !strings.HasPrefix(next, "/") {
					next = path.Join(path.Dir(dir), next)
				}
				name = strings.TrimPrefix(path.Clean("/"+next+"/"+strings.TrimPrefix(name, dir)), "/")
				resolved = true
				break
			}
		}
		if !resolved {
			return Entry{}, false
		}
	}
	return Entry{}, false
}

// unpack writes the files of the tarball into the folder dir, which is empty, by the number that each has there, and
// gives them by their paths in the tarball.
func (p *preseed) unpack(ctx context.Context, dir string, opened fs.FS) (map[string]*tree.Source, error) {
	sources := map[string]*tree.Source{}
	count := 0
	err := p.read(ctx, func(e Entry, r io.Reader) error {
		if e.Dir || e.Link != "" || e.Size < 0 {
			return nil
		}
		name := strconv.Itoa(count)
		count++
		out, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		if err = errors.Join(err, out.Close()); err == nil {
			sources[e.Path], err = tree.Find(opened, name, p.file+": "+e.Path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("--early-preseed %s: %w", p.file, err)
	}
	return sources, nil
}
