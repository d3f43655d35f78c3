// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options_test

import (
	"bytes"
	"testing"

	"kindling/host/options"
	"kindling/steps"
)

// Whatever the options hold, what is written into bootstrap.cfg is data for a shell, or the options are refused.
func TestConfigIsData(t *testing.T) {
	for _, hostile := range []string{
		"http://m/$(reboot)", "http://m/`reboot`", "http://m/${X@P}", "http://m/$[a]", "http://m/\"; reboot; \"", "http://m/'",
		"http://m/\\", "http://m/~root", "http://m/{a,b}*?", "http://[::1]/x", "x;reboot", "$(reboot)", "~", "a b", "",
	} {
		for _, o := range []options.Rootfs{
			{Arch: "x86", Cores: 1, TargetSize: 1, QemuRAM: 1, Qemu: true, Mirrors: []string{hostile}},
			{Arch: "x86", Cores: 1, Chroot: true, InternalCI: hostile},
			{Arch: hostile, Cores: 1, Chroot: true},
		} {
			if o.Validate() != nil {
				continue
			}
			text := o.Config().Bytes()
			if _, err := steps.ParseConfig("bootstrap.cfg", bytes.NewReader(text)); err != nil {
				t.Errorf("%q: %v", hostile, err)
			}
		}
		for _, n := range []options.Net{{NetStatic: []string{hostile}}, {NetDNS: []string{hostile}}, {NetStatic: []string{"eth0,192.0.2.2/24," + hostile}}} {
			if n.Check(true) != nil {
				continue
			}
			config := &steps.Config{}
			n.AddTo(config)
			if _, err := steps.ParseConfig("bootstrap.cfg", bytes.NewReader(config.Bytes())); err != nil {
				t.Errorf("%q: %v", hostile, err)
			}
		}
	}
}
