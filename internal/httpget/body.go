// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package httpget

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// conn is a connection that ends with its context and does not wait for ever: within each span of idle that is spent
// in Read, at least least bytes must arrive. The time that the caller takes between two calls does not count.
type conn struct {
	raw   net.Conn
	ctx   context.Context // of the whole request: it lives as long as the connection
	stop  func() bool
	idle  time.Duration
	least int64

	spent time.Duration // in Read, since got was last 0
	got   int64
}

func newConn(ctx context.Context, c net.Conn, idle time.Duration, least int64) *conn {
	// A deadline in the past wakes up a call that is waiting already.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return &conn{raw: c, ctx: ctx, stop: stop, idle: idle, least: least}
}

// Read implements io.Reader.
func (c *conn) Read(p []byte) (int, error) {
	begin := time.Now()
	if err := c.raw.SetReadDeadline(begin.Add(c.idle - c.spent)); err != nil {
		return 0, c.explain(err)
	}
	// The context may have ended between its own call and the one above: look again.
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	n, err := c.raw.Read(p)
	c.spent += time.Since(begin)
	if c.got += int64(n); c.got >= c.least {
		c.spent, c.got = 0, 0
	}
	return n, c.explain(err)
}

// Write implements io.Writer.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.raw.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, c.explain(err)
	}
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	n, err := c.raw.Write(p)
	return n, c.explain(err)
}

// Close implements io.Closer.
func (c *conn) Close() error {
	c.stop()
	return c.raw.Close()
}

// explain says why a deadline passed: because the context ended, or because the server is too slow.
func (c *conn) explain(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: fewer than %d bytes in %s", ErrStalled, c.least, c.idle)
	}
	return err
}

// body is the body of a response.
type body struct {
	conn *conn
	src  io.Reader // conn, buffered and without its chunks
	left int64     // bytes still to come; -1 when unknown
	room int64     // bytes still allowed
	err  error     // the end, once it was seen
}

// Read implements io.Reader; see Response.Body for its errors.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left == 0 {
		b.err = io.EOF
		return 0, b.err
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.src.Read(p)
	if int64(n) > b.room {
		n, err = int(b.room), fmt.Errorf("%w: the body goes on", ErrTooLarge)
	}
	b.room -= int64(n)
	if b.left > 0 {
		b.left -= int64(n)
		if errors.Is(err, io.EOF) && b.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	b.err = err
	return n, err
}

// Close implements io.Closer and ends the connection.
func (b *body) Close() error {
	b.err = net.ErrClosed
	return b.conn.Close()
}

// chunked undoes the chunked transfer coding (RFC 9112, section 7.1):
//
//	body  = *( size-in-hex [ ";" extension ] CRLF data CRLF ) "0" [ ";" extension ] CRLF *( trailer CRLF ) CRLF
type chunked struct {
	r      *bufio.Reader
	left   int64 // of the current chunk
	within bool  // a chunk's data was begun, so its CRLF is still to come
	err    error
}

func newChunked(r *bufio.Reader) *chunked { return &chunked{r: r} }

// Limits of the chunked coding, in bytes.
const (
	maxChunkLine = 4 << 10
	maxTrailer   = 16 << 10
)

// Read implements io.Reader. Anything but a proper end is an error: io.ErrUnexpectedEOF or ErrProtocol.
func (c *chunked) Read(p []byte) (int, error) {
	for c.err == nil && c.left == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
	return n, err
}

// next reads what stands between the data of two chunks. It returns io.EOF after the last one.
func (c *chunked) next() error {
	if c.within {
		budget := 2
		if line, err := readLine(c.r, &budget); err != nil || len(line) > 0 {
			return chunkError("no line end after a chunk", err)
		}
	}
	budget := maxChunkLine
	line, err := readLine(c.r, &budget)
	if err != nil {
		return chunkError("size of a chunk", err)
	}
	text, _, _ := strings.Cut(string(line), ";")
	text = strings.TrimRight(text, " \t")
	if text == "" || len(text) > 15 || strings.Trim(text, "0123456789abcdefABCDEF") != "" {
		return chunkError(fmt.Sprintf("size of a chunk %.40q", text), nil)
	}
	size, err := strconv.ParseInt(text, 16, 64)
	if err != nil {
		return chunkError("size of a chunk", err)
	}
	if size == 0 {
		return c.trailer()
	}
	c.left, c.within = size, true
	return nil
}

// trailer passes over the fields after the last chunk.
func (c *chunked) trailer() error {
	budget := maxTrailer
	for {
		line, err := readLine(c.r, &budget)
		if err != nil {
			return chunkError("trailer", err)
		}
		if len(line) == 0 {
			return io.EOF
		}
	}
}

func chunkError(what string, err error) error {
	switch {
	case err == nil || errors.Is(err, ErrProtocol):
		return fmt.Errorf("%w: chunked body: %s", ErrProtocol, what)
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}
