// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpandShortFlags(t *testing.T) {
	tests := []struct {
		in, want string
	}{
		{"", ""},
		{"plan --tree d -q", "plan --tree d -q"},
		{"-bw -qc q -qr 1 -qs 2G -qk k", "--bwrap --qemu-cmd q --qemu-ram 1 --target-size 2G --kernel k"},
		{"-qr=1 -qk=a=b", "--qemu-ram=1 --kernel=a=b"},
		{"-s=4096 -m=URL -t=DIR -a=x86 -r=DIR", "--swap=4096 --mirrors=URL --target=DIR --arch=x86 --repo=DIR"},
		{"-t= -o=x=y -m=a b", "--target= --out=x=y --mirrors=a b"},
		{"-s 1 -s1 -q=1 -x=1 --swap=1 a=b", "-s 1 -s1 -q=1 -x=1 --swap=1 a=b"},
		{"-qi -b -ci", "-qi -b -ci"}, // kong's own business
		{"-m a", "--mirrors a"},
		{"-m a b c -q", "--mirrors a --mirrors b --mirrors c -q"},
		{"--mirrors a b --tree d e", "--mirrors a --mirrors b --tree d e"},
		{"--mirrors=a b", "--mirrors=a b"},
		{"-m a -m b", "--mirrors a --mirrors b"},
		{"-m a b -qk k x", "--mirrors a --mirrors b --kernel k x"},
		{"-m -q", "-m -q"},
		{"-m -m a", "-m --mirrors a"},
		{"-m a -m", "--mirrors a -m"},
		{"-m -- a", "-m -- a"},
		{"-q -- -bw -m a b", "-q -- -bw -m a b"},
	}
	for _, test := range tests {
		t.Run(test.in, func(t *testing.T) {
			got := strings.Join(expandShortFlags(strings.Fields(test.in)), " ")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}
