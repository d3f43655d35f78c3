// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package guest is the agent: PID 1 on the Linux side of a bootstrap.
//
// A boot is ordered data plus one executor: bring-up phases (mounts, own file, console, event port, entropy, modules),
// then one decision where in the plan this machine stands, then the steps in order, then shutdown. What a step means is
// either native here (natives.go has the table) or the tree's own script, run by the tree's own bash.
//
// The package never returns control to the kernel: Init ends in a loop that waits for ever, whatever happened before,
// and every failure, a panic in the agent's own code included, becomes a final event and a clean power-off. What ends a
// Go program without a chance to act (out of memory, a fault of the runtime, a panic in a goroutine of a library) ends
// the machine as well; the journal has then what was done. The package does not speak TLS itself (the tree's curl does),
// does not decide what is built, and is called by cmd/init only.
package guest
