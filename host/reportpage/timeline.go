// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package reportpage

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"kindling/host/report"
)

// timeline is the picture: all times are percents of the run, so that it fits every width without scaling its text.
type timeline struct {
	Label        string
	Phases       []bar
	Steps        []bar
	Ticks        []tick
	Failed, Open bool
}

type bar struct{ Class, X, W, Title string }

type tick struct{ X, Label, Class string }

// maxTicks bounds the numbers below the picture.
const maxTicks = 6

// newTimeline draws the run; nil for one that took no time.
func newTimeline(r report.Report, classes map[string]string) *timeline {
	whole := r.Duration
	for _, p := range r.Phases {
		whole = max(whole, p.Start+p.Duration)
	}
	for _, s := range r.Steps {
		whole = max(whole, s.Start+s.Duration)
	}
	if whole <= 0 {
		return nil
	}
	t := &timeline{Label: fmt.Sprintf("%d phases and %d steps over %s", len(r.Phases), len(r.Steps), span(whole))}
	for _, p := range r.Phases {
		t.Phases = append(t.Phases, newBar(classes[p.Name], p.Name, p.Start, p.Duration, whole))
	}
	for i, s := range r.Steps {
		class := stepClass(s)
		t.Failed = t.Failed || class == "k-failed"
		t.Open = t.Open || class == "k-open"
		if class == "k-ok" && i%2 == 1 {
			class += " alt" // so that neighbours are told apart
		}
		name := s.Name
		if s.Number > 0 {
			name = fmt.Sprintf("%d. %s", s.Number, s.Name)
		}
		t.Steps = append(t.Steps, newBar(class, name, s.Start, s.Duration, whole))
	}
	t.Ticks = ticks(time.Duration(whole))
	return t
}

func stepClass(s report.Step) string {
	switch s.Status {
	case "failed", "skipped":
		return "k-failed"
	case "start":
		return "k-open"
	}
	return "k-ok"
}

// newBar is one bar; a short one is still there to be seen.
func newBar(class, name string, start, took, whole report.Seconds) bar {
	const least = 0.12 // percent: half a pixel on a phone, two on a screen
	start, took = max(start, 0), max(took, 0)
	x := 100 * float64(start) / float64(whole)
	w := max(100*float64(took)/float64(whole), least)
	return bar{Class: class, X: fmt.Sprintf("%.3f", x), W: fmt.Sprintf("%.3f", min(w, 100-min(x, 100-least))),
		Title: fmt.Sprintf("%s: %s, at %s", name, span(took), span(start))}
}

// phaseClasses gives each name of a phase its colour: the longest ones are told apart, the rest share the last.
func phaseClasses(phases []report.Phase) map[string]string {
	took := make(map[string]report.Seconds)
	var names []string
	for _, p := range phases {
		if _, known := took[p.Name]; !known {
			names = append(names, p.Name)
		}
		took[p.Name] += p.Duration
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(took[b], took[a]) })
	classes := make(map[string]string)
	for i, name := range names {
		classes[name] = fmt.Sprintf("p%d", min(i, colours-1))
	}
	return classes
}

// ticks are round times, at most maxTicks of them behind the first, which is 0.
func ticks(whole time.Duration) []tick {
	step := whole // longer than any below: the end alone
	for _, d := range []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour,
		7 * 24 * time.Hour,
	} {
		if whole/d <= maxTicks {
			step = d
			break
		}
	}
	out := []tick{{X: "0", Label: "0", Class: "first"}}
	for at := step; at <= whole && len(out) <= maxTicks; at += step {
		x := 100 * float64(at) / float64(whole)
		class := "middle"
		if x > 95 {
			class = "last"
		}
		out = append(out, tick{X: fmt.Sprintf("%.3f", x), Label: tickLabel(at), Class: class})
	}
	return out
}

func tickLabel(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
