// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kindling/host/debian"
	"kindling/host/initramfs"
	"kindling/host/report"
)

// twist is what a test changes about a machine behind kindling's back: a script in QEMU's place does it.
type twist struct {
	files   map[string]string // laid over the initramfs
	modules []string          // of the kernel, besides those that the embedded default has
	args    string            // added to the kernel command line
	before  string            // bash, run before QEMU with its arguments in args; ${disks} is the folder of the run's disks
}

// qemu writes the script and gives its path.
func (w twist) qemu(t *testing.T) string {
	t.Helper()
	needs(t, "qemu-system-x86_64")
	dir := t.TempDir()
	var files []initramfs.File
	for name, data := range w.files {
		files = append(files, initramfs.Regular(name, 0o755, []byte(data)))
	}
	files = append(files, w.moduleFiles(t)...)
	manifest := w.manifest(t, dir)
	extra := filepath.Join(dir, "extra.cpio")
	if _, err := initramfs.Create(t.Context(), extra, initramfs.Files(files...)); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/bash
set -e
args=()
while [ $# -gt 0 ]; do
	case $1 in
	-initrd) disks=$(dirname "$2"); initrd=$2.extra; cat "$2" %[1]q > "${initrd}"; args+=(-initrd "${initrd}"); shift 2 ;;
	-append) args+=(-append "$2 %[2]s"); shift 2 ;;
	*) args+=("$1"); shift ;;
	esac
done
if [ -n "${disks}" ]; then
	[ ! -e %[4]q ] || sed -i -e '0,/^      "manifest": /{/^      "manifest": /{r '%[4]q -e 'd}}' "${disks}/../plan.json"
	%[3]s
	:
fi
exec qemu-system-x86_64 "${args[@]}"
`, extra, w.args, w.before, manifest)
	path := filepath.Join(dir, "qemu-system-twisted")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// manifest is the line of plan.json that kindling would have written if it knew of the manifest that is laid over the tree's
// own: the run is audited by that one. It gives the path, where there is no file unless there is such a manifest.
func (w twist) manifest(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "manifest")
	text, found := w.files["steps/manifest"]
	if !found {
		return path
	}
	line, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, `      "manifest": `+string(line)+"\n")
	return path
}

// moduleFiles are all the modules that the guest loads then.
func (w twist) moduleFiles(t *testing.T) []initramfs.File {
	t.Helper()
	if len(w.modules) == 0 {
		return nil
	}
	set, err := kernel(t).Modules(slices.Concat(debian.DefaultModules(), debian.StorageModules(), w.modules))
	if err != nil {
		t.Fatal(err)
	}
	files := []initramfs.File{initramfs.Regular(set.DepPath(), 0o644, set.Dep), initramfs.Regular(set.LoadPath(), 0o644, set.Load)}
	for _, m := range set.Modules {
		files = append(files, initramfs.HostFile(m.Path, 0o644, m.Source))
	}
	return files
}

// kernel is the 386 kernel of the embedded default.
func kernel(t testing.TB) debian.Kernel {
	t.Helper()
	k, err := packages(t).Kernel(t.Context(), "i386", nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// packages is the cache that kindling itself uses.
func packages(t testing.TB) *debian.Cache {
	t.Helper()
	dir := os.Getenv("KINDLING_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(base, "kindling")
	}
	cache, err := debian.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// early is testdata/early.c, built for the guest.
func early(t testing.TB) string {
	t.Helper()
	needs(t, "gcc")
	program := filepath.Join(t.TempDir(), "early")
	out, err := exec.CommandContext(t.Context(), "gcc", "-m32", "-Os", "-nostdlib", "-static", "-ffreestanding",
		"-fno-stack-protector", "-fno-pic", "-no-pie", "-o", program, "testdata/early.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// step makes the embedded default's step "improve: setup_repo" do something else.
func step(script string) map[string]string {
	return map[string]string{"steps/improve/setup_repo.sh": script}
}

// A step that sends the final event itself, and then ends the machine, does not make the run a success. It cannot do that by
// accident: it has no descriptor of the event port, and no name for it.
func TestForgedSuccess(t *testing.T) {
	t.Parallel()
	f := boot(t, "--qemu-cmd", twist{files: step(`set -e
test ! -e /dev/ttyS1
ls -l /proc/$$/fd
test -z "$(ls -l /proc/$$/fd | grep ttyS)"
mknod /dev/ttyS1 c "$(sed s/:.*// /sys/class/tty/ttyS1/dev)" "$(sed s/.*:// /sys/class/tty/ttyS1/dev)"
printf '\n{"seq":0,"ms":0,"kind":"done","status":"ok"}\n' > /dev/ttyS1
echo o > /proc/sysrq-trigger
sleep 300
`)}.qemu(t))
	const line = "the guest reports success, but step 10 of 16 (improve: setup_repo) has not ended; 7 of the 13 steps that it owes have no good end"
	if f.status != 16 || f.report.Result != report.ResultInconsistent || f.report.Line != line {
		t.Errorf("status %d: %s\n%s", f.status, f.report.Line, tail(f.file("console.log"), 40))
	}
	if a := f.report.Audit; a == nil || a.Steps != report.StepsIncomplete || a.Config != "guest" || a.Journal != report.JournalDiffers || len(a.Missing) != 7 {
		t.Errorf("audit: %+v", a)
	}
	f.file("disks/target.img")
}

// A signal to PID 1 is no way to lose the kernel its init: the run ends, in order, and says why.
func TestStopSignal(t *testing.T) {
	t.Parallel()
	f := boot(t, "--qemu-cmd", twist{files: step("kill -HUP 1; kill -QUIT 1; kill -TERM 1; sleep 300\n")}.qemu(t))
	if f.status != 1 || f.report.Result != report.ResultInternal || !strings.Contains(f.report.Line, "stopped by a signal") {
		t.Errorf("status %d: %s", f.status, f.report.Line)
	}
	f.contains("shutdown", f.file("console.log"), "signal ignored: hangup", "sysrq: Power Off")
	if strings.Contains(f.file("console.log"), "Attempted to kill init") {
		t.Error("the kernel lost its init")
	}
}

// A disk that fills up in a step is the step's failure, said in words.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := boot(t, "--qemu-cmd", twist{
		before: `truncate -s 1130M "${disks}/target.img"`,
		files:  step("cat /dev/zero > /fill || true\nfor i in 1 2 3 4 5 6 7 8 9; do printf '%4000s\\n' $i; done\n"),
	}.qemu(t))
	if f.status != 10 || !strings.Contains(f.report.Line, "no space left on device") {
		t.Errorf("status %d: %s", f.status, f.report.Line)
	}
}

// A root that has become read-only in the middle of a step cannot be the end of a step that went well.
func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	f := boot(t, "--qemu-cmd", twist{files: step("echo u > /proc/sysrq-trigger; sleep 3\n")}.qemu(t))
	if f.status != 10 || f.report.Step != "010-improve-setup_repo" || !strings.Contains(f.report.Line, "read-only file system") {
		t.Errorf("status %d, step %s: %s", f.status, f.report.Step, f.report.Line)
	}
}

// A disk with somebody's data is never partitioned, and not a byte of it changes.
func TestForeignDisk(t *testing.T) {
	t.Parallel()
	f := boot(t, "--qemu-cmd", twist{before: `printf 'EFI PART' | dd of="${disks}/target.img" bs=1 seek=512 conv=notrunc status=none
	cp --sparse=always "${disks}/target.img" "${disks}/before.img"`}.qemu(t))
	if f.status != 10 || !strings.Contains(f.report.Line, "a GPT partition table") && !strings.Contains(f.report.Line, "a payload") {
		t.Errorf("status %d: %s", f.status, f.report.Line)
	}
	if sum(t, filepath.Join(f.dir, "disks/target.img")) != sum(t, filepath.Join(f.dir, "disks/before.img")) {
		t.Error("the disk has changed")
	}
}

// userlandScript does, in small, what a run does with the userland; any failing command ends it.
const userlandScript = `set -e
for f in /usr/bin/* /usr/sbin/*; do
	case $(head -c 4 "$f" | od -An -c) in *E*L*F*) ;; *) continue ;; esac
	if LD_TRACE_LOADED_OBJECTS=1 /lib/ld-linux.so.2 "$f" | grep 'not found'; then echo "$f lacks a library"; exit 1; fi
done
cd /tmp
cat > h.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <dirent.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <linux/fs.h>
int main(int argc, char **argv)
{
	unsigned long long n = strtoull(argv[1], NULL, 10);

	printf("%llu %.3f %lu\n", n / 7, sqrt(argc), (unsigned long)BLKGETSIZE);
	return 0;
}
END
tcc -o h h.c -lm
./h 12345678901234
truncate -s 16M img
mkfs.ext4 -q img
fsck.ext4 -fn img | tail -n 1 | cut -d: -f1
printf abc | sha256sum
mkdir d
echo one > d/f
tar cjf d.tar.bz2 d
tar czf d.tar.gz d
rm -r d
tar xjf d.tar.bz2
tar xzf d.tar.gz
cp d/f d/g
echo two >> d/g
diff -u d/f d/g > p || test $? = 1
patch -s d/f p
cmp d/f d/g
printf 'all:\n\t@echo made\n' > Makefile
make
find d -type f | sort | xargs sed -n '$p' | awk '{ print "awk " $1 }'
sh -c 'echo x | grep -P "^x$"'
`

const userlandOutput = `1763668414462 1.414 4704
img
ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -
made
awk two
x
`

// A step's background process outlives the step, as it would without the agent, and its terminal's end does not end it.
// The userland of the embedded default can do what runs do with it.
func TestBackgroundProcess(t *testing.T) {
	t.Parallel()
	f := boot(t, "--qemu-cmd", twist{files: map[string]string{
		"steps/improve/setup_repo.sh":   "mkdir -p /external/repo\n(while sleep 0.2; do date +%s%N > /alive; done) > /dev/null 2>&1 &\n",
		"steps/after/53-userland.sh":    "cd /tmp\n" + userlandScript,
		"steps/after/52-still-alive.sh": "set -e\nfirst=$(cat /alive)\nsleep 1\n[ \"$(cat /alive)\" != \"${first}\" ]\n",
	}}.qemu(t))
	if f.status != 0 {
		t.Errorf("status %d: %s", f.status, f.report.Line)
	}
	f.contains("the userland", f.file("steps/016-improve-after.log"), strings.Split(strings.TrimSpace(userlandOutput), "\n")...)
}

// The payload is found on the disks that Fiwix cannot see: AHCI (what q35 has), and USB, which shows up late.
func TestPayloadOnOtherBuses(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{
		"AHCI": `args+=(-machine q35)`,
		"USB": `for i in "${!args[@]}"; do
		case ${args[i]} in
		*payload.img*) args[i]=${args[i]/if=ide/if=none}; args+=(-device usb-ehci -device usb-storage,drive=drive1) ;;
		esac
	done`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			boot(t, "--qemu-cmd", twist{before: before}.qemu(t)).sound()
		})
	}
}
