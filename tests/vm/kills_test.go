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
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/diskimage"
	"kindling/host/imagefile"
	"kindling/host/resume"
	"kindling/internal/event"
	"kindling/internal/ext4"
	"kindling/tests/powercut"
)

// killHelpers is a helpers.sh that does to a system what live-bootstrap's does, at the moments where a cut hurts most: it
// counts revisions by files, removes bash and bzip2 before their packages are unpacked, and cannot uninstall twice. At
// each of these moments it says CUT once, and waits to be killed. That it was there is on the disk by then, which is a
// commit of the filesystem's journal and so makes what the step has done before last, too.
const killHelpers = `umask 022
cut() {
    [ -e "/armed/$1" ] && return
    mkdir -p /armed; touch "/armed/$1"; sync "/armed/$1"
    grep -q nocut /proc/cmdline && return
    echo "CUT $1"
    sleep 100
}
pack() {
    tar -C "$1" --sort=name --numeric-owner --owner=0 --group=0 --mtime=@0 -cf "$2" .
    bzip2 --best "$2"
}
build() {
    local pkg=$1 revision archive tar=tar bzip2=bzip2
    revision=$(find /external/repo -name "${pkg}_*" | wc -l)
    archive=/external/repo/${pkg}_${revision}.tar
    mkdir -p "${DESTDIR}/usr/bin"
    cd "${SRCDIR}/${pkg}"
    . "./$2"
    src_install
    case "${pkg}" in plain-*) head -c 777 /dev/zero > "${archive}"; cut packing; rm "${archive}" ;; esac
    pack "${DESTDIR}" "${archive}"
    case "${pkg}" in
        tar-*) cp /usr/bin/tar /tmp/tar; rm /usr/bin/tar; tar=/tmp/tar; cut "${pkg}" ;;
        bash-*) rm /usr/bin/bash; cut "${pkg}" ;;
        bzip2-*) mv /usr/bin/bzip2 /tmp/bzip2; bzip2=/tmp/bzip2; cut "${pkg}" ;;
    esac
    "${bzip2}" -dc "${archive}.bz2" | "${tar}" -C / --keep-directory-symlink -xpf -
    rm -rf "${DESTDIR}" /tmp/tar /tmp/bzip2
    echo "${pkg}: installed"
}
uninstall() {
    rm "/usr/bin/$1-a"
    cut uninstall
    rm "/usr/bin/$1-b"
}
`

// targets are the steps that are cut at such a moment, and what the moment is called.
var targets = map[string]string{
	"build: plain-1.0": "packing", "build: bash-9.0": "bash-9.0", "build: tar-9.0": "tar-9.0", "build: bzip2-9.0": "bzip2-9.0",
	"uninstall: plain-1.0": "uninstall",
}

// killTree is a small tree with every step that is dangerous to cut, and as many harmless ones as are asked for.
func killTree(fillers int) map[string]string {
	manifest := []string{"build: bash-debian", "build: bash-debian", "jump: linux", "improve: populate_device_nodes", "jump: move_disk", "improve: setup_repo"}
	files := step(`mkdir -p /external/repo
: > /steps/SHA256SUMS.pkgs
for name in bash tar bzip2; do
    rm -rf /tmp/sums; mkdir -p /tmp/sums/usr/bin
    cp "$(command -v ${name})" /tmp/sums/usr/bin/
    rm -f "/tmp/${name}-9.0_0.tar.bz2"
    pack /tmp/sums "/tmp/${name}-9.0_0.tar"
    (cd /tmp; sha256sum "${name}-9.0_0.tar.bz2") >> /steps/SHA256SUMS.pkgs
done
`)
	files["steps/helpers.sh"] = killHelpers
	add := func(pkg, install string) {
		manifest = append(manifest, "build: "+pkg)
		files["steps/"+pkg+"/pass1.sh"] = "src_install() { " + install + "; }\n"
	}
	filler := func(from, to int) {
		for i := from; i < to; i++ {
			add(fmt.Sprintf("filler%03d-1.0", i), fmt.Sprintf("for n in 1 2 3 4 5; do seq %d > \"${DESTDIR}/usr/bin/filler%03d-$n\"; done", 100*i, i))
		}
	}
	add("plain-1.0", `echo a > "${DESTDIR}/usr/bin/plain-1.0-a"; echo b > "${DESTDIR}/usr/bin/plain-1.0-b"`)
	for i, name := range []string{"bash", "tar", "bzip2"} {
		filler(i*fillers/4, (i+1)*fillers/4)
		add(name+"-9.0", `cp "$(command -v `+name+`)" "${DESTDIR}/usr/bin/"`)
	}
	manifest = append(manifest, "uninstall: plain-1.0")
	filler(3*fillers/4, fillers)
	add("last-1.0", `echo last > "${DESTDIR}/usr/bin/last"`)
	files["steps/manifest"] = strings.Join(manifest, "\n") + "\n"
	return files
}

// killing is one run on a disk that loses its power.
type killing struct {
	t      *testing.T
	disk   *powercut.Disk
	folder string // of the run
	script string // in QEMU's place
	seen   int    // bytes of the events that were looked at
	kills  int
	after  int64 // writes until the next cut, once the machine is on the disk; 0: none
	where  []string
	cause  string            // of the cut that comes, or came, in this life
	mended int               // lives that found something torn that Linux refuses to mount
	open   map[string]string // of targets, those that are still to come
}

// newKilling prepares a run. With target it is cut at every of its targets; without, at none.
func newKilling(t *testing.T, files map[string]string, target bool, seed uint64) *killing {
	t.Helper()
	needs(t, "qemu-system-x86_64", "qemu-img")
	base := t.TempDir()
	k := &killing{t: t, folder: filepath.Join(base, "run")}
	more := "nocut"
	if target {
		more, k.open = "", maps.Clone(targets)
	}
	socket := filepath.Join(base, "s")
	var err error
	if k.disk, err = powercut.Serve(filepath.Join(k.folder, "disks/target.img"), socket, seed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.disk.Close(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	k.script = twist{files: files, args: more, before: fmt.Sprintf(`for i in "${!args[@]}"; do
		case ${args[i]} in *target.img*) args[i]=%q ;; esac
	done`, "file=nbd:unix:"+socket+",format=raw,if=ide,id=drive0")}.qemu(t)
	return k
}

// life boots the run, for the first time or again, and gives the exit status and what was said.
func (k *killing) life() (int, string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	args := []string{"run", "--accel", "tcg", "--keep", "--run", k.folder, "--qemu-cmd", k.script}
	if _, err := os.Stat(k.folder); err == nil {
		args = []string{"run", "--accel", "tcg", "--keep", "--qemu-cmd", k.script, "--resume", k.folder}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "kindling"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	var said bytes.Buffer
	cmd.Stderr = &said
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	for {
		select {
		case err := <-done:
			if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				k.t.Fatalf("run: %v\n%s", err, said.String())
			}
			k.look()
			return cmd.ProcessState.ExitCode(), said.String()
		case <-time.After(20 * time.Millisecond):
			k.look()
		}
	}
}

// look reads the events that are new, and cuts the power where they say so. A step that has to be cut at a certain moment
// is not cut at any other before: chance is taken back when it starts.
func (k *killing) look() {
	data, err := os.ReadFile(filepath.Join(k.folder, "events.jsonl"))
	if err != nil {
		return
	}
	for {
		line, _, whole := bytes.Cut(data[min(k.seen, len(data)):], []byte("\n"))
		if !whole {
			return
		}
		k.seen += len(line) + 1
		e, err := event.Decode(line)
		if err != nil {
			continue // a machine that was killed has cut its last line short
		}
		cut, isCut := strings.CutPrefix(e.Text, "CUT ")
		_, isTarget := k.open[e.Name]
		switch {
		case isCut:
			k.cause = "in " + cut
			maps.DeleteFunc(k.open, func(_, moment string) bool { return moment == cut })
			k.disk.Cut()
		case isTarget && e.Status == event.StatusStart:
			k.disk.CutAfter(0)
		case e.Name == "linux-disk" && k.after > 0:
			k.cause = fmt.Sprintf("after %d writes", k.after)
			k.disk.CutAfter(k.after)
			k.after = 0
		}
	}
}

// image is the run's disk.
func (k *killing) image() string { return filepath.Join(k.folder, "disks/target.img") }

// snapshot lists everything on a run's disk that a kill must not change: names, modes, owners and bytes. The journal,
// the logs and what else is about this boot and no other are left out, and so is which name the disk had.
func snapshot(t *testing.T, path string) map[string]string {
	t.Helper()
	image, err := diskimage.Open(t.Context(), imagefile.Chain{{Path: path, Format: imagefile.Raw}}, diskimage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	got := make(map[string]string)
	err = fs.WalkDir(image, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name {
		case "kindling/journal", "kindling/log", "kindling/seq", "kindling/before", "lost+found":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		got[name], err = describe(image.FS, name, d)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func describe(image *ext4.FS, name string, d fs.DirEntry) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	own := info.(*ext4.Info)
	text := fmt.Sprintf("%s %d:%d", info.Mode(), own.UID(), own.GID())
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := image.ReadLink(name)
		return text + " -> " + to, err
	case name == "steps/bootstrap.cfg":
		data, err := image.ReadFile(name, 1<<20)
		return text + " " + strings.NewReplacer("DISK=sda1\n", "DISK=sdX1\n", "DISK=sdb1\n", "DISK=sdX1\n").Replace(string(data)), err
	case info.Mode().IsRegular():
		f, err := image.Open(name)
		if err != nil {
			return "", err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return "", err
		}
		text += fmt.Sprintf(" %d %x", info.Size(), sum.Sum(nil))
	}
	return text, nil
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// A machine loses its power, and with it what was not flushed to its disk: inside the packing of a package, inside the
// replacement of bash, of tar and of bzip2, inside an uninstall, and at random moments. It is resumed each time with
// nothing but `kindling run --resume`, and in the end its disk is the one of a run that nobody has disturbed.
//
// SOAK_KILLS is the number of kills, SOAK_SEED what chance depends on; `make soak` sets them.
func TestKills(t *testing.T) {
	t.Parallel()
	want, seed := number(t, "SOAK_KILLS", 7), uint64(number(t, "SOAK_SEED", 1))
	t.Logf("to repeat: make soak SOAK_KILLS=%d SOAK_SEED=%d", want, seed)
	files := killTree(want)
	calm := newKilling(t, files, false, seed)
	if status, said := calm.life(); status != 0 {
		t.Fatalf("undisturbed: status %d: %s\n%s", status, said, tail(readFile(t, filepath.Join(calm.folder, "console.log")), 60))
	}
	reference := snapshot(t, calm.image())
	d := openRun(t, calm.image())
	t.Logf("undisturbed: %d steps, %d writes, %d files", len(d.History.Steps), calm.disk.Writes(), len(reference))
	const ofTheMove = 500 // writes, about: they are no part of what is cut
	perStep := max(1, (calm.disk.Writes()-ofTheMove)/int64(len(d.History.Steps)))
	random := rand.New(rand.NewPCG(seed, 2))
	if want > 0 && want < len(targets) {
		t.Fatalf("SOAK_KILLS=%d: at least %d, one at each of the moments that hurt most", want, len(targets))
	}
	for kills, chain := 0, 1; kills < want; chain++ {
		k := newKilling(t, files, want-kills >= len(targets), seed+uint64(chain))
		k.run(random, want-kills, perStep)
		if len(k.open) > 0 {
			t.Errorf("chain %d, kills %q: none in %v", chain, k.where, k.open)
		}
		if diff := cmp.Diff(reference, snapshot(t, k.image())); diff != "" {
			t.Fatalf("chain %d, kills %q: the disk is not that of an undisturbed run (-want +got)\n%s", chain, k.where, diff)
		}
		kills += k.kills
		t.Logf("chain %d: %d kills (%d in all), %d sectors lost, mended %d times: %s", chain, k.kills, kills, k.disk.Lost(), k.mended, strings.Join(k.where, ", "))
	}
}

// run lets a run live until it ends well, with up to want kills.
func (k *killing) run(random *rand.Rand, want int, perStep int64) {
	for {
		status, said := k.life()
		if strings.Contains(said, "a power cut has torn") {
			k.mended++
			k.t.Log(said)
		}
		if status == 0 {
			return
		}
		k.kills++
		k.where, k.cause = append(k.where, k.cause), ""
		if status != 15 || !strings.Contains(said, "signal killed") || k.where[k.kills-1] == "" {
			k.t.Fatalf("life %d, kills %q: status %d: %s\n%s", k.kills, k.where, status, said, tail(readFile(k.t, filepath.Join(k.folder, "console.log")), 60))
		}
		d := openRun(k.t, k.image())
		next := d.History.Next()
		if next == 0 {
			return // it was cut behind its last step
		}
		if next < 6 {
			k.t.Fatalf("life %d, kills %q: next step %d of %+v", k.kills, k.where, next, d.History)
		}
		if left := int64(want - k.kills - len(k.open)); left > 0 { // so that the kills are spread over what is left
			k.after = 1 + random.Int64N(max(1, 2*perStep*int64(d.History.Total-next+1)/(left+1)))
		}
	}
}

// openRun reads a run's journal off its disk.
func openRun(t *testing.T, path string) *resume.Disk {
	t.Helper()
	d, err := resume.Open(t.Context(), imagefile.Chain{{Path: path, Format: imagefile.Raw}}, diskimage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
