// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package httpget

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What the errors of this package wrap, beside those of the network and of the context.
var (
	ErrNeedsTLS  = errors.New("address needs https, which this client does not speak")
	ErrAddress   = errors.New("not a usable http address")
	ErrProtocol  = errors.New("malformed http answer")
	ErrRedirects = errors.New("too many redirects")
	ErrTooLarge  = errors.New("larger than allowed")
	ErrStalled   = errors.New("stalled")
)

// errRange is what the error of an answer wraps whose range is not the one that was asked for.
var errRange = errors.New("content range")

// StatusError is an answer whose status is not one of success.
type StatusError struct {
	Code   int    // as in RFC 9110, section 15
	Reason string // the server's own words, made harmless; may be empty
}

func (e *StatusError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("status %d", e.Code)
	}
	return fmt.Sprintf("status %d %s", e.Code, e.Reason)
}

// Limits of one request.
const (
	MaxRedirects = 5
	maxURL       = 8 << 10 // bytes
)

// Dialer opens connections; *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Options are the bounds of a request. The zero value is ready; a zero field means its default.
type Options struct {
	Dialer    Dialer        // nil means a net.Dialer with Idle as its time-out
	Idle      time.Duration // in which at least MinBytes must arrive, or the server has stalled; default 30 s
	MinBytes  int64         // default 1024; the end of a body or a head may be shorter
	MaxSize   int64         // of the whole file, in bytes; default 8 GiB
	UserAgent string        // default "kindling"
}

func (o Options) withDefaults() Options {
	if o.Idle <= 0 {
		o.Idle = 30 * time.Second
	}
	if o.Dialer == nil {
		o.Dialer = &net.Dialer{Timeout: o.Idle}
	}
	if o.MinBytes <= 0 {
		o.MinBytes = 1024
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 8 << 30
	}
	if o.UserAgent == "" {
		o.UserAgent = "kindling"
	}
	return o
}

// Response is an answer whose body is ready to be read.
type Response struct {
	Status int    // 200 or 206
	URL    string // where the body came from, after redirects
	Offset int64  // where in the file the body begins: what was asked for, or 0 if the server does not resume
	Length int64  // of the body, in bytes; -1 when the server did not say

	// Body must be closed. A body that is cut short ends with io.ErrUnexpectedEOF, one that stalls with ErrStalled, one
	// that passes Options.MaxSize with ErrTooLarge, and when the context of Get ends, so does Body, with its cause.
	Body io.ReadCloser
}

// Get asks for the file at rawURL from byte offset on. Anything but success is an error: *StatusError, ErrNeedsTLS,
// ErrAddress, ErrProtocol, ErrRedirects, ErrTooLarge, ErrStalled, one of the network, or the cause of ctx.
func Get(ctx context.Context, rawURL string, offset int64, opt Options) (*Response, error) {
	opt = opt.withDefaults()
	if offset < 0 {
		return nil, fmt.Errorf("get %.200q: offset %d is negative", rawURL, offset)
	}
	first, err := parseURL(rawURL)
	u := first
	for n := 0; err == nil; n++ {
		var r *Response
		var next *url.URL
		r, next, err = once(ctx, u, offset, opt)
		if err == nil && next == nil {
			return r, nil
		}
		if err == nil && n == MaxRedirects {
			err = fmt.Errorf("%w: more than %d", ErrRedirects, MaxRedirects)
		}
		if err == nil {
			u = next
		}
	}
	switch {
	case first == nil:
		return nil, fmt.Errorf("get %.200q: %w", rawURL, err)
	case u != first:
		return nil, fmt.Errorf("get %.200q, redirected to %.200q: %w", first.Redacted(), u.Redacted(), err)
	}
	return nil, fmt.Errorf("get %.200q: %w", first.Redacted(), err)
}

// parseURL reads an absolute http address.
func parseURL(rawURL string) (*url.URL, error) {
	if len(rawURL) > maxURL {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrAddress, maxURL)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the address, which the caller names
		}
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return u, checkURL(u)
}

func checkURL(u *url.URL) error {
	switch strings.ToLower(u.Scheme) {
	case "http":
	case "https":
		return ErrNeedsTLS
	default:
		return fmt.Errorf("%w: scheme %.20q", ErrAddress, u.Scheme)
	}
	host := u.Hostname()
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: host %.80q", ErrAddress, host)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%w: port %.20q", ErrAddress, port)
		}
	}
	if u.User != nil {
		return fmt.Errorf("%w: it carries credentials", ErrAddress)
	}
	// url escapes a path, but leaves a query as it is.
	if strings.ContainsFunc(u.RequestURI(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: unescaped characters in the query", ErrAddress)
	}
	return nil
}

// once makes one request. It returns a response, or the address to ask instead.
func once(ctx context.Context, u *url.URL, offset int64, opt Options) (*Response, *url.URL, error) {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	raw, err := opt.Dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, nil, err
	}
	c := newConn(ctx, raw, opt.Idle, opt.MinBytes)
	r, next, err := exchange(c, u, offset, opt)
	if r == nil {
		_ = c.Close()
	}
	return r, next, err
}

// exchange sends the request on c and reads the head of the answer. c stays open only if a response is returned.
func exchange(c *conn, u *url.URL, offset int64, opt Options) (*Response, *url.URL, error) {
	if _, err := io.WriteString(c, request(u, offset, opt.UserAgent)); err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(c, 32<<10)
	h, err := readHead(in)
	if err != nil {
		return nil, nil, err
	}
	switch h.status {
	case 200, 206:
		r, err := response(h, u, offset, opt, in, c)
		return r, nil, err
	case 301, 302, 303, 307, 308:
		next, err := redirect(h, u)
		return nil, next, err
	default:
		return nil, nil, &StatusError{Code: h.status, Reason: h.reason}
	}
}

// request is the text of a GET request. The address was checked, and url keeps anything that could end a line escaped.
func request(u *url.URL, offset int64, agent string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", u.RequestURI(), u.Host)
	fmt.Fprintf(&b, "User-Agent: %s\r\nAccept: */*\r\nAccept-Encoding: identity\r\n", agent)
	if offset > 0 {
		fmt.Fprintf(&b, "Range: bytes=%d-\r\n", offset)
	}
	b.WriteString("Connection: close\r\n\r\n")
	return b.String()
}

func redirect(h head, u *url.URL) (*url.URL, error) {
	target, err := h.one("location")
	if err != nil {
		return nil, err
	}
	if target == "" || len(target) > maxURL {
		return nil, fmt.Errorf("%w: status %d with a location of %d bytes", ErrProtocol, h.status, len(target))
	}
	next, err := u.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("%w: location %.200q", ErrProtocol, target)
	}
	next.Fragment = ""
	if err := checkURL(next); err != nil {
		return nil, fmt.Errorf("redirected to %.200q: %w", next.Redacted(), err)
	}
	return next, nil
}

// response reads from the head of a successful answer which bytes follow, and how they are framed.
func response(h head, u *url.URL, offset int64, opt Options, in io.Reader, c *conn) (*Response, error) {
	r := &Response{Status: h.status, URL: u.String(), Length: -1}
	chunked, length, err := h.framing()
	if err != nil {
		return nil, err
	}
	r.Length = length
	if h.status == 206 {
		total, err := h.rangeTotal(offset, length)
		if err != nil {
			return nil, err
		}
		if total > opt.MaxSize {
			return nil, fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, total, opt.MaxSize)
		}
		r.Offset = offset
	}
	room := opt.MaxSize - r.Offset
	if room < 0 || length > room {
		return nil, fmt.Errorf("%w: %d bytes from offset %d, allowed are %d", ErrTooLarge, length, r.Offset, opt.MaxSize)
	}
	b := &body{conn: c, left: length, room: room, src: in}
	if chunked {
		b.src = newChunked(bufio.NewReader(in))
	}
	r.Body = b
	return r, nil
}

// framing says how the body is delimited (RFC 9112, section 6.3): chunked, by length, or (-1) by the end of the
// connection.
func (h head) framing() (chunked bool, length int64, err error) {
	coding, err := h.one("transfer-encoding")
	if err != nil {
		return false, 0, err
	}
	switch strings.ToLower(coding) {
	case "chunked":
		return true, -1, nil
	case "", "identity":
	default:
		return false, 0, fmt.Errorf("%w: transfer coding %.40q", ErrProtocol, coding)
	}
	text, err := h.one("content-length")
	if err != nil || text == "" {
		return false, -1, err
	}
	length, err = parseSize(text)
	return false, length, err
}

// rangeTotal checks the range of a 206 answer against what was asked for and returns the size of the whole file, or -1
// if the server does not know it.
func (h head) rangeTotal(offset, length int64) (int64, error) {
	text, err := h.one("content-range")
	if err != nil {
		return 0, err
	}
	bad := fmt.Errorf("%w: %w %.80q for offset %d", ErrProtocol, errRange, text, offset)
	span, total, ok1 := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	from, to, ok2 := strings.Cut(span, "-")
	if !ok1 || !ok2 || !strings.HasPrefix(text, "bytes ") {
		return 0, bad
	}
	first, err1 := parseSize(from)
	last, err2 := parseSize(to)
	if err1 != nil || err2 != nil || first != offset || last < first || length >= 0 && last-first+1 != length {
		return 0, bad
	}
	if total == "*" {
		return -1, nil
	}
	size, err := parseSize(total)
	if err != nil || last != size-1 { // we ask up to the end, so that is where the answer has to end
		return 0, bad
	}
	return size, nil
}

// parseSize reads a decimal number of bytes: digits only.
func parseSize(text string) (int64, error) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%w: size %.40q", ErrProtocol, text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > math.MaxInt64/2 {
		return 0, fmt.Errorf("%w: size %.40q", ErrProtocol, text)
	}
	return n, nil
}
