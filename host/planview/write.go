// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package planview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// JSON writes the view as one indented JSON object.
func (v *View) JSON(w io.Writer) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// Text writes the view as tables for a person, totals last, where a terminal still shows them.
func (v *View) Text(w io.Writer) error {
	var out bytes.Buffer
	v.textSteps(&out)
	v.textDistfiles(&out)
	v.textTotals(&out)
	if v.Budgets != nil {
		out.WriteByte('\n')
		_ = v.Budgets.Text(&out) // into memory
		out.WriteByte('\n')
	}
	for _, warning := range v.Warnings {
		fmt.Fprintf(&out, "warning: %s\n", warning)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// table writes rows with aligned columns. Writing to a buffer cannot go wrong.
func table(out *bytes.Buffer, rows func(row func(format string, args ...any))) {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows(func(format string, args ...any) { _, _ = fmt.Fprintf(tw, format+"\n", args...) })
	_ = tw.Flush()
	out.WriteByte('\n')
}

func (v *View) textSteps(out *bytes.Buffer) {
	steps := v.Steps
	for _, k := range v.Kernels {
		where, scripts := k.Kernel, ""
		if k.Root != "" {
			where, scripts = where+", "+k.Root, k.Root+"/"
		}
		fmt.Fprintf(out, "%s: steps %d to %d, %d builds\n", where, k.First, k.Last, k.Builds)
		table(out, func(row func(string, ...any)) {
			for len(steps) > 0 && steps[0].Number <= k.Last {
				s := steps[0]
				steps = steps[1:]
				text := s.text
				if s.Pass > 0 {
					text += fmt.Sprintf(" (pass %d)", s.Pass)
				}
				row("%5d\t%s\t%s%d.sh\t%s", s.Number, s.Family, scripts, s.Script, text)
			}
		})
	}
}

func (v *View) textDistfiles(out *bytes.Buffer) {
	if len(v.Distfiles) == 0 {
		return
	}
	table(out, func(row func(string, ...any)) {
		row("distfile\tmedium\tfirst needed by")
		for _, f := range v.Distfiles {
			medium, needed := f.Medium, f.NeededBy
			if f.Root != "" {
				needed = f.Root + "/" + needed
			}
			if f.Again != "" {
				medium += ", " + f.Again
			}
			if !f.Active {
				needed += " (switched off)"
			}
			row("%s\t%s\t%s", f.Name, medium, needed)
		}
	})
}

func (v *View) textTotals(out *bytes.Buffer) {
	table(out, func(row func(string, ...any)) {
		row("needed\tlines\tfiles")
		row("all\t%d\t%d", v.Counts.All.Lines, v.Counts.All.Files)
		for _, c := range []struct {
			name  string
			count *Count
		}{
			{"before the network", v.Counts.BeforeNetwork},
			{"before jump: linux", v.Counts.BeforeLinux},
			{"before jump: fiwix", v.Counts.BeforeFiwix},
		} {
			if c.count != nil {
				row("%s\t%d\t%d", c.name, c.count.Lines, c.count.Files)
			}
		}
	})
	if len(v.Media) > 0 {
		table(out, func(row func(string, ...any)) {
			row("medium\tfiles")
			for _, m := range v.Media {
				row("%s\t%d", m.Medium, m.Files)
			}
		})
	}
	fmt.Fprintf(out, "tree %s, root %s, mode %s: %d steps, %d distfiles", v.Tree, v.Root, v.Mode, len(v.Steps),
		len(v.Distfiles))
	if len(v.Extra) > 0 {
		fmt.Fprintf(out, ", then %s", strings.Join(v.Extra, ", "))
	}
	if v.Payload != nil {
		fmt.Fprintf(out, ", payload stage %s (%d of %d files early)", v.Payload.Stage, v.Payload.EarlyFiles,
			v.Payload.Files)
	}
	out.WriteByte('\n')
	if v.BaseTarball != nil {
		made := "left out"
		if v.BaseTarball.Made {
			made = "made"
		}
		fmt.Fprintf(out, "base tarball: %s: %s\n", made, v.BaseTarball.Why)
	}
}
