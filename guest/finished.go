// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kindling/steps"
)

// firstVT is the terminal that the shell of a finished system is on, as in the tree.
const firstVT = "/dev/tty1"

// shellLife is how long a shell must have lived for its end to be somebody's wish, and not that of a dead line.
const shellLife = time.Second

// liveOn brings a finished system up, as the tree's own /init does: what the earlier stages have not done yet is the
// network, and a shell without a login. When that ends, the machine does. Nothing is journalled: the run is over. Who
// asks for the run itself, with the parameter to resume it, gets its result and no shell.
func (a *agent) liveOn(ctx context.Context) error {
	if err := a.journal.Close(); err != nil {
		a.say("%v", err)
	}
	a.journal = nil
	if a.cmdline.resume {
		return nil
	}
	a.phase(phaseDisk)
	if slices.ContainsFunc(a.order, isNetwork) {
		a.networkAgain()
	}
	return a.shells(ctx, shellTerminals(a.shellPath, a.cmdline.events))
}

func isNetwork(s steps.Step) bool { return s.Kind == steps.KindImprove && s.Name == stepNetwork }

// networkAgain brings up the network, beside the shell; a system without one is one with a shell.
func (a *agent) networkAgain() {
	config, err := readConfig()
	if err == nil {
		err = a.startNetwork(config)
	}
	if err != nil {
		a.note("no network: %v", err)
	}
}

// shellTerminals lists where people are: the first virtual terminal, and the terminal behind the kernel's console, if
// that is another one and not the event port.
func shellTerminals(console, events string) []string {
	if console == firstVT || console == "/dev/"+events {
		return []string{firstVT}
	}
	return []string{firstVT, console}
}

// shells starts a shell on each of the terminals that are there, and waits for the first to end.
func (a *agent) shells(ctx context.Context, terminals []string) error {
	ended := make(chan time.Duration, len(terminals))
	var failed []error
	running := 0
	for _, t := range terminals {
		p, err := a.startShell(ctx, t, whereSteps)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		running++
		began := time.Now()
		a.say("a shell is on %s; the machine powers off when it ends", t)
		a.spawn("shell", func() {
			if _, err := p.Wait(ctx, stopGrace); err != nil && ctx.Err() == nil {
				a.say("%v", err)
			}
			ended <- time.Since(began)
		})
	}
	if running == 0 {
		return fmt.Errorf("no terminal for a shell: %w", errors.Join(failed...))
	}
	for ; running > 0; running-- {
		if lived := <-ended; lived >= shellLife {
			break
		}
	}
	return nil
}
