// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"

	"kindling/internal/event"
)

// Bounds of what NewClient does for one request.
const (
	connectTimeout = 10 * time.Second
	tlsTimeout     = 10 * time.Second
	headerTimeout  = 30 * time.Second
	idleTimeout    = 30 * time.Second
	maxRedirects   = 10
	maxHeader      = 64 << 10
	maxCause       = 400 // bytes of a text about a failure
)

// userAgent names no version: what is fetched must not depend on it.
const userAgent = "kindling"

// NewClient is the client that Fetch uses when it is given none: HTTP/1.1 and 2, with and without TLS, at most ten
// redirects and those to http and https only, none from a public address to one of this machine or its networks, the
// proxy of the environment as it is now (HTTPS_PROXY, ALL_PROXY and so on), no cookies.
func NewClient() *http.Client { return newClient(hostReach) }

func newClient(reachOf func(netip.Addr) reach) *http.Client {
	return &http.Client{
		Transport:     newGuard(reachOf),
		CheckRedirect: checkRedirect,
	}
}

func newTransport(dialer *net.Dialer) *http.Transport {
	return &http.Transport{
		Proxy:                  environmentProxy(),
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsTimeout,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    MaxJobs,
		DisableCompression:     true, // a distfile is what its sha256 was made of
	}
}

// environmentProxy finds the proxy for a request as curl does: ALL_PROXY, which net/http does not read, is for the schemes
// that have no proxy of their own. Nothing on loopback has a proxy.
func environmentProxy() func(*http.Request) (*url.URL, error) {
	env := httpproxy.FromEnvironment()
	all := cmp.Or(os.Getenv("all_proxy"), os.Getenv("ALL_PROXY"))
	env.HTTPProxy, env.HTTPSProxy = cmp.Or(env.HTTPProxy, all), cmp.Or(env.HTTPSProxy, all)
	find := env.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return find(r.URL) }
}

// errRedirect is the cause of a redirect that is not followed.
var errRedirect = errors.New("redirect refused")

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d of them", errRedirect, maxRedirects)
	}
	if s := req.URL.Scheme; s != "http" && s != "https" {
		return fmt.Errorf("%w: to %s", errRedirect, clean(req.URL.Redacted()))
	}
	return nil
}

// get asks a server for what is missing of the part.
func (j *job) get(ctx context.Context, a address, dog *watchdog) (*failure, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url.String(), nil)
	if err != nil {
		return &failure{cause: causeOf(err)}, nil // of this address only
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if j.part.size > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", j.part.size))
	}
	resp, err := j.client.Do(req)
	if err != nil {
		return j.network(ctx, err)
	}
	defer resp.Body.Close()
	if failed, err := j.accept(resp); failed != nil || err != nil {
		return failed, err
	}
	total := int64(0)
	if resp.ContentLength > 0 {
		total = j.part.size + resp.ContentLength
	}
	return j.body(ctx, a, resp.Body, total, dog)
}

// accept decides whether the body that follows belongs behind the part, which it empties if the whole file follows.
func (j *job) accept(resp *http.Response) (*failure, error) {
	asked := j.part.size > 0
	switch {
	case resp.StatusCode == http.StatusOK:
		if j.part.size == 0 {
			return nil, nil // neither failure nor error: it is accepted
		}
		j.whole = true
		return nil, j.part.reset()
	case resp.StatusCode == http.StatusPartialContent && asked:
		if start := rangeStart(resp.Header.Get("Content-Range")); start == j.part.size {
			return nil, nil // as above
		}
		return &failure{cause: "answers with another part of the file than is wanted", restart: true}, j.part.reset()
	}
	cause := strings.TrimSpace(fmt.Sprintf("HTTP status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	switch resp.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable, http.StatusBadRequest, http.StatusNotImplemented:
		if asked { // the part is as long as the file or longer, or the server does not know ranges
			return &failure{cause: cause + " for the rest of the file", restart: true}, j.part.reset()
		}
	}
	sick := resp.StatusCode >= http.StatusInternalServerError
	busy := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
	return &failure{cause: cause, passing: sick || busy, dead: sick}, nil
}

// rangeStart is the first number of "bytes 5-9/10" (RFC 9110, 14.4), or -1.
func rangeStart(header string) int64 {
	unit, span, _ := strings.Cut(header, " ")
	first, _, ok := strings.Cut(span, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil || !ok || !strings.EqualFold(unit, "bytes") || n < 0 {
		return -1
	}
	return n
}

// body appends what arrives to the part. total is the size of the whole file, 0 if it is not known.
func (j *job) body(ctx context.Context, a address, body io.Reader, total int64, dog *watchdog) (*failure, error) {
	if total > j.limits.MaxSize {
		return &failure{cause: fmt.Sprintf("has %d bytes, at most %d are allowed", total, j.limits.MaxSize)}, nil
	}
	buf := make([]byte, bufferSize)
	for {
		n, err := body.Read(buf)
		dog.fed(n)
		if j.part.size+int64(n) > j.limits.MaxSize {
			j.result.Received += int64(n)
			return &failure{cause: fmt.Sprintf("does not end after %d bytes", j.limits.MaxSize)}, j.part.reset()
		}
		if n > 0 {
			j.result.Received += int64(n)
			if _, err := j.part.Write(buf[:n]); err != nil {
				return nil, err
			}
			j.tell(Update{Kind: Received, Address: a.String(), Done: j.part.size, Total: total})
		}
		if errors.Is(err, io.EOF) {
			return nil, nil // all of it has arrived
		}
		if err != nil {
			return j.network(ctx, err)
		}
	}
}

// network sorts an error of a connection: the end of the run, or a failure of this address.
func (j *job) network(ctx context.Context, err error) (*failure, error) {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errStalled) {
		return nil, ctx.Err()
	}
	if exhausted(err) {
		return nil, err
	}
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, errRedirect):
		return &failure{cause: causeOf(err)}, nil
	case errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &cert), errors.As(err, &unknown):
		return &failure{cause: causeOf(err), dead: true}, nil
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		cause := fmt.Sprintf("the connection ended after %d bytes", j.part.size)
		return &failure{cause: cause, passing: true, dead: true}, nil
	}
	return &failure{cause: causeOf(err), passing: true, dead: true}, nil
}

// exhausted reports that this machine has no more files or memory to open anything with: no other address will help.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// copyFile appends what is missing of the part from a file:// mirror.
func (j *job) copyFile(ctx context.Context, a address, dog *watchdog) (*failure, error) {
	f, err := os.OpenFile(filepath.Clean(a.url.Path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if exhausted(err) {
		return nil, err
	}
	if err != nil {
		_, folder := os.Stat(filepath.Dir(filepath.Clean(a.url.Path)))
		return &failure{cause: causeOf(err), dead: folder != nil}, nil
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return &failure{cause: causeOf(err)}, nil
	case !info.Mode().IsRegular():
		return &failure{cause: "is no regular file"}, nil
	case info.Size() < j.part.size:
		j.whole = true
		if err := j.part.reset(); err != nil {
			return nil, err
		}
	}
	if _, err := f.Seek(j.part.size, io.SeekStart); err != nil {
		return &failure{cause: causeOf(err)}, nil
	}
	return j.body(ctx, a, contextReader{ctx, f}, info.Size(), dog)
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

// causeOf is the reason in err as one clean line, without the address or path that is named beside it anyway.
func causeOf(err error) string {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		return clean(inPath.Op + ": " + inPath.Err.Error())
	}
	return clean(err.Error())
}

// clean makes a text that a server or a tree had a part in fit for a line.
func clean(text string) string {
	text = event.Clean(strings.ReplaceAll(text, "\n", "; "))
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "..."
	}
	return text
}
