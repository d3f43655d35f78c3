// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"kindling/host/watch"
	"kindling/internal/event"
)

// silentAfter is how long a run may be silent before the live view says so.
const silentAfter = 10 * time.Second

// barWidth is the widest a progress bar is drawn, in columns.
const barWidth = 30

// logRows is how many lines of output the live view shows where there is room for them.
const logRows = 4

// roomyTerminal is the number of lines from which on there is.
const roomyTerminal = 16

// Terminal is the live view: marks scroll by, below them stand lines that change in place: phase, time and estimate, steps
// (or an import) with a bar, the newest lines of the log.
type Terminal struct {
	left    Estimate
	pump    *pump
	area    *mpb.Progress
	rows    []*mpb.Bar
	view    atomic.Pointer[watch.View]
	printed int
}

// NewTerminal starts a live view on a terminal. left may be nil.
func NewTerminal(out *os.File, left Estimate) *Terminal {
	t := &Terminal{left: left, area: mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(100*time.Millisecond))}
	t.view.Store(&watch.View{})
	t.addRow(t.phaseRow)
	t.addRow(workRow)
	rows := 1
	if _, height, err := term.GetSize(int(out.Fd())); err == nil && height >= roomyTerminal {
		rows = logRows
	}
	for i := range rows {
		t.addRow(func(v watch.View, _ int) string { return logRow(v, rows-1-i) })
	}
	t.pump = startPump(0, t.show, func(event.Event) {}, t.finish)
	return t
}

// addRow adds one line that is drawn anew, from the newest view, each time mpb refreshes.
func (t *Terminal) addRow(row func(v watch.View, width int) string) {
	fill := mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		width := s.AvailableWidth - 1 // some terminals go to the next line when the last column is written
		_, err := io.WriteString(w, cut(row(*t.view.Load(), width), width))
		return err
	})
	if bar, err := t.area.Add(0, fill, mpb.BarFillerTrim()); err == nil { // fails on a terminal that has gone
		t.rows = append(t.rows, bar)
	}
}

// Update takes the newest view.
func (t *Terminal) Update(v watch.View) {
	t.view.Store(&v)
	t.pump.update(v)
}

// Event is not shown: what matters of it is in the view.
func (t *Terminal) Event(event.Event) {}

// Close removes the changing lines and leaves the marks, within a second.
func (t *Terminal) Close() { t.pump.close() }

// show prints new marks above the changing lines. It may block on a terminal that takes nothing.
func (t *Terminal) show(v watch.View) {
	var text strings.Builder
	for ; t.printed < len(v.Marks); t.printed++ {
		text.WriteString(markLine(v.Marks[t.printed]))
	}
	if text.Len() > 0 {
		_, _ = io.WriteString(t.area, text.String()) // a closed terminal is no reason to end a run
	}
}

func (t *Terminal) finish() {
	for _, row := range t.rows {
		row.Abort(true)
	}
	t.area.Wait()
}

// phaseRow is phaseText with what is left.
func (t *Terminal) phaseRow(v watch.View, _ int) string {
	text := phaseText(v)
	if t.left == nil || v.Waiting != "" {
		return text
	}
	if left, ok := t.left(v); ok {
		text += fmt.Sprintf(" · about %s left", seconds(left.Round(time.Second)))
	}
	return text
}

// phaseText is "kernel 3.2 s · 12.4 s in all".
func phaseText(v watch.View) string {
	text := fmt.Sprintf("%s %s", v.Phase, seconds(v.PhaseElapsed))
	if v.Elapsed != v.PhaseElapsed {
		text += fmt.Sprintf(" · %s in all", seconds(v.Elapsed))
	}
	if v.Waiting != "" {
		return text + " · waiting for a person"
	}
	if v.Silent >= silentAfter {
		text += fmt.Sprintf(" · silent for %s", seconds(v.Silent))
	}
	return text
}

// workRow is the import that is running, or the steps: a bar, numbers, the name of the current step.
func workRow(v watch.View, width int) string {
	switch {
	case v.Import.Name != "" && v.Import.Total == 0:
		return fmt.Sprintf("%s%s %s", size(v.Import.Done), rate(v.Import), v.Import.Name)
	case v.Import.Name != "":
		return fmt.Sprintf("%s %s of %s%s %s", bar(v.Import.Done, v.Import.Total, width), size(v.Import.Done),
			size(v.Import.Total), rate(v.Import), v.Import.Name)
	case v.Step != "":
		n := ""
		if v.StepNumber > 0 {
			n = fmt.Sprintf("step %d", v.StepNumber)
		}
		if v.StepNumber > 0 && v.Steps > 0 {
			n += fmt.Sprintf(" of %d", v.Steps)
		}
		return fmt.Sprintf("%s %s %s %s", bar(int64(v.StepsDone), int64(v.Steps), width), n, v.StepName,
			seconds(v.StepElapsed))
	case v.Steps > 0:
		return fmt.Sprintf("%s %d of %d steps", bar(int64(v.StepsDone), int64(v.Steps), width), v.StepsDone, v.Steps)
	}
	return ""
}

// rate is " (3.1 MiB/s)", nothing while it is not known.
func rate(i watch.Import) string {
	if i.Rate <= 0 {
		return ""
	}
	return " (" + size(i.Rate) + "/s)"
}

// logRow is the line of output that came that many lines before the newest.
func logRow(v watch.View, before int) string {
	if i := len(v.LogTail) - 1 - before; i >= 0 {
		return prefixed("| ", v.LogTail[i])
	}
	return ""
}

// bar draws how much of total is done; nothing when that is unknown or there is no room.
func bar(done, total int64, width int) string {
	width = min(barWidth, width/3)
	if total <= 0 || width < 5 {
		return ""
	}
	full := int(float64(width) * float64(min(max(done, 0), total)) / float64(total))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]"
}
