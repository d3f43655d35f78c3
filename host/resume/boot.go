// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package resume

import (
	"strings"

	"kindling/host/qemu"
)

// Cmdline is what the kernel of a resumed run is told. The agent in the initramfs looks for the run's journal on every
// disk; a kernel that has no use for an initramfs mounts the run's partition itself, by the number in its disk's label,
// because names such as sda change from boot to boot.
type Cmdline struct {
	PartUUID string   // of the partition that holds the run, "" if its disk has no label
	Mirrors  []string // base URLs
	Args     []string // in front: consoles, a seed
}

// rootFlags keep the order of what a step does across a loss of power; package guest has the same.
const rootFlags = "nodelalloc,dioread_lock"

// Render gives the line.
func (c Cmdline) Render() (string, error) {
	line := qemu.Cmdline{Args: append([]string(nil), c.Args...)}
	if c.PartUUID != "" {
		line.Root = "PARTUUID=" + c.PartUUID
		line.Args = append(line.Args, "rw", "rootflags="+rootFlags, "init=/"+agentFile)
	}
	if len(c.Mirrors) > 0 {
		line.Args = append(line.Args, "kindling.mirrors="+strings.Join(c.Mirrors, ","))
	}
	line.Args = append(line.Args, "kindling.resume")
	return line.Render()
}
