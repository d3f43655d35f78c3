// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/guest/disk"
	"kindling/guest/journal"
	"kindling/internal/event"
	"kindling/internal/payload"
	"kindling/steps"
)

func TestParseCmdline(t *testing.T) {
	for _, tt := range []struct {
		text string
		want cmdline
	}{
		{"", cmdline{events: "ttyS1"}},
		{"console=ttyS0 panic=1 quiet\n", cmdline{events: "ttyS1"}},
		{"kindling.seed=00ff kindling.events=ttyS2", cmdline{seed: []byte{0, 0xff}, events: "ttyS2"}},
		{"kindling.seed=xyz", cmdline{events: "ttyS1"}},
		{"kindling.seed=" + strings.Repeat("00", maxSeed+1), cmdline{events: "ttyS1"}},
		{"kindling.mirrors=http://a/,https://b/c,ftp://d,,/etc", cmdline{events: "ttyS1", mirrors: []string{"http://a", "https://b/c"}}},
		{"kindling.events=../sda", cmdline{events: "ttyS1"}},
		{"root=/dev/x kindling.resume", cmdline{events: "ttyS1", resume: true}},
		{"kindling.events=none kindling.unknown=1", cmdline{events: "none"}},
	} {
		if d := cmp.Diff(tt.want, parseCmdline(tt.text), cmp.AllowUnexported(cmdline{})); d != "" {
			t.Errorf("%q: (-want +got)\n%s", tt.text, d)
		}
	}
}

func TestParseMounts(t *testing.T) {
	const mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\nbroken\n"
	if d := cmp.Diff(map[string]bool{"/": true, "/proc": true, "/dev/shm": true}, parseMounts(mounts)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// An empty file where a directory should be is what builder-hex0 leaves behind; a file with content is somebody's.
func TestMakeDir(t *testing.T) {
	dir := t.TempDir()
	empty, full := filepath.Join(dir, "empty"), filepath.Join(dir, "full")
	for path, data := range map[string]string{empty: "", full: "data"} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{empty, filepath.Join(dir, "new", "deep"), dir} {
		if err := makeDir(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			t.Errorf("%s is no directory: %v", path, err)
		}
	}
	if err := makeDir(full); err == nil {
		t.Error("a file with data was replaced")
	}
}

func TestParseModules(t *testing.T) {
	got, err := parseModules(strings.NewReader("# comment\n; another\n\n  e1000 \next4\n"))
	if d := cmp.Diff([]string{"e1000", "ext4"}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
	for _, bad := range []string{"../evil\n", "two words\n"} {
		if _, err := parseModules(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAfterOrder(t *testing.T) {
	for _, tt := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"50-sign.sh", "51-upload.sh", "10-b.sh", "9-a.sh"}, []string{"9-a.sh", "10-b.sh", "50-sign.sh", "51-upload.sh"}},
		{[]string{"1.sh", "README", "x.sh", ".hidden.sh", "0-a.sh", "02-c.sh", "2-b.sh"}, []string{"0-a.sh", "x.sh", "1.sh", "02-c.sh", "2-b.sh"}},
		{[]string{"99999999999999999999999-b.sh", "100000000000000000000000-c.sh", "3-a.sh"},
			[]string{"3-a.sh", "99999999999999999999999-b.sh", "100000000000000000000000-c.sh"}},
	} {
		if d := cmp.Diff(tt.want, afterOrder(tt.in)); d != "" {
			t.Errorf("%v: (-want +got)\n%s", tt.in, d)
		}
	}
}

func TestAfterScriptQuotes(t *testing.T) {
	got := string(afterScript("/steps/after/it's; rm -rf $HOME.sh"))
	if !strings.Contains(got, `bash '/steps/after/it'\''s; rm -rf $HOME.sh'`) {
		t.Errorf("got %s", got)
	}
}

// plan makes a plan from manifest lines.
func plan(t *testing.T, lines ...string) *steps.Plan {
	t.Helper()
	cfg := &steps.Config{}
	cfg.Set("KERNEL_BOOTSTRAP", "True")
	tree := fstest.MapFS{"steps/manifest": {Data: []byte(strings.Join(lines, "\n") + "\n")}}
	p, err := steps.NewPlan(tree, steps.MainRoot, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhere(t *testing.T) {
	p := plan(t, "build: bash-1", "jump: linux", "improve: a", "jump: move_disk", "improve: b", "improve: after")
	id := func(i int) string { return p.Steps[i].ID() }
	done := func(n ...int) map[string]bool {
		m := make(map[string]bool)
		for _, i := range n {
			m[id(i)] = true
		}
		return m
	}
	for _, tt := range []struct {
		name  string
		state journal.State
		want  decision
		err   bool
	}{
		{"fresh from the jump", journal.State{}, decision{placeAfterJump, 2}, false},
		{"first step cut short", journal.State{Started: id(2)}, decision{placeResume, 2}, false},
		{"moved to disk", journal.State{Done: done(2, 3)}, decision{placeResume, 4}, false},
		{"cut short on disk", journal.State{Done: done(2, 3), Started: id(4)}, decision{placeResume, 4}, false},
		{"failed", journal.State{Done: done(2, 3), Failed: id(4), Result: event.StatusFailed}, decision{placeResume, 4}, false},
		{"finished", journal.State{Done: done(2, 3, 4, 5), Result: event.StatusOK}, decision{placeFinished, 6}, false},
		{"finished, power lost at the end", journal.State{Done: done(2, 3, 4, 5)}, decision{placeEnded, 6}, false},
		{"stopped behind the last step", journal.State{Done: done(2, 3, 4, 5), Result: event.StatusFailed}, decision{placeEnded, 6}, false},
	} {
		got, err := where(situation{plan: p.Steps, state: tt.state})
		if got != tt.want || (err != nil) != tt.err {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
	if _, err := where(situation{plan: plan(t, "build: x").Steps}); !errors.Is(err, errNoLinux) {
		t.Errorf("a plan without Linux: %v", err)
	}
}

func TestUncook(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a\r\nb\r\n", "a\nb\n"}, {"progress\r50%\r\n", "progress\r50%\n"}, {"dos\r\r\n", "dos\r\n"}, {"end\r", "end"},
	} {
		for split := range len(tt.in) + 1 {
			var out strings.Builder
			u := &uncook{w: &out}
			for _, part := range []string{tt.in[:split], tt.in[split:]} {
				if n, err := io.WriteString(u, part); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			if out.String() != tt.want {
				t.Errorf("%q cut at %d: got %q, want %q", tt.in, split, out.String(), tt.want)
			}
		}
	}
}

func TestStepLog(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	log, err := openLog(dir, "001-x", io.Discard, func(s string) { lines = append(lines, s) })
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", maxLogLine+10)
	text := "one\ntw" + "o\n\n" + long + "\nlast"
	for _, part := range []string{text[:6], text[6:]} {
		if _, err := io.WriteString(log, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(log, "from a process left behind\n"); err != nil {
		t.Errorf("a write after the end: %v", err)
	}
	if d := cmp.Diff([]string{"one", "two", long[:maxLogLine], long[maxLogLine:], "last"}, lines); d != "" {
		t.Errorf("lines (-want +got)\n%s", d)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "001-x.log")); err != nil || string(got) != text {
		t.Errorf("file: %q, %v", got, err)
	}
}

// A full disk does not stop what a step prints; that the log is not complete is said at its end.
func TestStepLogOnFullDisk(t *testing.T) {
	var lines []string
	log, err := openLog(t.TempDir(), "001-x", io.Discard, func(s string) { lines = append(lines, s) })
	if err != nil {
		t.Fatal(err)
	}
	if log.file, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := io.WriteString(log, "line\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); !errors.Is(err, syscall.ENOSPC) || len(lines) != 3 {
		t.Errorf("%v, %q", err, lines)
	}
}

// A console that nobody reads must not stop anybody; what was lost is said, and the last words are not lost.
func TestConsoleNeverBlocks(t *testing.T) {
	c := newConsole()
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range 3 * consoleBytes / len(line) {
		if n, err := c.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	c.last([]byte("kindling: FAILED\n"))
	if c.flushed() {
		t.Error("nothing was written, and it counts as flushed")
	}
	var out safeBuffer
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx, &out) })
	for deadline := time.Now().Add(5 * time.Second); !c.flushed() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
	want := fmt.Sprintf("\nkindling: FAILED\n\nkindling: %d bytes of output dropped here; the log on the disk is complete\n",
		3*consoleBytes/len(line)*len(line))
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestConsoleKeepsWhatItCan(t *testing.T) {
	c := newConsole()
	var out safeBuffer
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx, &out) })
	var want strings.Builder
	for i := range 2000 {
		text := fmt.Sprintf("line %d\n", i)
		want.WriteString(text)
		fmt.Fprint(c, text)
		for !c.flushed() {
			time.Sleep(10 * time.Microsecond)
		}
	}
	cancel()
	wg.Wait()
	if out.String() != want.String() {
		t.Error("a console that keeps up has lost something")
	}
}

// safeBuffer is a buffer that two goroutines may use.
type safeBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func name(t *testing.T, s string) disk.Name {
	t.Helper()
	n, err := disk.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPickTarget(t *testing.T) {
	sda, sdb, sdc := name(t, "sda"), name(t, "sdb"), name(t, "sdc")
	payloadOn := func(n disk.Name) foundDisk { return foundDisk{n, disk.Foreign, "it holds a payload", true} }
	foreign := func(n disk.Name) foundDisk {
		return foundDisk{n, disk.Foreign, "it holds a GPT partition table", false}
	}
	is := func(n disk.Name, c disk.Content) foundDisk { return foundDisk{name: n, content: c} }
	for _, tt := range []struct {
		label string
		disks []foundDisk
		want  disk.Name
		err   error
	}{
		{"blank, as configured", []foundDisk{is(sda, disk.Blank), payloadOn(sdb)}, sda, nil},
		{"the boot disk, as configured", []foundDisk{is(sda, disk.BuilderHex0), payloadOn(sdb)}, sda, nil},
		{"a bootstrap's disk, as configured", []foundDisk{is(sda, disk.Ours), is(sdb, disk.Blank)}, sda, nil},
		{"somebody's disk", []foundDisk{foreign(sda), is(sdb, disk.Blank)}, sda, disk.ErrInUse},
		{"names swapped", []foundDisk{payloadOn(sda), is(sdb, disk.Blank)}, sdb, nil},
		{"names swapped, the boot disk wins over a blank one", []foundDisk{payloadOn(sda), is(sdb, disk.Blank), is(sdc, disk.BuilderHex0)}, sdc, nil},
		{"names swapped, two blank", []foundDisk{payloadOn(sda), is(sdb, disk.Blank), is(sdc, disk.Blank)}, sda, disk.ErrInUse},
		{"names swapped, none free", []foundDisk{payloadOn(sda), foreign(sdb)}, sda, disk.ErrInUse},
		{"names swapped, a finished bootstrap is not taken unasked", []foundDisk{payloadOn(sda), is(sdb, disk.Ours)}, sda, disk.ErrInUse},
		{"not there", []foundDisk{is(sdb, disk.Blank)}, sda, disk.ErrInUse},
	} {
		got, err := pickTarget(sda, tt.disks)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.label, got, err, tt.want, tt.err)
		}
	}
}

// What is read of a disk is its start and its end, wherever that is.
func TestEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	data := make([]byte, disk.HeadSize+3*disk.TailSize)
	data[0], data[len(data)-1] = 1, 2
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head, tail, err := ends(f)
	if err != nil || len(head) != disk.HeadSize || head[0] != 1 || len(tail) != disk.TailSize || tail[disk.TailSize-1] != 2 {
		t.Errorf("%d bytes %d, %d bytes %d, %v", len(head), head[0], len(tail), tail[len(tail)-1], err)
	}
}

func TestPayloadFault(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, payload.ErrTruncated: true, payload.ErrChecksum: true, payload.ErrWrongID: true, errNoPayload: true,
		payload.ErrNoSpace: false, os.ErrPermission: false, io.ErrUnexpectedEOF: false, context.Canceled: false,
	} {
		if got := payloadFault(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
		if err != nil && payloadFault(fmt.Errorf("wrapped: %w", err)) != want {
			t.Errorf("%v, wrapped: not %v", err, want)
		}
	}
}

// A configuration that is edited during the run may have what a shell allows.
func TestAssignments(t *testing.T) {
	got, err := steps.PlainConfig(configPath, []byte("# comment\n\nJOBS=1\nexport X=1\nJOBS=4\nMIRRORS=\"http://a http://b\"\nif true; then Y=1; fi\nLAST=x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"JOBS": "4", "MIRRORS": "http://a http://b", "LAST": "x", "X": "", "Y": ""} {
		if v := got.Get(name); v != want {
			t.Errorf("%s=%q, want %q", name, v, want)
		}
	}
}

func TestMisplaced(t *testing.T) {
	p := plan(t, "jump: linux", "improve: a", "jump: move_disk", "improve: b")
	for i, want := range []bool{false, false, false, true} {
		if err := misplaced(p.Steps[i], true); (err != nil) != want {
			t.Errorf("%s in memory: %v", p.Steps[i], err)
		}
		if err := misplaced(p.Steps[i], false); err != nil {
			t.Errorf("%s on disk: %v", p.Steps[i], err)
		}
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	path, kept := filepath.Join(dir, "a"), filepath.Join(dir, "kept")
	for _, now := range []string{"first", "changed"} {
		if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := keep(path, kept); err != nil || string(got) != "first" {
			t.Errorf("%s: %q, %v", now, got, err)
		}
	}
}

func TestChoosePayload(t *testing.T) {
	a, b := payload.Info{ID: strings.Repeat("a", 64)}, payload.Info{ID: strings.Repeat("b", 64)}
	for _, tt := range []struct {
		label string
		found []candidate
		id    string
		want  string
		text  string // part of the error
	}{
		{"none", nil, a.ID, "", "no disk carries a payload"},
		{"the only one, without an ID", []candidate{{"sdb", a}}, "", "sdb", ""},
		{"by ID among two", []candidate{{"sdb", b}, {"sdc", a}}, a.ID, "sdc", ""},
		{"twice the same: the first", []candidate{{"sdb", a}, {"sdb1", a}}, a.ID, "sdb", ""},
		{"another one", []candidate{{"sdb", b}}, a.ID, "", "sdb (id " + b.ID},
		{"two without an ID", []candidate{{"sdb", a}, {"sdc", b}}, "", "", "set PAYLOAD_ID"},
	} {
		got, err := choose(tt.found, tt.id)
		if got.name != tt.want || (err == nil) != (tt.text == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v, %v", tt.label, got, err)
		}
	}
}

func TestFileCount(t *testing.T) {
	count := func(value string) (int, error) {
		c := &steps.Config{}
		c.Set("N", value)
		return fileCount(c, "N")
	}
	for value, want := range map[string]int{"": 0, "0": 0, "62": 62} {
		if got, err := count(value); got != want || err != nil {
			t.Errorf("%q: %d, %v", value, got, err)
		}
	}
	for _, bad := range []string{"-1", "x", "99999999999", "1.5"} {
		if _, err := count(bad); err == nil || !strings.Contains(err.Error(), "N=") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestMirrorList(t *testing.T) {
	for _, tt := range []struct {
		first      []string
		configured string
		qemu       bool
		want       []string
	}{
		{nil, "", true, nil},
		{[]string{"http://10.0.2.2:1"}, "https://m.example/lb/ http://127.0.0.1:8080/d", true,
			[]string{"http://10.0.2.2:1", "https://m.example/lb", "http://10.0.2.2:8080/d"}},
		{nil, "http://127.0.0.1:80 http://127.0.0.1", false, []string{"http://127.0.0.1:80", "http://127.0.0.1"}},
		{[]string{"http://a"}, "http://a/ http://a", true, []string{"http://a"}},
	} {
		if d := cmp.Diff(tt.want, mirrorList(tt.first, tt.configured, tt.qemu)); d != "" {
			t.Errorf("%q: (-want +got)\n%s", tt.configured, d)
		}
	}
}

func TestSourceURLs(t *testing.T) {
	src := steps.Source{Name: "a b+c.tar", URL: "https://origin.example/x"}
	want := []string{"http://m/a%20b+c.tar", "https://origin.example/x"}
	if d := cmp.Diff(want, sourceURLs([]string{"http://m"}, src)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	src.URL = "_"
	if got := sourceURLs(nil, src); got != nil {
		t.Errorf("no mirror and no origin: %v", got)
	}
}

func TestDoneEvent(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want event.Event
	}{
		{nil, event.Event{Kind: event.KindDone, Status: event.StatusOK}},
		{errors.New("x"), event.Event{Kind: event.KindDone, Status: event.StatusFailed, Reason: event.ReasonInternal, Text: "x"}},
		{fmt.Errorf("wrapped: %w", &runError{reason: event.ReasonAfter, step: "9-x", name: "improve: after", exit: 3, err: errors.New("bad")}),
			event.Event{Kind: event.KindDone, Status: event.StatusFailed, Reason: event.ReasonAfter, Step: "9-x", Name: "improve: after", Exit: 3, Text: "bad"}},
	} {
		if d := cmp.Diff(tt.want, doneEvent(tt.err)); d != "" {
			t.Errorf("%v: (-want +got)\n%s", tt.err, d)
		}
	}
}

// Every native directive must be one that a manifest can name, and in the table once.
func TestNativesAreReachable(t *testing.T) {
	for key := range natives() {
		p := plan(t, "jump: linux", string(key.kind)+": "+key.name)
		if s := p.Steps[1]; (nativeKey{s.Kind, s.Name}) != key {
			t.Errorf("%v is parsed as %v", key, s)
		}
	}
}

func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.WriteFile(src, []byte("agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(dst, src, 0o755); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dst)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if err := replaceFile(filepath.Join(dir, "no", "dst"), src, 0o755); err == nil {
		t.Error("no error for a folder that is not there")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.new"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A blank disk that cannot be written, or has no room for the partition, is not free.
func TestLook(t *testing.T) {
	for _, tt := range []struct {
		options string
		size    int64
		want    disk.Content
		text    string
	}{
		{"-f", 2 << 30, disk.Blank, ""},
		{"-rf", 2 << 30, disk.Foreign, "it is read-only: make it writable"},
		{"-f", 1000 << 20, disk.Foreign, "disk too small: 1000 MiB, at least 1088 MiB are needed (the partition starts at 1024 MiB)"},
	} {
		file := filepath.Join(t.TempDir(), "disk")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, tt.size)); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "losetup", tt.options, "--show", file).Output()
		if err != nil {
			if os.Getenv("CI") == "" {
				t.Skipf("loop devices need root: %v", err)
			}
			t.Fatal(err)
		}
		device := strings.TrimSpace(string(out))
		got := look(name(t, device))
		if err := exec.CommandContext(t.Context(), "losetup", "-d", device).Run(); err != nil {
			t.Error(err)
		}
		if got.content != tt.want || got.text != tt.text {
			t.Errorf("losetup %s, %d bytes: %d %q, want %d %q", tt.options, tt.size, got.content, got.text, tt.want, tt.text)
		}
	}
}

// The running program has the other name; its own starts it as before, and may be written.
func TestGiveAway(t *testing.T) {
	dir := t.TempDir()
	own, other := filepath.Join(dir, "init"), filepath.Join(dir, "other")
	data, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(own, data, 0o755), os.WriteFile(other+".new", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	running := exec.CommandContext(t.Context(), own, "/dev/zero")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = running.Process.Kill(); _ = running.Wait() }()
	if err := giveAway(own, other); err != nil {
		t.Fatal(err)
	}
	if held, err := os.ReadFile(other); err != nil || !bytes.Equal(held, data) {
		t.Errorf("%d bytes, %v", len(held), err)
	}
	// The kernel appends the script's name to the arguments, so this prints the script.
	if out, err := exec.CommandContext(t.Context(), own).Output(); err != nil || string(out) != "#!"+other+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	if err := os.WriteFile(own, []byte("a step's"), 0o755); err != nil {
		t.Error(err)
	}
}

// The seed of the initramfs counts before that of the command line, and is used once.
func TestTakeSeed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, []byte("from the file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"from the file", "from the line"} {
		if got := takeSeed(file, []byte("from the line")); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
