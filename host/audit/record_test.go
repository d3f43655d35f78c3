// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/event"
)

func TestRecord(t *testing.T) {
	main, extra := plans(t, config, "one")
	want := NewRecord(main, extra)
	owes := orderOf(t, config)
	want.Remember(*journalOf(t, lines(t, life{"a", append(all(owes[:2], map[int]event.Status{5: event.StatusSkipped}), end{owes[2], ""}), ""})))
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want.Schema = Schema
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if d := cmp.Diff(map[string]event.Status{"004-jump-move_disk": "ok", "005-build-p-4-pass1": "skipped"}, got.Done); d != "" {
		t.Errorf("what was done (-want +got)\n%s", d)
	}
}

// A bootstrapped disk owes what is asked for on it and not done, and the rest was done before.
func TestRecordOf(t *testing.T) {
	owes := orderOf(t, config)
	d := disk{guestConfig: config + "# text\nEXTRA_BUILD=one\n", "kindling/plan.cfg": config, "kindling/plan.manifest": manifest,
		"steps/manifest": "build: other\n", "steps-one/manifest": "build: a\n", guestJournal: lines(t, life{"a", all(owes, nil), event.StatusOK})}
	r, err := RecordOf(d)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Root{{"steps", manifest}, {"steps-one", "build: a\n"}}; !cmp.Equal(want, r.Roots) || len(r.Done) != 15 || !r.Agent || r.Config != config {
		t.Errorf("%d steps done, %+v", len(r.Done), r.Roots)
	}
	configs, err := ReadConfigs(d, r.Roots)
	if err != nil {
		t.Fatal(err)
	}
	one := orderOf(t, config, "one")
	extra := one[len(one)-2] // before improve: after, which was done before
	for name, tt := range map[string]struct{ events, doubt string }{
		"booted as it was":         {lines(t, life{"b", nil, event.StatusOK}), "step 19 of 19 (one: build: a) was not begun; 1 of the 16"},
		"with the extra root done": {lines(t, life{"b", []end{{extra, event.StatusOK}}, event.StatusOK}), ""},
	} {
		got := Check(Evidence{Record: r, Events: strings.NewReader(tt.events), Configs: &configs, NoJournal: "none"})
		if !strings.Contains(got.Doubt, tt.doubt) || (tt.doubt == "") != (got.Doubt == "") {
			t.Errorf("%s: %q", name, got.Doubt)
		}
	}
	for _, name := range []string{guestConfig, "steps-one/manifest"} {
		text := d[name]
		delete(d, name)
		if _, err := RecordOf(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without %s: %v", name, err)
		}
		d[name] = text
	}
	delete(d, guestJournal)
	if r, err := RecordOf(d); err != nil || len(r.Done) != 0 {
		t.Errorf("without a journal: %v, %v", r.Done, err)
	}
}

func TestDecodeRecord(t *testing.T) {
	for _, text := range []string{"", "{}", `{"schema":2}`, `{"schema":1} {}`, `{"schema":1,"other":1}`, `{"schema":1,"done":{"a":"failed"}}`,
		`{"schema":1,"roots":{}}`, strings.Repeat(" ", MaxRecord+1)} {
		if _, err := Decode([]byte(text)); !errors.Is(err, ErrRecord) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

// Whatever stands in plan.json, an audit ends.
func FuzzRecord(f *testing.F) {
	for _, r := range []Record{
		{Schema: Schema, Agent: true, Config: config, Roots: []Root{{"steps", manifest}, {"steps-one", "build: a\n"}}},
		{Schema: Schema, Done: map[string]event.Status{"a": event.StatusOK}},
	} {
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := Decode(data); err != nil {
			f.Fatal(err)
		}
		f.Add(data, "{}")
	}
	f.Fuzz(func(t *testing.T, data []byte, events string) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		got := Check(Evidence{Record: r, Events: strings.NewReader(events), NoConfigs: "none", NoJournal: "none"})
		if got.Doubt == "" && got.Audit.Steps != "complete" && got.Audit.Steps != "unreported" {
			t.Errorf("%+v", got)
		}
		if r.Agent && bytes.Count([]byte(events), []byte("\n")) == 0 && len(r.Done) == 0 && got.Doubt == "" && got.Audit.Owed > 1 {
			t.Errorf("%d steps without an event: %+v", got.Audit.Owed, got)
		}
	})
}
