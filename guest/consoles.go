// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"kindling/guest/proc"
	"kindling/steps"
)

// The virtual terminals of the consoles that an interactive run opens: one with the first bash, and, beside it, one with
// a full bash once there is one.
const (
	earlyConsole = "/dev/tty2"
	fullConsole  = "/dev/tty3"
)

// stepOpenConsole is the name of the directive.
const stepOpenConsole = "open_console"

// openVT is `improve: open_console`: a shell on a virtual terminal, which nobody waits for.
func openVT(ctx context.Context, j *job) error {
	if !isInteractive(j.config) {
		j.say("no console: the run is not interactive")
		return nil
	}
	j.say("%s", j.agent.openConsoleAt(ctx, consoleOf(j.step)))
	return nil
}

// consoleOf is the terminal of a step that opens one.
func consoleOf(s steps.Step) string {
	if s.Family == steps.FamilyBash {
		return fullConsole
	}
	return earlyConsole
}

// openConsoleAt opens one console, and says what became of it: a machine without virtual terminals has no consoles, and
// goes on.
func (a *agent) openConsoleAt(ctx context.Context, path string) string {
	switch used, err := inUse(path); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Sprintf("no console: this machine has no %s", path)
	case err != nil:
		return fmt.Sprintf("no console on %s: %v", path, err)
	case used:
		return fmt.Sprintf("the console on %s is open already", path)
	}
	p, err := a.startShell(ctx, path, whereSteps)
	if err != nil {
		return fmt.Sprintf("no console on %s: %v", path, err)
	}
	return fmt.Sprintf("console on %s (process %d)", path, p.Pid())
}

// inUse reports whether a terminal controls a session.
func inUse(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFCHR {
		err = errors.New("no terminal")
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	return proc.Controls(st.Rdev), nil
}

// reopenConsoles opens the consoles that earlier boots have opened: a journal remembers steps, and consoles are of one
// boot.
func (a *agent) reopenConsoles(ctx context.Context) {
	if !a.interactive() {
		return
	}
	opened := make(map[string]bool)
	for _, s := range a.order {
		path := consoleOf(s)
		if s.Kind != steps.KindImprove || s.Name != stepOpenConsole || !a.state.Done[s.ID()] || opened[path] {
			continue
		}
		opened[path] = true
		a.say("%s", strings.ReplaceAll(a.openConsoleAt(ctx, path), "\n", "; "))
	}
}
