// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"bytes"
	"fmt"
	"io"
	"text/tabwriter"
)

// Text writes the table for a person: the limits, what is used of them, and where they come from, then the largest
// files. "counted" is certain (">=" where sizes are missing), "estimated" includes what builds will make; "left" is the
// rest after both, with "~" where there is an estimate. Warnings are not in it.
func (r *Report) Text(w io.Writer) error {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(table, format+"\n", args...) }
	row("budget\tlimit\tcounted\testimated\tleft\tverdict\tlimit from")
	for _, b := range r.Rows {
		counted, estimated, left := b.numbers()
		row("%s: %s\t%s\t%s\t%s\t%s\t%s\t%s", b.Kernel, b.What, count(b.Limit), counted, estimated, left, b.Verdict,
			b.limitText())
	}
	_ = table.Flush() // into memory
	if len(r.Largest) > 0 {
		fmt.Fprintf(&out, "\nlargest files of the first medium\n")
		for _, item := range r.Largest {
			fmt.Fprintf(&out, "%15s  %s\n", count(item.Size), item.Path)
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}

// numbers are the three columns about use.
func (r Row) numbers() (counted, estimated, left string) {
	switch r.Certainty {
	case Unknown:
		return "?", "?", "?"
	case Estimate:
		return r.countedText(), "~" + count(*r.Used), "~" + count(*r.Left)
	case AtLeast:
		return r.countedText(), "-", "<=" + count(*r.Left)
	}
	return r.countedText(), "-", count(*r.Left)
}

func (r Row) countedText() string {
	if r.AtLeast {
		return ">=" + count(*r.Known)
	}
	return count(*r.Known)
}

// limitText is the limit's source, with "assumed" before what no file of this tree says.
func (r Row) limitText() string {
	if r.LimitBasis == Assumed {
		return "assumed: " + r.LimitSource
	}
	return r.LimitSource
}
