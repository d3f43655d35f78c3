// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

func TestCandidates(t *testing.T) {
	for line, want := range map[string]string{
		"pl":                        "plan",
		"payload ":                  "create extract list verify",
		"payload v":                 "verify",
		"run --vari":                "--variant",
		"run --variant ":            "after-fails build-fails panic payload-cut",
		"run --variant=p":           "panic payload-cut",
		"run --variant = p":         "panic payload-cut", // as bash splits it
		"run --variant =":           "after-fails build-fails panic payload-cut",
		"run --accel tcg --guest ":  "386 amd64",
		"run --json --acc":          "--accel",
		"run --cores ":              "", // anything
		"run -t ":                   "", // a file
		"completion ":               "bash fish zsh",
		"write image ":              "",
		"write ":                    "",
		"plan --payload-stage fiw":  "fiwix",
		"plan --no-such-flag --tre": "--tree",
		"__compl":                   "",
	} {
		var got []string
		for _, c := range candidates(grammar(t).Model.Node, strings.Split(line, " ")) {
			got = append(got, c.word)
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
	if got := candidates(grammar(t).Model.Node, nil); len(got) < 10 {
		t.Errorf("nothing typed: %v", got)
	}
}

// withKindling is a folder with one file, and an environment with kindling in PATH.
func withKindling(t *testing.T) (dir string, env []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "kindling")); err != nil { // TestMain: by this name it is the program
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "image.img"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "TERM=dumb")
}

// inShell runs a script in a shell, with kindling in PATH, in a folder with one file.
func inShell(t *testing.T, shell, script string, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needs(t, shell), append(args, script)...)
	cmd.Dir, cmd.Env = withKindling(t)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", shell, err, out, said.String())
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	return lines
}

// TestBashCompletes asks a bash, as if Tab was pressed behind each line. compgen does what bash does when the function
// has found nothing.
func TestBashCompletes(t *testing.T) {
	const tab = `
source <(kindling completion bash)
tab() {
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
	_kindling kindling
	if ((${#COMPREPLY[@]})); then printf '%s\n' "${COMPREPLY[@]}"; else compgen -f -- "${@: -1}"; fi
}
complete -p kindling | grep -q -- '-o bashdefault -o default -F _kindling' || exit 1
`
	for line, want := range map[string]string{
		"tab kindling pay":             "payload",
		"tab kindling run --variant p": "panic payload-cut",
		"tab kindling run --guest = a": "amd64",
		"tab kindling write im":        "image.img",
	} {
		if diff := cmp.Diff(strings.Fields(want), inShell(t, "bash", tab+line, "--norc", "-c")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

// TestTab types into a bash on a terminal, Tab key and all.
func TestTab(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), needs(t, "bash"), "--norc", "--noprofile", "-i")
	cmd.Dir, cmd.Env = withKindling(t)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = terminal.Close()
		_ = cmd.Wait() // a closed terminal ends it
	}()
	const typed = "source <(kindling completion bash)\nkindling vers\t | sed s/^/RESULT:/; exit\n"
	if _, err := terminal.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	shown, err := io.ReadAll(terminal)
	if err != nil && !errors.Is(err, syscall.EIO) { // which is how a terminal ends
		t.Fatal(err)
	}
	if !strings.Contains(string(shown), "RESULT:kindling ") {
		t.Errorf("the terminal shows %q", shown)
	}
}

// TestFishCompletes asks a fish.
func TestFishCompletes(t *testing.T) {
	for line, want := range map[string]string{
		"kindling pay":               "payload",
		"kindling run --variant pan": "panic",
		"kindling write im":          "image.img",
	} {
		script := "kindling completion fish | source; complete -C '" + line + "' | string replace -r '\\t.*' ''; true"
		if diff := cmp.Diff(strings.Fields(want), inShell(t, "fish", script, "--no-config", "-c")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

// TestZshCompletes has a zsh without its completion system, which needs a terminal: _describe prints what it is given.
func TestZshCompletes(t *testing.T) {
	const tab = `
compdef() { :; }
_describe() { print -l -- "${(@P)2%%:*}"; }
_files() { print -l -- "$words[CURRENT]"*; }
source <(kindling completion zsh)
tab() { words=("$@"); CURRENT=$#; _kindling; }
`
	for line, want := range map[string]string{
		"tab kindling pay":             "payload",
		"tab kindling run --variant p": "panic payload-cut",
		"tab kindling write im":        "image.img",
	} {
		if diff := cmp.Diff(strings.Fields(want), inShell(t, "zsh", tab+line, "-f", "-c")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}
