// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kindling/internal/history"
)

// ShowLog is what `/kindling/init log [STEP]` does in a guest, beside the agent that is PID 1: it writes the journal of
// the run below root as a table, or the log of one step (by number, ID or name).
func ShowLog(w io.Writer, root string, args []string) error {
	if len(args) > 1 {
		return errors.New("log: one step at a time, or none for the table")
	}
	f, err := os.Open(filepath.Join(root, journalPath))
	if err != nil {
		return fmt.Errorf("log: no journal of a run: %w", err)
	}
	defer f.Close()
	run, err := history.Read(context.Background(), f)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return showStep(w, root, &run, args[0])
	}
	for i, s := range run.Steps {
		if info, err := os.Stat(filepath.Join(root, logDir, s.ID+".log")); err == nil {
			run.Steps[i].LogSize = info.Size()
		}
	}
	return run.WriteTable(w)
}

func showStep(w io.Writer, root string, run *history.Run, what string) error {
	step, err := run.Find(what)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	f, err := os.Open(filepath.Join(root, logDir, step.ID+".log"))
	if err != nil {
		return fmt.Errorf("log of step %d (%s): %w", step.Number, step.Name, err)
	}
	defer f.Close()
	return history.CopyText(w, f)
}
