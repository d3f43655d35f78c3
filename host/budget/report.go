// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import (
	"errors"
	"fmt"
	"strings"
)

// Report is every limit with what is used of it. Its JSON form is part of that of "kindling plan": names are stable.
type Report struct {
	Rows []Row `json:"rows"`
	// Largest are the largest files of the first medium.
	Largest []Item `json:"largest"`
	// Unknown are the files whose size is not known; rows that count them say "at least".
	Unknown []string `json:"unknown"`
	// Warnings are limits that are probably exceeded, and what the table cannot say.
	Warnings []string `json:"warnings"`
}

// Row is one limit.
type Row struct {
	ID     string `json:"id"`     // stable, such as "builder-hex0.files"
	Kernel string `json:"kernel"` // "builder-hex0", "fiwix" or "linux"
	What   string `json:"what"`   // for a person
	Unit   string `json:"unit"`   // "bytes" or "files"

	Limit       int64  `json:"limit"`
	LimitBasis  Basis  `json:"limit_basis"`
	LimitSource string `json:"limit_source"` // file and line, or the document of an assumed number

	Known      *int64    `json:"known"` // the counted part of Used; null with Used
	Used       *int64    `json:"used"`  // null: cannot be known before it runs
	Left       *int64    `json:"left"`  // Limit-Used, negative when over; null with Used
	Certainty  Certainty `json:"certainty"`
	AtLeast    bool      `json:"at_least"`    // sizes of files are missing in Known, estimate or not
	UsedSource string    `json:"used_source"` // what is counted, and where an estimate comes from

	Verdict Verdict `json:"verdict"`
	// Advice is what to do when it is over.
	Advice string `json:"advice,omitempty"`

	overText string // for a row that is no plain "too many"
}

// Certainty says how well Used is known.
type Certainty string

// The certainties.
const (
	Exact    Certainty = "exact"    // counted
	AtLeast  Certainty = "at-least" // counted, but sizes are missing
	Estimate Certainty = "estimate" // depends on build products
	Unknown  Certainty = "unknown"  // cannot be known before it runs
)

// Verdict is how a limit stands.
type Verdict string

// The verdicts.
const (
	OK           Verdict = "ok"
	Over         Verdict = "over" // certainly: an error
	ProbablyOver Verdict = "probably-over"
	Tight        Verdict = "tight" // an estimate within a hundredth of the limit, on either side
	NotKnown     Verdict = "unknown"
)

// ErrOver is wrapped by the error of a report with a hard limit exceeded.
var ErrOver = errors.New("over the limits of an early kernel")

// Err lists all limits that what is counted exceeds; nil if there is none. It wraps ErrOver.
func (r *Report) Err() error {
	var lines []string
	for _, row := range r.Rows {
		if row.Verdict == Over {
			lines = append(lines, row.complaint())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrOver, strings.Join(lines, "; "))
}

// complaint is one line about a row that is over its limit, certainly or by estimate.
func (r Row) complaint() string {
	if r.overText != "" {
		return r.Kernel + ": " + r.overText + ": " + r.Advice
	}
	used, how := *r.Used, "by estimate "
	if r.Verdict == Over {
		used, how = *r.Known, ""
		if r.Certainty != Exact {
			how = "at least "
		}
	}
	text := fmt.Sprintf("%s: %s: %s%s of %s %s used, %s too many (limit: %s)", r.Kernel, r.What, how, count(used),
		count(r.Limit), r.Unit, count(used-r.Limit), r.LimitSource)
	if r.Advice != "" {
		text += ": " + r.Advice
	}
	return text
}

// count writes a number with commas between the thousands.
func count(n int64) string {
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}
