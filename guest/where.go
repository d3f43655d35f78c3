// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"

	"kindling/guest/journal"
	"kindling/internal/event"
	"kindling/steps"
)

// place is where in a bootstrap a machine stands when the agent takes over.
type place int

const (
	placeAfterJump place = iota // fresh from `jump: linux`: no journal yet
	placeResume                 // a run was cut short or has failed: go on at its first unfinished step
	placeEnded                  // every step is done, and the run has not ended well yet: end it
	placeFinished               // the run is over: a system to live in
)

// situation is what the decision is made from.
type situation struct {
	plan  []steps.Step
	state journal.State
}

// decision is the place and, unless all is done, the index in the plan of the next step to run.
type decision struct {
	place place
	next  int
}

var errNoLinux = errors.New("the plan has no step that runs on Linux: is there a `jump: linux` in the manifest?")

// where decides what this boot does. Steps before `jump: linux` are behind the machine by the fact that the agent runs.
func where(s situation) (decision, error) {
	first := steps.FirstOnLinux(s.plan)
	if first < 0 {
		return decision{}, errNoLinux
	}
	fresh := len(s.state.Done) == 0 && s.state.Started == "" && s.state.Failed == ""
	for i := first; i < len(s.plan); i++ {
		if s.state.Done[s.plan[i].ID()] {
			continue
		}
		if fresh {
			return decision{placeAfterJump, i}, nil
		}
		return decision{placeResume, i}, nil
	}
	if s.state.Result == event.StatusOK {
		return decision{placeFinished, len(s.plan)}, nil
	}
	return decision{placeEnded, len(s.plan)}, nil // cut short, or stopped, between the last step and the last word
}
