// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Info is what the head of a container says about the whole.
type Info struct {
	ID    string // sha256 of SHA256SUMS in lower-case hexadecimal, "" when the container has none
	Files int    // without SHA256SUMS
	Wide  bool   // numbers are u64, not u32
}

// Probe reads the head of a container, SHA256SUMS included, and nothing behind it but what is buffered. Its error wraps
// ErrNotPayload when r does not begin with the magic, so that a search over disks can tell a disk of another kind from
// a damaged payload.
func Probe(r io.Reader) (Info, error) {
	c, err := openContents(r, "")
	if err != nil {
		return Info{}, err
	}
	return c.info(), nil
}

// contents is a container whose SHA256SUMS, if it has one, has been read and believed: what follows is held against it.
type contents struct {
	r       *Reader
	sums    []Sum
	rawSums []byte
	id      string
	listed  bool    // the container starts with SHA256SUMS
	first   *Header // a first file that is not SHA256SUMS, until next has returned it
	index   int     // of the file that next will return, SHA256SUMS not counted
}

// openContents reads up to the first file after SHA256SUMS. With an id, the container must have that ID.
func openContents(r io.Reader, id string) (*contents, error) {
	reader, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	c := &contents{r: reader}
	h, err := reader.Next()
	switch {
	case errors.Is(err, io.EOF): // no files at all
	case err != nil:
		return nil, err
	case h.Name == SumsName:
		if err := c.readSums(h); err != nil {
			return nil, err
		}
	default:
		c.first = &h
	}
	if id == "" {
		return c, nil
	}
	if !c.listed {
		return nil, &Error{Offset: reader.offset, Err: fmt.Errorf("%w: want ID %s: %w", ErrWrongID, id, ErrNoSums)}
	}
	if c.id != id {
		return nil, &Error{File: SumsName, Offset: h.Offset, Err: fmt.Errorf("%w: ID %s, want %s", ErrWrongID, c.id, id)}
	}
	return c, nil
}

// readSums reads and checks SHA256SUMS, whose header is h.
func (c *contents) readSums(h Header) error {
	if h.Size > maxSums {
		err := fmt.Errorf("%w: %w: %d bytes, at most %d are allowed", ErrSums, ErrLimit, h.Size, maxSums)
		return c.r.failAt(h.Offset, err)
	}
	data, err := io.ReadAll(c.r)
	if err != nil {
		return err
	}
	sums, err := ParseSums(data)
	if want := c.r.Count() - 1; err == nil && len(sums) != want {
		err = fmt.Errorf("%w: it lists %d files, %d follow", ErrSums, len(sums), want)
	}
	if err != nil {
		return c.r.failAt(h.Offset, err)
	}
	digest := sha256.Sum256(data)
	c.sums, c.rawSums, c.id, c.listed = sums, data, hex.EncodeToString(digest[:]), true
	return nil
}

func (c *contents) info() Info { return Info{ID: c.id, Files: c.files(), Wide: c.r.Wide()} }

// files returns how many files there are, without SHA256SUMS.
func (c *contents) files() int {
	if c.listed {
		return c.r.Count() - 1
	}
	return c.r.Count()
}

// next returns the next file and its sha256, "" when the container has no SHA256SUMS. A file that is not the one that
// SHA256SUMS has in its place is an error that wraps ErrSums.
func (c *contents) next() (Header, string, error) {
	var h Header
	var err error
	if c.first != nil {
		h, c.first = *c.first, nil
	} else if h, err = c.r.Next(); err != nil {
		return Header{}, "", err
	}
	i := c.index
	c.index++
	if !c.listed {
		return h, "", nil
	}
	if c.sums[i].Name != h.Name {
		return Header{}, "", c.r.fail(fmt.Errorf("%w: line %d is for %q", ErrSums, i+1, c.sums[i].Name))
	}
	return h, c.sums[i].SHA256, nil
}

// window turns Skip and Count into the half-open range of files to take.
func (c *contents) window(skip, count int) (from, to int, err error) {
	total := c.files()
	if skip < 0 || skip > total || count > total-skip {
		return 0, 0, &Error{Offset: c.r.offset, Err: fmt.Errorf("%w: skip %d and take %d of %d", ErrRange, skip, count, total)}
	}
	switch {
	case count == 0:
		return skip, total, nil
	case count < 0:
		return skip, skip, nil
	}
	return skip, skip + count, nil
}
