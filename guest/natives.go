// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"kindling/internal/event"
	"kindling/steps"
)

const (
	distfilesDir = "/external/distfiles"
	afterDir     = stepsDir + "/after"
)

// nativeKey names a directive that the agent performs itself.
type nativeKey struct {
	kind steps.Kind
	name string
}

// natives is the table of directives that need more than a shell, or that the tree's own shell script does in a way
// that does not survive hostile or unusual machines. All others run in the tree's bash.
func natives() map[nativeKey]func(context.Context, *job) error {
	return map[nativeKey]func(context.Context, *job) error{
		{steps.KindJump, "move_disk"}:                moveDisk,
		{steps.KindJump, "linux"}:                    jumpLinux,
		{steps.KindImprove, "import_payload"}:        importEarly,
		{steps.KindImprove, "import_payload_rest"}:   importRest,
		{steps.KindImprove, "finalize_job_count"}:    finalizeJobCount,
		{steps.KindImprove, "populate_device_nodes"}: deviceNodes,
		{steps.KindImprove, stepFHS}:                 finalizeFHS,
		{steps.KindImprove, stepSwap}:                makeSwap,
		{steps.KindImprove, stepNetwork}:             getNetwork,
		{steps.KindImprove, stepOpenConsole}:         openVT,
		{steps.KindImprove, "make_bootable"}:         makeBootable,
		{steps.KindImprove, "after"}:                 runAfter,
	}
}

// nativeOf is what the agent does in place of a step's script. The steps of an extra root are that root's own.
func nativeOf(s steps.Step) (func(context.Context, *job) error, bool) {
	if s.Root != "" {
		return nil, false
	}
	f, found := natives()[nativeKey{s.Kind, s.Name}]
	return f, found
}

// setConfig appends a variable to the bootstrap.cfg of a root, which every later step there sources. The last line of a
// name wins.
func setConfig(root, name, value string) error {
	path := filepath.Join(root, configPath)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return writeFile(path, append(data, name+"="+value+"\n"...))
}

// finalizeJobCount makes the configured job count count: the early kernels have built with one job.
func finalizeJobCount(_ context.Context, j *job) error {
	jobs := j.config.Get("FINAL_JOBS")
	if jobs == "" {
		return errors.New("FINAL_JOBS is not set in " + configPath)
	}
	if j.config.Get("JOBS") == jobs {
		j.say("JOBS is %s already", jobs)
		return nil
	}
	j.say("JOBS=%s", jobs)
	return setConfig("/", "JOBS", jobs)
}

// deviceNodes has nothing to make: on Linux the kernel manages /dev. It checks that it does.
func deviceNodes(_ context.Context, j *job) error {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev", &st); err != nil {
		return fmt.Errorf("what is mounted on /dev: %w", err)
	}
	if st.Type != unix.TMPFS_MAGIC { // devtmpfs has no number of its own
		return fmt.Errorf("/dev is no devtmpfs (filesystem type %#x): the kernel needs CONFIG_DEVTMPFS", st.Type)
	}
	j.say("/dev is the kernel's own (devtmpfs)")
	return nil
}

// runAfter runs the after scripts in order; the first that fails ends the run. What the tree's after.sh does besides,
// shell and shutdown, is how every run of the agent ends.
func runAfter(ctx context.Context, j *job) error {
	entries, err := os.ReadDir(afterDir)
	if errors.Is(err, fs.ErrNotExist) {
		j.say("no after scripts")
		return nil
	}
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	for _, name := range afterOrder(names) {
		j.say("after script %s", name)
		j.agent.port.Send(event.Event{Kind: event.KindNote, Step: j.step.ID(), Name: name, Text: "after script " + name})
		if err := j.bash(ctx, afterScript(filepath.Join(afterDir, name))); err != nil {
			failed := &runError{reason: event.ReasonAfter, err: fmt.Errorf("after script %s: %w", name, err)}
			if status, ok := errors.AsType[*runError](err); ok {
				failed.exit = status.exit
			}
			return failed
		}
	}
	return nil
}

// afterScript runs one after script as the tree's after.sh does: in a bash of its own, below one that has sourced the
// configuration and what the environment exports.
func afterScript(path string) []byte {
	quoted := "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	return []byte("#!/bin/bash\nset -e\ncd /steps\n. ./bootstrap.cfg\n. ./env\nbash " + quoted + "\n")
}
