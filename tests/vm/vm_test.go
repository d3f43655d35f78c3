// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package vm boots the embedded default in real QEMU, in every way in which it can end, and looks at what is left. Each
// test prints the command that repeats it. Without QEMU the tests skip on a contributor's machine and fail in CI.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/debian"
	"kindling/host/report"
)

// patience is how long one run may take in the worst case, on a loaded machine under TCG.
const patience = 6 * time.Minute

// bin is the folder with the programs under test, made by TestMain.
var bin string

func TestMain(m *testing.M) { os.Exit(withPrograms(m)) }

// withPrograms builds the programs as the Makefile does and runs the tests.
func withPrograms(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kindling-vm-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	for _, b := range []struct{ name, pkg, arch string }{
		{"kindling", "kindling/cmd/host", ""}, {"kindling-init-386", "kindling/cmd/init", "386"},
		{"kindling-init-amd64", "kindling/cmd/init", "amd64"},
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", filepath.Join(dir, b.name), b.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GO386=softfloat")
		if b.arch != "" {
			cmd.Env = append(cmd.Env, "GOOS=linux", "GOARCH="+b.arch)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", b.name, err, out)
			return 1
		}
	}
	return m.Run()
}

// needs makes sure that a program is there.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: the Makefile installs it", p)
		}
		t.Skipf("%s is missing: `make test` installs it", p)
	}
}

// finished is a run that has ended.
type finished struct {
	t      *testing.T
	dir    string // run folder
	status int
	stdout string
	stderr string
	report report.Report
}

// command is `kindling run` into a new folder.
func command(ctx context.Context, t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	needs(t, "qemu-system-x86_64", "depmod", "dpkg-deb", "apt-get")
	dir := filepath.Join(t.TempDir(), "run")
	args = append([]string{"run", "--accel", "tcg", "--run", dir}, args...)
	t.Logf("to repeat: bin/kindling %s", strings.Join(slices.Delete(slices.Clone(args), 3, 5), " "))
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	return cmd, dir
}

// boot runs the embedded default to its end.
func boot(t *testing.T, args ...string) *finished {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd, dir := command(ctx, t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("run: %v\n%s", err, stderr.String())
	}
	f := &finished{t: t, dir: dir, status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if f.report, err = report.Read(filepath.Join(dir, "report.json")); err != nil {
		t.Fatalf("status %d, no report: %v\n%s", f.status, err, f.stderr)
	}
	return f
}

// file is a file of the run folder.
func (f *finished) file(name string) string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.t.Errorf("%v", err)
	}
	return string(data)
}

// contains checks that text has all of parts, in this order.
func (f *finished) contains(what, text string, parts ...string) {
	f.t.Helper()
	rest := text
	for _, p := range parts {
		_, after, found := strings.Cut(rest, p)
		if !found {
			f.t.Errorf("%s: %q is missing, or not in its place, in:\n%s", what, p, text)
			return
		}
		rest = after
	}
}

// sound checks everything that a run which ends well must show.
func (f *finished) sound() {
	f.t.Helper()
	if f.status != 0 || f.report.Result != report.ResultOK {
		f.t.Fatalf("status %d, result %q: %s\n%s", f.status, f.report.Result, f.stderr, tail(f.file("console.log"), 60))
	}
	var names []string
	for _, s := range f.report.Steps {
		names = append(names, s.Name)
		if s.Status != "ok" {
			f.t.Errorf("step %s: %s", s.ID, s.Status)
		}
		if s.Log != "" {
			f.file(s.Log)
		}
	}
	want := []string{
		"improve: populate_device_nodes", "jump: move_disk", "improve: finalize_job_count", "improve: check_machine", "improve: import_payload_rest",
		"improve: finalize_fhs", "improve: setup_repo", "build: tinder-1.0", "build: payload-import-1.0",
		"improve: compare_payload", "improve: get_network", "build: ember-1.0", "improve: after",
	}
	if !slices.Equal(names, want) {
		f.t.Errorf("steps: %q, want %q", names, want)
	}
	if d := cmp.Diff(&report.Audit{Steps: "complete", Owed: len(want), Config: "guest", Journal: "checked"}, f.report.Audit); d != "" {
		f.t.Errorf("audit (-want +got)\n%s", d)
	}
	for _, p := range []string{"linux-initramfs", "linux-disk", "shutdown"} {
		if !slices.ContainsFunc(f.report.Phases, func(r report.Phase) bool { return r.Name == p }) {
			f.t.Errorf("phase %s is not in the report", p)
		}
	}
	if e := f.report.Events; e.Malformed != 0 || e.Missing != 0 || e.Duplicate != 0 || e.BadStepIDs != 0 {
		f.t.Errorf("events: %+v", e)
	}
	f.private()
	if n := strings.Count(f.file("events.jsonl"), `"kind":"plan"`); n != 2 {
		f.t.Errorf("%d lives of the agent, want one in memory and one on the disk", n)
	}
	f.contains("the move", f.file("steps/007-improve-check_machine.log"), " / ext4 ")
	f.contains("importers", f.file("steps/013-improve-compare_payload.log"), "both importers agree on 2 files")
	f.contains("download", f.file("steps/015-build-ember-1.0-pass1.log"), "ember-1.0.tar is here and right", "installed")
	f.contains("after scripts", f.file("steps/016-improve-after.log"),
		"9-order-first.sh", "10-order-second.sh", "50-sign.sh", "51-upload.sh", "nameserver 1.1.1.1", "nameserver 10.0.2.3")
	console := f.file("console.log")
	f.contains("shutdown", console, "sysrq: Emergency Remount R/O", "sysrq: Power Off", "reboot: Power down")
	if strings.Contains(console, "Attempted to kill init") || strings.Contains(console, "Kernel panic") {
		f.t.Error("the kernel lost its init")
	}
}

// private checks that what the run has left is its owner's alone; what serves other programs, such as a mirror, lies below.
func (f *finished) private() {
	f.t.Helper()
	for _, dir := range []string{".", "steps", "disks"} {
		entries, err := os.ReadDir(filepath.Join(f.dir, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			f.t.Error(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || info.Mode().IsRegular() && info.Mode().Perm() != 0o600 || dir == "." && info.Mode().Perm()&0o077 != 0 {
				f.t.Errorf("%s/%s: %v, %v", dir, e.Name(), info.Mode(), err)
			}
		}
	}
	if info, err := os.Stat(f.dir); err != nil || info.Mode().Perm() != 0o700 {
		f.t.Errorf("the run folder: %v, %v", info.Mode(), err)
	}
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func TestSound(t *testing.T) {
	t.Parallel()
	f := boot(t)
	f.sound()
	f.file("qemu.log")
	f.contains("events", f.file("events.jsonl"), "eth0: 10.0.2.15/24 via 10.0.2.2", "10.0.2.15/24 is given back", `"kind":"done"`)
	if _, err := os.Stat(filepath.Join(f.dir, "disks")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a sound run keeps its disks: %v", err)
	}
	if strings.Contains(f.stdout, "\x1b") {
		t.Errorf("escape sequences in a pipe: %q", f.stdout)
	}
	f.contains("progress", f.stdout, "phase linux-initramfs", "jump: move_disk", "phase linux-disk", "improve: after")
}

// The amd64 agent on the amd64 kernel lives the same life, with the same i386 userland, and with a static address.
func TestAMD64(t *testing.T) {
	t.Parallel()
	f := boot(t, "--guest", "amd64", "--net-static", "eth0,10.0.2.77/24,10.0.2.2", "--net-dns", "1.1.1.1", "--net-dns", "10.0.2.3")
	f.sound()
	f.contains("events", f.file("events.jsonl"), `"kind":"net"`, "eth0: 10.0.2.77/24 via 10.0.2.2, static")
}

// The agent needs no SSE2, and no more memory than an old machine has.
func TestPentium2(t *testing.T) {
	t.Parallel()
	boot(t, "--cpu", "pentium2", "--qemu-ram", "256", "--cores", "1").sound()
}

// A kernel as live-bootstrap's is: every driver is there when PID 1 starts, none can be loaded, there are no files of
// modules, and no virtio. Something else loads what has to be built in, and locks the door behind it.
func TestKernelWithoutModules(t *testing.T) {
	t.Parallel()
	agent, err := os.ReadFile(filepath.Join(bin, "kindling-init-386"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := kernel(t).Modules(debian.DefaultModules())
	if err != nil {
		t.Fatal(err)
	}
	first := "#!/bin/bash\nset -e\nexport PATH=/usr/bin\nmkdir -p /proc\nmount proc /proc\n"
	for _, m := range set.Modules {
		first += "insmod /" + m.Path + "\n"
	}
	first += "echo 1 > /proc/sys/kernel/modules_disabled\numount /proc\n" +
		"rm -r /usr/lib/modules /etc/modules-load.d /usr/bin/mount /usr/bin/umount /usr/bin/insmod\nexec /agent\n"
	program := early(t)
	f := boot(t, "--qemu-cmd", twist{files: map[string]string{
		"init": first, "agent": string(agent), "usr/bin/mount": program, "usr/bin/umount": program, "usr/bin/insmod": program,
	}}.qemu(t))
	f.sound()
	if console := f.file("console.log"); strings.Contains(console, "kernel modules loaded") || strings.Contains(console, "virtio") {
		t.Error("there were modules, or virtio")
	}
}

// Each way to fail has an exit status of its own and one line with phase, step and log.
func TestVariants(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		variant     string
		status      int
		phase, step string
		line        string // what the line says besides
		log         string // what the log of the step says
		never       string // step that must not have begun
	}{
		{"after-fails", 11, "linux-disk", "016-improve-after", "60-fails.sh", "fails on purpose", ""},
		{"build-fails", 10, "linux-disk", "011-build-tinder-1.0-pass1", "build: tinder-1.0", "missing.c", "012-build-payload-import-1.0-pass1"},
		{"payload-cut", 12, "linux-disk", "008-improve-import_payload_rest", "cut short", "offset", "009-improve-finalize_fhs"},
		{"panic", 13, "linux-disk", "010-improve-setup_repo", "Kernel panic", "crashing the kernel on purpose", "011-build-tinder-1.0-pass1"},
	} {
		t.Run(tt.variant, func(t *testing.T) {
			t.Parallel()
			f := boot(t, "--variant", tt.variant)
			if f.status != tt.status || f.report.ExitStatus != tt.status || f.report.Step != tt.step || f.report.Phase != tt.phase {
				t.Errorf("status %d, report %d, %s, %s; want %d, %s, %s", f.status, f.report.ExitStatus, f.report.Step,
					f.report.Phase, tt.status, tt.step, tt.phase)
			}
			lines := strings.Split(strings.TrimSpace(f.stderr), "\n")
			last := lines[len(lines)-1]
			f.contains("the line", last, "kindling: ", tt.phase)
			f.contains("the line", last, tt.line)
			f.contains("the line", last, filepath.Join(f.dir, "steps", tt.step+".log"))
			f.contains("the log", f.file(filepath.Join("steps", tt.step+".log")), tt.log)
			if strings.Contains(f.file("console.log"), "an after script has run behind one that failed") {
				t.Error("70-never.sh has run")
			}
			if tt.never != "" && slices.ContainsFunc(f.report.Steps, func(s report.Step) bool { return s.ID == tt.never }) {
				t.Errorf("%s has run", tt.never)
			}
		})
	}
}
