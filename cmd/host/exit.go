// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"kindling/host/report"
	"kindling/internal/event"
)

// Exit statuses that are not a run's result; report.Result has those. None of them ever changes its meaning.
const (
	statusOK       = 0
	statusInternal = 1
	statusUsage    = 2
	statusNotReady = 3
	statusOther    = 4
	statusPipe     = 128 + int(syscall.SIGPIPE)
)

// exitStatus is one row of the table that help, manual page and docs/exit-status.md show.
type exitStatus struct {
	Status  int
	Meaning string
}

// exitStatuses are all there are, in order.
func exitStatuses() []exitStatus {
	return []exitStatus{
		{statusOK, "success: the guest's final event said so, and nothing that the host checked contradicts it"},
		{statusInternal, "Kindling or this machine failed: a disk is full, a file cannot be read"},
		{statusUsage, "usage, or input that cannot be used"},
		{statusNotReady, "doctor: this host lacks something that the embedded default needs"},
		{statusOther, "export: the packages are not those of the list"},
		{report.ResultStep.ExitStatus(), "a step failed"},
		{report.ResultAfter.ExitStatus(), "an after script failed"},
		{report.ResultPayload.ExitStatus(), "the payload is missing, cut, corrupt or the wrong one"},
		{report.ResultPanic.ExitStatus(), "the guest's kernel panicked"},
		{report.ResultHang.ExitStatus(), "hang: no sign of life for longer than the phase may take"},
		{report.ResultQEMU.ExitStatus(), "QEMU ended without a final event"},
		{report.ResultInconsistent.ExitStatus(), "inconsistent: the guest reported success, but its steps or its journal do not agree"},
		{report.ResultInterrupted.ExitStatus(), "interrupted"},
		{statusPipe, "nobody reads standard output any more"},
	}
}

// exitTable is the table for a terminal.
func exitTable() string {
	var b strings.Builder
	for _, s := range exitStatuses() {
		fmt.Fprintf(&b, "  %3d  %s\n", s.Status, s.Meaning)
	}
	return b.String()
}

// exitError is an error that knows kindling's exit status. Every error that a verb returns without one is internal.
type exitError struct {
	status int
	line   string // what the user reads; one line
}

func (e *exitError) Error() string { return e.line }

// usageError is bad usage or bad input: what it was, where, and what to do.
func usageError(format string, args ...any) error {
	return &exitError{status: statusUsage, line: fmt.Sprintf(format, args...)}
}

// inputError is bad usage or bad input, unless err is of this machine: then it stays what it is, with status 1.
func inputError(err error) error {
	if ofThisMachine(err) {
		return err
	}
	return usageError("%s", err)
}

// ofThisMachine reports an error of the kernel that says nothing about the content of what it was asked for.
func ofThisMachine(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{
		syscall.EACCES, syscall.EPERM, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EDQUOT,
		syscall.EROFS,
	}, func(number syscall.Errno) bool { return errors.Is(err, number) })
}

// statusOf is the exit status of an error, and the line that says it, "" for one that nobody wants to read.
func statusOf(err error, out *os.File) (status int, line string) {
	if err == nil {
		return statusOK, ""
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok && path.Path == out.Name() && errors.Is(path.Err, syscall.EPIPE) {
		return statusPipe, ""
	}
	if known, ok := errors.AsType[*exitError](err); ok {
		return known.status, oneLine(err)
	}
	return statusInternal, oneLine(err)
}

// oneLine makes an error, which may quote a guest or a file, one clean line.
func oneLine(err error) string {
	return event.Clean(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}
