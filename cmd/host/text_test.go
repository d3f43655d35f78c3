// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kindling/host/checkpoint"
	"kindling/host/machine"
	"kindling/host/qemu"
)

// hostile has what a terminal would obey: it clears the screen, sets the title, reports its state, and turns text around.
const hostile = "\x1b[2J\x1b]0;title\x07\x1b[6n\u009b31m\u202eevil\r\b\x7f"

// obeyed is what no output may have.
var obeyed = regexp.MustCompile("[\x00-\x09\x0b-\x1f\x7f\u0080-\u009f\u202a-\u202e]")

func checkText(t *testing.T, what string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if at := obeyed.FindStringIndex(text); at != nil {
			t.Errorf("%s prints %q", what, text[max(0, at[0]-20):min(len(text), at[1]+20)])
		}
	}
}

func TestTextWriter(t *testing.T) {
	var out bytes.Buffer
	w := &textWriter{file: &out}
	text := "a\tb\nä€😀" + hostile + "\n\nlast"
	for i := range len(text) { // however it is cut
		if n, err := w.Write([]byte(text[i : i+1])); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	checkText(t, "byte by byte", out.String())
	if !strings.HasPrefix(out.String(), "a b\nä€😀") || !strings.HasSuffix(out.String(), "evil\n\nlast") {
		t.Errorf("byte by byte: %q", out.String())
	}
	out.Reset()
	fmt.Fprintf(w, "%s", text)
	if want := "a b\nä€😀31mevil\n\nlast"; out.String() != want {
		t.Errorf("at once: %q, want %q", out.String(), want)
	}
}

// Text goes to a terminal in one way only: through textWriter. The exceptions are named.
func TestOneWayToTheTerminal(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	direct := regexp.MustCompile(`\b(s|streams)\.(out|err)\b|os\.Std(out|err)`)
	allowed := regexp.MustCompile(`term\.IsTerminal|(progress|transfer)\.For|console\.Open|child\.Stdout|page\.WriteTo|writeJSON|complete\(|` +
		`kong\.Writers|statusOf|os\.Exit|\\r\\x1b\[K|\[\]\*os\.File\{`)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "text.go" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(data), "\n") {
			if direct.MatchString(line) && !allowed.MatchString(line) {
				t.Errorf("%s:%d writes past textWriter: %s", name, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// Every verb is given names that a terminal would obey, in arguments and in folders.
func TestVerbsPrintCleanText(t *testing.T) {
	dir := filepath.Join(t.TempDir(), hostile)
	writeTestFile(t, filepath.Join(dir, "tree/steps/manifest"), "build: "+hostile+"\n")
	writeTestFile(t, filepath.Join(dir, "image"), hostile)
	writeTestFile(t, filepath.Join(dir, "bootstrap.cfg"), hostile+"="+hostile+"\n")
	writeTestFile(t, filepath.Join(dir, "run/report.json"), "{")
	writeTestFile(t, filepath.Join(dir, "run/console.log"), hostile)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, args := range [][]string{
		{hostile}, {"run", hostile}, {"run", "--tree", at("tree"), "--qemu", "--run", at("new")}, {"run", "--resume", at("run")},
		{"run", "--from", hostile, at("run")}, {"run", "--stage0-image", at("image"), "--run", at("new")},
		{"run", "--cache", at("image"), "--run", at("new"), "--dry-run"},
		{"plan", "--tree", at("tree"), "--qemu"}, {"plan", "--tree", at("none"), "--qemu"},
		{"assemble", "--tree", at("tree"), "--qemu", "--agent", "off", "--out", at("out")},
		{"scripts", "--tree", at("tree"), "--config", at("bootstrap.cfg"), "--out", at("out")},
		{"fetch", "--tree", at("tree"), "--distfiles", at("d")}, {"mirror", at("none")},
		{"payload", "create", at("p"), at("none")}, {"payload", "create", at("p"), at("image"), "--id", hostile},
		{"payload", "list", at("image")}, {"payload", "verify", at("image")}, {"payload", "extract", at("image"), at("x")},
		{"write", at("image"), at("image")}, {"export", at("image"), at("x")}, {"export", at("run"), at("x")},
		{"checkpoints", at("run")}, {"checkpoints", at("none")}, {"attach", at("run")}, {"stop", at("run")},
		{"report", at("run")}, {"report", at("none")}, {"log", at("image")}, {"log", at("run")}, {"log", at("run"), hostile},
		{"resume-medium", at("image"), at("m")}, {"completion", hostile},
	} {
		status, stdout, stderr := runMain(t, args...)
		if status == statusOK && args[0] != "checkpoints" {
			t.Errorf("%q: status 0\n%s", args, stdout)
		}
		checkText(t, fmt.Sprintf("%q", args[:1]), stdout, stderr)
	}
}

// What a foreign run folder says about itself is text.
func TestRunFolderPrintsCleanText(t *testing.T) {
	dir := t.TempDir()
	c := checkpoint.Checkpoint{Schema: checkpoint.Schema, Name: "fiwix", Phase: hostile, Made: time.Now(), Memory: 1,
		Machine: machine.Machine{Schema: machine.Schema, MemoryMiB: 16, Cores: 1, Accel: qemu.AccelTCG, Kernel: "/k"}}
	for name, document := range map[string]any{
		"disks/checkpoints/fiwix/checkpoint.json": c,
		"report.json": map[string]any{"schema": 1, "result": "ok", "line": hostile, "exit_status": 10, "name": hostile,
			"packages": []any{map[string]string{"name": hostile}}},
		"machine.json": map[string]any{"schema": 1, "argv": []string{hostile}, "name": hostile},
	} {
		data, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, filepath.Join(dir, name), string(data))
	}
	writeTestFile(t, filepath.Join(dir, "disks/checkpoints/fiwix/memory.zst"), "x")
	writeTestFile(t, filepath.Join(dir, "console.log"), hostile)
	writeTestFile(t, filepath.Join(dir, "events.jsonl"), `{"seq":1,"kind":"step","name":"001-x","step":"001-x","status":"start","text":"\u001b[2J"}`+"\n"+hostile)
	for _, args := range [][]string{
		{"checkpoints", dir}, {"checkpoints", dir, "--remove", hostile}, {"attach", dir}, {"stop", dir}, {"report", dir}, {"log", dir},
		{"log", dir, "1"}, {"run", "--resume", dir}, {"export", dir, filepath.Join(dir, "x")},
	} {
		_, stdout, stderr := runMain(t, args...)
		checkText(t, fmt.Sprintf("%q", args[0]), stdout, stderr)
		if len(args) == 2 && args[0] == "checkpoints" && !strings.Contains(stdout, "evil") {
			t.Errorf("the checkpoint is not listed:\n%s%s", stdout, stderr)
		}
	}
}

// JSON has the same values, without what a terminal obeys.
func TestJSONWriter(t *testing.T) {
	var out bytes.Buffer
	const value = "a\u009b31m\u202eb\u007f\u2066\u00e9"
	if err := writeJSON(&out, value); err != nil {
		t.Fatal(err)
	}
	if want := "\"a\\u009b31m\\u202eb\\u007f\\u2066\u00e9\"\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	var got string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != value {
		t.Errorf("%q, %v", got, err)
	}
}
