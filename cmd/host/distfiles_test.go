// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/payload"
)

// runMain runs kindling as main does and gives its exit status and what it wrote.
func runMain(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	var files [2]*os.File
	for i, name := range []string{"stdout", "stderr"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	status = execute(args, streams{out: files[0], err: files[1]})
	var texts [2]string
	for i, f := range files {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(data)
	}
	return status, texts[0], texts[1]
}

// lastLine is the line of error.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// sources are the distfiles of a small tree: what is needed before Fiwix, before Linux and on Linux.
var sources = []struct{ step, data string }{
	{"seed-1.0", "seed data"}, {"early-1.0", "early data"}, {"late-1.0", "late data"},
}

// treeWithSources is a tree whose sources are files that can be made.
func treeWithSources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, data string) { writeTestFile(t, filepath.Join(dir, "steps", name), data) }
	write("manifest", "build: seed-1.0\njump: fiwix ( KERNEL_BOOTSTRAP == True )\nbuild: early-1.0\n"+
		"jump: linux ( CHROOT == False )\njump: move_disk ( KERNEL_BOOTSTRAP == True )\nimprove: get_network\nbuild: late-1.0\n")
	for _, s := range sources {
		write(s.step+"/sources", fmt.Sprintf("g https://example.invalid/x.git~v1 _ %x %s.tar\n", sha256.Sum256([]byte(s.data)), s.step))
	}
	return dir
}

// sourceServer serves the sources of treeWithSources.
func sourceServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, source := range sources {
			if r.URL.Path == "/"+source.step+".tar" {
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader(source.data))
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func parseJSON[T any](t *testing.T, text string) T {
	t.Helper()
	var doc T
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return doc
}

func TestFetch(t *testing.T) {
	tree, mirror, dir := treeWithSources(t), sourceServer(t), filepath.Join(t.TempDir(), "distfiles")

	// Without a mirror nothing can be had, and every reason is said.
	status, stdout, stderr := runMain(t, "fetch", "--tree", tree, "--distfiles", dir)
	if status != statusUsage || lastLine(stderr) != "kindling: 3 of 3 distfiles are missing or wrong: the list is above" ||
		strings.Count(stdout, "    _: only mirrors have it, and no mirror was given\n") != 3 {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}

	// Without --external-sources, what comes behind the network is the guest's business.
	status, stdout, stderr = runMain(t, "fetch", "--tree", tree, "--distfiles", dir, "-q", "-m", mirror, "--json")
	got := parseJSON[fetched](t, stdout)
	if status != statusOK || got.Status != "complete" || got.Fetched != 2 || got.Wanted != 2 || got.Files[1].From != mirror+"/early-1.0.tar" {
		t.Errorf("status %d, %+v\n%s", status, got, stderr)
	}
	status, stdout, _ = runMain(t, "fetch", "--tree", tree, "--distfiles", dir, "--verify-only", "--json")
	got = parseJSON[fetched](t, stdout)
	if status != statusUsage || got.Status != "incomplete" || got.Present != 2 || got.Missing != 1 {
		t.Errorf("status %d, %+v", status, got)
	}

	writeTestFile(t, filepath.Join(dir, "seed-1.0.tar"), "rotten")
	status, stdout, stderr = runMain(t, "fetch", "--tree", tree, "--distfiles", dir, "-m", "file:///nothing", mirror, "--seed=3")
	if status != statusOK || stdout != "3 distfiles: 1 present, 1 fetched, 1 replaced, 0 missing, 0 wrong; 28 B there, 18 B received\n" ||
		!strings.Contains(stderr, "late-1.0.tar: fetched, 9 B from "+mirror+"/late-1.0.tar\n") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	want := map[string]string{}
	for _, s := range sources {
		want["/"+s.step+".tar"] = s.data
	}
	if diff := cmp.Diff(want, readFolder(t, dir)); diff != "" {
		t.Errorf("folder (-want +got):\n%s", diff)
	}

	writeTestFile(t, filepath.Join(dir, "seed-1.0.tar"), "rotten")
	status, stdout, _ = runMain(t, "fetch", "--tree", tree, "--distfiles", dir, "--verify-only")
	if status != statusUsage || !strings.Contains(stdout, "seed-1.0.tar: wrong (want sha256 ") {
		t.Errorf("status %d\n%s", status, stdout)
	}
	if err := os.Remove(filepath.Join(dir, "seed-1.0.tar")); err != nil {
		t.Fatal(err)
	}
	_, stdout, stderr = runMain(t, "fetch", "--tree", tree, "--distfiles", dir, "--verify-only")
	if strings.Count(stdout+stderr, "seed-1.0.tar: missing") != 1 {
		t.Errorf("a missing file is not listed once:\n%s%s", stdout, stderr)
	}
}

// A distfile that this machine cannot read is not the distfile's fault, and keeps its name.
func TestFetchUnreadable(t *testing.T) {
	tree, mirror, dir := treeWithSources(t), sourceServer(t), t.TempDir()
	if err := os.Symlink("/proc/self/mem", filepath.Join(dir, "seed-1.0.tar")); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{{"-m", mirror}, {"--verify-only"}} {
		status, _, stderr := runMain(t, append([]string{"fetch", "--tree", tree, "--distfiles", dir}, more...)...)
		if status != statusInternal || !strings.Contains(lastLine(stderr), "seed-1.0.tar: input/output error") {
			t.Errorf("%v: status %d\n%s", more, status, stderr)
		}
		if _, err := os.Lstat(filepath.Join(dir, "seed-1.0.tar")); err != nil {
			t.Error(err)
		}
	}
}

// What this machine refuses is status 1, what is wrong with an input status 2 or that of its kind.
func TestInputError(t *testing.T) {
	for err, want := range map[error]int{
		fs.ErrNotExist: statusUsage, syscall.ENOTDIR: statusUsage, payload.ErrRange: statusUsage,
		syscall.EACCES: statusInternal, syscall.EIO: statusInternal, syscall.EMFILE: statusInternal,
		syscall.ENOSPC: statusInternal,
		syscall.EROFS:  statusInternal, syscall.EPERM: statusInternal,
	} {
		wrapped := fmt.Errorf("try: %w", &fs.PathError{Op: "open", Path: "x", Err: err})
		if status, line := statusOf(inputError(wrapped), os.Stdout); status != want || line != wrapped.Error() {
			t.Errorf("%v: status %d, %q", err, status, line)
		}
		for _, other := range []error{assembleError(t.Context(), wrapped), payloadError("x", wrapped), diskError(wrapped)} {
			if status, _ := statusOf(other, os.Stdout); want == statusInternal && status != want {
				t.Errorf("%v: %v: status %d", err, other, status)
			}
		}
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.Symlink("/proc/self/mem", image); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", image}, {"list", image}, {"extract", image, t.TempDir()}} {
		args = append([]string{"payload"}, args...)
		status, _, stderr := runMain(t, args...)
		if status != statusInternal || !strings.Contains(stderr, "input/output error") {
			t.Errorf("%v: status %d\n%s", args, status, stderr)
		}
	}
}

func TestFetchInterrupted(t *testing.T) {
	tree, dir := treeWithSources(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	err = dispatch(ctx, []string{"fetch", "--tree", tree, "--distfiles", dir, "-m", s.URL}, streams{out: out, err: out})
	var exit *exitError
	if !errors.As(err, &exit) || exit.status != 130 {
		t.Errorf("error %v", err)
	}
	onlyEntry(t, dir, "")
}

// TestPayload makes an image of a plan, looks at it in every way, and damages it.
func TestPayload(t *testing.T) {
	tree, dir := treeWithSources(t), t.TempDir()
	distfiles, image := filepath.Join(dir, "distfiles"), filepath.Join(dir, "payload.img")
	for _, s := range sources {
		writeTestFile(t, filepath.Join(distfiles, s.step+".tar"), s.data)
	}
	agent := filepath.Join(dir, "agent")
	writeTestFile(t, agent, "the agent")
	args := []string{"payload", "create", image, agent, "--tree", tree, "--distfiles", distfiles, "--json"}
	status, stdout, stderr := runMain(t, args...)
	if status != statusOK {
		t.Fatalf("status %d\n%s", status, stderr)
	}
	made := parseJSON[created](t, stdout)
	if made.Files != 3 || made.EarlyFiles != 2 || made.Bytes != payload.Align || len(made.ID) != 64 {
		t.Errorf("created %+v", made)
	}
	status, stdout, _ = runMain(t, "payload", "list", image, "--json")
	var names []string
	list := parseJSON[listed](t, stdout)
	for _, f := range list.Files {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"agent", "early-1.0.tar", "late-1.0.tar"}, names); status != statusOK || diff != "" || list.ID != made.ID || !list.Wide {
		t.Errorf("status %d, list %+v (-want +got):\n%s", status, list, diff)
	}
	status, stdout, _ = runMain(t, "payload", "list", image)
	if status != statusOK || !strings.Contains(stdout, "3 files, 28 B; ID "+made.ID+"\n") {
		t.Errorf("status %d\n%s", status, stdout)
	}
	status, stdout, _ = runMain(t, "payload", "verify", image, "--id", made.ID)
	if status != statusOK || stdout != image+": 3 files are right, ID "+made.ID+"\n" {
		t.Errorf("status %d\n%s", status, stdout)
	}
	out := filepath.Join(dir, "out")
	status, stdout, _ = runMain(t, "payload", "extract", image, out, "--skip=1", "--sums", "--json")
	if got := parseJSON[extracted](t, stdout); status != statusOK || got.Copied != 2 || got.Bytes != 19 {
		t.Errorf("status %d, %+v", status, got)
	}
	files := readFolder(t, out)
	delete(files, "/"+payload.SumsName)
	if diff := cmp.Diff(map[string]string{"/early-1.0.tar": "early data", "/late-1.0.tar": "late data"}, files); diff != "" {
		t.Errorf("extracted (-want +got):\n%s", diff)
	}
	status, stdout, _ = runMain(t, "payload", "extract", image, out)
	if status != statusOK || stdout != out+": 1 files copied (9 B), 2 were there and right\n" {
		t.Errorf("status %d\n%s", status, stdout)
	}
	damagePayload(t, image, made)

	// A distfile that is not what the tree wants ends it, and the image that is there stays.
	before := readTestFile(t, image)
	writeTestFile(t, filepath.Join(distfiles, "late-1.0.tar"), "evil data")
	status, _, stderr = runMain(t, args...)
	if status != statusUsage || !strings.Contains(stderr, "late-1.0.tar: source is not what it was said to be") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if err := os.Remove(filepath.Join(distfiles, "late-1.0.tar")); err != nil {
		t.Fatal(err)
	}
	status, _, stderr = runMain(t, args...)
	if status != statusUsage || !strings.Contains(stderr, "late-1.0.tar: is missing: get it with 'kindling fetch'") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if diff := cmp.Diff(before, readTestFile(t, image)); diff != "" {
		t.Errorf("image (-before +after):\n%s", diff)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func readTestFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// damagePayload expects status 12 and one line with file and offset for each way in which an image is bad.
func damagePayload(t *testing.T, image string, made created) {
	t.Helper()
	good := readTestFile(t, image)
	offset := strings.Index(good, "early data")
	bad := filepath.Join(t.TempDir(), "bad.img")
	for _, tt := range []struct {
		name, data, want string
		args             []string
	}{
		{"byte", strings.Replace(good, "early data", "early dama", 1),
			fmt.Sprintf("payload: early-1.0.tar: offset %d: wrong sha256: ", offset), nil},
		{"cut", good[:offset+3], fmt.Sprintf("payload: early-1.0.tar: offset %d: container is cut short", offset+3), nil},
		{"no payload", "something else, and long enough", "payload: offset 0: not an LBPAYLD1 container", nil},
		{"empty", "", "payload: offset 0: not an LBPAYLD1 container", nil},
		{"wrong ID", good, "wrong payload: ID " + made.ID + ", want 00", []string{"--id", strings.Repeat("0", 64)}},
		{"no sums", payload.Magic + "\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00ab",
			"container has no SHA256SUMS", nil},
		{"hostile name", payload.Magic + "\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x1b[2Jxb",
			"payload: \\x1b[2Jx: offset 32: bad file name", nil},
	} {
		writeTestFile(t, bad, tt.data)
		status, stdout, stderr := runMain(t, append([]string{"payload", "verify", bad}, tt.args...)...)
		if status != 12 || stdout != "" || !strings.Contains(lastLine(stderr), tt.want) || strings.Contains(stderr, "\x1b") ||
			!strings.HasPrefix(lastLine(stderr), "kindling: "+bad+": ") {
			t.Errorf("%s: status %d, %q, want %q", tt.name, status, stderr, tt.want)
		}
		status, stdout, _ = runMain(t, append([]string{"payload", "verify", bad, "--json"}, tt.args...)...)
		if got := parseJSON[verified](t, stdout); status != 12 || !strings.Contains(got.Error, tt.want) {
			t.Errorf("%s: status %d, %+v", tt.name, status, got)
		}
		if tt.name == "no sums" || tt.name == "wrong ID" || tt.name == "byte" {
			continue // these can be listed
		}
		if status, _, stderr := runMain(t, "payload", "list", bad); status != 12 {
			t.Errorf("%s: list: status %d, %s", tt.name, status, stderr)
		}
		if status, _, stderr := runMain(t, "payload", "extract", bad, filepath.Join(t.TempDir(), "out")); status != 12 {
			t.Errorf("%s: extract: status %d, %s", tt.name, status, stderr)
		}
	}
}

// TestPayloadSources takes files in the given order, and those of folders in the order of their names.
func TestPayloadSources(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"z", "folder/b b", "folder/a", "sub/folder/x", "dup/a", "sums/" + payload.SumsName} {
		writeTestFile(t, filepath.Join(dir, name), "data of "+name)
	}
	err := errors.Join(os.Mkdir(filepath.Join(dir, "pipes"), 0o755), syscall.Mkfifo(filepath.Join(dir, "pipes/pipe"), 0o600),
		os.Mkdir(filepath.Join(dir, "links"), 0o755), os.Symlink("../z", filepath.Join(dir, "links/out")),
		os.Symlink("z", filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	status, stdout, stderr := runMain(t, "payload", "create", image, filepath.Join(dir, "link"), filepath.Join(dir, "folder"))
	if status != statusOK || !strings.Contains(stdout, "PAYLOAD_EARLY_COUNT=0\n") {
		t.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, files, err := payload.List(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"link", "a", "b b"}, names); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"a payload has regular files only", []string{image, filepath.Join(dir, "sub")}},
		{"a payload has regular files only", []string{image, filepath.Join(dir, "pipes")}},
		{"path escapes", []string{image, filepath.Join(dir, "links")}},
		{"not a regular file", []string{image, filepath.Join(dir, "pipes", "pipe")}},
		{"duplicate file name", []string{image, filepath.Join(dir, "folder"), filepath.Join(dir, "dup")}},
		{"it is written by itself", []string{image, filepath.Join(dir, "sums")}},
		{"no such file", []string{image, filepath.Join(dir, "none")}},
		{"not a regular file", []string{image, "/dev/null"}},
		{"is no regular file", []string{dir, filepath.Join(dir, "z")}},
		{"is no regular file", []string{"/dev/null", filepath.Join(dir, "z")}},
		{"nothing to put into the image", []string{image}},
		{"--tree and --distfiles belong together", []string{image, "--tree", dir}},
	} {
		status, stdout, stderr := runMain(t, append([]string{"payload", "create"}, tt.args...)...)
		if status != statusUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%v: status %d, %q, want %q", tt.args, status, stderr, tt.want)
		}
	}
}

func TestCheckLayout(t *testing.T) {
	entry := func(name string, size int64) payload.Entry {
		return payload.Entry{Name: name, Size: size, SHA256: strings.Repeat("0", 64)}
	}
	const most = payload.MaxSize
	entries := []payload.Entry{entry("a", most), entry("b", most), entry("c", 1000)}
	for early, ok := range map[int]bool{0: true, 1: true, 2: false, 3: false} {
		if err := checkLayout(entries, early); (err == nil) != ok {
			t.Errorf("%d early files: %v", early, err)
		}
	}
}

// TestMirrorVerb serves a folder, asks for files, and ends.
func TestMirrorVerb(t *testing.T) {
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "file"), "data")
	for _, asJSON := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		cmd := mirrorCmd{Dir: dir, Listen: "127.0.0.1:0", JSON: asJSON}
		done := make(chan error, 1)
		go func() {
			done <- cmd.Run(ctx, w)
			_ = w.Close()
		}()
		buf := make([]byte, 1000)
		n, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		first := string(buf[:n])
		address, _, _ := strings.Cut(first, " ")
		if asJSON {
			address = parseJSON[mirrorLine](t, first).URL
		}
		get := func(path string) string {
			lines := make(chan string, 1)
			go func() {
				n, _ := r.Read(buf)
				lines <- string(buf[:n])
			}()
			resp, err := http.Get(address + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return <-lines
		}
		want := []string{"200 GET /file 4\n", "404 GET /evil 13\n"}
		if asJSON {
			want = []string{`{"method":"GET","path":"/file","status":200,"bytes":4}` + "\n",
				`{"method":"GET","path":"/evil","status":404,"bytes":13}` + "\n"}
		}
		if diff := cmp.Diff(want, []string{get("/file"), get("/%1b%5b31mevil")}); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("end: %v", err)
		}
	}
}

func TestCheckListen(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:0": true, ":8080": true, "[::1]:80": true, "localhost:80": true, "0.0.0.0:65535": true,
		"8080": false, "": false, "127.0.0.1": false, "127.0.0.1:http": false, "127.0.0.1:65536": false, "example.org:80": false,
		"127.0.0.1:-1": false,
	} {
		if err := checkListen(addr); (err == nil) != ok {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
