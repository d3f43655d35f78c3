// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kindling/host/report"
)

// blocks are the fenced blocks of a Markdown document with that word behind the fence.
func blocks(text, word string) []string {
	var found []string
	for {
		_, after, ok := strings.Cut(text, "\n```"+word+"\n")
		if !ok {
			return found
		}
		block, rest, _ := strings.Cut(after, "\n```\n")
		found, text = append(found, block+"\n"), rest
	}
}

// The worked example of docs/extending.md, as it stands there: from an empty folder to two extra roots that have run in
// the order in which they were asked for, between the main steps and the after scripts.
func TestExtendingDocument(t *testing.T) {
	t.Parallel()
	needs(t, "qemu-system-x86_64", "depmod", "dpkg-deb", "apt-get")
	document, err := os.ReadFile("../../docs/extending.md")
	if err != nil {
		t.Fatal(err)
	}
	commands, wanted := blocks(string(document), "sh"), blocks(string(document), "text")
	if len(commands) != 5 || len(wanted) != 1 {
		t.Fatalf("%d blocks of commands, %d of output; want 5 and 1", len(commands), len(wanted))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	// Where the run folder is, and that there is no KVM, is not the document's business.
	cmd := exec.CommandContext(ctx, "bash", "-e", "-c",
		`kindling() { verb=$1; shift; command kindling "$verb" --accel tcg --keep --run run "$@"; }`+"\n"+strings.Join(commands, ""))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	f := &finished{t: t, dir: filepath.Join(dir, "run"), stdout: stdout.String()}
	if f.report, err = report.Read(filepath.Join(f.dir, "report.json")); err != nil {
		t.Fatal(err)
	}
	plain := regexp.MustCompile(`(?m)^\[ *[0-9.]+ s\] | \([0-9.]+ s\)$`).ReplaceAllString(f.stdout, "")
	f.contains("the output", "\n"+plain, strings.SplitAfter("\n"+wanted[0], "\n")...)
	f.contains("the check", f.file("steps/camp.004-improve-check.log"),
		"the kettle is boiling", "tea, coffee, tea", "kettle-1.0_0.tar.bz2", "menu-1.0_0.tar.bz2", "mug-1.0_0.tar.bz2")
	f.contains("the second root", f.file("steps/spark.004-improve-check_root.log"), "the extra root spark is as it should be")
	seen := map[string]bool{}
	for i, s := range f.report.Steps {
		if want := i + f.report.Steps[0].Number; s.Number != want || s.Status != "ok" || seen[s.ID] {
			t.Errorf("step %s: number %d, want %d; %s", s.ID, s.Number, want, s.Status)
		}
		seen[s.ID] = true
	}
	laterRoot(t, filepath.Join(dir, "run", "disks", "target.img"))
}

// laterRoot asks for one more extra root on the disk of a run that is over, cuts the power in the middle of it, goes on,
// and boots what has become of it without asking for anything.
func laterRoot(t *testing.T, image string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	before, root := dataDigest(t, image), filepath.Join(t.TempDir(), "steps-later")
	for name, text := range map[string]string{
		"manifest":         "build: x-1.0\nimprove: pause\nimprove: end\n",
		"x-1.0/pass1.sh":   "src_compile() { echo x > x; }\nsrc_install() { mkdir -p \"${DESTDIR}/etc\"; cp x \"${DESTDIR}/etc/\"; }\n",
		"improve/pause.sh": "[ -e /paused ] || { touch /paused; sync; echo pausing for the power cut; sleep 600; }\n",
		"improve/end.sh":   "ls /external/repo-later /external/repo-camp\n",
	} {
		write(t, filepath.Join(root, name), text)
	}
	again, err := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "run", "--qemu", "--stage0-image", image, "--run",
		filepath.Join(t.TempDir(), "run"), "--extra-build", "spark").CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 || !strings.Contains(string(again), "done in it already: spark") {
		t.Errorf("a root that is done, asked for again: %v\n%s", err, again)
	}
	cmd, first := command(ctx, t, "--qemu", "--stage0-image", image, "--extra-root", root, "--extra-build", "later")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, filepath.Join(first, "console.log"), "pausing for the power cut")
	out, err := exec.CommandContext(ctx, "pgrep", "-P", strconv.Itoa(cmd.Process.Pid), "qemu").Output()
	if err != nil {
		t.Fatalf("no QEMU below kindling: %v", err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(out))[0])
	if err = errors.Join(err, syscall.Kill(pid, syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 15 {
		t.Fatalf("the run whose power was cut: %v", err)
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "run", "--accel", "tcg", "--keep", "--resume", first).CombinedOutput(); err != nil {
		t.Fatalf("resume: %v\n%s", err, out)
	}
	f := &finished{t: t, dir: first}
	if f.report, err = report.Read(filepath.Join(first, "report.json")); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, s := range f.report.Steps {
		ids = append(ids, s.ID)
	}
	if want := "later.002-improve-pause later.003-improve-end"; !strings.HasSuffix(strings.Join(ids, " "), want) {
		t.Errorf("steps behind the power cut: %q, want %s", ids, want)
	}
	f.contains("the end", f.file("steps/later.003-improve-end.log"), "/external/repo-camp", "mug-1.0_0.tar.bz2", "/external/repo-later", "x-1.0_0.tar.bz2")
	over := filepath.Join(first, "disks", "stage0.img")
	half := dataDigest(t, over)
	f = boot(t, "--qemu", "--stage0-image", over)
	if f.status != 0 || len(f.report.Steps) != 0 {
		t.Errorf("a boot when all is done: status %d, steps %v\n%s", f.status, f.report.Steps, f.stderr)
	}
	if dataDigest(t, image) != before || dataDigest(t, over) != half {
		t.Error("an image that was given has changed")
	}
	refused, err := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "export", "--run", f.dir).CombinedOutput()
	if err == nil || !strings.Contains(string(refused), "add --allow "+over) {
		t.Errorf("an image outside the run folder, unasked: %v\n%s", err, refused)
	}
	exported, err := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "export", "--run", f.dir, "--allow", over, "--json").CombinedOutput()
	if err != nil || !strings.Contains(string(exported), `"root": "steps-later"`) {
		t.Errorf("export: %v\n%s", err, exported)
	}
}

// dataDigest is a digest of what a sparse file holds, and where.
func dataDigest(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	for at := int64(0); ; {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return string(hash.Sum(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		if at, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(hash, begin, at)
		if _, err := io.Copy(hash, io.NewSectionReader(f, begin, at-begin)); err != nil {
			t.Fatal(err)
		}
	}
}

// program copies a program of this machine, with the libraries it is linked with, to where a tree's stage0 puts it into a
// chroot.
func program(t *testing.T, tree string, names ...string) {
	t.Helper()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", path, err)
		}
		for _, file := range append(regexp.MustCompile(`/\S+`).FindAllString(string(out), -1), path) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			at := file
			if file == path {
				at = "/usr/bin/" + name
			}
			at = filepath.Join(tree, "seed/stage0-posix", at)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, data, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Without the agent the roots run by their generated scripts, before the after scripts; one that fails fails the whole
// bootstrap.
func TestChrootExtra(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to run this test as root")
		}
		t.Skip("chroot needs root; CI has it")
	}
	t.Parallel()
	tree := chrootTree(t, "run after.sh")
	program(t, tree, "bash", "sed", "mkdir", "rm", "mv", "tar", "bzip2", "find", "wc", "sha256sum", "cat")
	for name, from := range map[string]string{"steps/helpers.sh": "steps/helpers.sh", "steps/env": "steps/env"} {
		data, err := os.ReadFile(filepath.Join("../../steps/demo/tree", from))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(tree, name), string(data))
	}
	write(t, filepath.Join(tree, "steps/improve/after.sh"), "for script in /steps/after/*.sh; do bash \"${script}\"; done\n")
	for _, name := range []string{"one", "two"} {
		root := filepath.Join(tree, "steps-"+name)
		write(t, filepath.Join(root, "manifest"), "define: BY = "+name+"\nbuild: same-1.0\nimprove: note\n")
		write(t, filepath.Join(root, "same-1.0/pass1.sh"),
			"src_compile() { echo \"${BY}\" > by; }\nsrc_install() { mkdir -p \"${DESTDIR}/etc\"; cat by > \"${DESTDIR}/etc/"+name+"\"; }\n")
		write(t, filepath.Join(root, "improve/note.sh"), "echo \"${SRCDIR} has built $(cat /etc/"+name+")\"\n")
	}
	for _, tt := range []struct {
		name   string
		fails  bool
		status int
	}{{"sound", false, 0}, {"fails", true, 10}} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fails {
				write(t, filepath.Join(tree, "steps-two/improve/note.sh"), "echo no; exit 3\n")
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			dir := filepath.Join(t.TempDir(), "run")
			cmd := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "run", "--tree", tree, "--chroot", "--run", dir, "--keep",
				"--extra-build", "two", "--extra-build", "one")
			out, _ := cmd.CombinedOutput()
			f := &finished{t: t, dir: dir}
			console := f.file("console.log")
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Fatalf("status %d, want %d\n%s\n%s", got, tt.status, out, console)
			}
			if tt.fails {
				f.contains("console", console, "same-1.0: installed", "no\n")
				if _, err := os.Stat(filepath.Join(dir, "disks/kindling/done")); err == nil || strings.Contains(console, "steps-one") {
					t.Errorf("something has run behind the failure:\n%s", console)
				}
				return
			}
			f.contains("console", console, "/steps-two has built two", "/steps-one has built one")
			for _, name := range []string{"one", "two"} {
				f.file(fmt.Sprintf("disks/external/repo-%s/same-1.0_0.tar.bz2", name))
			}
			f.contains("bootstrap.cfg", f.file("disks/steps/bootstrap.cfg"), "EXTRA_BUILD=two,one\n", "BY=two\n", "BY=one\n")
			if _, err := os.Stat(filepath.Join(dir, "disks/external/repo")); err == nil {
				t.Error("something is in the main root's repository")
			}
		})
	}
}

// write writes a file of a test, with the folders above it.
func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
