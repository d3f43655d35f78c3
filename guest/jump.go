// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	kexecLoaded = "/sys/kernel/kexec_loaded" // "1" once a kernel is loaded (Linux, kernel/ksysfs.c)

	// nextBoot stands for the boot ID of the kernel that is jumped to.
	nextBoot = "next"
)

// kexecFunctions let kexec load a kernel, and leave the jump itself to the agent: behind it nothing could be recorded. The
// tree's script makes /etc, which a system that the agent runs has already; and the overlay removes distfiles that would have
// to pass through Fiwix' window, which is not in the way here.
const kexecFunctions = `PAYLOAD_REST_COUNT=0
kexec() {
    local arg n=$#
    while [ "${n}" -gt 0 ]; do
        arg=$1
        shift
        case "${arg}" in
        -e | --exec) ;;
        *) set -- "$@" "${arg}" ;;
        esac
        n=$((n - 1))
    done
    [ $# = 0 ] || command kexec "$@"
}
mkdir() { command mkdir -p "$@"; }`

// jumpLinux jumps from this Linux to another. The tree's own script, with what the overlay does around it, puts the agent
// into /init of the next kernel and loads that kernel. The jump follows the end of the step in the journal, as the switch
// of the root follows that of `jump: move_disk`: the agent behind it goes on with the next step.
func jumpLinux(ctx context.Context, j *job) error {
	inMemory, err := rootInMemory()
	if err != nil {
		return err
	}
	if inMemory {
		return errors.New("the root filesystem is in memory, and would not be there behind the jump: move it to disk first")
	}
	if err := j.script(ctx, kexecFunctions); err != nil {
		return err
	}
	loaded, err := os.ReadFile(kexecLoaded)
	if err != nil {
		return fmt.Errorf("this kernel cannot jump to another (CONFIG_KEXEC): %w", err)
	}
	if string(bytes.TrimSpace(loaded)) != "1" {
		return errors.New("the script has loaded no kernel to jump to")
	}
	j.agent.leap = true
	return nil
}

// leapOver jumps to the kernel that is loaded. It returns only with an error.
func (a *agent) leapOver(ctx context.Context) error {
	a.note("jumping to the kernel that was loaded")
	if err := writeFile(seqPath, life{boot: nextBoot, seq: a.port.Seq()}.bytes()); err != nil {
		return err
	}
	flushCtx, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	if err := a.port.Flush(flushCtx); err != nil {
		a.say("%v (going on without)", err)
	}
	for !a.console.flushed() && flushCtx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	within(actionPatience, "sync", a.say, a.machine.Sync)
	within(actionPatience, "sysrq u", a.say, func() error { return a.machine.Sysrq('u') })
	within(actionPatience, "remount /", a.say, func() error { return a.machine.RemountReadOnly("/") })
	return fmt.Errorf("jump to another kernel: %w", unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC))
}
