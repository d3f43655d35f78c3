// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"kindling/host/report"
	"kindling/tests/powercut"
)

// person sits at the terminal of a run.
type person struct {
	t        *testing.T
	ctx      context.Context
	terminal *os.File
	seen     *transcript
	at       int           // what was waited for already
	ended    chan struct{} // closed when nothing more is shown
}

// expect waits until the terminal shows text behind what was waited for before.
func (p *person) expect(text string) {
	p.t.Helper()
	for over := false; p.ctx.Err() == nil && !over; time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.ended:
			over = true // what was shown last still counts
		default:
		}
		all := p.seen.String()
		if i := strings.Index(all[p.at:], text); i >= 0 {
			p.at += i + len(text)
			return
		}
	}
	p.t.Fatalf("%q did not come, after:\n%s", text, tail(p.seen.String(), 60))
}

// types sends a line as a keyboard does.
func (p *person) types(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.terminal, line+"\r"); err != nil {
		p.t.Fatal(err)
	}
}

// sit starts a run at a terminal; left waits for its end.
func sit(ctx context.Context, t *testing.T, cmd *exec.Cmd) (p *person, left func() int) {
	t.Helper()
	cmd.Env = append(os.Environ(), "TERM=xterm")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	p = &person{t: t, ctx: ctx, terminal: terminal, seen: &transcript{}, ended: make(chan struct{})}
	go func() { defer close(p.ended); _, _ = io.Copy(p.seen, terminal) }()
	return p, func() int {
		_ = cmd.Wait()
		<-p.ended
		return cmd.ProcessState.ExitCode()
	}
}

// attendedManifest has, besides what a machine needs to get to its disk, a console and two steps that fail.
const attendedManifest = `build: bash-debian
build: bash-debian
jump: linux
improve: populate_device_nodes
jump: move_disk
improve: finalize_job_count
improve: import_payload_rest ( PAYLOAD_REQUIRED == True )
improve: finalize_fhs
define: CONSOLES = ( INTERACTIVE == True && CHROOT == False )
improve: open_console ( CONSOLES == True )
improve: setup_repo
build: tinder-1.0
improve: get_network
build: ember-1.0
improve: hopeless
improve: after
`

// attendedMark is in a file of the root that the disk does not take at first.
const attendedMark = "what this disk does not take"

// The one with a person: the move to the disk fails at its very end, and again, and then goes well; a step fails, is tried
// again, is mended in a shell and goes well; another one is skipped; the finished system has a shell, in which the person asks for a reboot; a console stands on tty3. The shell's end hangs up
// the terminal, which must not take the agent's console with it.
func TestAttended(t *testing.T) {
	t.Parallel()
	needs(t, "debugfs", "e2fsck")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	base := t.TempDir()
	image, socket := filepath.Join(base, "target.img"), filepath.Join(base, "s")
	target, err := powercut.Serve(image, socket, 1)
	if err != nil {
		t.Fatal(err)
	}
	target.Refuse([]byte(attendedMark))
	cmd, dir := command(ctx, t, "--interactive", "--qemu-cmd", twist{modules: []string{"virtio_blk"}, before: fmt.Sprintf(`cp --sparse=always "${disks}/target.img" %[1]q
	for i in "${!args[@]}"; do
		case ${args[i]} in *target.img*) args[i]=file=nbd:unix:%[2]s,format=raw,if=virtio,id=drive0 ;; esac
	done`, image, socket), files: map[string]string{
		"steps/manifest": attendedManifest,
		"refused":        strings.Repeat(attendedMark+"\n", 100),
		"steps/improve/setup_repo.sh": "mkdir -p '/tmp/a dir' /external/repo\ncd '/tmp/a dir'\nexport PROBE=yes\n" +
			"[ -e /mended ] || { echo not mended; (exit 7); }\n",
		"steps/improve/hopeless.sh": "echo hopeless\nfalse | true\n",
	}}.qemu(t))
	p, left := sit(ctx, t, cmd)
	const question = "retry, skip, shell or stop? "
	p.expect("Ctrl-A x ends the run")
	for _, again := range []bool{true, false} {
		p.expect("(jump: move_disk) failed: sync /newroot: input/output error")
		p.expect(question)
		if !again {
			target.Refuse(nil)
		}
		p.types("retry")
	}
	p.expect("(improve: setup_repo) failed: exit status 7")
	p.expect("| not mended")
	p.expect(question)
	p.types("retry")
	p.expect("failed: exit status 7")
	p.expect(question)
	p.types("what?")
	p.expect(`"what?" is none of them`)
	p.types("shell")
	p.expect("/a dir # ")
	p.types(`echo "at $PWD $PROBE $(tty)"; touch /mended; stty raw -echo; exit`)
	p.expect("at /tmp/a dir yes /dev/ttyS0")
	p.expect(question)
	p.types("retry")
	p.expect("(improve: hopeless) failed: exit status 1")
	p.expect(question)
	p.types("sk")
	p.expect("yes or no? ")
	p.types("yes")
	p.expect("is skipped")
	p.expect("when this shell ends, the machine powers off")
	p.expect("# ")
	p.types(`echo "consoles: $(cat /proc/[0-9]*/stat | grep -c ' 1027 ')"`) // tty3 is 4:3
	p.expect("consoles: 1")
	p.types("kill -INT 1")
	p.expect("interrupt: the run stops, then the machine reboots")
	if status := left(); status != 0 || !strings.Contains(p.seen.String(), "without what was skipped by hand: step 14 of 15 (improve: hopeless)") {
		t.Errorf("status %d:\n%s", status, tail(p.seen.String(), 40))
	}
	r, err := report.Read(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Steps, func(s report.Step) bool { return s.Name == "improve: hopeless" })
	if i < 0 || r.Steps[i].Status != "skipped" {
		t.Errorf("report: %+v", r.Steps)
	}
	f := &finished{t: t, dir: dir}
	f.contains("the console log", f.file("console.log"), "console on /dev/tty3 (process ", question, "sysrq: Emergency Remount R/O", "reboot: Restarting system")
	if strings.Contains(f.file("console.log"), "do not end") {
		t.Error("a console has outlived the shutdown")
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	disk := image + "?offset=1073741824"
	if out, err := exec.CommandContext(t.Context(), "e2fsck", "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("the disk is not clean: %v\n%s", err, out)
	}
	if got := fromDisk(t, disk, "/refused"); got != strings.Repeat(attendedMark+"\n", 100) {
		t.Errorf("the file that was refused: %q", got)
	}
}

// wreckage is a C program that turns a machine into one that is hard to shut down: swap is on, a filesystem in a file is
// mounted. There is neither util-linux nor a loop device in the embedded default.
const wreckage = `#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static void must(const char *what, long result) { if (result < 0) { perror(what); exit(1); } }
int main(void)
{
	static char page[4096];
	int i, fd, loop;
	must("module", syscall(SYS_finit_module, open("/loop.ko", O_RDONLY), "", 0));
	must("swap", fd = open("/swapfile", O_WRONLY | O_CREAT, 0600));
	for (i = 0; i < 1024; i++) {
		memset(page, 0, sizeof page);
		if (i == 0) {
			*(int *)(page + 1024) = 1;
			*(int *)(page + 1028) = 1023;
			memcpy(page + 4086, "SWAPSPACE2", 10);
		}
		must("write", write(fd, page, sizeof page));
	}
	close(fd);
	must("swapon", syscall(SYS_swapon, "/swapfile", 0));
	for (i = 0; i < 100 && (loop = open("/dev/loop0", O_RDWR)) < 0; i++)
		usleep(50000);
	must("loop", loop);
	must("attach", ioctl(loop, 0x4c00, open("/fs.img", O_RDWR)));
	mkdir("/mnt", 0755);
	must("mount", mount("/dev/loop0", "/mnt", "ext4", 0, ""));
	return 0;
}
`

// Nobody is at the console of an interactive run, and the machine is a wreck when that stops it: memory has run out, the
// console is flooded, swap is on, a filesystem on a loop device is busy, processes ignore signals. It ends with the truth,
// in order, and what was written is there.
func TestWreckage(t *testing.T) {
	t.Parallel()
	needs(t, "debugfs", "e2fsck")
	const lines = 100_000
	files := step(`echo "jobs: ${JOBS} of $(grep ^JOBS= /steps/bootstrap.cfg | tail -n 1)"
tail /dev/zero || echo "tail is dead"
` + "cat > /wreck.c << 'END'\n" + wreckage + `END
tcc -o /wreck /wreck.c
truncate -s 16M /fs.img
mkfs.ext4 -q -F /fs.img
/wreck
cat /proc/swaps
echo kept > /mnt/data
(trap '' TERM HUP; cd /mnt; exec > busy 2>&1 < /dev/null; while :; do echo x; sleep 0.1; done) &
trap '' TERM HUP
seq 1 ` + strconv.Itoa(lines) + `
exit 7
`)
	f := boot(t, "--interactive", "--qemu-ram", "256", "--qemu-cmd", twist{files: files, before: `for i in "${!args[@]}"; do
		[ "${args[i]}" != -kernel ] || cp "$(dirname "${args[i+1]}")"/../lib/modules/*/kernel/drivers/block/loop.ko "${disks}/loop.ko"
	done
	(cd "${disks}" && echo loop.ko | cpio -o -H newc --quiet) >> "${initrd}"`}.qemu(t))
	if f.status != 10 || f.report.Step != "010-improve-setup_repo" || !strings.Contains(f.report.Line, "failed with exit status 7") || !strings.Contains(f.report.Line, "the kernel killed tail (process ") {
		t.Errorf("status %d, step %s: %s", f.status, f.report.Step, f.report.Line)
	}
	f.contains("the events", f.file("events.jsonl"), "memory is low (", "): JOBS=1 of 2", "memory has run out during improve: setup_repo: the kernel killed process ", " (tail)")
	console := f.file("console.log")
	f.contains("the console", console, "bytes of output dropped here; the log on the disk is complete", "retry, skip, shell or stop? ",
		"end of input; once more stops the run", "nobody is there to ask", "sysrq: Emergency Remount R/O", "sysrq: Power Off")
	for _, bad := range []string{"kindling: swapoff", "kindling: unmount", "kindling: detach", "do not end"} {
		if strings.Contains(console, bad) {
			t.Errorf("the shutdown has left something:\n%s", tail(console, 30))
		}
	}
	disk := filepath.Join(f.dir, "disks/target.img") + "?offset=1073741824"
	if out, err := exec.CommandContext(t.Context(), "e2fsck", "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("the disk is not clean: %v\n%s", err, out)
	}
	log := fromDisk(t, disk, "/kindling/log/010-improve-setup_repo.log")
	if all := strings.Split(log, "\n"); !slices.Contains(all, "jobs: 1 of JOBS=2") || !slices.Contains(all, "tail is dead") || strings.Count(log, "\n") < lines || !strings.Contains(log, "\n99999\n100000\n") {
		t.Errorf("the log has %d lines", len(all))
	}
	image := filepath.Join(t.TempDir(), "fs.img")
	if err := os.WriteFile(image, []byte(fromDisk(t, disk, "/fs.img")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := fromDisk(t, image, "/data"); got != "kept\n" {
		t.Errorf("in the filesystem on the loop device: %q", got)
	}
}

// fromDisk reads a file of an ext4 image.
func fromDisk(t *testing.T, image, path string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "debugfs", "-R", "cat "+path, image).Output()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return string(out)
}
