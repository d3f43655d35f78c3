// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"os"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kindling/guest/port"
)

func TestStepEnvironment(t *testing.T) {
	for _, tt := range []struct{ kernel, want []string }{
		{nil, []string{"HOME=/", "TERM=linux", "PWD=/", "SHLVL=1", "_=/usr/bin/bash"}},
		{[]string{"HOME=/", "TERM=linux"}, []string{"HOME=/", "TERM=linux", "PWD=/", "SHLVL=1", "_=/usr/bin/bash"}},
		{[]string{"HOME=/", "TERM=linux", "BOOT_IMAGE=/boot/vmlinuz", "_=/sbin/init", "SHLVL=7", "PWD=/root", "OLDPWD=/x", "PWDX=1"},
			[]string{"HOME=/", "TERM=linux", "BOOT_IMAGE=/boot/vmlinuz", "PWDX=1", "PWD=/", "SHLVL=1", "_=/usr/bin/bash"}},
	} {
		if d := cmp.Diff(tt.want, stepEnvironment(tt.kernel, "/usr/bin/bash")); d != "" {
			t.Errorf("%q (-want +got)\n%s", tt.kernel, d)
		}
	}
}

// What one life hands to the next is taken up in the same boot and behind a jump to another kernel, and nowhere else.
func TestTakeUp(t *testing.T) {
	environ := []string{"HOME=/", "TERM=linux", "BOOT_IMAGE=a b"}
	own := []string{"HOME=/own"}
	for _, tt := range []struct {
		name, text string
		seq        uint64
		environ    []string
	}{
		{"the same boot", string(life{"this", 41, environ}.bytes()), 41, environ},
		{"behind a jump", string(life{nextBoot, 41, nil}.bytes()), 41, own},
		{"another boot", string(life{"that", 41, environ}.bytes()), 0, own},
		{"an older agent's", "this 41\n", 41, own},
		{"garbage", "this x\nA=1", 0, own}, {"nothing", "", 0, own},
	} {
		a := &agent{boot: "this", port: port.New(sinceBoot), environ: own}
		a.takeUp(tt.text)
		if a.port.Seq() != tt.seq || !cmp.Equal(a.environ, tt.environ) {
			t.Errorf("%s: got %d, %q", tt.name, a.port.Seq(), a.environ)
		}
	}
}

func FuzzParseLife(f *testing.F) {
	f.Add(string(life{"b-1", 7, []string{"HOME=/", "X=a=b"}}.bytes()))
	f.Add("\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, ok := parseLife(text)
		if !ok {
			return
		}
		again, ok := parseLife(string(l.bytes()))
		if d := cmp.Diff(l, again, cmp.AllowUnexported(life{})); d != "" || !ok {
			t.Errorf("%q reads back as something else (-want +got)\n%s", text, d)
		}
	})
}

// A terminal without a console to be like stays as it is.
func TestLikeConsole(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	copyTerminal(slave, os.Stdin.Fd()) // no terminal, or one: nothing fails
	raw, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	other, slave2, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	defer slave2.Close()
	raw.Lflag &^= unix.ECHO
	raw.Iflag |= unix.IXANY
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, raw); err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 7, Cols: 9}); err != nil {
		t.Fatal(err)
	}
	copyTerminal(slave2, slave.Fd())
	got, err := unix.IoctlGetTermios(int(slave2.Fd()), unix.TCGETS)
	if d := cmp.Diff(raw, got); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
	if size, err := pty.GetsizeFull(slave2); err != nil || size.Rows != 7 || size.Cols != 9 {
		t.Errorf("%+v, %v", size, err)
	}
}
