// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/initramfs"
	"kindling/steps/overlay"
)

// folder reads a folder of files that are laid over an initramfs.
func folder(t *testing.T, name string) map[string]string {
	t.Helper()
	files := map[string]string{}
	fsys := os.DirFS(name)
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// stub builds the program of the tests that runs in the guest.
func stub(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "stub")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, "./stub")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=386", "GO386=softfloat")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// guest is a machine that a test drives itself, by its first serial line.
type guest struct {
	t     *testing.T
	input io.Writer
	seen  *transcript
	cmd   *exec.Cmd
}

// withFiles is the initramfs of a run with files laid over it.
func withFiles(ctx context.Context, t *testing.T, f *finished, files map[string]string) string {
	t.Helper()
	var layer []initramfs.File
	for name, data := range files {
		layer = append(layer, initramfs.Regular(name, 0o755, []byte(data)))
	}
	extra := filepath.Join(t.TempDir(), "extra.cpio")
	if _, err := initramfs.Create(ctx, extra, initramfs.Files(layer...)); err != nil {
		t.Fatal(err)
	}
	initrd, err := os.Create(filepath.Join(t.TempDir(), "initrd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(f.dir, "disks", "initramfs.cpio"), extra} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := initrd.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := initrd.Close(); err != nil {
		t.Fatal(err)
	}
	return initrd.Name()
}

// start boots the kernel and the initramfs of a run, with files laid over the initramfs.
func start(ctx context.Context, t *testing.T, f *finished, files map[string]string, cmdline string, args ...string) *guest {
	t.Helper()
	initrd := withFiles(ctx, t, f, files)
	for _, same := range []string{"-kernel", "-m", "-smp"} {
		args = append(args, same, f.report.Argv[slices.Index(f.report.Argv, same)+1])
	}
	g := &guest{t: t, seen: &transcript{}}
	g.cmd = exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{"-accel", "tcg", "-nodefaults", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-initrd", initrd, "-append", "console=ttyS0 " + cmdline}, args...)...)
	g.cmd.Stdout, g.cmd.Stderr = g.seen, g.seen
	var err error
	if g.input, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

// waitFor waits until the machine has said something.
func (g *guest) waitFor(ctx context.Context, text string) {
	g.t.Helper()
	for !strings.Contains(g.seen.String(), text) {
		if ctx.Err() != nil || g.cmd.ProcessState != nil {
			g.t.Fatalf("it never said %q:\n%s", text, g.seen)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A bootstrap with everything that makes a finished system; and that system, booted again.
func TestSystem(t *testing.T) {
	t.Parallel()
	files := folder(t, "testdata/system")
	helpers, err := os.ReadFile("../../steps/demo/tree/steps/helpers.sh")
	if err != nil {
		t.Fatal(err)
	}
	files["steps/helpers.sh"] = string(helpers) + files["steps/uninstall.sh"]
	for _, name := range []string{"50-sign.sh", "51-upload.sh"} { // they need what is uninstalled, and what is not built
		files["steps/after/"+name] = ":\n"
	}
	bootable := overlaid(t, files["steps/improve/make_bootable.sh"])
	for _, name := range []string{"steps/improve/make_bootable.sh", "steps/improve/make_bootable-tree.sh"} {
		files[name] = string(bootable[name].Data)
	}
	f := boot(t, "--keep", "--qemu-cmd", twist{files: files, args: "panic=10"}.qemu(t))
	if f.status != 0 {
		t.Fatalf("status %d: %s\n%s", f.status, f.report.Line, tail(f.file("console.log"), 60))
	}
	f.contains("swap", f.file("steps/008-improve-swap.log"), "making /swapfile, 24 MiB", "/swapfile is in use")
	show := f.file("steps/015-improve-after.log")
	f.contains("the system", show, "/init is the agent", "this is the shell script", "linux /boot/vmlinuz root=PARTUUID=", "-01 rootwait rw init=/init console=ttyS0\n",
		"grub-install /dev/sd", "/swapfile", "/etc/mtab -> /proc/mounts", "nameserver 1.1.1.1", "tinder is gone", "tinder-1.0_0.tar.bz2")
	t.Run("finished", func(t *testing.T) { finishedSystem(t, f) })
	t.Run("without the agent", func(t *testing.T) { shellHandoff(t, f, bootable) })
}

// The scripts of a real tree do their work under the agent: its helpers build, install and uninstall a package, its
// make_bootable writes GRUB's configuration and /init, its update_checksums the sums, its swap.sh (which the agent would
// take over, so it has another name) swaps. GRUB's own programs are not real, nor mkswap and swapon.
func TestTreeScripts(t *testing.T) {
	tree := os.Getenv("KINDLING_TREE")
	if tree == "" {
		t.Skip("KINDLING_TREE names no live-bootstrap checkout")
	}
	files := folder(t, "testdata/system")
	for _, name := range []string{"steps/helpers.sh", "steps/improve/make_bootable.sh", "steps/improve/update_checksums.sh"} {
		data, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	swap, err := os.ReadFile(filepath.Join(tree, "steps/improve/swap.sh"))
	if err != nil {
		t.Fatal(err)
	}
	files["steps/improve/tree_swap.sh"] = string(swap)
	files["steps/manifest"] = strings.Replace(files["steps/manifest"], "improve: swap\n", "improve: tree_swap\n", 1)
	files["usr/bin/mkswap"], files["usr/bin/swapon"] = early(t), early(t)
	files["steps/improve/choose.sh"] += "rm /swapfile\n" // the tree's script takes what is there
	files["steps/improve/choose.sh"] += "echo UPDATE_CHECKSUMS=True >> /steps/bootstrap.cfg\n"
	files["steps/tinder-1.0/pass1.sh"] = "src_compile() { tcc -o tinder tinder.c; }\n" +
		"src_install() { mkdir -p \"${DESTDIR}${PREFIX}/bin\"; cp tinder \"${DESTDIR}${PREFIX}/bin\"; }\n"
	files["usr/libexec/rmt"] = "" // the tree takes it for a sign of a tar that unpacks everything
	files["usr/bin/grub-probe"] = "#!/bin/bash\necho 'hd0,msdos1 '\n"
	files["usr/bin/grub-install"] += "mkdir -p /boot/grub\n"
	files["steps/after/90-show.sh"] = strings.ReplaceAll(files["steps/after/90-show.sh"], "head -n 2", "cat")
	for _, name := range []string{"50-sign.sh", "51-upload.sh"} {
		files["steps/after/"+name] = ":\n"
	}
	f := boot(t, "--keep", "--qemu-cmd", twist{files: files, args: "panic=10"}.qemu(t))
	if f.status != 0 {
		t.Fatalf("status %d: %s\n%s", f.status, f.report.Line, tail(f.file("console.log"), 80))
	}
	f.contains("swap", f.file("steps/008-improve-tree_swap.log"), "Making swap...")
	f.contains("build", f.file("steps/010-build-tinder-1.0-pass1.log"), "tinder-1.0: creating package.", "tinder-1.0: build successful")
	f.contains("uninstall", f.file("steps/011-uninstall-tinder-1.0.log"), "tinder-1.0: uninstalling.")
	f.contains("sums", f.file("steps/014-improve-update_checksums.log"), "  tinder-1.0_0.tar.bz2")
	f.contains("the system", f.file("steps/015-improve-after.log"), "/init is the agent", "swapon /swapfile", "openvt", "set root='hd0,msdos1'",
		"linux /boot/vmlinuz root=PARTUUID=", "-01 rootwait rw init=/init console=ttyS0\n", "grub-install /dev/sd", "/swapfile", "24572", "tinder is gone", "tinder-1.0_0.tar.bz2")
	console := f.file("console.log")
	f.contains("shutdown", console, "sysrq: Emergency Remount R/O", "sysrq: Power Off", "reboot: Power down")
	for _, bad := range []string{"kindling: swapoff", "do not end", "Attempted to kill init"} {
		if strings.Contains(console, bad) {
			t.Errorf("the shutdown: %q in:\n%s", bad, tail(console, 30))
		}
	}
	t.Run("finished", func(t *testing.T) { finishedSystem(t, f) })
	t.Log(f.file("steps/015-improve-after.log"))
}

// finishedSystem boots what the run has made, as its boot loader would: it comes up with swap, network and a shell, and
// goes when the shell ends.
func finishedSystem(t *testing.T, f *finished) {
	ctx, cancel := context.WithTimeout(t.Context(), patience/3)
	defer cancel()
	// Linux patches its getrandom when the pool is ready, and a processor of TCG that is in it just then can hang there: with
	// a seed that is before there is a shell, as in every run.
	g := start(ctx, t, f, map[string]string{"init": stub(t)}, "root=/dev/sda1 rootwait rw init=/init kindling.seed="+strings.Repeat("5a", 32),
		"-drive", "format=raw,file="+filepath.Join(f.dir, "disks", "target.img"), "-nic", "user,model=e1000")
	g.waitFor(ctx, "a shell is on /dev/ttyS0")
	g.waitFor(ctx, "10.0.2.15")
	time.Sleep(2 * time.Second) // a shell that ends at once is taken for that of a dead line
	if _, err := io.WriteString(g.input, "cat /proc/swaps; pwd; echo said-$((6*7)); exit\n"); err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	seen := g.seen.String()
	f.contains("console", seen, "this is the finished system", "a shell is on /dev/tty1", "/swapfile", "/steps", "said-42",
		"kindling: done", "reboot: Power down")
	if strings.Contains(seen, "taking over") || strings.Contains(seen, "Attempted to kill init") {
		t.Errorf("a finished run has gone on, or the kernel lost its init:\n%s", seen)
	}
}

// overlaid are the overlay's files for a run without the agent, of a tree with that make_bootable.
func overlaid(t *testing.T, bootable string) map[string]overlay.File {
	t.Helper()
	tree := fstest.MapFS{"steps/improve/make_bootable.sh": {Data: []byte(bootable)}}
	made, err := overlay.Apply(overlay.Input{Tree: tree, DoneEvent: true})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]overlay.File{}
	for _, file := range made.Files {
		files[file.Path] = file
	}
	return files
}

// shellHandoff makes of the disk one that has never had the agent, and boots it with two extra roots, by its shell /init.
// The first runs once; the second fails, which the host is told, and begins again at the next boot.
func shellHandoff(t *testing.T, f *finished, files map[string]overlay.File) {
	image := filepath.Join(f.dir, "disks", "target.img")
	withoutAgent(t, image, files)
	roots := t.TempDir()
	const pack = "src_compile() { echo x > x; }\nsrc_install() { mkdir -p \"${DESTDIR}/etc\"; cp x \"${DESTDIR}/etc/\"; }\n"
	for name, text := range map[string]string{
		"steps-camp/manifest":              "build: x-1.0\nimprove: end\n",
		"steps-camp/x-1.0/pass1.sh":        pack,
		"steps-camp/improve/end.sh":        "readlink /proc/1/exe >> /proof.camp\nls /external/repo-camp >> /proof.camp\n",
		"steps-hill/manifest":              "improve: begin\nimprove: fails_once\n",
		"steps-hill/improve/begin.sh":      "echo begun >> /proof.hill\n",
		"steps-hill/improve/fails_once.sh": "[ -e /failed ] || { touch /failed; ( exit 7 ); }\n",
	} {
		write(t, filepath.Join(roots, name), text)
	}
	initrd := withFiles(t.Context(), t, f, map[string]string{"init": stub(t)})
	script := filepath.Join(t.TempDir(), "qemu-with-initramfs") // Debian's kernel reads no disk without one
	write(t, script, fmt.Sprintf("#!/bin/bash\nexec qemu-system-x86_64 -initrd %q \"$@\"\n", initrd))
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	machine := []string{"--qemu", "--qemu-cmd", script, "--kernel", f.report.Argv[slices.Index(f.report.Argv, "-kernel")+1], "--stage0-image"}
	first := boot(t, append(machine, image, "--extra-root", filepath.Join(roots, "steps-camp"), "--extra-root", filepath.Join(roots, "steps-hill"),
		"--extra-build", "camp", "--extra-build", "hill")...)
	const line = "extra root hill: . /steps-hill/improve/fails_once.sh failed with exit status 7"
	if first.status != 10 || !strings.HasPrefix(first.report.Line, line) {
		t.Fatalf("the root that fails: status %d: %s\n%s", first.status, first.report.Line, tail(first.file("console.log"), 60))
	}
	first.contains("console", first.file("console.log"), "this is the shell script", "x-1.0: installed", line, "reboot: Power down")
	again := boot(t, append(machine, filepath.Join(first.dir, "disks", "stage0.img"))...)
	if again.status != 0 {
		t.Fatalf("the next boot: status %d: %s\n%s", again.status, again.report.Line, tail(again.file("console.log"), 60))
	}
	disk, err := diskimage.Open(t.Context(), imagefile.Chain{
		{Path: filepath.Join(again.dir, "disks", "stage0.qcow2"), Format: imagefile.QCOW2},
		{Path: filepath.Join(first.dir, "disks", "stage0.img"), Format: imagefile.Raw},
	}, diskimage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	for name, want := range map[string]string{"proof.camp": "/usr/bin/bash\nx-1.0_0.tar.bz2\n", "proof.hill": "begun\nbegun\n", "etc/x": "x\n"} {
		got, err := fs.ReadFile(disk, name)
		if err != nil || string(got) != want {
			t.Errorf("/%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

// withoutAgent takes the agent and its journal off a disk: the /init is the tree's.
func withoutAgent(t *testing.T, image string, files map[string]overlay.File) {
	t.Helper()
	disk, err := diskimage.Open(t.Context(), imagefile.Chain{{Path: image, Format: imagefile.Raw}}, diskimage.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	own, err := fs.ReadFile(disk, "kindling/init.tree")
	if err != nil {
		t.Fatal(err)
	}
	changes := []diskimage.Change{
		{Path: "kindling", Remove: true},
		{Path: "init", Mode: 0o755, Data: own},
	}
	for _, name := range []string{"steps/extra-handoff.sh", "steps/after/999999999-kindling-done.sh"} {
		changes = append(changes, diskimage.Change{Path: name, Mode: 0o644, Data: files[name].Data})
	}
	if err := disk.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
}
