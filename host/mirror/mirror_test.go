// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package mirror

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// folder makes a folder to serve, with a secret beside it that no request may reach.
func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "distfiles")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"a.tar.gz": "0123456789", "sub/b c+d.txt": "in sub", "empty": "", "../secret": "secret",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"inside": "a.tar.gz", "outside": "../secret", "absolute": filepath.Join(dir, "a.tar.gz"), "up": "..",
		"loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// log collects requests.
type log struct {
	mu       sync.Mutex
	requests []Request
}

func (l *log) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
}

// take gives the only request of the log so far and forgets it. The callback may come a little after the answer.
func (l *log) take(t *testing.T) Request {
	t.Helper()
	for range 500 {
		l.mu.Lock()
		if len(l.requests) == 1 {
			r := l.requests[0]
			l.requests = nil
			l.mu.Unlock()
			return r
		}
		l.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("requests in the log: %v, one is expected", l.requests)
	return Request{}
}

func serve(t *testing.T, opt Options) *Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Serve(ctx, opt)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := s.Wait(); err != nil {
			t.Errorf("end of the server: %v", err)
		}
	})
	return s
}

// raw sends bytes as they are, so that no client cleans the path, and gives status and body.
func raw(t *testing.T, s *Server, request string) (int, string) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPaths(t *testing.T) {
	var l log
	s := serve(t, Options{Dir: folder(t), Log: l.add})
	tests := []struct {
		path   string
		status int
		body   string
	}{
		{"/a.tar.gz", 200, "0123456789"},
		{"/a.tar.gz?x=../secret", 200, "0123456789"},
		{"/sub/b%20c+d.txt", 200, "in sub"},
		{"/empty", 200, ""},
		{"/inside", 200, "0123456789"},
		{"/", 400, ""}, {"", 400, ""}, {"//a.tar.gz", 400, ""}, {"/sub/", 400, ""}, {"/.", 400, ""},
		{"/../secret", 400, ""}, {"/sub/../a.tar.gz", 400, ""}, {"/%2e%2e/secret", 400, ""},
		{"/..%2fsecret", 400, ""}, {"/sub/..%2f..%2fsecret", 400, ""}, {"/..%5csecret", 400, ""},
		{"/a.tar.gz%00", 400, ""}, {"/./a.tar.gz", 400, ""},
		{"/up/secret", 404, ""}, {"/outside", 404, ""}, {"/absolute", 404, ""}, {"/loop", 404, ""},
		{"/sub", 404, ""}, {"/pipe", 404, ""}, {"/missing", 404, ""}, {"/a.tar.gz/x", 404, ""},
		{"/" + strings.Repeat("x", 5000), 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.path[:min(len(tt.path), 40)], func(t *testing.T) {
			if tt.path == "" {
				tt.path = "http://host" // the absolute form, without a path
			}
			status, body := raw(t, s, "GET "+tt.path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if status != tt.status || (status == 200 && body != tt.body) {
				t.Errorf("%d %q, want %d %q", status, body, tt.status, tt.body)
			}
			if strings.Contains(body, "secret") || strings.Contains(body, os.TempDir()) {
				t.Errorf("answer gives something away: %q", body)
			}
			got := l.take(t)
			if got.Status != tt.status || got.Bytes != int64(len(body)) || len(got.Path) > maxLoggedPath {
				t.Errorf("log: %+v for an answer of %d bytes", got, len(body))
			}
		})
	}
}

func TestMethodsAndRanges(t *testing.T) {
	var l log
	s := serve(t, Options{Dir: folder(t), Log: l.add})
	tests := []struct {
		name, method string
		header       http.Header
		status       int
		body, length string
	}{
		{"get", "GET", nil, 200, "0123456789", "10"},
		{"head", "HEAD", nil, 200, "", "10"},
		{"range", "GET", http.Header{"Range": {"bytes=2-4"}}, 206, "234", "3"},
		{"resume", "GET", http.Header{"Range": {"bytes=7-"}}, 206, "789", "3"},
		{"last bytes", "GET", http.Header{"Range": {"bytes=-2"}}, 206, "89", "2"},
		{"behind the end", "GET", http.Header{"Range": {"bytes=10-"}}, 416, "invalid range: failed to overlap\n", "33"},
		{"resume of another file", "GET",
			http.Header{"Range": {"bytes=7-"}, "If-Range": {time.Unix(1, 0).UTC().Format(http.TimeFormat)}}, 200,
			"0123456789", "10"},
		{"post", "POST", nil, 405, "only GET and HEAD\n", "18"},
		{"delete", "DELETE", nil, 405, "only GET and HEAD\n", "18"},
		{"unknown", "BREW", nil, 405, "only GET and HEAD\n", "18"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, s.URL()+"/a.tar.gz", nil)
			if err != nil {
				t.Fatal(err)
			}
			for key, values := range tt.header {
				req.Header[key] = values
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || string(body) != tt.body || resp.Header.Get("Content-Length") != tt.length {
				t.Errorf("%d %q, length %s; want %d %q, length %s", resp.StatusCode, body,
					resp.Header.Get("Content-Length"), tt.status, tt.body, tt.length)
			}
			if tt.status < 300 && resp.Header.Get("Content-Type") != "application/octet-stream" {
				t.Errorf("content type %q", resp.Header.Get("Content-Type"))
			}
			if tt.status == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", resp.Header.Get("Allow"))
			}
			want := Request{Method: tt.method, Path: "/a.tar.gz", Status: tt.status, Bytes: int64(len(tt.body))}
			if diff := cmp.Diff(want, l.take(t)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLargeFile(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("kindling"), 1<<19) // 4 MiB
	if err := os.WriteFile(filepath.Join(dir, "big"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	var l log
	s := serve(t, Options{Dir: dir, Log: l.add})
	resp, err := http.Get(s.URL() + "/big")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r := l.take(t); r.Bytes != int64(len(data)) {
		t.Errorf("log: %+v", r)
	}
}

func TestEndFreesThePort(t *testing.T) {
	dir := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Serve(ctx, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if host, port, err := net.SplitHostPort(s.Addr()); err != nil || host != "127.0.0.1" || port != fmt.Sprint(s.Port()) {
		t.Errorf("address %s, port %d", s.Addr(), s.Port())
	}
	select {
	case <-s.Done():
		t.Fatal("done before its context")
	default:
	}
	_, err = Serve(t.Context(), Options{Dir: dir, Addr: s.Addr()})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second server on %s: %v", s.Addr(), err)
	}
	cancel()
	if err := s.Wait(); err != nil {
		t.Errorf("end: %v", err)
	}
	again := serve(t, Options{Dir: dir, Addr: s.Addr()})
	if status, _ := raw(t, again, "GET /a.tar.gz HTTP/1.0\r\n\r\n"); status != 200 {
		t.Errorf("second server on the same port: %d", status)
	}
}

// A client that never reads on must not keep the server from ending.
func TestEndCutsRunningDownloads(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "big")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 1<<30); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Serve(ctx, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(s.URL() + "/big")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	select {
	case <-s.Done():
	case <-time.After(drainTimeout + 10*time.Second):
		t.Fatal("server does not end")
	}
	if err := s.Wait(); err != nil {
		t.Errorf("end: %v", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the download of 1 GiB came to its end")
	}
}

func TestServeErrors(t *testing.T) {
	dir := folder(t)
	if _, err := Serve(t.Context(), Options{Dir: filepath.Join(dir, "missing")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := Serve(t.Context(), Options{Dir: filepath.Join(dir, "a.tar.gz")}); err == nil {
		t.Error("a file is served as a folder")
	}
	if _, err := Serve(t.Context(), Options{Dir: dir, Addr: "127.0.0.1:nonsense"}); err == nil {
		t.Error("listens on a nonsense address")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Serve(cancelled, Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before the start: %v", err)
	}
}

func FuzzFileName(f *testing.F) {
	for _, seed := range []string{"/a", "/sub/b.tar.gz"} {
		if _, ok := fileName(seed); !ok {
			f.Fatalf("seed %q refused", seed)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, urlPath string) {
		name, ok := fileName(urlPath)
		if ok && (!filepath.IsLocal(name) || "/"+name != urlPath) {
			t.Errorf("%q became %q", urlPath, name)
		}
	})
}
