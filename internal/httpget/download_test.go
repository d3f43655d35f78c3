// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package httpget

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sumOf(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// requests notes the range of each request that a server gets.
type requests struct {
	mu     sync.Mutex
	ranges []string
}

// of wraps a handler.
func (q *requests) of(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		q.ranges = append(q.ranges, r.Header.Get("Range"))
		q.mu.Unlock()
		h(w, r)
	}
}

// list returns the ranges so far, in order.
func (q *requests) list() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.ranges)
}

// cutAfter serves the file, ranges included, but never more than n bytes of it at a time.
func cutAfter(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var from int
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(content[from:min(from+n, len(content))])
	}
}

// state is what Download left behind.
type state struct {
	File string // "" missing, "right", or its size
	Part string // "" missing, or its size
}

func stateOf(t *testing.T, dst string) state {
	t.Helper()
	var s state
	if got, err := os.ReadFile(dst); err == nil {
		s.File = fmt.Sprint(len(got))
		if bytes.Equal(got, content) {
			s.File = "right"
		}
	}
	if info, err := os.Stat(dst + partSuffix); err == nil {
		s.Part = fmt.Sprint(info.Size())
	}
	entries, err := os.ReadDir(filepath.Dir(dst))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "file" && e.Name() != "file"+partSuffix {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	return s
}

func TestDownload(t *testing.T) {
	wrong := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>login</html>") }
	flipped := bytes.Clone(content)
	flipped[1000] ^= 1
	tests := []struct {
		name     string
		handlers []http.HandlerFunc
		part     []byte // there before
		file     []byte // there before
		want     state
		ranges   []string // of all requests, in order
		errs     []error  // wrapped by the error; none means success
	}{
		{name: "plain", handlers: []http.HandlerFunc{serveFile}, want: state{File: "right"}, ranges: []string{""}},
		{name: "there already", file: content, handlers: []http.HandlerFunc{serveFile}, want: state{File: "right"}},
		{name: "wrong file there", file: flipped, handlers: []http.HandlerFunc{serveFile}, want: state{File: "right"},
			ranges: []string{""}},
		{name: "wrong file there, no server", file: flipped, handlers: []http.HandlerFunc{http.NotFound},
			ranges: []string{""}, errs: []error{&StatusError{Code: 404, Reason: "Not Found"}}},
		{name: "resumed", part: content[:5000], handlers: []http.HandlerFunc{serveFile}, want: state{File: "right"},
			ranges: []string{"bytes=5000-"}},
		{name: "complete part", part: content, handlers: []http.HandlerFunc{serveFile}, want: state{File: "right"}},
		{name: "no resume on the server", part: content[:5000],
			handlers: []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }},
			want:     state{File: "right"}, ranges: []string{"bytes=5000-"}},
		{name: "wrong part", part: flipped[:5000], handlers: []http.HandlerFunc{serveFile}, want: state{File: "right"},
			ranges: []string{"bytes=5000-", ""}},
		{name: "part longer than the file", part: append(bytes.Clone(content), 'x'),
			handlers: []http.HandlerFunc{serveFile}, want: state{File: "right"},
			ranges: []string{fmt.Sprintf("bytes=%d-", len(content)+1), ""}},
		{name: "404, wrong bytes, then right", handlers: []http.HandlerFunc{http.NotFound, wrong, serveFile},
			want: state{File: "right"}, ranges: []string{"", "", ""}},
		{name: "cut, goes on at the next", handlers: []http.HandlerFunc{cutThenGone(), serveFile},
			want: state{File: "right"}, ranges: []string{"", "bytes=4096-", "bytes=4096-"}},
		{name: "cut, then 400", handlers: []http.HandlerFunc{cutThen(http.StatusBadRequest)}, want: state{File: "right"},
			ranges: []string{"", "bytes=4096-", ""}},
		{name: "cut, then 416", handlers: []http.HandlerFunc{cutThen(http.StatusRequestedRangeNotSatisfiable)},
			want: state{File: "right"}, ranges: []string{"", "bytes=4096-", ""}},
		{name: "cut, then 501", handlers: []http.HandlerFunc{cutThen(http.StatusNotImplemented)}, want: state{File: "right"},
			ranges: []string{"", "bytes=4096-", ""}},
		{name: "cut, then another range", handlers: []http.HandlerFunc{cutThen(http.StatusPartialContent)},
			want: state{File: "right"}, ranges: []string{"", "bytes=4096-", ""}},
		{name: "an earlier part, then 501", part: content[:5000], handlers: []http.HandlerFunc{cutThen(http.StatusNotImplemented)},
			want: state{File: "right"}, ranges: []string{"bytes=5000-", ""}},
		{name: "cut and 400 for ever", handlers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			cutAfter(4096)(w, r)
		}}, want: state{Part: "4096"}, ranges: []string{"", "bytes=4096-", "", "bytes=4096-"},
			errs: []error{&StatusError{Code: 400, Reason: "Bad Request"}}},
		{name: "cut again and again", handlers: []http.HandlerFunc{cutAfter(100 << 10)},
			want:   state{File: "right"},
			ranges: []string{"", "bytes=102400-", "bytes=204800-", "bytes=307200-"}[:(len(content)+102399)/102400]},
		{name: "cut for ever", handlers: []http.HandlerFunc{cutAfter(1000)}, want: state{Part: "4000"},
			ranges: []string{"", "bytes=1000-", "bytes=2000-", "bytes=3000-"}, errs: []error{io.ErrUnexpectedEOF}},
		{name: "nothing but wrong", handlers: []http.HandlerFunc{wrong, http.NotFound}, ranges: []string{"", ""},
			errs: []error{ErrChecksum, &StatusError{Code: 404, Reason: "Not Found"}}},
		{name: "to https", handlers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.org/file", http.StatusFound)
		}}, ranges: []string{""}, errs: []error{ErrNeedsTLS}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "file")
			writeIf(t, dst+partSuffix, tt.part)
			writeIf(t, dst, tt.file)
			var seen requests
			var urls []string
			for _, h := range tt.handlers {
				urls = append(urls, newServer(t, seen.of(h)).URL+"/file")
			}
			err := Download(t.Context(), urls, dst, sumOf(content), DownloadOptions{Options: quick()})
			checkCauses(t, err, tt.errs, urls)
			if diff := cmp.Diff(tt.want, stateOf(t, dst)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.ranges, seen.list()); diff != "" {
				t.Errorf("ranges of the requests (-want +got):\n%s", diff)
			}
		})
	}
}

// cutThenGone sends the start of the file once, and nothing afterwards.
func cutThenGone() http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			http.NotFound(w, r)
			return
		}
		cutAfter(4096)(w, r)
	}
}

// cutThen answers the first request with the start of the file, refuses ranges with a status, and sends the whole file to
// a later request for it.
func cutThen(status int) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		first := n.Add(1) == 1
		switch {
		case r.Header.Get("Range") != "":
			w.WriteHeader(status) // 206 without a Content-Range
		case first:
			cutAfter(4096)(w, r)
		default:
			_, _ = w.Write(content)
		}
	}
}

func writeIf(t *testing.T, name string, data []byte) {
	t.Helper()
	if data == nil {
		return
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkCauses compares an error of Download with the causes it is to have, one for each address.
func checkCauses(t *testing.T, err error, want []error, urls []string) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Errorf("got error %v, want none", err)
		}
		return
	}
	var failed *DownloadError
	if !errors.As(err, &failed) || len(failed.Causes) != len(want) {
		t.Fatalf("got error %v, want a *DownloadError with %d causes", err, len(want))
	}
	checkOneLine(t, err)
	for i, cause := range failed.Causes {
		var got, wanted *StatusError
		if errors.As(want[i], &wanted) && errors.As(cause, &got) && *got == *wanted {
			continue
		}
		if !errors.Is(cause, want[i]) {
			t.Errorf("cause %d: got %v, want %v", i, cause, want[i])
		}
		if !errors.Is(err, want[i]) {
			t.Errorf("errors.Is does not find %v", want[i])
		}
	}
	for _, u := range urls {
		if !strings.Contains(err.Error(), u) {
			t.Errorf("message %q does not name %s", err, u)
		}
	}
}

func TestDownloadSurvivesStalls(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "file")
	urls := []string{
		rawServer(t, "", true),
		rawServer(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(content), content[:999]), true),
		newServer(t, serveFile).URL,
	}
	var done int64
	opt := DownloadOptions{Options: quick(), Progress: func(u string, d, total int64) {
		done = d
		if total != int64(len(content)) {
			t.Errorf("%s: total %d, want %d", u, total, len(content))
		}
	}}
	if err := Download(t.Context(), urls, dst, strings.ToUpper(sumOf(content)), opt); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state{File: "right"}, stateOf(t, dst)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if done != int64(len(content)) {
		t.Errorf("last progress: %d bytes, want %d", done, len(content))
	}
}

func TestDownloadEndsWithContext(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "file")
	slow := rawServer(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nabc", len(content)), true)
	var seen requests
	next := newServer(t, seen.of(serveFile)).URL
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := Download(ctx, []string{slow, next}, dst, sumOf(content), DownloadOptions{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
	if len(seen.list()) > 0 {
		t.Errorf("the next address was asked after the end")
	}
	if diff := cmp.Diff(state{Part: "3"}, stateOf(t, dst)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := Download(ctx, []string{next}, dst, sumOf(content), DownloadOptions{}); !errors.Is(err, ctx.Err()) {
		t.Errorf("again: got error %v, want %v", err, ctx.Err())
	}
}

func TestDownloadTooLarge(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "file")
	endless := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(content[:4096]); err != nil {
				return
			}
		}
	})
	opt := DownloadOptions{Options: quick()}
	opt.MaxSize = int64(len(content))
	err := Download(t.Context(), []string{endless.URL, newServer(t, serveFile).URL}, dst, sumOf(content), opt)
	if err != nil {
		t.Errorf("with a good second address: %v", err)
	}
	if diff := cmp.Diff(state{File: "right"}, stateOf(t, dst)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestDownloadLocalFaults(t *testing.T) {
	u := newServer(t, serveFile).URL
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "file"), filepath.Join(dir, "link.part")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.part"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dst, sum string
		urls           []string
		text           string
	}{
		{"no such directory", filepath.Join(dir, "x", "file"), sumOf(content), []string{u}, "no such file"},
		{"directory in its place", filepath.Join(dir, "dir"), sumOf(content), []string{u}, "not a regular file"},
		{"link in the part's place", filepath.Join(dir, "link"), sumOf(content), []string{u}, "symbolic link"},
		{"named pipe in the part's place", filepath.Join(dir, "pipe"), sumOf(content), []string{u}, "not a regular file"},
		{"short sum", filepath.Join(dir, "file"), "abcd", []string{u}, "want 64 hexadecimal digits"},
		{"sum that is none", filepath.Join(dir, "file"), strings.Repeat("x", 64), []string{u}, "hexadecimal"},
		{"no address", filepath.Join(dir, "file"), sumOf(content), nil, "no address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Download(t.Context(), tt.urls, tt.dst, tt.sum, DownloadOptions{Options: quick()})
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got error %v, want one with %q", err, tt.text)
			}
			if !strings.Contains(fmt.Sprint(err), filepath.Base(tt.dst)) {
				t.Errorf("error %v does not name the file", err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "file")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("left behind: %v", err)
			}
		})
	}
}

// TestDownloadWriteFails makes sure that trouble on this side ends a download at once.
func TestDownloadWriteFails(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "file")
	var seen requests
	u := newServer(t, seen.of(serveFile)).URL
	d := &download{dst: dst, want: sumOf(content), opt: DownloadOptions{Options: quick().withDefaults()}}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	if err := d.part.Close(); err != nil { // every write fails from here on
		t.Fatal(err)
	}
	err := d.fromAny(t.Context(), []string{u, u})
	if !errors.Is(err, fs.ErrClosed) {
		t.Errorf("got error %v, want %v", err, fs.ErrClosed)
	}
	if n := len(seen.list()); n != 1 {
		t.Errorf("%d requests, want 1: no other address can make it good", n)
	}
}

func TestDownloadEmptyFile(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "file")
	u := newServer(t, func(http.ResponseWriter, *http.Request) {}).URL
	if err := Download(t.Context(), []string{u}, dst, sumOf(nil), DownloadOptions{Options: quick()}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state{File: "0"}, stateOf(t, dst)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestDownloadSecure has an address that needs https, directly or by a redirect, and somebody who can get it.
func TestDownloadSecure(t *testing.T) {
	other := bytes.Repeat([]byte("x"), len(content))
	plain := httptest.NewServer(http.RedirectHandler("https://secure.example/file", http.StatusFound))
	defer plain.Close()
	tests := []struct {
		name   string
		url    string
		secure func(ctx context.Context, rawURL, path string) error
		part   []byte // what an earlier call has left
		want   error
		state  state
	}{
		{"right", "https://secure.example/file", giving(content), nil, nil, state{File: "right"}},
		{"behind a redirect", plain.URL, giving(content), nil, nil, state{File: "right"}},
		{"over an older part", "https://secure.example/file", giving(content), other[:100], nil, state{File: "right"}},
		{"wrong bytes", "https://secure.example/file", giving(other), nil, ErrChecksum, state{}},
		{"too many bytes", "https://secure.example/file", giving(append(other, other...)), nil, ErrTooLarge, state{}},
		{"half of it, and a failure", "https://secure.example/file", func(_ context.Context, _, path string) error {
			return errors.Join(os.WriteFile(path, content[:100], 0o600), io.ErrUnexpectedEOF)
		}, nil, io.ErrUnexpectedEOF, state{}},
		{"nobody who can", "https://secure.example/file", nil, nil, ErrNeedsTLS, state{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "file")
			if tt.part != nil {
				writeIf(t, dst+partSuffix, tt.part)
			}
			opt := DownloadOptions{Options: Options{MaxSize: int64(len(content)) + 10}, Secure: tt.secure}
			err := Download(t.Context(), []string{tt.url}, dst, sumOf(content), opt)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if d := cmp.Diff(tt.state, stateOf(t, dst)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func giving(data []byte) func(context.Context, string, string) error {
	return func(_ context.Context, _, path string) error { return os.WriteFile(path, data, 0o600) }
}

func TestMayPass(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	tests := []struct {
		causes []error
		want   bool
	}{
		{nil, false},
		{[]error{refused}, true},
		{[]error{&StatusError{Code: 404}, refused}, true},
		{[]error{&StatusError{Code: 404}, &StatusError{Code: 410}, &StatusError{Code: 403}}, false},
		{[]error{&StatusError{Code: 503}}, true},
		{[]error{&StatusError{Code: 429}}, true},
		{[]error{ErrStalled}, true},
		{[]error{io.ErrUnexpectedEOF}, true},
		{[]error{fmt.Errorf("get: %w", ErrChecksum), ErrNeedsTLS, ErrAddress, ErrProtocol, ErrRedirects, ErrTooLarge}, false},
		{[]error{fmt.Errorf("curl: %w", ErrFinal)}, false},
		{[]error{context.Canceled}, false},
		{[]error{&net.DNSError{Err: "no such host", IsNotFound: true}}, false},
		{[]error{&net.DNSError{Err: "server misbehaving", IsTemporary: true}}, true},
	}
	for _, tt := range tests {
		if got := MayPass(fmt.Errorf("step: %w", &DownloadError{Name: "x", Causes: tt.causes})); got != tt.want {
			t.Errorf("%v: got %t", tt.causes, got)
		}
	}
	if MayPass(errors.New("disk full")) {
		t.Error("a failure on this side passes")
	}
}
