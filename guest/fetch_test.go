// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/event"
	"kindling/internal/httpget"
	"kindling/netcfg"
	"kindling/steps"
)

var distfile = []byte(strings.Repeat("distfile ", 1000))

func TestDownload(t *testing.T) {
	handle := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	good := handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(distfile) })
	wrong := handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(distfile[1:]) })
	gone := handle(http.NotFound)
	dead := closed(t)
	var asked atomic.Int32
	recovers := handle(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(distfile)
	})
	tests := []struct {
		name    string
		mirrors []string
		origin  string
		network *fakeNetwork
		err     string
		log     []string
	}{
		{"the first that is right", []string{gone, wrong, dead, good}, "_", &fakeNetwork{}, "", []string{"downloading x-1.0.tar", "is here and right"}},
		{"the origin", []string{gone, wrong}, good + "/elsewhere/x.tgz", &fakeNetwork{}, "", []string{"is here and right"}},
		{"refused for good", []string{gone, wrong}, gone + "/x", &fakeNetwork{},
			"download x-1.0.tar: .*status 404 Not Found; .*wrong sha256.*status 404", nil},
		{"a server that recovers", []string{gone, recovers}, "_", &fakeNetwork{}, "",
			[]string{"status 503", "trying again in 1ms", "status 503", "trying again in 2ms", "is here and right"}},
		{"a network that comes back", []string{good}, "_", &fakeNetwork{failures: []error{netcfg.ErrNoCarrier, netcfg.ErrNoAnswer}}, "",
			[]string{"no carrier; trying again in 1ms", "no usable answer; trying again in 2ms", "is here and right"}},
		{"no network ever", []string{good}, "_", &fakeNetwork{failures: []error{netcfg.ErrNoLink}}, "download x-1.0.tar: no ethernet interface", nil},
		{"nowhere to get it", nil, "_", &fakeNetwork{}, "download x-1.0.tar: there is no mirror, and it has no origin", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := steps.Source{Name: "x-1.0.tar", URL: tt.origin, SHA256: fmt.Sprintf("%x", sha256.Sum256(distfile))}
			j, log := networkJob(t, "MIRRORS=\""+strings.Join(tt.mirrors, " ")+"\"\n", tt.network, src)
			path := filepath.Join(t.TempDir(), src.Name)
			err := j.download(t.Context(), src, path, time.Millisecond)
			if tt.err != "" {
				checkPattern(t, err, tt.err)
				if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
					t.Errorf("it has left %v", entries)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != string(distfile) {
				t.Errorf("%d bytes, error %v", len(got), err)
			}
			rest := log.String()
			for _, part := range tt.log {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("log %q, want %q in this order", log.String(), tt.log)
				}
				rest = after
			}
		})
	}
}

// The host hears how far a download is: not more often than it can use, nothing of one without a size, and nothing of the
// last byte, which is the download's own event.
func TestDownloading(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration
		calls [][2]int64
		want  []int64
	}{
		{"each", 0, [][2]int64{{1, 9}, {5, 9}, {9, 9}}, []int64{1, 5}},
		{"no size", 0, [][2]int64{{1, -1}, {5, -1}}, nil},
		{"too soon", time.Hour, [][2]int64{{1, 9}, {5, 9}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j, _ := networkJob(t, "", &fakeNetwork{})
			f := j.downloading("x.tar", tt.every)
			for _, c := range tt.calls {
				f("http://mirror/x.tar", c[0], c[1])
			}
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			done := make(chan struct{})
			go func() { defer close(done); j.agent.port.Run(ctx, &out, nil) }()
			if err := j.agent.port.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			cancel()
			<-done
			var got []int64
			for line := range bytes.Lines(out.Bytes()) {
				e, err := event.Decode(bytes.TrimRight(line, "\n"))
				if err != nil || e.Kind != event.KindNet || e.Name != "x.tar" || e.Status != event.StatusStart {
					t.Fatalf("event %q: %v", line, err)
				}
				got = append(got, e.Done)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDownloadEndsWithRun(t *testing.T) {
	j, _ := networkJob(t, "MIRRORS="+closed(t)+"\n", &fakeNetwork{})
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(errStopped) })
	src := steps.Source{Name: "x", URL: "_", SHA256: fmt.Sprintf("%x", sha256.Sum256(distfile))}
	if err := j.download(ctx, src, filepath.Join(t.TempDir(), "x"), time.Minute); !errors.Is(err, errStopped) {
		t.Errorf("got error %v, want %v", err, errStopped)
	}
}

// TestCurl runs a program in the place of curl, which notes its arguments and does what the address says.
func TestCurl(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "curl")
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" > " + dir + "/args\n" + `
while [ $# -gt 1 ]; do case "$1" in --output) out=$2 ;; --url) url=$2 ;; esac; shift; done
echo "curl: a word about it" >&2
printf 'what was asked for' > "$out"
exit "${url##*/}"
`
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	j, log := networkJob(t, "A=b\n", nil)
	for exit, want := range map[int]struct {
		text    string
		mayPass bool
	}{
		0:  {},
		1:  {"for good: it needs https, which the curl that is here cannot speak yet", false},
		7:  {"curl: exit status 7", true},
		22: {"curl: exit status 22 for good", false},
		28: {"curl: exit status 28", true},
		60: {"curl: exit status 60 for good", false},
	} {
		out := filepath.Join(dir, "out")
		err := j.runCurl(t.Context(), program, fmt.Sprintf("https://origin.example/%d", exit), out)
		if exit == 0 {
			if got, rerr := os.ReadFile(out); err != nil || rerr != nil || string(got) != "what was asked for" {
				t.Errorf("got %q, errors %v, %v", got, err, rerr)
			}
			args, _ := os.ReadFile(filepath.Join(dir, "args"))
			if diff := cmp.Diff(strings.Join(curlArgs("https://origin.example/0", out)[1:], "\n")+"\n", string(args)); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
			continue
		}
		if err == nil || err.Error() != want.text {
			t.Errorf("exit status %d: got error %v, want %s", exit, err, want.text)
		}
		if got := httpget.MayPass(&httpget.DownloadError{Causes: []error{err}}); got != want.mayPass {
			t.Errorf("exit status %d: may pass %t, want %t", exit, got, want.mayPass)
		}
	}
	if !strings.Contains(log.String(), "curl https://origin.example/0\n") || !strings.Contains(log.String(), "curl: a word about it\n") {
		t.Errorf("log %q", log.String())
	}
}

// TestCurlTakesArguments asks a real curl by the same command line: that of this machine, or KINDLING_CURL.
func TestCurlTakesArguments(t *testing.T) {
	name := "curl"
	if own := os.Getenv("KINDLING_CURL"); own != "" {
		name = own
	}
	program, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v (must not happen in CI)", err)
		}
		t.Skip("SKIPPED: no curl here")
	}
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			http.NotFound(w, r)
		case "/file":
			http.Redirect(w, r, "/moved", http.StatusFound)
		default:
			_, _ = w.Write(distfile)
		}
	})
	secure, plain := httptest.NewTLSServer(serve), httptest.NewServer(serve)
	defer secure.Close()
	defer plain.Close()
	j, _ := networkJob(t, "A=b\n", nil)
	dir := t.TempDir()
	out, bundle := filepath.Join(dir, "out"), filepath.Join(dir, "certificates")
	known := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(bundle, known, 0o644); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		plain.URL + "/file":  "",
		plain.URL + "/gone":  "curl: exit status 22 for good",
		secure.URL + "/file": "curl: exit status 60 for good", // who it is cannot be verified
		closed(t) + "/file":  "curl: exit status 7",
		"ftp://127.0.0.1/x":  "for good: it needs https, which the curl that is here cannot speak yet",
	} {
		err := j.runCurl(t.Context(), program, url, out)
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%s: got error %v, want %q", url, err, want)
		}
		if got, _ := os.ReadFile(out); want == "" && string(got) != string(distfile) {
			t.Errorf("%s: %d bytes", url, len(got))
		}
	}
	j.agent.environ = []string{"CURL_CA_BUNDLE=" + bundle} // in the tree's curl its place is built in
	if err := errors.Join(os.Remove(out), j.runCurl(t.Context(), program, secure.URL+"/file", out)); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(out); string(got) != string(distfile) {
		t.Errorf("by https: %d bytes", len(got))
	}
}
