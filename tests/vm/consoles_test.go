// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kindling/host/qmp"
)

// consolesManifest opens a console with the first bash and one with the second.
const consolesManifest = `build: bash-first
jump: linux
improve: populate_device_nodes
jump: move_disk
improve: finalize_job_count
improve: import_payload_rest ( PAYLOAD_REQUIRED == True )
improve: finalize_fhs
define: CONSOLES = ( INTERACTIVE == True && CHROOT == False )
improve: first_bash
improve: open_console ( CONSOLES == True )
improve: first_console
build: bash-second
improve: open_console ( CONSOLES == True )
improve: second_console
improve: after
`

// firstBash takes the place of the bash that is there, until that is built for the second time. It is one only in what it
// says of itself, which is what a console goes by; KINDLING_BASH names a real one, for a machine with 32 bits.
const firstBash = `#!/usr/bin/bash-debian
[ "$1" != --version ] || { echo 'GNU bash, version 2.05b.0(1)-release (i386-unknown-none)'; exit; }
exec /usr/bin/bash-debian "$@"
`

// screens are shell functions for the steps: they say when a screen shows something, and what was typed at it.
const screens = `
until_it() {
    local n=0
    while ! "$@"; do
        n=$((n + 1))
        test ${n} -lt 300 || { echo "never: $*"; return 1; }
        sleep 0.2
    done
}
shows() { grep -aq "$2" "/dev/vcs$1"; }
typed() { test -s "/typed$1"; }
at_screen() {
    rm -f "/typed$1"
    until_it shows "$1" "$2"
    echo "screen $1 is ready"
    until_it typed "$1"
    echo "typed at $(cat "/typed$1"), seen on $(cat /sys/class/tty/tty0/active)"
    fold -w 80 "/dev/vcs$1" | sed 's/ *$//' | grep . || true
}
`

// keys is the keyboard of a machine with a screen.
type keys struct {
	t   *testing.T
	ctx context.Context
	vm  *qmp.Client
}

func newKeys(ctx context.Context, t *testing.T, socket string) *keys {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	for err != nil && ctx.Err() == nil { // QEMU has not made it yet
		time.Sleep(50 * time.Millisecond)
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	vm, err := qmp.New(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	return &keys{t, ctx, vm}
}

// press presses keys together, by QEMU's names for them.
func (k *keys) press(names ...string) {
	k.t.Helper()
	type key struct {
		Type string `json:"type"`
		Data string `json:"data"`
	}
	var chord []key
	for _, n := range names {
		chord = append(chord, key{"qcode", n})
	}
	if err := k.vm.Execute(k.ctx, "send-key", map[string]any{"keys": chord, "hold-time": 30}, nil); err != nil {
		k.t.Fatal(err)
	}
}

// line types a line: small letters, digits and what else is named here.
func (k *keys) line(text string) {
	k.t.Helper()
	names := map[rune][]string{' ': {"spc"}, '/': {"slash"}, '>': {"shift", "dot"}}
	for _, r := range text {
		if chord, found := names[r]; found {
			k.press(chord...)
		} else {
			k.press(string(r))
		}
	}
	k.press("ret")
}

// picture takes what the screen shows and reports whether there is anything on it.
func (k *keys) picture(path string) {
	k.t.Helper()
	if err := k.vm.Execute(k.ctx, "screendump", map[string]any{"filename": path}, nil); err != nil {
		k.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) < 100 || len(bytes.Trim(data[20:], "\x00")) == 0 {
		k.t.Errorf("nothing is on the screen: %d bytes, %v", len(data), err)
	}
}

// The machine has a screen and a keyboard: the consoles of an interactive run are shells on tty2 and tty3, of the first
// bash and of the second; and after a kill -9, on the next boot, they are there again.
func TestConsoles(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first := firstBash
	if name := os.Getenv("KINDLING_BASH"); name != "" {
		first = readFile(t, name)
	}
	socket := filepath.Join(t.TempDir(), "k")
	const early, full = `'Ctrl-D runs what was typed'`, `'/steps #'`
	screened := twist{
		before: fmt.Sprintf("args+=(-vga std -chardev socket,id=keys,path=%s,server=on,wait=off -mon chardev=keys,mode=control)", socket),
		files: map[string]string{
			"steps/manifest":                  consolesManifest,
			"bash-first":                      first,
			"steps/improve/first_bash.sh":     "mkdir -p /external/repo\nmv /usr/bin/bash /usr/bin/bash-debian\nmv /bash-first /usr/bin/bash\n",
			"steps/improve/first_console.sh":  screens + "at_screen 2 " + early + "\n",
			"steps/bash-second/pass1.sh":      "src_compile() { :; }\nsrc_install() { mkdir -p \"${DESTDIR}/usr/bin\"; cp /usr/bin/bash-debian \"${DESTDIR}/usr/bin/bash\"; }\n",
			"steps/improve/second_console.sh": screens + "if test -e /was-here; then at_screen 2 " + full + "; at_screen 3 " + full + "\nelse at_screen 3 " + full + "; touch /was-here; sync; echo waiting for the end; sleep 100; fi\n",
			"steps/after/50-sign.sh":          ":\n",
			"steps/after/51-upload.sh":        ":\n",
		},
	}.qemu(t)
	cmd, dir := command(ctx, t, "--interactive", "--qemu-cmd", screened)
	p, left := sit(ctx, t, cmd)
	k := newKeys(ctx, t, socket)
	at := func(screen, command string) {
		t.Helper()
		p.expect("screen " + screen + " is ready")
		k.press("alt", "f"+screen)
		k.line(command + ">/typed" + screen)
	}
	p.expect("console on /dev/tty2 (process ")
	at("2", "tty")
	k.press("ctrl", "d")
	p.expect("typed at /dev/tty2, seen on tty2")
	p.expect("tty>/typed2")
	k.picture(filepath.Join(dir, "screen2.ppm"))
	p.expect("console on /dev/tty3 (process ")
	at("3", "tty")
	p.expect("typed at /dev/tty3, seen on tty3")
	p.expect("/steps # tty>/typed3")
	p.expect("waiting for the end")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	left()
	gone(t, dir)
	p, left = sit(ctx, t, exec.CommandContext(ctx, filepath.Join(bin, "kindling"), "run", "--accel", "tcg", "--interactive", "--qemu-cmd", screened, "--resume", dir))
	p.expect("console on /dev/tty2 (process ")
	p.expect("console on /dev/tty3 (process ")
	k = newKeys(ctx, t, socket)
	for _, screen := range []string{"2", "3"} {
		at(screen, "tty")
		p.expect(fmt.Sprintf("typed at /dev/tty%s, seen on tty%[1]s", screen))
	}
	p.expect("when this shell ends, the machine powers off")
	p.expect("# ")
	p.types("exit")
	if status := left(); status != 0 || strings.Contains(p.seen.String(), "do not end") {
		t.Errorf("status %d:\n%s", status, tail(p.seen.String(), 40))
	}
}
