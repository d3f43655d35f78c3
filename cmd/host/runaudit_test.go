// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"kindling/host/report"
	"kindling/host/resume"
	"kindling/host/rundir"
)

const auditedConfig = "CHROOT=False\nKERNEL_BOOTSTRAP=True\n"

// audited is what is left of a run of two steps on these disks: record is plan.json, "" for none.
func audited(t *testing.T, record, events string, disks ...string) *run {
	t.Helper()
	dir := runFolder(t, disks...)
	if record != "" {
		writeTestFile(t, dir.At(rundir.Plan), record)
	}
	writeTestFile(t, dir.At(rundir.Events), events)
	return &run{cmd: &runCmd{}, dir: dir, agent: "agent"}
}

// A disk that cannot be read does not fail the run. A journal that can be read must agree with the events.
func TestAudit(t *testing.T) {
	const planned = `{"kind":"plan","name":"a","total":4}` + "\n"
	end := func(id, status string) string {
		return fmt.Sprintf(`{"kind":"step","step":%q,"status":"start"}`+"\n"+`{"kind":"step","step":%[1]q,"status":%q}`+"\n", id, status)
	}
	const done = `{"kind":"done","status":"ok"}` + "\n"
	sound := planned + end("003-jump-move_disk", "ok") + end("004-build-a-pass1", "ok") + done
	failed := planned + end("003-jump-move_disk", "ok") + end("004-build-a-pass1", "failed") + done
	record := `{"schema":1,"agent":true,"config":"CHROOT=False\nKERNEL_BOOTSTRAP=True\n",
		"roots":[{"folder":"steps","manifest":"jump: fiwix\njump: linux\njump: move_disk\nbuild: a\n"}]}`
	disk := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			writeTestFile(t, filepath.Join(dir, name), text)
		}
		return guestDisk(t, dir, 1<<20)
	}
	blank := filepath.Join(t.TempDir(), "blank.img")
	writeTestFile(t, blank, strings.Repeat("\x00", 1<<20))
	good := disk(map[string]string{"kindling/journal": sound, "steps/bootstrap.cfg": auditedConfig})
	other := disk(map[string]string{"kindling/journal": failed, "steps/bootstrap.cfg": auditedConfig})
	empty := disk(map[string]string{"etc/motd": "hello\n"})
	for _, tt := range []struct {
		name, record, events   string
		disks                  []string
		steps, journal, config string // how these begin
		doubt                  string
	}{
		{"all well", record, sound, []string{blank, good}, report.StepsComplete, report.JournalChecked, "guest", ""},
		{"a failed step", record, failed, []string{good}, report.StepsIncomplete, report.JournalDiffers, "guest", "step 4 of 4 (build: a) failed"},
		{"another journal", record, sound, []string{other}, report.StepsComplete, report.JournalDiffers, "guest", "by its journal step 4 of 4 (build: a) failed"},
		{"no filesystem", record, sound, []string{blank}, report.StepsComplete, "unchecked: image", "host: image", ""},
		{"no journal", record, sound, []string{empty}, report.StepsComplete, report.JournalDiffers, "host: image", "no journal of its steps"},
		{"no journal, and another disk", record, sound, []string{empty, blank}, report.StepsComplete, "unchecked: image", "host: image", ""},
		{"disk gone", record, sound, []string{blank + ".gone"}, report.StepsComplete, "unchecked: ", "host: ", ""},
		{"no disk", record, sound, nil, report.StepsComplete, "unchecked: description", "host: description", ""},
		{"no agent", `{"schema":1,"agent":false,"config":"","roots":null}`, done, []string{good}, report.StepsUnreported, "unchecked: no agent", "", ""},
		{"no plan", "", sound, []string{good}, "unchecked: ", "unchecked: ", "", "cannot be checked"},
		{"a plan that is none", `{"schema":1,"agents":[]}`, sound, []string{good}, "unchecked: ", "unchecked: ", "", "cannot be checked: record of the run's plan"},
	} {
		got := audited(t, tt.record, tt.events, tt.disks...).audit(t.Context())
		a := got.Audit
		if !strings.HasPrefix(a.Steps, tt.steps) || !strings.HasPrefix(a.Journal, tt.journal) || !strings.HasPrefix(a.Config, tt.config) {
			t.Errorf("%s: %+v", tt.name, a)
		}
		if !strings.Contains(got.Doubt, tt.doubt) || (tt.doubt == "") != (got.Doubt == "") || strings.Contains(got.Doubt+a.Journal, "\n") {
			t.Errorf("%s: doubt %q", tt.name, got.Doubt)
		}
	}
}

// A run that goes on, or starts from a checkpoint, is audited by the plan of the run that it goes on with.
func TestRecordPlan(t *testing.T) {
	const record = `{"schema":1,"agent":true,"config":"A=1\n","roots":[]}`
	source := audited(t, record, "")
	disk := &resume.Disk{}
	if err := source.recordResumed(disk.History); err != nil {
		t.Error(err)
	}
	r := audited(t, "", "")
	r.source = source.dir
	if err := r.recordSource(); err != nil {
		t.Error(err)
	}
	if got, err := readRecord(r.dir); err != nil || got.Config != "A=1\n" || !got.Agent {
		t.Errorf("%+v, %v", got, err)
	}
}
