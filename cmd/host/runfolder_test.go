// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kindling/host/control"
	"kindling/host/imagefile"
	"kindling/host/machine"
	"kindling/host/qemu"
	"kindling/host/rundir"
	"kindling/host/watch"
)

// runFolder makes the folder of a run whose machine has raw disks: of these names in its folder of disks, or outside.
func runFolder(t *testing.T, disks ...string) *rundir.Dir {
	t.Helper()
	dir, err := rundir.Create(rundir.Options{Path: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	m := machine.Machine{Accel: qemu.AccelTCG, MemoryMiB: 512, Cores: 1}
	for _, d := range disks {
		file := d
		if !filepath.IsAbs(d) {
			file = filepath.Join(rundir.Disks, d)
		}
		m.Disks = append(m.Disks, machine.Disk{Interface: qemu.InterfaceIDE, Throwaway: d == "payload.img",
			Layers: []machine.Layer{{File: file, Format: imagefile.Raw}}})
	}
	data, err := m.Encode()
	if err == nil {
		err = dir.Write(rundir.Machine, data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestLatest boots guests: "latest" leads to the one that started, not to the one after it that could not.
func TestLatest(t *testing.T) {
	base := t.TempDir()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	boot := func(argv ...string) *rundir.Dir {
		dir, err := rundir.Create(rundir.Options{Base: base})
		if err != nil {
			t.Fatal(err)
		}
		r := &run{cmd: &runCmd{}, streams: streams{out: null, err: null}, dir: dir}
		g := guest{versions: map[string]string{}, watch: watch.HostedOptions(false), start: func(ctx context.Context) (*started, error) {
			return startRoot(ctx, argv, t.TempDir())
		}}
		if err := r.boot(t.Context(), g); err == nil {
			t.Errorf("%s is a bootstrap", argv)
		}
		return dir
	}
	first := boot("true")
	boot("/nonexistent")
	if got, err := filepath.EvalSymlinks(filepath.Join(base, rundir.Latest)); err != nil || got != first.Path() {
		t.Errorf("latest is %s, %v; want %s", got, err, first.Path())
	}
}

// A run folder that came from somewhere else names programs, files and processes of this host. None of them is started,
// read, served, written or signalled, whichever verb looks at the folder.
func TestForeignRunFolder(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	writeTestFile(t, secret, "secret")
	started := filepath.Join(t.TempDir(), "started")
	program := filepath.Join(t.TempDir(), "program")
	writeTestFile(t, program, "#!/bin/sh\ntouch "+started+"\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	schema1 := `{"schema":1,"label":"x","demo":true,"qemu":{"Binary":"` + program + `","MemoryMiB":512,"Cores":1,"Accel":"tcg","Drives":[` +
		`{"Path":"` + secret + `","Format":"raw","Interface":"ide"}],"Extra":["-device","x"]},"mirrors":["/etc"]}`
	fact := func(change ...string) string {
		text := `{"schema":2,"label":"x","accel":"tcg","memory_mib":512,"cores":1,"disks":[{"layers":[{"file":"disks/d.img","format":"raw"}],"interface":"ide"}]}`
		return strings.NewReplacer(change...).Replace(text)
	}
	for name, tt := range map[string]struct {
		machine string
		setup   func(dir *rundir.Dir) error
		want    string
	}{
		"a program":      {schema1, nil, "schema 1"},
		"a program, new": {fact(`"cores"`, `"binary":"`+program+`","cores"`), nil, "unknown field"},
		"a file outside": {fact("disks/d.img", secret), nil, "--allow " + secret},
		"a way out":      {fact("disks/d.img", "../../secret"), nil, "neither a plain path"},
		"a link to a file": {fact(), func(dir *rundir.Dir) error { return os.Symlink(secret, dir.At("disks/d.img")) },
			"not a plain file"},
		"a pipe":             {fact(), func(dir *rundir.Dir) error { return syscall.Mkfifo(dir.At("disks/d.img"), 0o600) }, "not a plain file"},
		"machine.json links": {"", func(dir *rundir.Dir) error { return os.Symlink(secret, dir.At(rundir.Machine)) }, "not a plain file"},
		"writable by others": {fact(), func(dir *rundir.Dir) error { return os.Chmod(dir.Path(), 0o777) }, "chmod -R go-w"},
		"disks is a link": {fact(), func(dir *rundir.Dir) error {
			return errors.Join(os.Remove(dir.At(rundir.Disks)), os.Symlink("/etc", dir.At(rundir.Disks)))
		}, "not a plain file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := runFolder(t)
			if err := os.Remove(dir.At(rundir.Machine)); err != nil {
				t.Fatal(err)
			}
			if tt.machine != "" {
				writeTestFile(t, dir.At(rundir.Machine), tt.machine)
			}
			if tt.setup != nil {
				if err := tt.setup(dir); err != nil {
					t.Fatal(err)
				}
			}
			for _, args := range [][]string{
				{"run", "--resume", dir.Path(), "--accel", "tcg"}, {"run", "--resume", dir.Path(), "--dry-run", "--accel", "tcg"},
				{"log", dir.Path()}, {"resume-medium", dir.Path(), "-o", filepath.Join(t.TempDir(), "m")}, {"export", "--run", dir.Path()},
			} {
				status, stdout, stderr := runMain(t, args...)
				if status != statusUsage || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 || strings.Contains(stdout, "secret") {
					t.Errorf("%q: status %d, want one line with %q\n%s%s", args, status, tt.want, stdout, stderr)
				}
			}
			if _, err := os.Stat(started); !errors.Is(err, os.ErrNotExist) {
				t.Error("a program that the folder names was started")
			}
		})
	}
}

// What a run that goes on writes into its folder replaces a link, and does not follow it; other recorded files are looked
// at as well, however they are spelled.
func TestForeignLinks(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	writeTestFile(t, victim, "precious")
	for name, tt := range map[string]struct {
		link    string
		payload string // in the record
		want    string
	}{
		"a throwaway disk":         {"disks/payload.img", "disks/payload.img", "not a plain file"},
		"spelled as if outside":    {"disks/payload.img", "DIR/disks/payload.img", "not a plain file"},
		"kernel that is written":   {"disks/resume-vmlinuz", "", ""},
		"initramfs for the boot":   {"disks/boot.cpio", "", ""},
		"initramfs of the agent":   {"disks/resume-initramfs.cpio", "", ""},
		"machine.json in progress": {"machine.json.new", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := runFolder(t, "target.img", "payload.img")
			if err := os.Rename(runDisk(t, "own"), dir.At("disks/target.img")); err != nil {
				t.Fatal(err)
			}
			if tt.payload == "" {
				writeTestFile(t, dir.At("disks/payload.img"), "payload")
			} else {
				data, err := dir.Read(rundir.Machine, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				text := strings.ReplaceAll(string(data), "disks/payload.img", strings.Replace(tt.payload, "DIR", dir.Path(), 1))
				if err := dir.Write(rundir.Machine, []byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			writeTestFile(t, dir.At(rundir.Plan), `{"schema":1,"agent":true,"config":"","roots":[]}`)
			if err := os.Symlink(victim, dir.At(tt.link)); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(victim)
			if err != nil {
				t.Fatal(err)
			}
			_, _, stderr := runMain(t, "run", "--accel", "tcg", "--resume", dir.Path(), "--qemu-cmd", "/bin/false")
			if !strings.Contains(stderr, tt.want) {
				t.Errorf("want %q:\n%s", tt.want, stderr)
			}
			data, err := os.ReadFile(victim)
			if after, statErr := os.Stat(victim); err != nil || statErr != nil || string(data) != "precious" || after.Mode() != before.Mode() {
				t.Errorf("the file outside is %q, %v, %v, %v", data, after.Mode(), err, statErr)
			}
		})
	}
}

// A process ID in a folder, or a socket that is not the run's, moves stop to nothing.
func TestStopForeign(t *testing.T) {
	dir := runFolder(t)
	writeTestFile(t, dir.At("pid"), fmt.Sprint(os.Getpid()))
	if status, _, stderr := runMain(t, "stop", dir.Path()); status != statusUsage || !strings.Contains(stderr, "no machine of it is running") {
		t.Errorf("status %d: %s", status, stderr)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	l, err := net.Listen("unix", victim)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink(victim, dir.At(rundir.Control)); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := runMain(t, "stop", dir.Path()); status == 0 || !strings.Contains(stderr, "is not a socket") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// The document that attach shows comes from another process, and is clean on the screen.
func TestAttachClean(t *testing.T) {
	dir := runFolder(t)
	writeTestFile(t, dir.At(rundir.Report), `{"schema":1,"result":"step","exit_status":10,"line":"\u001b[31mred"}`)
	const hostile = `{"schema":1,"view":{"Phase":"\u001b]0;owned\u0007start","Marks":[{"Kind":"note","Text":"\u001b[2Jgone"}]}}`
	s, err := control.Listen(dir.Path(), rundir.Control, control.Handler{Document: func(seen any) ([]byte, any) {
		if seen != nil {
			return nil, seen
		}
		return []byte(hostile), true
	}})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { _ = s.Close() })
	status, stdout, stderr := runMain(t, "attach", dir.Path())
	if status != 10 || strings.Contains(stdout+stderr, "\x1b") || strings.Contains(stdout+stderr, "\x07") {
		t.Errorf("status %d: %q %q", status, stdout, stderr)
	}
}

// What a chroot leaves for the host to read is a small regular file, or nothing.
func TestMarker(t *testing.T) {
	for name, tt := range map[string]struct {
		setup func(marker string) error
		want  bool
	}{
		"ok":             {func(m string) error { return os.WriteFile(m, []byte("ok\n"), 0o600) }, true},
		"endless":        {func(m string) error { return os.Symlink("/dev/zero", m) }, false},
		"a file of ours": {func(m string) error { return os.Symlink("/etc/passwd", m) }, false},
		"a pipe":         {func(m string) error { return syscall.Mkfifo(m, 0o600) }, false},
		"a folder":       {func(m string) error { return os.Mkdir(m, 0o700) }, false},
		"large":          {func(m string) error { return errors.Join(os.WriteFile(m, []byte("ok"), 0o600), os.Truncate(m, 1<<40)) }, false},
		"nothing":        {func(string) error { return nil }, false},
		"something else": {func(m string) error { return os.WriteFile(m, []byte("no"), 0o600) }, false},
		"a device folder": {func(m string) error {
			return errors.Join(os.Remove(filepath.Dir(m)), os.Symlink("/dev", filepath.Dir(m)))
		}, false},
	} {
		dir := t.TempDir()
		marker := filepath.Join(dir, doneMarker)
		if err := errors.Join(os.Mkdir(filepath.Dir(marker), 0o700), tt.setup(marker)); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachedEnd(root); got != tt.want {
			t.Errorf("%s: reached the end: %v", name, got)
		}
		root.Close()
	}
}

// A chroot's processes have a session of their own: they cannot type into the user's terminal.
func TestRootSession(t *testing.T) {
	dir := t.TempDir()
	s, err := startRoot(context.Background(), []string{"sh", "-c", "ps -o sid= -p $$; if : 2>/dev/null </dev/tty; then echo terminal; fi"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	console := s.console.(*os.File)
	said := make([]byte, 100)
	n, err := console.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(said[:n]))
	if err := s.close(); err != nil {
		t.Error(err)
	}
	own, err := syscall.Getpgid(0)
	if err != nil || text == "" || strings.Contains(text, "terminal") || text == fmt.Sprint(own) {
		t.Errorf("session %q, ours %d, %v", text, own, err)
	}
}

func TestBwrapArgv(t *testing.T) {
	offline := strings.Join(bwrapArgv("bwrap", "/root", "/first", false), " ")
	for _, want := range []string{"--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--new-session", "--cap-drop ALL", "--ro-bind /proc/sys /proc/sys",
		"--ro-bind /sys /sys"} {
		if !strings.Contains(offline, want) {
			t.Errorf("%s is missing: %s", want, offline)
		}
	}
	if online := strings.Join(bwrapArgv("bwrap", "/root", "/first", true), " "); strings.Contains(online, "--unshare-net") {
		t.Errorf("no network although it was asked for: %s", online)
	}
}

// Of this host's loopback the guest reaches the mirrors that the user names, each under its port.
func TestForwards(t *testing.T) {
	var got []string
	for _, f := range forwards([]string{"http://127.0.0.1:8080/a", "http://127.0.0.1:8080/b", "https://127.0.0.1/x", "http://127.0.0.1",
		"http://mirror.example", "http://127.0.0.1:0", "http://localhost:1", "http://[::1]:2", "http://127.0.0.2:3", "file:///x"}) {
		got = append(got, fmt.Sprintf("%d>%s", f.Port, f.To))
	}
	if want := []string{"8080>127.0.0.1:8080", "443>127.0.0.1:443", "80>127.0.0.1:80"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for mirror, ok := range map[string]bool{
		"http://127.0.0.1:8080": true, "http://mirror.example": true, "file:///x": true, "http://localhost:1": false,
		"http://[::1]:2": false, "http://127.0.0.2:3": false, "http://127.0.0.1:0": false, "http://0.0.0.0:4": false,
	} {
		if err := checkLoopback([]string{mirror}); (err == nil) != ok {
			t.Errorf("%s: %v", mirror, err)
		}
	}
}
