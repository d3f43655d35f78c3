// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Command kindling-init is PID 1 on the Linux side of a bootstrap: it mounts what a system needs, imports the payload,
// moves the root to disk, runs the steps that are left, and powers the machine off with a result on its event port. It
// takes no arguments. See package guest for what it does in which order.
package main

import (
	"fmt"
	"os"

	"kindling/guest"
)

func main() {
	if os.Getpid() == 1 {
		guest.Init()
	}
	fmt.Fprintln(os.Stderr, "kindling-init: it runs as PID 1 of a machine only: put it at /init of an initramfs or a root filesystem")
	os.Exit(2)
}
