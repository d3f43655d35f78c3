// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/rundir"
	"kindling/host/watch"
	"kindling/internal/event"
)

type countingSink struct{ views int }

func (s *countingSink) Update(watch.View) { s.views++ }
func (*countingSink) Event(event.Event)   {}

// A jump is taken once, however often it is seen, also when several phases begin between two looks.
func TestKeeperSeesJumps(t *testing.T) {
	phase := func(name string) watch.Mark { return watch.Mark{Kind: watch.MarkPhase, Name: name} }
	step := watch.Mark{Kind: watch.MarkStep, Name: watch.PhaseDisk} // a guest may call its steps what it likes
	all := []watch.Mark{phase("start"), phase(watch.PhaseFiwix), step, phase("init"), phase(watch.PhaseInitramfs), phase(watch.PhaseFiwix),
		phase(watch.PhaseInitramfs), phase(watch.PhaseDisk)}
	sink := &countingSink{}
	k := &keeper{Sink: sink, order: moments(), wanted: make(chan moment, 3)}
	for _, n := range []int{1, 2, 2, 7, 8, 8} {
		k.Update(watch.View{Marks: all[:n]})
	}
	close(k.wanted)
	var got []string
	for m := range k.wanted {
		got = append(got, m.name)
	}
	if diff := cmp.Diff([]string{"fiwix", "linux", "disk"}, got); diff != "" {
		t.Errorf("checkpoints (-want +got):\n%s", diff)
	}
	if sink.views != 6 {
		t.Errorf("the display got %d views of 6", sink.views)
	}
}

func TestCopyStart(t *testing.T) {
	src, dst := runFolder(t), runFolder(t)
	if err := src.Write(rundir.Events, []byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	if err := copyStart(dst, src, rundir.Events, 4); err != nil {
		t.Fatal(err)
	}
	if got, err := dst.Read(rundir.Events, 100); err != nil || string(got) != "0123" {
		t.Errorf("copied %q, %v", got, err)
	}
	err := copyStart(dst, src, rundir.Events, 11)
	if err == nil || !strings.Contains(err.Error(), "shorter than at the checkpoint") {
		t.Errorf("a log that was cut: %v", err)
	}
}
