// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"kindling/host/watch"
	"kindling/internal/event"
)

// markLine is one mark as one line.
func markLine(m watch.Mark) string {
	return fmt.Sprintf("[%7s] %s\n", seconds(m.At), markText(m))
}

func markText(m watch.Mark) string {
	switch m.Kind {
	case watch.MarkPhase:
		if m.Text == "" {
			return "phase " + m.Name
		}
		return fmt.Sprintf("phase %s (%s took %s)", m.Name, m.Text, seconds(m.Duration))
	case watch.MarkStep:
		return stepText(m)
	case watch.MarkImport:
		return fmt.Sprintf("imported %s of %s (%s)%s", size(m.Bytes), size(m.Size), m.Name, prefixed(": ", m.Text))
	case watch.MarkNet:
		return strings.TrimSpace("network: " + strings.TrimSpace(m.Name+" "+m.Text))
	case watch.MarkNote:
	}
	return "note: " + m.Text
}

func stepText(m watch.Mark) string {
	text := "step"
	switch {
	case m.Number > 0 && m.Total > 0:
		text += fmt.Sprintf(" %d/%d", m.Number, m.Total)
	case m.Number > 0:
		text += fmt.Sprintf(" %d", m.Number)
	}
	switch m.Status {
	case event.StatusSkipped:
		return fmt.Sprintf("%s %s skipped by hand", text, m.Name)
	case event.StatusFailed:
		return fmt.Sprintf("%s %s FAILED after %s%s", text, m.Name, seconds(m.Duration), prefixed(": ", failureText(m)))
	}
	return fmt.Sprintf("%s %s (%s)", text, m.Name, seconds(m.Duration))
}

// failureText is what is known of a failed step: what it said and, unless that says it or there is none, its exit status.
func failureText(m watch.Mark) string {
	exit := fmt.Sprintf("exit status %d", m.Exit)
	switch {
	case m.Exit == 0 || strings.Contains(m.Text, exit):
		return m.Text
	case m.Text == "":
		return exit
	}
	return m.Text + ", " + exit
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// seconds is a time in the way people read it: "3.4 s", "12m05s", "3h07m".
func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0 s"
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// size is a number of bytes in the way people read it.
func size(n int64) string {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	switch {
	case n < kib:
		return fmt.Sprintf("%d B", n)
	case n < mib:
		return fmt.Sprintf("%.1f KiB", float64(n)/kib)
	case n < gib:
		return fmt.Sprintf("%.1f MiB", float64(n)/mib)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/gib)
}

// cut shortens text to a number of terminal columns.
func cut(text string, width int) string {
	if width <= 0 {
		return ""
	}
	return runewidth.Truncate(text, width, "…")
}
