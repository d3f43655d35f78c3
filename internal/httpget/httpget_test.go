// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package httpget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// content is the file of most tests: long enough for several reads, different at every offset.
var content = func() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 300<<10; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.Bytes()
}()

// quick are options with which a server that stalls is given up soon.
func quick() Options { return Options{Idle: 150 * time.Millisecond, MinBytes: 64} }

// serveFile answers like a file server, ranges included.
func serveFile(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(content))
}

func newServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// rawServer sends text to everyone who connects, after it has read the request's head; then it closes the connection,
// or keeps it open and silent until the test ends.
func rawServer(t *testing.T, text string, thenHang bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	t.Cleanup(func() { close(over); _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 64<<10)
				for got := ""; !strings.Contains(got, "\r\n\r\n"); {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					got += string(buf[:n])
				}
				_, _ = io.WriteString(c, text)
				if thenHang {
					<-over
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/file"
}

func readAll(t *testing.T, r *Response) []byte {
	t.Helper()
	got, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	if err := r.Body.Close(); err != nil {
		t.Fatalf("close body: %v", err)
	}
	return got
}

func TestGet(t *testing.T) {
	n := int64(len(content))
	chunked := func(w http.ResponseWriter, _ *http.Request) {
		for at := 0; at < len(content); at += 10000 {
			_, _ = w.Write(content[at:min(at+10000, len(content))])
			w.(http.Flusher).Flush()
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		offset  int64
		want    Response // without URL and Body
	}{
		{"whole", serveFile, 0, Response{Status: 200, Length: n}},
		{"resumed", serveFile, 1234, Response{Status: 206, Offset: 1234, Length: n - 1234}},
		{"resumed at the last byte", serveFile, n - 1, Response{Status: 206, Offset: n - 1, Length: 1}},
		{"chunked", chunked, 0, Response{Status: 200, Length: -1}},
		{"server that does not resume", chunked, 1234, Response{Status: 200, Length: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newServer(t, tt.handler).URL + "/a%20b/c?d=e"
			tt.want.URL = u
			r, err := Get(t.Context(), u, tt.offset, quick())
			if err != nil {
				t.Fatal(err)
			}
			body := r.Body
			if got := readAll(t, r); !bytes.Equal(got, content[r.Offset:]) {
				t.Errorf("body of %d bytes differs from the file's %d bytes", len(got), len(content[r.Offset:]))
			}
			r.Body = nil
			if diff := cmp.Diff(tt.want, *r); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}
			if _, err := body.Read(make([]byte, 1)); err == nil {
				t.Error("read after close: no error")
			}
		})
	}
}

// TestRequest shows what a server sees.
func TestRequest(t *testing.T) {
	var got []string
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method, r.Proto, r.RequestURI, r.Host)
		for _, k := range []string{"User-Agent", "Accept", "Accept-Encoding", "Range", "Connection"} {
			got = append(got, k+": "+r.Header.Get(k))
		}
		serveFile(w, r)
	})
	r, err := Get(t.Context(), s.URL+"/a%2Fb/%C3%A9?x=%20y#fragment", 7, Options{UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, r)
	want := []string{
		"GET", "HTTP/1.1", "/a%2Fb/%C3%A9?x=%20y", strings.TrimPrefix(s.URL, "http://"), "User-Agent: test/1",
		"Accept: */*", "Accept-Encoding: identity", "Range: bytes=7-", "Connection: close",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// TestRawAnswers feeds answers that no well-behaved server sends.
func TestRawAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name   string
		answer string
		body   string
		err    error // of Get
		read   error // of the body
	}{
		{"http 1.0 until the end", "HTTP/1.0 200 OK\r\n\r\nabc", "abc", nil, nil},
		{"bare line feeds, no reason", "HTTP/1.1 200\ncontent-length: 3\n\nabc", "abc", nil, nil},
		{"interim answers", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok + "Content-Length: 1\r\n\r\na", "a", nil, nil},
		{"more than the length", ok + "Content-Length: 3\r\n\r\nabcdef", "abc", nil, nil},
		{"same length twice", ok + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "abc", nil, nil},
		{"chunks with extensions and a trailer", ok + "Transfer-Encoding: chunked\r\n\r\n" +
			"3;a=b\r\nabc\r\n00A \r\n0123456789\r\n0\r\nX: y\r\n\r\n", "abc0123456789", nil, nil},
		{"empty", ok + "Content-Length: 0\r\n\r\n", "", nil, nil},

		{"short body", ok + "Content-Length: 5\r\n\r\nabc", "abc", nil, io.ErrUnexpectedEOF},
		{"short chunk", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "abc", nil, io.ErrUnexpectedEOF},
		{"no last chunk", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc", nil, io.ErrUnexpectedEOF},
		{"trailer cut", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y", "", nil, io.ErrUnexpectedEOF},
		{"chunk longer than its size", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", "abc", nil,
			ErrProtocol},
		{"negative chunk", ok + "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", "", nil, ErrProtocol},
		{"huge chunk size", ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc", "", nil, ErrProtocol},
		{"endless chunk size", ok + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("0", 9<<10), "", nil, ErrProtocol},
		{"endless trailer", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 9<<10), "", nil,
			ErrProtocol},

		{"nothing", "", "", io.ErrUnexpectedEOF, nil},
		{"head cut", "HTTP/1.1 200 OK\r\nContent-Le", "", io.ErrUnexpectedEOF, nil},
		{"not http", "SSH-2.0-OpenSSH_9.2\r\n", "", ErrProtocol, nil},
		{"http 2", "HTTP/2.0 200 OK\r\n\r\n", "", ErrProtocol, nil},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", "", ErrProtocol, nil},
		{"status zero", "HTTP/1.1 000 OK\r\n\r\n", "", ErrProtocol, nil},
		{"different lengths", ok + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "", ErrProtocol, nil},
		{"negative length", ok + "Content-Length: -3\r\n\r\nabc", "", ErrProtocol, nil},
		{"length with a sign", ok + "Content-Length: +3\r\n\r\nabc", "", ErrProtocol, nil},
		{"length too long", ok + "Content-Length: 99999999999999999999\r\n\r\nabc", "", ErrProtocol, nil},
		{"unknown coding", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", "", ErrProtocol, nil},
		{"folded header", ok + "Content-Length: 3\r\n more\r\n\r\nabc", "", ErrProtocol, nil},
		{"header without a colon", ok + "Content-Length\r\n\r\n", "", ErrProtocol, nil},
		{"space before the colon", ok + "Content-Length : 3\r\n\r\nabc", "", ErrProtocol, nil},
		{"huge header", ok + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "", ErrProtocol, nil},
		{"many headers", ok + strings.Repeat("X: y\r\n", 1000) + "\r\n", "", ErrProtocol, nil},
		{"long head", ok + strings.Repeat("X: "+strings.Repeat("y", 8000)+"\r\n", 100) + "\r\n", "", ErrProtocol, nil},
		{"interim answers for ever", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), "", ErrProtocol, nil},
		{"partial content that was not asked for", "HTTP/1.1 206 OK\r\nContent-Length: 1\r\n\r\nx", "", ErrProtocol, nil},
		{"redirect to nowhere", "HTTP/1.1 302 Found\r\n\r\n", "", ErrProtocol, nil},
		{"redirect to garbage", "HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", "", ErrProtocol, nil},
		{"redirect to a file", "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "", ErrAddress, nil},
		{"redirect to tls", "HTTP/1.1 301 M\r\nLocation: https://example.org/x\r\n\r\n", "", ErrNeedsTLS, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Get(t.Context(), rawServer(t, tt.answer, false), 0, quick())
			if !errors.Is(err, tt.err) {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			if err != nil {
				checkOneLine(t, err)
				return
			}
			got, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if !errors.Is(err, tt.read) || (err == nil) != (tt.read == nil) {
				t.Errorf("body: got error %v, want %v", err, tt.read)
			}
			if string(got) != tt.body {
				t.Errorf("body: got %q, want %q", got, tt.body)
			}
		})
	}
}

// checkOneLine makes sure that a message has no line ends and no control characters of a server in it.
func checkOneLine(t *testing.T, err error) {
	t.Helper()
	for _, r := range err.Error() {
		if r < ' ' || r == 0x7f {
			t.Errorf("control characters in the message %q", err)
			return
		}
	}
}

func TestContentRange(t *testing.T) {
	tests := []struct {
		name, header string
		want         error
	}{
		{"right", "Content-Range: bytes 2-4/5\r\nContent-Length: 3\r\n", nil},
		{"size unknown", "Content-Range: bytes 2-4/*\r\nContent-Length: 3\r\n", nil},
		{"missing", "Content-Length: 3\r\n", ErrProtocol},
		{"other start", "Content-Range: bytes 1-4/5\r\nContent-Length: 4\r\n", ErrProtocol},
		{"ends early", "Content-Range: bytes 2-4/9\r\nContent-Length: 3\r\n", ErrProtocol},
		{"length differs", "Content-Range: bytes 2-4/5\r\nContent-Length: 4\r\n", ErrProtocol},
		{"backwards", "Content-Range: bytes 2-1/5\r\n", ErrProtocol},
		{"other unit", "Content-Range: lines 2-4/5\r\n", ErrProtocol},
		{"no unit", "Content-Range: 2-4/5\r\n", ErrProtocol},
		{"too large", "Content-Range: bytes 2-9999999/10000000\r\n", ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := rawServer(t, "HTTP/1.1 206 Partial Content\r\n"+tt.header+"\r\nabc", false)
			r, err := Get(t.Context(), u, 2, Options{MaxSize: 1 << 20})
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if err == nil {
				readAll(t, r)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	s := newServer(t, http.NotFound)
	_, err := Get(t.Context(), s.URL+"/x", 0, quick())
	var status *StatusError
	if !errors.As(err, &status) {
		t.Fatalf("got error %v, want a *StatusError", err)
	}
	if diff := cmp.Diff(StatusError{Code: 404, Reason: "Not Found"}, *status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if want := fmt.Sprintf("get %q: status 404 Not Found", s.URL+"/x"); err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
	u := rawServer(t, "HTTP/1.1 500 \x1b[2Jboom\r\n\r\n", false)
	if _, err := Get(t.Context(), u, 0, quick()); err == nil || !strings.HasSuffix(err.Error(), "status 500 [2Jboom") {
		t.Errorf("got error %q, want its escape sequence made harmless", err)
	}
}

func TestRedirects(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/hop/"):
			var n int
			if _, err := fmt.Sscanf(r.URL.Path, "/hop/%d", &n); err != nil || n == 0 {
				http.Redirect(w, r, "../file?x=y", http.StatusTemporaryRedirect)
				return
			}
			http.Redirect(w, r, fmt.Sprintf("/hop/%d", n-1), http.StatusMovedPermanently)
		default:
			serveFile(w, r)
		}
	})
	r, err := Get(t.Context(), s.URL+"/hop/4", 100, quick())
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r); !bytes.Equal(got, content[100:]) {
		t.Errorf("body of %d bytes, want %d", len(got), len(content)-100)
	}
	if want := s.URL + "/file?x=y"; r.URL != want {
		t.Errorf("response from %q, want %q", r.URL, want)
	}
	for _, path := range []string{"/hop/5", "/loop"} {
		if _, err := Get(t.Context(), s.URL+path, 0, quick()); !errors.Is(err, ErrRedirects) {
			t.Errorf("%s: got error %v, want %v", path, err, ErrRedirects)
		}
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		url  string
		want error
	}{
		{"https://example.org/x", ErrNeedsTLS},
		{"HTTPS://example.org/x", ErrNeedsTLS},
		{"ftp://example.org/x", ErrAddress},
		{"file:///etc/passwd", ErrAddress},
		{"/x", ErrAddress},
		{"", ErrAddress},
		{"http:///x", ErrAddress},
		{"http:x", ErrAddress},
		{"http://user:secret@example.org/x", ErrAddress},
		{"http://example.org:99999/x", ErrAddress},
		{"http://example.org:0/x", ErrAddress},
		{"http://exa mple.org/x", ErrAddress},
		{"http://ex\u00e4mple.org/x", ErrAddress},
		{"http://example.org/x?a b", ErrAddress},
		{"http://example.org/x\r\nHost: evil", ErrAddress},
		{"http://example.org/" + strings.Repeat("x", 9000), ErrAddress},
	}
	for _, tt := range tests {
		_, err := Get(t.Context(), tt.url, 0, Options{Dialer: noDialer{}})
		if !errors.Is(err, tt.want) {
			t.Errorf("%.40q: got error %v, want %v", tt.url, err, tt.want)
			continue
		}
		checkOneLine(t, err)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: password in the message %q", tt.url, err)
		}
	}
	if _, err := Get(t.Context(), "http://127.0.0.1/", -1, Options{Dialer: noDialer{}}); err == nil {
		t.Error("negative offset: no error")
	}
}

// noDialer fails the test of an address that should never be dialled.
type noDialer struct{}

var errDialled = errors.New("dialled")

func (noDialer) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errDialled
}

func TestDefaultPort(t *testing.T) {
	for u, want := range map[string]string{
		"http://example.org":          "example.org:80",
		"http://example.org:8080/x":   "example.org:8080",
		"http://[2001:db8::1]/x":      "[2001:db8::1]:80",
		"http://[2001:db8::1]:81/x":   "[2001:db8::1]:81",
		"http://192.0.2.1?only=query": "192.0.2.1:80",
	} {
		d := &recordDialer{}
		if _, err := Get(t.Context(), u, 0, Options{Dialer: d}); !errors.Is(err, errDialled) || d.address != want {
			t.Errorf("%s: dialled %q (%v), want %q", u, d.address, err, want)
		}
	}
}

type recordDialer struct{ address string }

func (d *recordDialer) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	d.address = address
	return nil, errDialled
}

func TestTooLarge(t *testing.T) {
	opt := quick()
	opt.MaxSize = int64(len(content)) - 1
	s := newServer(t, serveFile)
	for _, offset := range []int64{0, 10} {
		if _, err := Get(t.Context(), s.URL, offset, opt); !errors.Is(err, ErrTooLarge) {
			t.Errorf("announced, from %d: got error %v, want %v", offset, err, ErrTooLarge)
		}
	}
	endless := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(content[:4096]); err != nil {
				return
			}
		}
	})
	r, err := Get(t.Context(), endless.URL, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	if !errors.Is(err, ErrTooLarge) || n != opt.MaxSize {
		t.Errorf("endless: %d bytes and error %v, want %d bytes and %v", n, err, opt.MaxSize, ErrTooLarge)
	}
	opt.MaxSize = int64(len(content))
	if r, err = Get(t.Context(), s.URL, 0, opt); err != nil {
		t.Fatalf("exactly as large as allowed: %v", err)
	}
	readAll(t, r)
}

func TestStalls(t *testing.T) {
	drip := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		for {
			if _, err := w.Write([]byte("x")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	tests := []struct{ name, url string }{
		{"no answer", rawServer(t, "", true)},
		{"in the head", rawServer(t, "HTTP/1.1 200 OK\r\nX: y\r\n", true)},
		{"in the body", rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true)},
		{"in a chunk", rawServer(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", true)},
		{"a byte now and then", drip.URL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			r, err := Get(t.Context(), tt.url, 0, quick())
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
			if !errors.Is(err, ErrStalled) {
				t.Errorf("got error %v, want %v", err, ErrStalled)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// TestSlowReader makes sure that the caller's own pauses are not held against the server.
func TestSlowReader(t *testing.T) {
	s := newServer(t, serveFile)
	r, err := Get(t.Context(), s.URL, 0, Options{Idle: 500 * time.Millisecond, MinBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := r.Body.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n != int64(len(content))-300 {
		t.Errorf("rest: %d bytes (%v), want %d", n, err, len(content)-300)
	}
	_ = r.Body.Close()
}

func TestContextEnds(t *testing.T) {
	cause := errors.New("enough")
	for name, u := range map[string]string{
		"in the head": rawServer(t, "HTTP/1.1 200 OK\r\n", true),
		"in the body": rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
			r, err := Get(ctx, u, 0, Options{})
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
			if !errors.Is(err, cause) {
				t.Errorf("got error %v, want %v", err, cause)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Get(ctx, "http://127.0.0.1:9/", 0, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended before: got error %v, want %v", err, context.Canceled)
	}
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := "http://" + l.Addr().String() + "/x"
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Get(t.Context(), u, 0, quick())
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("got error %v, want a *net.OpError", err)
	}
}
