// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package grub

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRewrite(t *testing.T) {
	const want = "linux /boot/vmlinuz root=/dev/sda1 rootwait rw init=/init"
	for _, tt := range []struct{ name, line, want string }{
		{"after the jump from Fiwix", "linux /boot/vmlinuz root=/dev/sda1 rootwait rw init=/init console=ttyS0 no_timer_check panic=10", want + " console=ttyS0"},
		{"on a bare machine", "linux /boot/vmlinuz root=/dev/sda1 rootwait rw init=/init consoleblank=0", want + " consoleblank=0"},
		{"after a jump from Linux", "linux /boot/vmlinuz root=/dev/sda1 rootwait rw console=ttyS0 root=/dev/sda1 rootfstype=ext3 init=/init rw rootwait panic=10",
			want + " console=ttyS0 rootfstype=ext3"},
		{"booted for the run, from another name of the disk",
			"linux /boot/vmlinuz root=/dev/sda1 rootwait rw BOOT_IMAGE=/boot/vmlinuz root=/dev/sdb1 ro initrd=x.cpio rdinit=/x init=/bin/sh quiet", want + " quiet"},
		{"Kindling's own", "linux /boot/vmlinuz root=/dev/sda1 rootwait rw kindling.seed=00ff kindling.mirrors=http://10.0.2.2:1/,http://a kindling.resume " +
			"kindling.events=ttyS2 kindlingx=1", want + " kindlingx=1"},
		{"what looks like it and is not", "linux /boot/vmlinuz rootflags=x rootdelay=1 rwx initcall_debug panic_on_oops=1 nopanic", want +
			" rootflags=x rootdelay=1 rwx initcall_debug panic_on_oops=1 nopanic"},
		{"quotes", `linux /boot/vmlinuz "root=/dev/x" 'init=/bin/sh -c "x"' dyndbg="file a.c +p" 'kindling.seed'=1 a\ b panic=\"1`,
			want + ` dyndbg="file a.c +p" a\ b`},
		{"no parameters", "linux /boot/vmlinuz", want},
		{"an indented line, tabs, Windows", "    linux\t/boot/vmlinuz  quiet\r", "    " + want + " quiet\r"},
		{"bytes that are not UTF-8", "linux /boot/vmlinuz x=\xff\xc3", want + " x=\xff\xc3"},
		{"another command for it", "linux16 /k quiet", "linux16 /k root=/dev/sda1 rootwait rw init=/init quiet"},
	} {
		text := "set timeout=5\nmenuentry 'Linux' {\n" + tt.line + "\n}\n"
		got, found := Rewrite([]byte(text), "/dev/sda1")
		if d := cmp.Diff("set timeout=5\nmenuentry 'Linux' {\n"+tt.want+"\n}\n", string(got)); d != "" || found != 1 {
			t.Errorf("%s: %d lines (-want +got)\n%s", tt.name, found, d)
		}
	}
	for _, same := range []string{"", "\n", "set root='hd0,msdos1'\nset linux=/boot", "  # linux /boot/vmlinuz root=x\n", "linux\n", "initrd /x root=1\n",
		"linux /boot/vmlinuz \"a root=b\n", "linux /boot/vmlinuz root=b \\\n",
		"linux 0 \r ", "linux 0 \\\r root=b\n"} {
		if got, found := Rewrite([]byte(same), "/dev/sda1"); string(got) != same || found != 0 {
			t.Errorf("%q: got %q, %d lines", same, got, found)
		}
	}
	for _, device := range []string{"/dev/nvme0n1p1", "/dev/mmcblk0p1", "/dev/vda1", "/dev/sdaa1"} {
		got, _ := Rewrite([]byte("linux /k root=/dev/nvme0n11 rootwait\nlinux /old root="+device), device)
		if strings.Count(string(got), "root="+device+" rootwait") != 2 || strings.Count(string(got), "root=") != 2 {
			t.Errorf("%s: %s", device, got)
		}
	}
}

func FuzzRewrite(f *testing.F) {
	f.Add("menuentry 'Linux' {\n    linux /boot/vmlinuz root=/dev/sda1 rootwait rw panic=10 kindling.seed=1 a=\"b c\"\n}\n")
	f.Add("linux /k 'x")
	f.Add("linux 0 \r ")
	f.Fuzz(func(t *testing.T, text string) {
		once, found := Rewrite([]byte(text), "/dev/sda1")
		again, foundAgain := Rewrite(once, "/dev/sda1")
		if string(once) != string(again) || found != foundAgain {
			t.Errorf("a second time changes it:\n%q\n%q", once, again)
		}
		if strings.Count(string(once), "\n") != strings.Count(text, "\n") {
			t.Errorf("lines were lost: %q", once)
		}
	})
}
