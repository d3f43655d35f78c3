// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package reportpage

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"kindling/host/report"
	"kindling/internal/shell"
)

// slowest is how many of the slowest steps have a place of their own.
const slowest = 10

// colours is how many phases are told apart by colour.
const colours = 8

// view is what the template shows. Text in it may be the guest's, except for what has a type of its own.
type view struct {
	Style                       template.CSS
	Title, Label, Line, Verdict string
	Class                       string // of the verdict: ok, bad or warn
	Started, Duration           string
	StepCount, Accel, Events    string
	ExitStatus                  int
	Failure                     *failure
	Timeline                    *timeline
	Phases                      []phaseRow
	Slowest                     []slowRow
	Notes                       []string
	Media                       []mediumRow
	Budgets                     []budgetRow
	Steps                       []stepRow
	Versions                    []named
	Command, Argv               string
	Packages                    []packageRow
	Source                      string
}

type phaseRow struct {
	Name, Class, Start, Took string
	Share                    share
}

type slowRow struct {
	Name, Took string
	Share      share
}

type mediumRow struct{ Name, Path, Size, SHA256 string }

type budgetRow struct {
	Kernel, What, Used, Limit, Verdict, Class string
	Share                                     share
}

type stepRow struct{ Number, Name, Status, Class, Anchor, Start, Took string }

type named struct{ Name, Value string }

type packageRow struct{ Name, SHA256 string }

// share is a part of a whole, as a bar and a number.
type share struct {
	Known   bool
	Percent string // of the bar, at most 100
	Text    string
	Class   string
}

func shareOf(part, whole float64, class string) share {
	if whole <= 0 || part < 0 {
		return share{}
	}
	p := 100 * part / whole
	text := fmt.Sprintf("%.0f %%", p)
	if p > 0 && p < 9.95 {
		text = fmt.Sprintf("%.1f %%", p)
	}
	return share{Known: true, Percent: fmt.Sprintf("%.2f", min(p, 100)), Text: text, Class: class}
}

// newView decides everything that the page says.
func newView(s Source) view {
	r := s.Report
	steps := timed(r.Steps)
	v := view{
		Style: template.CSS(styleText), Label: r.Label, Line: r.Line, ExitStatus: r.ExitStatus, Accel: r.Accel,
		Started: r.Started.UTC().Format("2006-01-02 15:04:05 UTC"), Duration: span(r.Duration), Notes: r.Notes,
		Argv: shell.Line(r.Argv), Command: shell.Line(r.Command), Source: s.Name,
		Events: fmt.Sprintf("%d read, %d malformed, %d missing, %d twice", r.Events.Read, r.Events.Malformed,
			r.Events.Missing, r.Events.Duplicate),
	}
	v.Verdict, v.Class = verdict(r.Result)
	v.Title = strings.TrimSpace("Kindling run " + visible(r.Label) + ": " + v.Verdict)
	v.StepCount = stepCount(r)
	if r.Result != report.ResultOK {
		v.Failure = newFailure(s)
	}
	classes := phaseClasses(r.Phases)
	v.Timeline = newTimeline(r, classes)
	for _, p := range r.Phases {
		class := classes[p.Name]
		v.Phases = append(v.Phases, phaseRow{Name: p.Name, Class: class, Start: span(p.Start), Took: span(p.Duration),
			Share: shareOf(float64(p.Duration), float64(r.Duration), class)})
	}
	v.Slowest = slowRows(steps)
	v.Steps = stepRows(r.Steps)
	for _, m := range r.Media {
		v.Media = append(v.Media, mediumRow{Name: m.Name, Path: m.Path, SHA256: m.SHA256, Size: bytesText(m.Size)})
	}
	for _, b := range r.Budgets {
		v.Budgets = append(v.Budgets, budgetRowOf(b))
	}
	for name, value := range r.Versions {
		v.Versions = append(v.Versions, named{name, value})
	}
	slices.SortFunc(v.Versions, func(a, b named) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range r.Packages {
		v.Packages = append(v.Packages, packageRow{Name: p.Name + ":" + p.Architecture + " " + p.Version, SHA256: p.SHA256})
	}
	return v
}

// verdict is a result in a word or two, and its colour.
func verdict(r report.Result) (text, class string) {
	switch r {
	case report.ResultOK:
		return "Success", "ok"
	case report.ResultInterrupted:
		return "Interrupted", "warn"
	}
	texts := map[report.Result]string{
		report.ResultStep: "Step failed", report.ResultAfter: "After script failed", report.ResultPayload: "Bad payload",
		report.ResultPanic: "Kernel panic", report.ResultHang: "Hang", report.ResultQEMU: "QEMU ended",
		report.ResultInconsistent: "Inconsistent",
	}
	return cmp.Or(texts[r], "Kindling failed"), "bad"
}

func stepCount(r report.Report) string {
	done, skipped := 0, 0
	for _, s := range r.Steps {
		switch s.Status {
		case "ok":
			done++
		case "skipped":
			skipped++
		}
	}
	text := fmt.Sprintf("%d of %d ran well", done, len(r.Steps))
	if skipped > 0 {
		text += fmt.Sprintf(", %d skipped by hand", skipped)
	}
	if r.Planned > 0 {
		text += fmt.Sprintf(", %d planned", r.Planned)
	}
	return text
}

// timed are the steps that took time.
func timed(steps []report.Step) []report.Step {
	return slices.DeleteFunc(slices.Clone(steps), func(s report.Step) bool { return s.Duration <= 0 })
}

func slowRows(steps []report.Step) []slowRow {
	var all report.Seconds
	for _, s := range steps {
		all += s.Duration
	}
	slices.SortStableFunc(steps, func(a, b report.Step) int { return cmp.Compare(b.Duration, a.Duration) })
	var rows []slowRow
	for _, s := range steps[:min(slowest, len(steps))] {
		rows = append(rows, slowRow{Name: s.Name, Took: span(s.Duration),
			Share: shareOf(float64(s.Duration), float64(all), stepClass(s))})
	}
	return rows
}

func stepRows(steps []report.Step) []stepRow {
	var rows []stepRow
	for i, s := range steps {
		row := stepRow{Number: "–", Name: s.Name, Status: s.Status, Start: span(s.Start), Took: span(s.Duration),
			Anchor: fmt.Sprintf("step-%d", i+1)}
		if s.Number > 0 {
			row.Number = fmt.Sprint(s.Number)
		}
		switch s.Status {
		case "failed":
			row.Class, row.Status = "failed", fmt.Sprintf("failed, exit status %d", s.Exit)
		case "start":
			row.Class, row.Status = "open", "no end"
		case "skipped":
			row.Class, row.Status = "open", fmt.Sprintf("skipped by hand, exit status %d", s.Exit)
		}
		rows = append(rows, row)
	}
	return rows
}

func budgetRowOf(b report.Budget) budgetRow {
	row := budgetRow{Kernel: b.Kernel, What: b.What, Limit: amount(b.Limit, b.Unit), Used: "not known"}
	class := "k-ok"
	switch b.Verdict {
	case "over":
		row.Verdict, row.Class, class = "over", "failed", "k-failed"
	case "probably-over":
		row.Verdict, class = "probably over", "k-failed"
	case "tight":
		row.Verdict, class = "tight", "k-open"
	}
	if b.Used == nil {
		return row
	}
	row.Used = amount(*b.Used, b.Unit)
	if b.Certainty == "at-least" {
		row.Used = "≥ " + row.Used
	}
	if b.Certainty == "estimate" {
		row.Used = "≈ " + row.Used
	}
	row.Share = shareOf(float64(*b.Used), float64(b.Limit), class)
	return row
}

// amount is a number with its unit.
func amount(n int64, unit string) string {
	if unit == "bytes" {
		return humanBytes(n)
	}
	return fmt.Sprintf("%s %s", thousands(n), unit)
}

// bytesText is a size for a person and exactly.
func bytesText(n int64) string {
	if n < 10_000 {
		return thousands(n) + " bytes"
	}
	return fmt.Sprintf("%s (%s bytes)", humanBytes(n), thousands(n))
}

func humanBytes(n int64) string {
	value, unit := float64(n), ""
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 && value > -1024 {
			break
		}
		value, unit = value/1024, next
	}
	if unit == "" {
		return thousands(n) + " B"
	}
	if value < 100 && value > -100 {
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

// thousands writes a number with thin spaces between the thousands, which do not break.
func thousands(n int64) string {
	text, sign := fmt.Sprint(n), ""
	if strings.HasPrefix(text, "-") {
		text, sign = text[1:], "-"
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return sign + text
}

// span is a time for a person: "0.2 s", "3 min 05 s", "9 h 02 min".
func span(s report.Seconds) string {
	d := time.Duration(s)
	switch {
	case d < 0:
		return "–"
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 99500*time.Millisecond:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 100*time.Minute:
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}
