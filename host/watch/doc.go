// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package watch looks at a running machine from outside and says how its run ended.
//
// Judge is the decision, a pure state machine: it is fed with events, console lines, the passing of time, the user's
// interrupt and the end of QEMU, and gives a View for the user's eyes and in the end a Verdict. Tail follows the files
// that QEMU writes, StepLogs writes a log for each step, Supervise ties them to a process and a run folder.
//
// What the guest says is untrusted: lines, lists and files are bounded, text is cleaned (event.Clean), and a step ID
// becomes a file name only after rundir.ValidStepID. A run is a success only by the guest's own final event; QEMU's
// exit status is evidence of nothing. The package starts no process. It is called by cmd/host.
package watch
