// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Command kindling-init is PID 1 on the Linux side of a bootstrap: it mounts what a system needs, imports the payload,
// moves the root to disk, runs the steps that are left, and powers the machine off with a result on its event port. See
// package guest for what it does in which order. As PID 1 it takes no arguments. Beside it, in the guest,
//
//	/kindling/init log [STEP]
//
// shows the run's journal as a table, or the log of one step.
package main

import (
	"errors"
	"fmt"
	"os"

	"kindling/guest"
)

func main() {
	if os.Getpid() == 1 {
		guest.Init()
	}
	if err := beside(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "kindling-init: %v\n", err)
		os.Exit(2)
	}
}

// beside is what the program does when it is not PID 1.
func beside(args []string) error {
	if len(args) > 0 && args[0] == "log" {
		return guest.ShowLog(os.Stdout, "/", args[1:])
	}
	return errors.New("it runs as PID 1 of a machine: put it at /init of an initramfs or a root filesystem; " +
		"otherwise it knows 'log' and 'log STEP' only")
}
