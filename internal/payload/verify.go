// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Listed is one file of a container as List and Verify see it.
type Listed struct {
	Header
	SHA256 string // what SHA256SUMS says, "" when the container has none
}

// List walks over a whole container and returns its files in order, without SHA256SUMS. Data is jumped over when r can
// seek and read past otherwise; it is not checked, but a container that is cut short is an error.
func List(r io.Reader) (Info, []Listed, error) {
	c, err := openContents(r, "")
	if err != nil {
		return Info{}, nil, err
	}
	var files []Listed
	for {
		h, sum, err := c.next()
		if errors.Is(err, io.EOF) {
			return c.info(), files, nil
		}
		if err != nil {
			return Info{}, nil, err
		}
		files = append(files, Listed{Header: h, SHA256: sum})
	}
}

// VerifyOptions tells Verify what to expect and whom to tell. The zero value is useful.
type VerifyOptions struct {
	ID       string         // the ID that the container must have, "" for any
	Progress func(Progress) // called after each buffer; nil for nobody
}

// Verify reads a whole container and holds every file against SHA256SUMS. A container without one has its form checked
// only, which Info.ID == "" shows. Errors are those of Import, ErrNoSpace and ErrRange excepted.
func Verify(ctx context.Context, r io.Reader, opt VerifyOptions) (Info, error) {
	c, err := openContents(r, opt.ID)
	if err != nil {
		return Info{}, err
	}
	p := newPump(ctx, c, opt.Progress)
	p.progress.Files = c.files()
	for {
		h, sum, err := c.next()
		if errors.Is(err, io.EOF) {
			return c.info(), nil
		}
		if err != nil {
			return Info{}, err
		}
		if err := p.copy(io.Discard, h, sum); err != nil {
			return Info{}, err
		}
	}
}

// Progress says how far an import or a verification is.
type Progress struct {
	File      int    // 1-based number of the current file among those that are wanted
	Files     int    // how many are wanted
	Name      string // of the current file
	FileBytes int64  // done of the current file
	FileSize  int64  // size of the current file
	Bytes     int64  // done of all files so far, those found right included
	Total     int64  // bytes that are wanted in all, 0 when nobody has said
	Kept      bool   // the file was right already and is not copied
}

// pump moves the data of one file after another through one buffer, hashes it and reports.
type pump struct {
	ctx      context.Context //nolint:containedctx // lives for one call of Import or Verify
	c        *contents
	buf      []byte
	hash     hash.Hash
	report   func(Progress)
	progress Progress
}

func newPump(ctx context.Context, c *contents, report func(Progress)) *pump {
	if report == nil {
		report = func(Progress) {}
	}
	return &pump{ctx: ctx, c: c, buf: make([]byte, BufferSize), hash: sha256.New(), report: report}
}

// begin makes h the current file of the progress.
func (p *pump) begin(h Header) {
	p.progress.File++
	p.progress.Name, p.progress.FileSize, p.progress.FileBytes, p.progress.Kept = h.Name, h.Size, 0, false
}

// advance reports n more bytes of the current file.
func (p *pump) advance(n int64) {
	p.progress.FileBytes += n
	p.progress.Bytes += n
	p.report(p.progress)
}

// copy moves the data of h, on which the container stands, to w, and holds it against sum unless that is "".
func (p *pump) copy(w io.Writer, h Header, sum string) error {
	p.begin(h)
	p.hash.Reset()
	for left := h.Size; left > 0; {
		if err := p.ctx.Err(); err != nil {
			return &Error{File: h.Name, Offset: h.Offset + h.Size - left, Err: err}
		}
		b := p.buf[:min(left, BufferSize)]
		if _, err := io.ReadFull(p.c.r, b); err != nil {
			return err
		}
		if sum != "" {
			p.hash.Write(b)
		}
		if _, err := w.Write(b); err != nil {
			return &Error{File: h.Name, Offset: h.Offset + h.Size - left, Err: err}
		}
		left -= int64(len(b))
		p.advance(int64(len(b)))
	}
	if h.Size == 0 {
		p.advance(0)
	}
	if got := hex.EncodeToString(p.hash.Sum(nil)); sum != "" && got != sum {
		return &Error{File: h.Name, Offset: h.Offset, Err: fmt.Errorf("%w: %s, want %s", ErrChecksum, got, sum)}
	}
	return nil
}
