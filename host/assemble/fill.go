// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// bufferSize is what is read, hashed and written at a time by one worker. It has two such buffers.
const bufferSize = 256 << 10

// runSize is how many bytes of small pieces one worker takes at a time, at least.
const runSize = 1 << 20

// copier copies the contents of entries and checks them on the way.
type copier struct {
	ctx   context.Context //nolint:containedctx // lives for one Write
	buf   []byte
	sum   hash.Hash
	count *atomic.Int64 // bytes copied, for progress
}

func newCopier(ctx context.Context, count *atomic.Int64) *copier {
	return &copier{ctx: ctx, buf: make([]byte, bufferSize), sum: sha256.New(), count: count}
}

// copy writes the content of e to w. An error names the file.
func (c *copier) copy(w io.Writer, e *Entry) error {
	if e.Source == nil {
		c.count.Add(e.Size)
		_, err := w.Write(e.Data)
		return err
	}
	src, err := e.Open()
	if err != nil {
		return err
	}
	err = c.stream(w, src, e)
	if closeErr := src.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (c *copier) stream(w io.Writer, src io.Reader, e *Entry) error {
	c.sum.Reset()
	left := e.Size
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(c.buf[:min(int64(len(c.buf)), left+1)])
		if left -= int64(n); left < 0 {
			return fmt.Errorf("%s: %w: more than %d bytes", e.Source.Path, ErrSource, e.Size)
		}
		c.count.Add(int64(n))
		if e.SHA256 != "" {
			c.sum.Write(c.buf[:n])
		}
		if _, err := w.Write(c.buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if left > 0 {
		return fmt.Errorf("%s: %w: %d bytes instead of %d", e.Source.Path, ErrSource, e.Size-left, e.Size)
	}
	return c.check(e)
}

func (c *copier) check(e *Entry) error {
	if e.SHA256 == "" {
		return nil
	}
	if got := hex.EncodeToString(c.sum.Sum(nil)); got != e.SHA256 {
		return fmt.Errorf("%s: %w: sha256 %s instead of %s: delete it and fetch it again", e.Source.Path, ErrSource, got, e.SHA256)
	}
	return nil
}

// run is a stretch of pieces that stand one behind the other.
type run []piece

func (r run) size() int64 {
	last := r[len(r)-1]
	return last.at + last.size() - r[0].at
}

// runs cuts the pieces into what workers take at a time, the largest first, so that they end together.
func runs(pieces []piece) []run {
	var all []run
	start := 0
	for i := range pieces {
		if i+1 == len(pieces) || run(pieces[start:i+1]).size() >= runSize {
			all = append(all, run(pieces[start:i+1]))
			start = i + 1
		}
	}
	slices.SortStableFunc(all, func(a, b run) int { return cmp.Compare(b.size(), a.size()) })
	return all
}

// fill writes the pieces to their places in w, several at a time.
func fill(ctx context.Context, w io.WriterAt, pieces []piece, workers int, count *atomic.Int64) error {
	work := runs(pieces)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			c := newCopier(ctx, count)
			out := bufio.NewWriterSize(nil, bufferSize)
			for i := next.Add(1) - 1; i < int64(len(work)); i = next.Add(1) - 1 {
				out.Reset(io.NewOffsetWriter(w, work[i][0].at))
				if err := c.run(out, work[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (c *copier) run(out *bufio.Writer, r run) error {
	for _, p := range r {
		if _, err := out.Write(p.head); err != nil {
			return err
		}
		if p.entry == nil {
			continue
		}
		if err := c.copy(out, p.entry); err != nil {
			return err
		}
	}
	return out.Flush()
}
