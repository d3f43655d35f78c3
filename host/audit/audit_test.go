// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"kindling/host/report"
	"kindling/internal/event"
	"kindling/internal/history"
	"kindling/steps"
)

// manifest is a run of 18 steps, of which the agent owes the last 15.
const manifest = `define: KERNELS = ( KERNEL_BOOTSTRAP == True )
build: tcc-0.9.27
jump: fiwix ( KERNELS == True )
jump: linux
jump: move_disk
improve: swap ( SWAP_SIZE != 0 )
build: p-4
build: p-5
build: p-6
build: p-7
build: p-8
build: p-9
build: p-10
build: p-11
build: p-12
build: p-13
build: p-14
build: p-15
improve: make_bootable
improve: after
`

const config = "CHROOT=False\nKERNEL_BOOTSTRAP=True\nSWAP_SIZE=0\n"

func plans(t *testing.T, text string, extra ...string) (*steps.Plan, []*steps.Plan) {
	t.Helper()
	tree := fstest.MapFS{"steps/manifest": {Data: []byte(manifest)},
		"steps-one/manifest": {Data: []byte("build: a\nbuild: b ( SWAP_SIZE != 0 )\n")}}
	cfg, err := steps.ParseConfig("cfg", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	main, err := steps.NewPlan(tree, steps.MainRoot, cfg)
	if err != nil {
		t.Fatal(err)
	}
	more, err := steps.NewExtraPlans(tree, extra, main.Config)
	if err != nil {
		t.Fatal(err)
	}
	return main, more
}

// life is what one life of the agent sends, and its journal has: steps with their ends, "" for one that has none.
type life struct {
	boot  string
	ends  []end
	final event.Status // "" for none
}

type end struct {
	step   steps.Step
	status event.Status
}

// all are good ends of steps, with other ends for some of them, by number. "none" leaves a step out.
func all(list []steps.Step, others map[int]event.Status) []end {
	var ends []end
	for _, s := range list {
		status, other := others[s.At]
		if !other {
			status = event.StatusOK
		}
		if status != "none" {
			ends = append(ends, end{s, status})
		}
	}
	return ends
}

func lines(t *testing.T, lives ...life) string {
	t.Helper()
	var out strings.Builder
	send := func(e event.Event) {
		line, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(line)
	}
	for _, l := range lives {
		send(event.Event{Kind: event.KindPlan, Name: l.boot, Total: 18})
		for _, e := range l.ends {
			send(event.Event{Kind: event.KindStep, Step: e.step.ID(), Name: e.step.String(), Number: e.step.At, Status: event.StatusStart})
			send(event.Event{Kind: event.KindLog, Step: e.step.ID(), Text: `{"kind":"done","status":"failed"}`})
			if e.status != "" {
				send(event.Event{Kind: event.KindStep, Step: e.step.ID(), Name: e.step.String(), Number: e.step.At, Status: e.status})
			}
		}
		if l.final != "" {
			send(event.Event{Kind: event.KindDone, Status: l.final})
		}
	}
	return out.String()
}

func journalOf(t *testing.T, text string) *history.Run {
	t.Helper()
	run, err := history.Read(t.Context(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return &run
}

func orderOf(t *testing.T, text string, extra ...string) []steps.Step {
	t.Helper()
	main, more := plans(t, text, extra...)
	order := steps.InOrder(main, more, nil)
	return order[steps.FirstOnLinux(order):]
}

func TestCheck(t *testing.T) {
	owes := orderOf(t, config)
	sound := lines(t, life{"a", all(owes, nil), event.StatusOK})
	const failed, ok, skipped = event.StatusFailed, event.StatusOK, event.StatusSkipped
	with := func(others map[int]event.Status) string { return lines(t, life{"a", all(owes, others), ok}) }
	threeMissing := with(map[int]event.Status{16: "none", 17: "none", 18: "none"})
	forged := strings.SplitAfter(sound, "\n")
	forged = append(forged[:10], append([]string{`{"seq":0,"ms":0,"kind":"done","status":"ok"}` + "\n"}, forged[10:]...)...)
	cut := lines(t, life{"a", append(all(owes[:4], nil), end{owes[4], ""}), ""}, life{"b", all(owes[4:], nil), ok})
	lost := lines(t, life{"a", all(owes[:4], nil), ""}, life{"b", all(owes[6:], nil), ok}) // two ends were under way
	for _, tt := range []struct {
		name, events, journal string
		before                int // so many steps were done when the machine was started
		want                  report.Audit
		doubt, step           string
	}{
		{"all well", sound, sound, 0, report.Audit{Steps: "complete", Journal: "checked"}, "", ""},
		{"no disk", sound, "", 0, report.Audit{Steps: "complete", Journal: "unchecked: no disk"}, "", ""},
		{"3 of 18 missing", threeMissing, threeMissing, 0,
			report.Audit{Steps: "incomplete", Missing: []string{"016-build-p-15-pass1", "017-improve-make_bootable", "018-improve-after"}, Journal: "differs"},
			"the guest reports success, but step 16 of 18 (build: p-15) was not begun; 3 of the 15 steps that it owes have no good end", "016-build-p-15-pass1"},
		{"a failed step", with(map[int]event.Status{7: failed}), "", 0,
			report.Audit{Steps: "incomplete", Failed: []string{"007-build-p-6-pass1"}, Journal: "unchecked: no disk"},
			"the guest reports success, but step 7 of 18 (build: p-6) failed; 1 of the 15 steps that it owes have no good end", "007-build-p-6-pass1"},
		{"a step that runs", with(map[int]event.Status{18: ""}), "", 0,
			report.Audit{Steps: "incomplete", Missing: []string{"018-improve-after"}, Journal: "unchecked: no disk"},
			"the guest reports success, but step 18 of 18 (improve: after) has not ended; 1 of the 15 steps that it owes have no good end", "018-improve-after"},
		{"a skipped step", with(map[int]event.Status{9: skipped}), with(map[int]event.Status{9: skipped}), 0,
			report.Audit{Steps: "complete", Skipped: []string{"009-build-p-8-pass1"}, Journal: "checked"}, "", ""},
		{"a step that was skipped unattended", with(map[int]event.Status{9: skipped}), "", 0,
			report.Audit{Steps: "incomplete", Skipped: []string{"009-build-p-8-pass1"}, Journal: "unchecked: no disk"},
			"the guest reports success, but step 9 of 18 (build: p-8) was skipped, but its console was not attended; 1 of the 15 steps that it owes have no good end", "009-build-p-8-pass1"},
		{"retried", lines(t, life{"a", append([]end{{owes[0], failed}}, all(owes, nil)...), ok}), "", 0,
			report.Audit{Steps: "complete", Journal: "unchecked: no disk"}, "", ""},
		{"an earlier life", cut, cut, 4, report.Audit{Steps: "complete", Journal: "checked"}, "", ""},
		{"an earlier life that failed", lines(t, life{"a", append(all(owes[:4], nil), end{owes[4], failed}), failed}, life{"b", all(owes[4:], nil), ok}), "", 0,
			report.Audit{Steps: "complete", Journal: "unchecked: no disk"}, "", ""},
		{"ends that a power cut has taken", lost, sound, 6, report.Audit{Steps: "complete", Journal: "checked"}, "", ""},
		{"an earlier life on another machine", lines(t, life{"b", all(owes[6:], nil), ok}),
			lines(t, life{"a", append(all(owes[:6], nil), end{owes[6], ""}), ""}, life{"b", all(owes[6:], nil), ok}), 0,
			report.Audit{Steps: "complete", Journal: "checked"}, "", ""},
		{"an earlier life that failed on another machine", lines(t, life{"b", all(owes[7:], nil), ok}),
			lines(t, life{"a", append(all(owes[:6], nil), end{owes[6], failed}), failed}, life{"b", all(owes[7:], nil), ok}), 0,
			report.Audit{Steps: "incomplete", Missing: []string{"010-build-p-9-pass1"}, Journal: "differs"},
			"the guest reports success, but step 10 of 18 (build: p-9) was not begun; 1 of the 15 steps that it owes have no good end", "010-build-p-9-pass1"},
		{"ends that nobody knows of", lost, sound, 4, report.Audit{Steps: "incomplete", Missing: []string{"008-build-p-7-pass1", "009-build-p-8-pass1"}, Journal: "differs"},
			"the guest reports success, but step 8 of 18 (build: p-7) was not begun; 2 of the 15 steps that it owes have no good end", "008-build-p-7-pass1"},
		{"steps behind a forged end", strings.Join(forged, ""), sound, 0,
			report.Audit{Steps: "incomplete", Missing: ids(owes[3:]), Journal: "differs"},
			"the guest reports success, but step 7 of 18 (build: p-6) was not begun; 12 of the 15 steps that it owes have no good end", "007-build-p-6-pass1"},
		{"forged ends of steps", sound, lines(t, life{"a", append(all(owes[:5], nil), end{owes[5], ""}), ""}), 0,
			report.Audit{Steps: "complete", Journal: "differs"},
			"the guest reports success, but by its journal step 9 of 18 (build: p-8) has not ended", "009-build-p-8-pass1"},
		{"a journal without an end", sound, lines(t, life{"a", all(owes, nil), ""}), 0, report.Audit{Steps: "complete", Journal: "differs"},
			"the guest reports success, but its journal does not have that end", "018-improve-after"},
		{"a disk without a journal", sound, "\n", 0, report.Audit{Steps: "complete", Journal: "differs"},
			"the guest reports success, but no journal of its steps is on its disk", "004-jump-move_disk"},
		{"no events", "", "", 0, report.Audit{Steps: "incomplete", Missing: ids(owes), Journal: "unchecked: no disk"},
			"the guest reports success, but step 4 of 18 (jump: move_disk) was not begun; 15 of the 15 steps that it owes have no good end", "004-jump-move_disk"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			main, _ := plans(t, config)
			e := Evidence{Record: NewRecord(main, nil), Events: strings.NewReader(tt.events), NoJournal: "no disk", NoConfigs: "no disk",
				Attended: tt.name == "a skipped step"}
			if tt.journal != "" {
				e.Journal = journalOf(t, tt.journal)
			}
			if tt.before > 0 {
				e.Record.Remember(*journalOf(t, lines(t, life{"z", all(owes[:tt.before], nil), ""})))
			}
			tt.want.Owed, tt.want.Config = 15, "host: no disk"
			if d := cmp.Diff(Finding{tt.want, tt.doubt, tt.step}, Check(e)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func ids(list []steps.Step) []string {
	var all []string
	for _, s := range list {
		all = append(all, s.ID())
	}
	return all
}

// disk is a guest's disk.
type disk map[string]string

func (d disk) ReadFile(name string, limit int64) ([]byte, error) {
	text, found := d[name]
	if !found || int64(len(text)) > limit {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return []byte(text), nil
}

// The plan is that of the configuration with which the guest has planned, whatever has become of the file since.
func TestCheckGuestConfig(t *testing.T) {
	const swap = "CHROOT=False\nKERNEL_BOOTSTRAP=True\nSWAP_SIZE=4\n"
	now := strings.Replace(config, "True", "False", 1) + "# the shell's own\nexport SWAP_SIZE\n"
	const plan, one = "kindling/plan.cfg", "kindling/plan.steps-one.cfg"
	for _, tt := range []struct {
		name   string
		disk   disk
		extra  []string // that the host has asked for
		config string   // of the guest's plan
		roots  []string // that the guest has run
		want   string   // whose configuration
		doubt  string
	}{
		{"as planned by the host", disk{guestConfig: config, plan: config}, nil, config, nil, "guest", ""},
		{"changed by the configurator", disk{guestConfig: swap, plan: swap}, nil, swap, nil, "guest", ""},
		{"an agent that has kept none", disk{guestConfig: swap}, nil, swap, nil, "guest", ""},
		{"changed by a step", disk{guestConfig: now, plan: swap}, nil, swap, nil, "guest", ""},
		{"a step that the guest's plan has is missing", disk{guestConfig: swap, plan: swap}, nil, config, nil, "guest", "step 5 of 19 (improve: swap) was not begun"},
		{"no configuration", disk{}, nil, config, nil, "host: read /steps/bootstrap.cfg: steps/bootstrap.cfg: file does not exist", ""},
		{"one that is none", disk{guestConfig: config, plan: "CHROOT"}, nil, config, nil, "host: kindling/plan.cfg:1", ""},
		{"one for a chroot", disk{guestConfig: config, plan: "CHROOT=True\n"}, nil, config, nil, "guest", "no step that runs on Linux"},
		{"an extra root", disk{guestConfig: config + "EXTRA_BUILD=one\n", plan: config, one: swap}, []string{"one"}, swap, []string{"one"}, "guest", ""},
		{"an extra root that was not run", disk{guestConfig: config, plan: config}, []string{"one"}, config, nil, "guest", "step 18 of 19 (one: build: a) was not begun"},
		{"a root that the host knows nothing of", disk{guestConfig: config + "EXTRA_BUILD=other\n", plan: config}, nil, config, nil, "guest", ""},
		{"names that are none", disk{guestConfig: config + "EXTRA_BUILD=../x\n", plan: config}, nil, config, nil, "host: extra root", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			main, extra := plans(t, config, tt.extra...)
			e := Evidence{Record: NewRecord(main, extra), NoJournal: "no disk"}
			ran := all(orderOf(t, tt.config, tt.roots...), nil)
			if len(tt.roots) > 0 { // the main root was planned otherwise
				ran = append(all(orderOf(t, config), nil), ran...)
			}
			e.Events = strings.NewReader(lines(t, life{"a", ran, event.StatusOK}))
			configs, err := ReadConfigs(tt.disk, e.Record.Roots)
			if e.Configs = &configs; err != nil {
				e.Configs, e.NoConfigs = nil, err.Error()
			}
			got := Check(e)
			if !strings.HasPrefix(got.Audit.Config, tt.want) || !strings.Contains(got.Doubt, tt.doubt) || (tt.doubt == "") != (got.Doubt == "") {
				t.Errorf("configuration of the %s, doubt %q", got.Audit.Config, got.Doubt)
			}
		})
	}
}

func TestCheckWithoutAgent(t *testing.T) {
	want := Finding{Audit: report.Audit{Steps: "unreported", Journal: "unchecked: no agent keeps one"}}
	if d := cmp.Diff(want, Check(Evidence{})); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// Nothing that stands in the events or in plan.json makes an audit a success by failing.
func TestCheckFails(t *testing.T) {
	main, _ := plans(t, config)
	sound := NewRecord(main, nil)
	broken := errors.New("the disk is on fire")
	for name, e := range map[string]Evidence{
		"events that cannot be read": {Record: sound, Events: iotest.ErrReader(broken)},
		"no roots":                   {Record: Record{Agent: true, Config: config}},
		"a bad manifest":             {Record: Record{Agent: true, Config: config, Roots: []Root{{"steps", "make: it\n"}}}},
		"a bad configuration":        {Record: Record{Agent: true, Config: "A", Roots: sound.Roots}},
	} {
		if got := Check(e); got.Doubt == "" || !strings.HasPrefix(got.Audit.Steps, "unchecked: ") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Lines that are too long, cut or no events say nothing, and do not hide the next ones.
func TestReadEnds(t *testing.T) {
	owes := orderOf(t, config)[:2]
	sound := lines(t, life{"a", all(owes, nil), ""})
	text := strings.Repeat("x", 3*event.MaxLine) + "\nno event\n" + sound + `{"seq":9,"kind":"step","step":"` + owes[0].ID() + `","status":"fai`
	got, err := readEnds(iotest.OneByteReader(strings.NewReader(text)), owes)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]event.Status{owes[0].ID(): "ok", owes[1].ID(): "ok"}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
