// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Entry is one file to be written into a container.
type Entry struct {
	Name   string // as CheckName wants it; not SHA256SUMS, which Write makes
	Size   int64  // in bytes, at most MaxSize
	SHA256 string // 64 lower-case hexadecimal digits
	Open   func() (io.ReadCloser, error)
}

// Summary describes a container as a whole.
type Summary struct {
	ID    string // sha256 of SHA256SUMS in lower-case hexadecimal: PAYLOAD_ID
	Files int    // without SHA256SUMS
	Size  int64  // of the image in bytes, padding included
}

// Layout returns what Write would produce: the summary, and where each file stands, SHA256SUMS first. It opens nothing.
// Errors are those of Write that need no data.
func Layout(entries []Entry) (Summary, []Header, error) {
	sums, err := checkEntries(entries)
	if err != nil {
		return Summary{}, nil, err
	}
	summary, headers := layout(entries, sums)
	return summary, headers, nil
}

// layout places checked entries behind their SHA256SUMS.
func layout(entries []Entry, sums []byte) (Summary, []Header) {
	digest := sha256.Sum256(sums)
	headers := make([]Header, 0, len(entries)+1)
	offset := int64(len(Magic) + 8)
	add := func(name string, size int64) {
		offset += 16 + int64(len(name))
		headers = append(headers, Header{Index: len(headers), Name: name, Size: size, Offset: offset})
		offset += size
	}
	add(SumsName, int64(len(sums)))
	for _, e := range entries {
		add(e.Name, e.Size)
	}
	size := (offset + Align - 1) / Align * Align
	return Summary{ID: hex.EncodeToString(digest[:]), Files: len(entries), Size: size}, headers
}

// checkEntries returns SHA256SUMS for entries that may stand in one container.
func checkEntries(entries []Entry) ([]byte, error) {
	if len(entries) >= MaxFiles {
		return nil, fmt.Errorf("payload: %w: %d files, at most %d are allowed", ErrLimit, len(entries), MaxFiles-1)
	}
	names := newNameSet()
	sums := make([]Sum, 0, len(entries))
	for _, e := range entries {
		err := CheckName(e.Name)
		switch {
		case err != nil:
		case e.Name == SumsName:
			err = fmt.Errorf("%w: it is written by itself", ErrName)
		case e.Size < 0 || e.Size > MaxSize:
			err = fmt.Errorf("%w: %d bytes in one file, at most %d are allowed", ErrLimit, e.Size, MaxSize)
		case !isDigest(e.SHA256):
			err = fmt.Errorf("%w: %q is no sha256", ErrSource, e.SHA256)
		default:
			err = names.add(e.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("payload: %s: %w", printable(e.Name), err)
		}
		sums = append(sums, Sum{SHA256: e.SHA256, Name: e.Name})
	}
	return FormatSums(sums), nil
}

// Write writes a container with u64 numbers: SHA256SUMS, then the entries in the given order, then zeros up to a
// multiple of Align. The same entries give the same bytes. Each entry is opened once, streamed, and held against its
// Size and SHA256; an entry that differs is an error that names it and wraps ErrSource, and w then holds a container
// that is cut short, which the caller throws away.
func Write(ctx context.Context, w io.Writer, entries []Entry) (Summary, error) {
	sums, err := checkEntries(entries)
	if err != nil {
		return Summary{}, err
	}
	summary, headers := layout(entries, sums)
	out := &writer{ctx: ctx, w: bufio.NewWriterSize(w, BufferSize), buf: make([]byte, BufferSize)}
	out.bytes([]byte(Magic))
	out.number(uint64(len(headers)))
	out.header(headers[0])
	out.bytes(sums)
	for i, e := range entries {
		out.header(headers[i+1])
		out.entry(e)
	}
	out.bytes(make([]byte, summary.Size-out.written))
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return Summary{}, fmt.Errorf("payload: write: %w", out.err)
	}
	return summary, nil
}

// writer keeps the first error, so that its callers need not look at each step.
type writer struct {
	ctx     context.Context //nolint:containedctx // lives for one call of Write
	w       *bufio.Writer
	buf     []byte
	written int64
	err     error
}

func (o *writer) bytes(b []byte) {
	if o.err == nil {
		_, o.err = o.w.Write(b)
		o.written += int64(len(b))
	}
}

func (o *writer) number(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	o.bytes(b[:])
}

func (o *writer) header(h Header) {
	o.number(uint64(len(h.Name)))
	o.number(uint64(h.Size))
	o.bytes([]byte(h.Name))
}

// entry copies the data of e.
func (o *writer) entry(e Entry) {
	if o.err != nil {
		return
	}
	if err := o.copyEntry(e); err != nil {
		o.err = fmt.Errorf("%s: %w", printable(e.Name), err)
	}
}

func (o *writer) copyEntry(e Entry) error {
	src, err := e.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	h := sha256.New()
	in := contextReader{o.ctx, io.LimitReader(src, e.Size+1)}
	var n int64
	for {
		got, err := in.Read(o.buf)
		n += int64(got)
		if n > e.Size {
			return fmt.Errorf("%w: more than its %d bytes", ErrSource, e.Size)
		}
		h.Write(o.buf[:got])
		o.bytes(o.buf[:got])
		if o.err != nil {
			return o.err
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if n < e.Size {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrSource, n, e.Size)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != e.SHA256 {
		return fmt.Errorf("%w: sha256 %s instead of %s", ErrSource, got, e.SHA256)
	}
	return nil
}

// contextReader ends a copy when its context does.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// BytesEntry returns an entry whose content is data.
func BytesEntry(name string, data []byte) Entry {
	digest := sha256.Sum256(data)
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return Entry{Name: name, Size: int64(len(data)), SHA256: hex.EncodeToString(digest[:]), Open: open}
}
