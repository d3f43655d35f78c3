// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kindling/steps"
)

func sumOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// quick are limits for tests: no long waits, and a stall that a loaded machine does not reach by itself.
func quick() Limits {
	return Limits{Stall: 20 * time.Second, Backoff: time.Millisecond, Poll: 5 * time.Millisecond}
}

// big is data that does not fit into one buffer and differs everywhere.
func big() string {
	var b strings.Builder
	for i := 0; b.Len() < 600<<10; i++ {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.String()
}

// server serves a function for each path, and notes what was asked for.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // "PATH RANGE"
}

func serve(t *testing.T, paths map[string]http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
		s.mu.Unlock()
		if h := paths[r.URL.Path]; h != nil {
			h(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// asked are the requests so far.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.requests...)
}

// content answers like an ordinary server: whole files and ranges.
func content(data string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(data))
	}
}

// whole answers with the whole file, whatever range was asked for.
func whole(data string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, data) }
}

// cut promises data and ends the connection after n bytes of what was asked for.
func cut(data string, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := 0
		if text := r.Header.Get("Range"); text != "" {
			_, _ = fmt.Sscanf(text, "bytes=%d-", &start)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(data)-1, len(data)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)-start))
		if start > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = io.WriteString(w, data[start:min(start+n, len(data))])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// cutThen ends the first connection after n bytes, refuses ranges with a status, and sends the whole file to a later
// request for it.
func cutThen(data string, n, code int) http.HandlerFunc {
	var asked atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		first := asked.Add(1) == 1
		switch {
		case r.Header.Get("Range") != "":
			w.WriteHeader(code) // 206 without a Content-Range
		case first:
			cut(data, n)(w, r)
		default:
			whole(data)(w, r)
		}
	}
}

// stall sends n bytes and then nothing until the client goes.
func stall(data string, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = io.WriteString(w, data[:n])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// deadAddress is one that refuses connections.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// contents are the files of a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			data = []byte(err.Error())
		}
		files[e.Name()] = string(data)
	}
	return files
}

func write(t *testing.T, dir, name, data string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFetchOne has one file and one way in which servers behave in each case.
func TestFetchOne(t *testing.T) {
	data := big()
	half := len(data) / 2
	wrong := strings.Repeat("x", len(data))
	const name = "a+b.tar.gz"
	w := Want{Name: name, SHA256: sumOf(data)}
	part := partName(w)
	right := map[string]string{name: data}
	cutOnce := []string{"/m/" + name, fmt.Sprintf("/m/%s bytes=%d-", name, half), "/m/" + name}
	tests := []struct {
		name   string
		mirror http.HandlerFunc // of the mirror, at /m/NAME
		origin http.HandlerFunc // at /o; nil is no origin
		before map[string]string
		limits func(*Limits)
		status Status
		after  map[string]string // files in the folder
		asked  []string          // nil is not compared
		causes []string          // a part of each attempt's cause
	}{
		{name: "mirror", mirror: content(data), origin: content(wrong), status: Fetched, after: right,
			asked: []string{"/m/" + name}},
		{name: "404 then origin", origin: content(data), status: Fetched, after: right,
			asked: []string{"/m/" + name, "/o"}, causes: []string{"HTTP status 404 Not Found"}},
		{name: "nowhere", status: Missing, after: map[string]string{}, asked: []string{"/m/" + name},
			causes: []string{"HTTP status 404 Not Found"}},
		{name: "there", before: right, status: Present, after: right, asked: []string{}},
		{name: "wrong bytes", mirror: content(wrong), status: Missing, after: map[string]string{},
			asked: []string{"/m/" + name}, causes: []string{"has sha256 " + sumOf(wrong)}},
		{name: "wrong bytes then origin", mirror: content(wrong), origin: content(data), status: Fetched, after: right,
			asked: []string{"/m/" + name, "/o"}, causes: []string{"has sha256 "}},
		{name: "wrong file replaced", mirror: content(data), before: map[string]string{name: "old"}, status: Replaced,
			after: right},
		{name: "wrong file set aside", before: map[string]string{name: "old"}, status: Wrong,
			after: map[string]string{name + ".wrong": "old"}, causes: []string{"404", "has sha256 " + sumOf("old")}},
		{name: "wrong file set aside twice", before: map[string]string{name: "new", name + ".wrong": "old"}, status: Wrong,
			after: map[string]string{name + ".wrong": "old", name + ".wrong.1": "new"}, causes: []string{"404", "has"}},
		{name: "resumed", mirror: content(data), before: map[string]string{part: data[:half]}, status: Fetched,
			after: right, asked: []string{fmt.Sprintf("/m/%s bytes=%d-", name, half)}},
		{name: "resumed without ranges", mirror: whole(data), before: map[string]string{part: data[:half]},
			status: Fetched, after: right, asked: []string{fmt.Sprintf("/m/%s bytes=%d-", name, half)}},
		{name: "resumed wrong bytes", mirror: content(data), before: map[string]string{part: wrong[:half]},
			status: Fetched, after: right, asked: []string{fmt.Sprintf("/m/%s bytes=%d-", name, half), "/m/" + name}},
		{name: "part is complete", before: map[string]string{part: data}, status: Fetched, after: right, asked: []string{}},
		{name: "part is too long", mirror: content(data), before: map[string]string{part: data + "more"},
			status: Fetched, after: right,
			asked: []string{fmt.Sprintf("/m/%s bytes=%d-", name, len(data)+4), "/m/" + name}},
		{name: "part of another version", mirror: content(data), before: map[string]string{name + ".0123456789ab.part": wrong},
			status: Fetched, after: map[string]string{name: data, name + ".0123456789ab.part": wrong}, asked: []string{"/m/" + name}},
		{name: "answers with another range", mirror: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 0-9/10")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, "0123456789")
				return
			}
			whole(data)(w, r)
		}, before: map[string]string{part: data[:half]}, status: Fetched, after: right},
		{name: "range not asked for", mirror: status(http.StatusPartialContent), status: Missing,
			after: map[string]string{}, causes: []string{"HTTP status 206"}},
		{name: "cut again and again", mirror: cut(data, len(data)/5+1), status: Fetched, after: right,
			asked: nil},
		{name: "cut, then 400", mirror: cutThen(data, half, http.StatusBadRequest), status: Fetched, after: right, asked: cutOnce},
		{name: "cut, then 416", mirror: cutThen(data, half, http.StatusRequestedRangeNotSatisfiable), status: Fetched,
			after: right, asked: cutOnce},
		{name: "cut, then 501", mirror: cutThen(data, half, http.StatusNotImplemented), status: Fetched, after: right,
			asked: cutOnce},
		{name: "cut, then another range", mirror: cutThen(data, half, http.StatusPartialContent), status: Fetched, after: right,
			asked: cutOnce},
		{name: "cut and 400 for ever", mirror: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			cut(data, half)(w, r)
		}, status: Missing, after: map[string]string{}, asked: append(cutOnce, cutOnce[1]),
			causes: []string{"HTTP status 400 Bad Request for the rest of the file"}},
		{name: "cut at once", mirror: cut(data, 0), origin: content(data), status: Fetched, after: right,
			causes: []string{"the connection ended after 0 bytes"}},
		{name: "cut for ever", mirror: cut(data, 1000), status: Missing, after: map[string]string{part: data[:20*1000]},
			limits: func(l *Limits) { l.Rounds = 1 }, causes: []string{"the connection ended after 20000 bytes"}},
		{name: "stalled", mirror: stall(data, half), origin: content(data), status: Fetched, after: right,
			limits: func(l *Limits) { l.Stall = time.Second; l.Rounds = 1 },
			causes: []string{"less than 1 KiB arrived for 1s"}},
		{name: "never answers", mirror: stall(data, 0), origin: content(data), status: Fetched, after: right,
			limits: func(l *Limits) { l.Stall = time.Second; l.Rounds = 1 },
			causes: []string{"less than 1 KiB arrived"}},
		{name: "redirected", mirror: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/o", http.StatusFound) },
			origin: content(data), status: Fetched, after: right, asked: []string{"/m/" + name, "/o"}},
		{name: "redirect loop", mirror: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
			origin: content(data), status: Fetched, after: right,
			causes: []string{"redirect refused: more than 10 of them"}},
		{name: "redirect to a file", mirror: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, origin: content(data), status: Fetched, after: right, causes: []string{"redirect refused: to file:///etc/passwd"}},
		{name: "too big", mirror: content(data), status: Missing, after: map[string]string{},
			limits: func(l *Limits) { l.MaxSize = 1000 }, causes: []string{"at most 1000 are allowed"}},
		{name: "too big without a length", mirror: func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, data)
		}, status: Missing, after: map[string]string{}, limits: func(l *Limits) { l.MaxSize = 1000 },
			causes: []string{"does not end after 1000 bytes"}},
		{name: "503 that passes", mirror: func() http.HandlerFunc {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) == 1 {
					status(http.StatusServiceUnavailable)(w, r)
					return
				}
				content(data)(w, r)
			}
		}(), status: Fetched, after: right, asked: []string{"/m/" + name, "/m/" + name}, causes: []string{"HTTP status 503"}},
		{name: "hostile header", mirror: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "gopher://\x1b[31m/"+strings.Repeat("y", 5000))
			w.WriteHeader(http.StatusFound)
		}, status: Missing, after: map[string]string{}, causes: []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			paths := map[string]http.HandlerFunc{"/m/" + name: tt.mirror, "/o": tt.origin}
			s := serve(t, paths)
			dir := t.TempDir()
			for file, data := range tt.before {
				write(t, dir, file, data)
			}
			want := w
			if tt.origin != nil {
				want.Origins = []string{"_", s.URL + "/o"}
			}
			limits := quick()
			if tt.limits != nil {
				tt.limits(&limits)
			}
			report, err := Fetch(t.Context(), []Want{want}, Options{Dir: dir, Mirrors: []string{s.URL + "/m"}, Limits: limits})
			if errors.Is(err, ErrIncomplete) == tt.status.Good() || (err != nil && !errors.Is(err, ErrIncomplete)) {
				t.Errorf("error %v", err)
			}
			got := report.Files[0]
			if got.Status != tt.status {
				t.Errorf("status %s, want %s: %+v", got.Status, tt.status, got.Attempts)
			}
			if diff := cmp.Diff(tt.after, contents(t, dir)); diff != "" {
				t.Errorf("folder (-want +got):\n%.2000s", diff)
			}
			if tt.asked != nil {
				if diff := cmp.Diff(tt.asked, s.asked()); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
			}
			checkCauses(t, tt.causes, got.Attempts)
		})
	}
}

func checkCauses(t *testing.T, want []string, got []Attempt) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("attempts %+v, want %d of them", got, len(want))
	}
	for i, part := range want {
		text := got[i].Cause
		if !strings.Contains(text, part) || strings.ContainsAny(text, "\x1b\n") || len(text) > maxCause+3 || text == "" {
			t.Errorf("cause %q of %s, want one clean line with %q", text, got[i].Address, part)
		}
	}
}

// TestDeadMirror has a mirror that refuses connections: it costs a failure or two, and comes last from then on.
func TestDeadMirror(t *testing.T) {
	paths := map[string]http.HandlerFunc{}
	var wants []Want
	for i := range 20 {
		data := fmt.Sprint("data ", i)
		paths[fmt.Sprintf("/f%d", i)] = content(data)
		wants = append(wants, Want{Name: fmt.Sprintf("f%d", i), SHA256: sumOf(data)})
	}
	s := serve(t, paths)
	dead := deadAddress(t)
	dir := t.TempDir()
	var gaveUp atomic.Int32
	report, err := Fetch(t.Context(), wants, Options{
		Dir: dir, Mirrors: []string{dead, s.URL}, Jobs: 1, Limits: quick(), Report: func(u Update) {
			if u.Kind == GaveUp {
				gaveUp.Add(1)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := gaveUp.Load(); n != demotedAfter {
		t.Errorf("the dead mirror was tried %d times, want %d", n, demotedAfter)
	}
	for i, f := range report.Files {
		if f.Status != Fetched || f.Name != wants[i].Name || f.From != s.URL+"/"+f.Name || f.Received != f.Size {
			t.Errorf("result %d: %+v", i, f)
		}
	}
	if len(contents(t, dir)) != len(wants) {
		t.Errorf("folder: %v", contents(t, dir))
	}
}

// TestAllCauses wants every address in the list of what could not be had.
func TestAllCauses(t *testing.T) {
	s := serve(t, nil)
	dead := deadAddress(t)
	none := filepath.Join(t.TempDir(), "none")
	want := Want{Name: "x", SHA256: sumOf("x"), Origins: []string{"_", "ftp://example.invalid/x", "http://[bad", s.URL + "/o"}}
	report, err := Fetch(t.Context(), []Want{want}, Options{
		Dir: t.TempDir(), Mirrors: []string{dead, s.URL + "/m", "file://" + none}, Limits: quick(),
	})
	if !errors.Is(err, ErrIncomplete) || err.Error() != "1 of 1 distfiles are missing or wrong" {
		t.Errorf("error %v", err)
	}
	got := map[string]string{}
	for _, a := range report.Files[0].Attempts {
		got[a.Address] = a.Cause
	}
	refused := strings.TrimPrefix(dead, "http://")
	if diff := cmp.Diff(map[string]string{
		"ftp://example.invalid/x": "only http:// and https:// origins can be downloaded", "http://[bad": "is no address",
		dead + "/x":    "dial tcp " + refused + ": connect: connection refused",
		s.URL + "/m/x": "HTTP status 404 Not Found", s.URL + "/o": "HTTP status 404 Not Found",
		"file://" + none + "/x": "open: no such file or directory",
	}, got); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestNoAddress(t *testing.T) {
	report, err := Fetch(t.Context(), []Want{{Name: "x", SHA256: sumOf("x"), Origins: []string{"_"}}},
		Options{Dir: t.TempDir(), Limits: quick()})
	if !errors.Is(err, ErrIncomplete) {
		t.Errorf("error %v", err)
	}
	checkCauses(t, []string{"only mirrors have it, and no mirror was given"}, report.Files[0].Attempts)
}

func TestFileMirror(t *testing.T) {
	data := big()
	mirror, dir := filepath.Join(t.TempDir(), "with space%"), t.TempDir()
	if err := os.Mkdir(mirror, 0o755); err != nil {
		t.Fatal(err)
	}
	wants := []Want{{Name: "a%41", SHA256: sumOf(data)}, {Name: "b", SHA256: sumOf("b")}, {Name: "dir", SHA256: sumOf("c")},
		{Name: "none", SHA256: sumOf("d")}, {Name: "empty", SHA256: sumOf("")}}
	write(t, mirror, "a%41", data)
	write(t, mirror, "b", "B")
	write(t, mirror, "empty", "")
	write(t, dir, partName(wants[0]), data[:1000])
	write(t, dir, partName(wants[1]), "longer than the mirror's")
	if err := os.Mkdir(filepath.Join(mirror, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "file", Path: mirror}).String()
	report, err := Fetch(t.Context(), wants, Options{Dir: dir, Mirrors: []string{address}, Limits: quick()})
	if !errors.Is(err, ErrIncomplete) {
		t.Errorf("error %v", err)
	}
	for i, want := range []Status{Fetched, Missing, Missing, Missing, Fetched} {
		if got := report.Files[i]; got.Status != want {
			t.Errorf("%s: %s, want %s: %+v", got.Name, got.Status, want, got.Attempts)
		}
	}
	if got := report.Files[0].Received; got != int64(len(data)-1000) {
		t.Errorf("%d bytes were copied of a file that was resumed", got)
	}
	if diff := cmp.Diff(map[string]string{"a%41": data, "empty": ""}, contents(t, dir)); diff != "" {
		t.Errorf("folder (-want +got):\n%.1000s", diff)
	}
}

// TestHTTPS downloads over TLS from a server whose certificate the client knows, and from one whose it does not.
func TestHTTPS(t *testing.T) {
	s := httptest.NewUnstartedServer(content("data"))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	client := NewClient()
	client.Transport = s.Client().Transport
	want := []Want{{Name: "x", SHA256: sumOf("data")}}
	opt := Options{Dir: t.TempDir(), Mirrors: []string{s.URL}, Limits: quick(), Client: client}
	if _, err := Fetch(t.Context(), want, opt); err != nil {
		t.Error(err)
	}
	opt.Dir, opt.Client = t.TempDir(), nil
	report, err := Fetch(t.Context(), want, opt)
	if !errors.Is(err, ErrIncomplete) {
		t.Errorf("error %v", err)
	}
	checkCauses(t, []string{"certificate"}, report.Files[0].Attempts)
}

// TestInterrupted ends a run in the middle of a file, and finishes it with another.
func TestInterrupted(t *testing.T) {
	data := big()
	half := len(data) / 2
	s := serve(t, map[string]http.HandlerFunc{"/x": stall(data, half)})
	dir := t.TempDir()
	wants := []Want{{Name: "x", SHA256: sumOf(data)}, {Name: "y", SHA256: sumOf("y")}}
	write(t, dir, "y", "wrong, and left alone")
	ctx, cancel := context.WithCancel(t.Context())
	report, err := Fetch(ctx, wants, Options{Dir: dir, Mirrors: []string{s.URL}, Jobs: 1, Report: func(u Update) {
		if u.Kind == Received && u.Done == int64(half) {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || report.Count(Skipped) != 2 {
		t.Errorf("%v, %+v", err, report)
	}
	left := map[string]string{partName(wants[0]): data[:half], "y": "wrong, and left alone"}
	if diff := cmp.Diff(left, contents(t, dir)); diff != "" {
		t.Errorf("folder (-want +got):\n%.1000s", diff)
	}
	good := serve(t, map[string]http.HandlerFunc{"/x": content(data)})
	report, err = Fetch(t.Context(), wants[:1], Options{Dir: dir, Mirrors: []string{good.URL}})
	if err != nil || report.Files[0].Received != int64(len(data)-half) {
		t.Errorf("%v, %+v", err, report)
	}

	// Ended before it began: nothing that an earlier run has left is touched.
	write(t, dir, partName(wants[1]), "part")
	if _, err := Fetch(ctx, wants, Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := contents(t, dir)[partName(wants[1])]; got != "part" {
		t.Errorf("the part is %q", got)
	}
}

// childDir and childMirror in the environment make TestChild fetch one file; the other tests start it in a process of
// its own.
const (
	childDir    = "KINDLING_TEST_CHILD_DIR"
	childMirror = "KINDLING_TEST_CHILD_MIRROR"
)

func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return // not a child
	}
	_, err := Fetch(t.Context(), []Want{{Name: "x", SHA256: sumOf(big())}},
		Options{Dir: dir, Mirrors: []string{os.Getenv(childMirror)}})
	if err != nil {
		t.Error(err)
	}
}

// child starts this test program as a process that fetches the file x.
func child(t *testing.T, dir, mirror string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childDir+"="+dir, childMirror+"="+mirror)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// waitFor waits until a file has that many bytes.
func waitFor(t *testing.T, path string, size int) {
	t.Helper()
	for range 1000 {
		if info, err := os.Stat(path); err == nil && info.Size() == int64(size) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not get %d bytes", path, size)
}

// TestKilled kills a process in the middle of a file; the lock is free, and the next run takes up what is there.
func TestKilled(t *testing.T) {
	data := big()
	half := len(data) / 2
	var first atomic.Bool
	s := serve(t, map[string]http.HandlerFunc{"/x": func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			stall(data, half)(w, r)
			return
		}
		content(data)(w, r)
	}})
	dir := t.TempDir()
	want := Want{Name: "x", SHA256: sumOf(data)}
	cmd := child(t, dir, s.URL)
	waitFor(t, filepath.Join(dir, partName(want)), half)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended well")
	}
	report, err := Fetch(t.Context(), []Want{want}, Options{Dir: dir, Mirrors: []string{s.URL}, Limits: quick()})
	if err != nil || report.Files[0].Received != int64(len(data)-half) {
		t.Errorf("%v, %+v", err, report)
	}
	if diff := cmp.Diff(map[string]string{"x": data}, contents(t, dir)); diff != "" {
		t.Errorf("folder (-want +got):\n%.1000s", diff)
	}
}

// TestTwoProcesses has another process at work on a file: this one waits, and then finds it there.
func TestTwoProcesses(t *testing.T) {
	data := big()
	half := len(data) / 2
	goOn := make(chan struct{})
	s := serve(t, map[string]http.HandlerFunc{"/x": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = io.WriteString(w, data[:half])
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = io.WriteString(w, data[half:])
	}})
	dir := t.TempDir()
	want := Want{Name: "x", SHA256: sumOf(data)}
	cmd := child(t, dir, s.URL)
	waitFor(t, filepath.Join(dir, partName(want)), half)
	var once sync.Once
	report, err := Fetch(t.Context(), []Want{want}, Options{
		Dir: dir, Mirrors: []string{s.URL}, Limits: quick(), Report: func(u Update) {
			if u.Kind == Waiting {
				once.Do(func() { close(goOn) })
			}
		},
	})
	if err != nil || report.Files[0].Status != Present || report.Files[0].Received != 0 {
		t.Errorf("%v, %+v", err, report)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"x": data}, contents(t, dir)); diff != "" {
		t.Errorf("folder (-want +got):\n%.1000s", diff)
	}
	if n := len(s.asked()); n != 1 {
		t.Errorf("%d downloads", n)
	}
}

// TestManyAtOnce lets several runs fetch the same files into one folder: each file is downloaded once.
func TestManyAtOnce(t *testing.T) {
	paths := map[string]http.HandlerFunc{}
	want := map[string]string{}
	var wants []Want
	for i := range 12 {
		name, data := fmt.Sprintf("f%d", i), fmt.Sprint(i, big())
		paths["/"+name], want[name] = content(data), data
		wants = append(wants, Want{Name: name, SHA256: sumOf(data)})
	}
	s := serve(t, paths)
	dir := t.TempDir()
	var runs sync.WaitGroup
	for range 5 {
		runs.Go(func() {
			if _, err := Fetch(t.Context(), wants, Options{Dir: dir, Mirrors: []string{s.URL}, Limits: quick()}); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	if n := len(s.asked()); n != len(wants) {
		t.Errorf("%d downloads of %d files", n, len(wants))
	}
	if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
		t.Errorf("folder (-want +got):\n%.1000s", diff)
	}
}

// TestWaitingEnds interrupts a run that waits for another.
func TestWaitingEnds(t *testing.T) {
	dir := t.TempDir()
	want := Want{Name: "x", SHA256: sumOf("x")}
	other, err := openPart(t.Context(), filepath.Join(dir, partName(want)), time.Millisecond, func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Fetch(ctx, []Want{want}, Options{Dir: dir, Report: func(u Update) {
		if u.Kind == Waiting {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := other.close(); err != nil {
		t.Error(err)
	}
	if left := contents(t, dir); len(left) != 0 {
		t.Errorf("left in the folder: %v", left)
	}
}

// TestObstacles has things in the folder that are no files.
func TestObstacles(t *testing.T) {
	s := serve(t, map[string]http.HandlerFunc{"/x": content("x"), "/y": content("y")})
	x, y := Want{Name: "x", SHA256: sumOf("x")}, Want{Name: "y", SHA256: sumOf("y")}
	opt := Options{Mirrors: []string{s.URL}, Limits: quick()}
	t.Run("folder", func(t *testing.T) {
		opt.Dir = t.TempDir()
		if err := os.MkdirAll(filepath.Join(opt.Dir, "x", "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		report, err := Fetch(t.Context(), []Want{x}, opt)
		if err != nil || report.Files[0].Status != Replaced || report.Files[0].Aside != "x.wrong" {
			t.Errorf("%v, %+v", err, report)
		}
		if _, err := os.Stat(filepath.Join(opt.Dir, "x.wrong", "sub")); err != nil {
			t.Error(err)
		}
	})
	t.Run("link", func(t *testing.T) {
		opt.Dir = t.TempDir()
		other := t.TempDir()
		write(t, other, "x", "x")
		write(t, other, "y", "not y")
		for _, name := range []string{"x", "y"} {
			if err := os.Symlink(filepath.Join(other, name), filepath.Join(opt.Dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		report, err := Fetch(t.Context(), []Want{x, y}, opt)
		if err != nil || report.Files[0].Status != Present || report.Files[1].Status != Replaced {
			t.Errorf("%v, %+v", err, report)
		}
		if diff := cmp.Diff(map[string]string{"x": "x", "y": "not y"}, contents(t, other)); diff != "" {
			t.Errorf("what the links name (-want +got):\n%s", diff)
		}
	})
	t.Run("part is a link", func(t *testing.T) {
		opt.Dir = t.TempDir()
		victim := filepath.Join(t.TempDir(), "victim")
		if err := os.Symlink(victim, filepath.Join(opt.Dir, partName(x))); err != nil {
			t.Fatal(err)
		}
		report, err := Fetch(t.Context(), []Want{x}, opt)
		if err == nil || errors.Is(err, ErrIncomplete) || report.Files[0].Status != Skipped {
			t.Errorf("%v, %+v", err, report)
		}
		if _, err := os.Stat(victim); err == nil {
			t.Error("it was written through")
		}
	})
	t.Run("full", func(t *testing.T) {
		opt.Dir = t.TempDir()
		if err := os.Symlink("/dev/full", filepath.Join(opt.Dir, partName(x))); err != nil {
			t.Fatal(err)
		}
		if _, err := Fetch(t.Context(), []Want{x, y}, opt); err == nil || !strings.Contains(err.Error(), "distfiles folder") {
			t.Errorf("error %v", err)
		}
	})
}

// TestUnreadable has files that this machine cannot read: they are neither right nor wrong, and keep their names.
func TestUnreadable(t *testing.T) {
	s := serve(t, map[string]http.HandlerFunc{"/x": content("x")})
	x := Want{Name: "x", SHA256: sumOf("x")}
	for name, tt := range map[string]struct {
		target string
		errno  syscall.Errno
	}{
		"read error":       {"/proc/self/mem", syscall.EIO},
		"a loop of links":  {"x", syscall.ELOOP},
		"a name too long":  {strings.Repeat("n", 256), syscall.ENAMETOOLONG},
		"no more files":    {"", syscall.EMFILE},
		"a file as folder": {"/proc/version/x", syscall.ENOTDIR},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.target == "" {
				write(t, dir, "x", "x")
				noMoreFiles(t)
			} else if err := os.Symlink(tt.target, filepath.Join(dir, "x")); err != nil {
				t.Fatal(err)
			}
			report, err := Verify(t.Context(), []Want{x}, dir, 0, nil)
			if !errors.Is(err, tt.errno) || errors.Is(err, ErrIncomplete) || report.Files[0].Status != Skipped {
				t.Errorf("Verify: %v, %+v", err, report.Files)
			}
			report, err = Fetch(t.Context(), []Want{x}, Options{Dir: dir, Mirrors: []string{s.URL}, Limits: quick()})
			if !errors.Is(err, tt.errno) || errors.Is(err, ErrIncomplete) || report.Files[0].Status != Skipped {
				t.Errorf("Fetch: %v, %+v", err, report.Files)
			}
			if _, err := os.Lstat(filepath.Join(dir, "x")); err != nil {
				t.Errorf("the file was moved: %v", err)
			}
		})
	}
}

// noMoreFiles makes every opening of a file fail until the test ends.
func noMoreFiles(t *testing.T) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
}

// TestLocalErrorEndsTheRun has a disk that takes nothing: no other address is asked.
func TestLocalErrorEndsTheRun(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	j := &job{fetcher: &fetcher{limits: quick().withDefaults(), client: NewClient(), health: health{failures: map[string]int{}}},
		want: Want{Name: "x", SHA256: sumOf("x")}, part: &part{file: full, hash: sha256.New()}}
	defer full.Close()
	s := serve(t, map[string]http.HandlerFunc{"/x": content("x")})
	u, err := url.Parse(s.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	failed, err := j.ask(t.Context(), address{url: u, server: s.URL})
	var folder *localError
	if failed != nil || !errors.As(err, &folder) {
		t.Errorf("failure %+v, error %v", failed, err)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "good", "good")
	write(t, dir, "bad", "bad")
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	wants := []Want{{Name: "good", SHA256: sumOf("good")}, {Name: "bad", SHA256: sumOf("b")}, {Name: "none", SHA256: sumOf("n")},
		{Name: "folder", SHA256: sumOf("f")}}
	before := contents(t, dir)
	var finished atomic.Int32
	report, err := Verify(t.Context(), wants, dir, 2, func(u Update) {
		if u.Kind == Finished {
			finished.Add(1)
		}
	})
	if !errors.Is(err, ErrIncomplete) || finished.Load() != 4 {
		t.Errorf("error %v, %d reported", err, finished.Load())
	}
	want := []Result{
		{Name: "good", SHA256: sumOf("good"), Status: Present, Size: 4},
		{Name: "bad", SHA256: sumOf("b"), Status: Wrong, Size: 3, Attempts: []Attempt{{"bad", wrongSum(sumOf("bad"), sumOf("b"), 3)}}},
		{Name: "none", SHA256: sumOf("n"), Status: Missing},
		{Name: "folder", SHA256: sumOf("f"), Status: Wrong, Attempts: []Attempt{{"folder", "is no regular file"}}},
	}
	if diff := cmp.Diff(want, report.Files); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("the folder was changed (-before +after):\n%s", diff)
	}
	if size, received := report.Size(); size != 4 || received != 0 {
		t.Errorf("size %d, received %d", size, received)
	}
	if _, err := Verify(t.Context(), wants[:1], dir, 0, nil); err != nil {
		t.Errorf("a complete folder: %v", err)
	}
	for _, bad := range []string{filepath.Join(dir, "nothing"), filepath.Join(dir, "good")} {
		if _, err := Verify(t.Context(), wants, bad, 0, nil); err == nil || errors.Is(err, ErrIncomplete) {
			t.Errorf("folder %s: %v", bad, err)
		}
	}
}

func TestBadWants(t *testing.T) {
	sum := sumOf("x")
	x := Want{Name: "x", SHA256: sum}
	for name, wants := range map[string][]Want{
		"outside":   {{Name: "../x", SHA256: sum}},
		"empty":     {{SHA256: sum}},
		"no sha256": {{Name: "x", SHA256: sum[1:]}},
		"upper":     {{Name: "x", SHA256: strings.ToUpper(sum)}},
		"twice":     {x, x},
		"part":      {x, {Name: partName(x), SHA256: sum}},
		"aside":     {{Name: "x.wrong", SHA256: sum}, x},
	} {
		dir := t.TempDir()
		if _, err := Fetch(t.Context(), wants, Options{Dir: dir}); err == nil || errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := Verify(t.Context(), wants, dir, 1, nil); err == nil || errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: verify: error %v", name, err)
		}
	}
	for _, mirror := range []string{"ftp://x", "x", "", "http://", "file://x/y", "http://[a"} {
		if _, err := Fetch(t.Context(), nil, Options{Dir: t.TempDir(), Mirrors: []string{mirror}}); err == nil {
			t.Errorf("mirror %q is accepted", mirror)
		}
	}
}

func TestPartName(t *testing.T) {
	sum := sumOf("x")
	if got, want := partName(Want{Name: "a.tar", SHA256: sum}), "a.tar."+sum[:12]+".part"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	long := Want{Name: strings.Repeat("n", 255), SHA256: sum}
	if got := partName(long); len(got) != 255 || !strings.HasSuffix(got, sum[:12]+".part") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	s := serve(t, map[string]http.HandlerFunc{"/" + long.Name: content("x")})
	dir := t.TempDir()
	if _, err := Fetch(t.Context(), []Want{long}, Options{Dir: dir, Mirrors: []string{s.URL}, Limits: quick()}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{long.Name: "x"}, contents(t, dir)); diff != "" {
		t.Errorf("folder (-want +got):\n%s", diff)
	}
}

func TestWants(t *testing.T) {
	source := func(url string) steps.Source { return steps.Source{URL: url} }
	got := Wants([]steps.Distfile{
		{Name: "a", SHA256: "1", Medium: steps.MediumInit, Sources: []steps.Source{source("http://a"), source("_"), source("http://b"), source("http://a")}},
		{Name: "b", SHA256: "2", Medium: steps.MediumNetwork, Sources: []steps.Source{source("http://c")}},
		{Name: "c", SHA256: "3", Medium: steps.MediumPayload, Sources: []steps.Source{source("_")}},
		{Name: "d", SHA256: "4", Medium: steps.MediumNetwork, Again: steps.MediumPayload},
	})
	want := []Want{{Name: "a", SHA256: "1", Origins: []string{"http://a", "http://b"}}, {Name: "c", SHA256: "3"}, {Name: "d", SHA256: "4"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("wants (-want +got):\n%s", diff)
	}
}

func TestOrder(t *testing.T) {
	var mirrors []*url.URL
	for _, m := range []string{"http://a", "http://b/x/", "file:///c", "http://d"} {
		u, err := parseMirror(m)
		if err != nil {
			t.Fatal(err)
		}
		mirrors = append(mirrors, u)
	}
	want := Want{Name: "n,+%.tar", Origins: []string{"http://o/y?z=1", "_"}}
	text := func(seed uint64, name string, demoted ...string) string {
		w := want
		w.Name = name
		list := addresses(w, shuffle(mirrors, seed, name), func(a, c string) { t.Errorf("%s: %s", a, c) })
		list = demote(list, func(server string) bool {
			for _, d := range demoted {
				if d == server {
					return true
				}
			}
			return false
		})
		var words []string
		for _, a := range list {
			words = append(words, a.String())
		}
		return strings.Join(words, " ")
	}
	for _, tt := range []struct{ got, want string }{
		{text(0, "n"), "http://a/n http://b/x/n file:///c/n http://d/n http://o/y?z=1"},
		{text(0, "n,+%.tar"), "http://a/n%2C+%25.tar http://b/x/n%2C+%25.tar file:///c/n%2C+%25.tar http://d/n%2C+%25.tar http://o/y?z=1"},
		{text(0, "n", "http://a", "http://o"), "http://b/x/n file:///c/n http://d/n http://a/n http://o/y?z=1"},
		{text(7, "n"), text(7, "n")},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	}
	orders := map[string]bool{}
	for i := range 50 {
		orders[strings.ReplaceAll(text(7, fmt.Sprint(i)), fmt.Sprint("/", i), "")] = true
	}
	if len(orders) < 10 {
		t.Errorf("50 files have only %d orders of 4 mirrors", len(orders))
	}
}

func TestRangeStart(t *testing.T) {
	for header, want := range map[string]int64{
		"bytes 5-9/10": 5, "Bytes 0-0/*": 0, "": -1, "bytes */10": -1, "bytes -5": -1, "bytes 5": -1, "items 5-9/10": -1,
		"bytes 99999999999999999999-": -1, "bytes +5-9/10": 5,
	} {
		if got := rangeStart(header); got != want {
			t.Errorf("%q: %d, want %d", header, got, want)
		}
	}
}

func FuzzRangeStart(f *testing.F) {
	for _, seed := range []string{"bytes 5-9/10", "bytes */10", "bytes 0-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if n := rangeStart(header); n < -1 {
			t.Errorf("%q: %d", header, n)
		}
	})
}

// TestMemory downloads a file that is larger than what may be allocated meanwhile.
func TestMemory(t *testing.T) {
	const size, most = 64 << 20, 16 << 20
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	h := sha256.New()
	for range size / len(block) {
		h.Write(block)
	}
	s := serve(t, map[string]http.HandlerFunc{"/x": func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(block) {
			_, _ = w.Write(block)
		}
	}})
	want := []Want{{Name: "x", SHA256: hex.EncodeToString(h.Sum(nil))}}
	dir := t.TempDir()
	result := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			_ = os.Remove(filepath.Join(dir, "x"))
			if _, err := Fetch(b.Context(), want, Options{Dir: dir, Mirrors: []string{s.URL}}); err != nil {
				b.Fatal(err)
			}
		}
	})
	if got := result.AllocedBytesPerOp(); got > most {
		t.Errorf("%d bytes were allocated for a file of %d", got, size)
	}
}
