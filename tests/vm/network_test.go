// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"fmt"
	"path/filepath"
	"testing"
)

// A run that goes on behind its get_network has its network again: the build that was cut short, and whose distfile is
// gone, downloads it anew.
func TestNetworkAfterResume(t *testing.T) {
	t.Parallel()
	const cut = `src_compile() {
    [ -e /was-cut ] || { touch /was-cut; rm /external/distfiles/ember-1.0.tar; sync; echo o > /proc/sysrq-trigger; sleep 60; }
    cd ember-1.0 && tcc -o ember ember.c
}
src_install() { mkdir -p "${DESTDIR}/usr/bin"; cp ember "${DESTDIR}/usr/bin/"; }
`
	first := boot(t, "--qemu-cmd", twist{files: map[string]string{"steps/ember-1.0/pass1.sh": cut}}.qemu(t))
	if first.status != 15 || first.report.Step != "015-build-ember-1.0-pass1" {
		t.Fatalf("the first life: status %d, step %s: %s", first.status, first.report.Step, first.report.Line)
	}
	disk := filepath.Join(first.dir, "disks/target.img")
	again := boot(t, "--qemu-cmd", twist{args: "kindling.resume", before: fmt.Sprintf(`cp --sparse=always %q "${disks}/target.img"`, disk)}.qemu(t))
	if again.status != 0 {
		t.Fatalf("the second life: status %d: %s\n%s", again.status, again.report.Line, tail(again.file("console.log"), 60))
	}
	again.contains("events", again.file("events.jsonl"), "was begun before and not ended", "eth0: 10.0.2.15/24 via 10.0.2.2",
		"downloaded ember-1.0.tar, sha256 right", "10.0.2.15/24 is given back", `"kind":"done","status":"ok"`)
}
