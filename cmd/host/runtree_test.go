// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/budget"
	"kindling/host/report"
)

// TestReportBudgets: the report has the limits of the plan, under the same words.
func TestReportBudgets(t *testing.T) {
	used := int64(7)
	got := reportBudgets(&budget.Report{Rows: []budget.Row{
		{ID: "fiwix.open-files", Kernel: "fiwix", What: "open files", Unit: "files", Limit: 4096, Used: &used,
			Certainty: budget.Exact, Verdict: budget.OK},
		{ID: "linux.window", Kernel: "linux", Verdict: budget.NotKnown, Certainty: budget.Unknown},
	}})
	want := []report.Budget{
		{ID: "fiwix.open-files", Kernel: "fiwix", What: "open files", Unit: "files", Limit: 4096, Used: &used,
			Certainty: "exact", Verdict: "ok"},
		{ID: "linux.window", Kernel: "linux", Certainty: "unknown", Verdict: "unknown"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := reportBudgets(nil); got != nil {
		t.Errorf("no budgets: %v", got)
	}
}
