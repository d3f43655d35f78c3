// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"kindling/internal/event"
	"kindling/steps"
)

func TestParseAnswer(t *testing.T) {
	for line, want := range map[string]answer{
		"retry": answerRetry, "r": answerRetry, "RETRY": answerRetry, "sk": answerSkip, "skip": answerSkip, "sh": answerShell,
		"shell": answerShell, "st": answerStop, "Stop": answerStop,
	} {
		if got, ok := parseAnswer(line); !ok || got != want {
			t.Errorf("%q: %s, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "s", "retry!", "retryx", "yes", "skip it", "\x00", "ретри"} {
		if got, ok := parseAnswer(line); ok {
			t.Errorf("%q: %s", line, got)
		}
	}
}

// script is a person who says these things in turn.
type script struct{ says []any }

func (s *script) Line(context.Context, time.Duration) (string, error) {
	if len(s.says) == 0 {
		return "", errors.New("the script is over")
	}
	next := s.says[0]
	s.says = s.says[1:]
	if err, ok := next.(error); ok {
		return "", err
	}
	return next.(string), nil
}

func TestAsk(t *testing.T) {
	for _, tt := range []struct {
		name     string
		says     []any
		want     answer
		said     string // one of the lines said
		reminded int
	}{
		{"retry", []any{"retry"}, answerRetry, "", 0},
		{"nonsense first", []any{"", "help", "rm -rf /", "shell"}, answerShell, `"rm -rf /" is none of them`, 0},
		{"skip needs a yes", []any{"skip", "y", "skip", "no", "skip", "yes"}, answerSkip, "not skipped", 0},
		{"an end in the question about skip", []any{"skip", io.EOF, io.EOF, "stop"}, answerStop, "not skipped", 0},
		{"end of input once", []any{io.EOF, "retry"}, answerRetry, "once more stops the run", 0},
		{"hang-up", []any{io.EOF, io.EOF}, answerStop, "nobody is there to ask: stopping", 0},
		{"nobody for hours, then somebody", []any{os.ErrDeadlineExceeded, os.ErrDeadlineExceeded, "retry"}, answerRetry, "", 2},
		{"nobody, then a hang-up", []any{os.ErrDeadlineExceeded, io.EOF, io.EOF}, answerStop, "nobody", 1},
		{"stopped", []any{errStopped}, answerStop, "no answer: stopped by a signal", 0},
	} {
		var said []string
		reminded := 0
		d := &dialog{in: &script{tt.says}, prompt: func(string) {}, remind: func(waited time.Duration) {
			reminded++
			if waited != time.Duration(reminded)*remindEvery {
				t.Errorf("%s: waited %s", tt.name, waited)
			}
		}, say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
		if got := d.ask(t.Context()); got != tt.want || reminded != tt.reminded || !strings.Contains(strings.Join(said, "\n"), tt.said) {
			t.Errorf("%s: %s, reminded %d times, said %q", tt.name, got, reminded, said)
		}
	}
}

func FuzzAsk(f *testing.F) {
	f.Add("retry")
	f.Add("skip\nyes")
	f.Add("sh")
	f.Fuzz(func(t *testing.T, text string) {
		var says []any
		for line := range strings.SplitSeq(text, "\n") {
			says = append(says, line)
		}
		d := &dialog{in: &script{says}, prompt: func(string) {}, say: func(format string, args ...any) {
			if line := fmt.Sprintf(format, args...); len(line) > 500 || strings.ContainsAny(line, "\x1b\r\n") {
				t.Errorf("%q: said %q", text, line)
			}
		}}
		if d.ask(t.Context()) == answerSkip && !strings.Contains(strings.ToLower(text), "yes") {
			t.Errorf("%q: skipped without a yes", text)
		}
	})
}

// keyboard is the person's end of a terminal.
type keyboard struct {
	t      *testing.T
	master *os.File
	seen   *safeBuffer
	at     int // what was waited for already
}

// newTerminal makes a terminal and gives the person's end and the path of the other.
func newTerminal(t *testing.T) (*keyboard, string) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd, err := unix.Dup(int(master.Fd()))
	if err == nil {
		err = unix.SetNonblock(fd, true) // so that closing it ends a read of it
	}
	if err != nil {
		t.Fatal(err)
	}
	k := &keyboard{t: t, master: os.NewFile(uintptr(fd), "terminal"), seen: &safeBuffer{}}
	go func() { _, _ = io.Copy(k.seen, k.master) }()
	t.Cleanup(func() { slave.Close(); k.master.Close() })
	return k, slave.Name()
}

// expect waits until the terminal shows text behind what was waited for before.
func (k *keyboard) expect(text string) {
	k.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if i := strings.Index(k.seen.String()[k.at:], text); i >= 0 {
			k.at += i + len(text)
			return
		}
	}
	k.t.Fatalf("%q did not come; seen:\n%s", text, k.seen.String()[k.at:])
}

func (k *keyboard) types(text string) {
	k.t.Helper()
	if _, err := io.WriteString(k.master, text); err != nil {
		k.t.Fatal(err)
	}
}

// A real terminal, a real shell: what is typed before the question is no answer, nor is rubbish; the shell is on the
// terminal, with job control, and can be left; the terminal works again afterwards, whatever the shell has done to it.
func TestOfferOnTerminal(t *testing.T) {
	k, path := newTerminal(t)
	terminal, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	events := &safeBuffer{}
	a := testAgent(t, terminal, events)
	a.consolePath, a.shellPath = path, path
	k.types("stop\nstop\n")
	chosen := make(chan answer, 1)
	s := steps.Step{Number: 3, Kind: steps.KindBuild, Name: "x", Pass: 1}
	go func() { chosen <- a.offer(t.Context(), s, errors.New("exit status 7")) }()
	k.expect("kindling: step 3 (build: x) failed: exit status 7")
	k.expect("retry, skip, shell or stop? ")
	k.types(strings.Repeat("x", 1000) + "\n")
	k.expect("is none of them")
	k.types("\x1b[A\x07sh\n") // control characters go
	k.expect("leave the shell")
	k.expect("# ")
	k.types("tty; ps -o sid= -p $$ | tr -d ' '; echo pid $$; stty raw -echo; exit\n")
	k.expect(path)
	k.expect("retry, skip, shell or stop? ")
	k.types("skip\n")
	k.expect("yes or no? ")
	k.types("yes\n")
	if got := <-chosen; got != answerSkip {
		t.Errorf("chosen: %s", got)
	}
	if err := a.port.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`"kind":"prompt"`, `"status":"start"`, `"text":"step 3 (build: x) failed: exit status 7"`, `"status":"ok","text":"skip"`} {
		if !strings.Contains(events.String(), want) {
			t.Errorf("%s is not in %s", want, events.String())
		}
	}
}

// A terminal that is gone stops the run, a run that is stopped ends the question; neither waits.
func TestOfferEnds(t *testing.T) {
	for name, end := range map[string]func(*keyboard, context.CancelCauseFunc){
		"hang-up": func(k *keyboard, _ context.CancelCauseFunc) { k.master.Close() },
		"stopped": func(_ *keyboard, stop context.CancelCauseFunc) { stop(errStopped) },
		"ctrl-d":  func(k *keyboard, _ context.CancelCauseFunc) { k.types("\x04"); k.expect("once more"); k.types("\x04") },
	} {
		t.Run(name, func(t *testing.T) {
			k, path := newTerminal(t)
			terminal, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer terminal.Close()
			a := testAgent(t, terminal, io.Discard)
			a.consolePath, a.shellPath = path, path
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			chosen := make(chan answer, 1)
			go func() {
				chosen <- a.offer(ctx, steps.Step{Number: 1, Kind: steps.KindBuild, Name: "x"}, errors.New("no"))
			}()
			k.expect("stop? ")
			end(k, stop)
			select {
			case got := <-chosen:
				if got != answerStop {
					t.Errorf("chosen: %s", got)
				}
			case <-time.After(10 * time.Second):
				t.Error("it waits for ever")
			}
		})
	}
}

// The emulated shell of the first bash runs what was typed up to Ctrl-D, goes where the step stood, and ends with its
// terminal.
func TestEarlyShell(t *testing.T) {
	k, path := newTerminal(t)
	terminal, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", "cd /usr; "+earlyShell)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	k.expect("Ctrl-D runs what was typed] /usr # ")
	k.types("cd bin\nfor i in 1 2; do\necho $i-$((i+1)) > /dev/null && echo got $i\ndone\n\x04")
	k.expect("got 1")
	k.expect("/usr/bin # ")
	k.types("\x04")
	k.expect("/usr/bin # ")
	k.types("exit 3\n\x04")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("ended with %v", err)
	}
}

func TestTailOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "line %d \x1b[31mred\x1b[0m\r\n", i)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := tailOf(path)
	if err != nil || len(got) != tailLines || got[0] != fmt.Sprintf("line %d red", 1000-tailLines) || got[tailLines-1] != "line 999 red" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("\xff", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := tailOf(path); err != nil || len(got) != 1 || !utf8.ValidString(got[0]) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := tailOf(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestConsoleDevice(t *testing.T) {
	for _, tt := range []struct {
		console, tty0, want string
	}{
		{"ttyS0\n", "", "/dev/ttyS0"}, {"tty0 ttyS0\n", "tty1\n", "/dev/ttyS0"}, {"ttyS0 tty0\n", "tty2\n", "/dev/tty2"},
		{"", "", "/dev/console"}, {"../sda\n", "", "/dev/console"}, {"tty0\n", "", "/dev/tty0"},
	} {
		sys := t.TempDir()
		for name, text := range map[string]string{"console": tt.console, "tty0": tt.tty0} {
			dir := filepath.Join(sys, "class/tty", name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "active"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := consoleDevice(sys); got != tt.want {
			t.Errorf("%q, %q: %s, want %s", tt.console, tt.tty0, got, tt.want)
		}
	}
}

// An interactive run is one by its configuration, and never one in a chroot.
func TestIsInteractive(t *testing.T) {
	for text, want := range map[string]bool{
		"INTERACTIVE=True\n": true, "INTERACTIVE=True\nCHROOT=False\n": true, "INTERACTIVE=True\nCHROOT=True\n": false,
		"INTERACTIVE=False\n": false, "": false, "INTERACTIVE=true\n": false, "INTERACTIVE=False\nINTERACTIVE=True\n": true,
	} {
		cfg, err := steps.PlainConfig(configPath, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := isInteractive(cfg); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// What a step's script has besides is as the tree has it; a shell that fails leaves word of where it stood.
func TestAttendedScript(t *testing.T) {
	cfg, err := steps.PlainConfig(configPath, []byte("INTERACTIVE=True\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for family, want := range map[steps.Family]int{steps.FamilyEarlyBash: 1, steps.FamilyBash: 2} {
		lines := (&job{step: steps.Step{Family: family}, config: cfg}).attended()
		if len(lines) != want {
			t.Fatalf("%s: %q", family, lines)
		}
		kept := filepath.Join(dir, string(family))
		text := strings.ReplaceAll(strings.Join(lines, "\n"), stoppedPath, kept)
		at := filepath.Join(dir, "a $(touch "+dir+"/evil) b")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		run := func(body string) int {
			cmd := exec.Command("bash", "-c", "set -e\n"+text+"\n"+body)
			cmd.Env = append(os.Environ(), "AT="+at)
			_ = cmd.Run() // its status is what is asked for
			return cmd.ProcessState.ExitCode()
		}
		if status := run("true"); status != 0 {
			t.Errorf("%s: status %d", family, status)
		}
		if _, err := os.Stat(kept); err == nil {
			t.Errorf("%s: a step that ends well leaves %s", family, kept)
		}
		if status := run(`export MADE="it's"; cd "$AT"; (exit 5); echo never`); status != 5 {
			t.Errorf("%s: status %d", family, status)
		}
		out, err := exec.Command("bash", "-c", ". '"+kept+"'; echo \"$PWD $MADE\"").CombinedOutput()
		if want := at + " it's\n"; err != nil || string(out) != want {
			t.Errorf("%s: %q, %v; want %q", family, out, err, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
			t.Error("the name of a folder was run as a command")
		}
		if status := run("false | true"); (status != 0) != (family == steps.FamilyBash) {
			t.Errorf("%s: pipefail: status %d", family, status)
		}
	}
}

func TestPromptEventIsNoStep(t *testing.T) {
	events := &safeBuffer{}
	a := testAgent(t, io.Discard, events)
	a.prompting(event.StatusStart, steps.Step{}, "a shell")
	if err := a.port.Flush(t.Context()); err != nil || strings.Contains(events.String(), `"step"`) {
		t.Errorf("%s, %v", events.String(), err)
	}
}
