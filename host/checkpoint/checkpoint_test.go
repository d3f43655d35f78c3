// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package checkpoint

import (
	"bytes"
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

	"kindling/host/qemu"
	"kindling/host/qmp"
)

// alphabet is a whole operating system: at each tick of the clock it writes the next letter to the second sector of its
// disk and then to the first serial port. After "z" it stands still.
func alphabet() []byte {
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0xfb, // xor ax,ax; mov ds,ax; mov es,ax; sti
		0xc6, 0x06, 0x00, 0x80, 'a', // mov byte [0x8000],'a'
		0xf4,                               // next: hlt
		0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, // mov ax,0x0301; mov cx,2
		0xba, 0x80, 0x00, 0xbb, 0x00, 0x80, 0xcd, 0x13, // mov dx,0x80; mov bx,0x8000; int 0x13: write one sector
		0xba, 0xf8, 0x03, // mov dx,0x3f8
		0xa0, 0x00, 0x80, 0xee, // mov al,[0x8000]; out dx,al
		0xfe, 0x06, 0x00, 0x80, // inc byte [0x8000]
		0x80, 0x3e, 0x00, 0x80, 'z' + 1, // cmp byte [0x8000],'z'+1
		0x75, 0xdf, // jne next
		0xfa, 0xf4, // cli; hlt
	}
	sector := append(code, make([]byte, 510-len(code))...)
	return append(sector, 0x55, 0xaa)
}

const letters = "abcdefghijklmnopqrstuvwxyz"

// started is a machine under way, with a connection to its QEMU.
type started struct {
	process *qemu.Process
	vm      *qmp.Client
	console string
}

// start runs o with a console of its own that begins with text.
func start(t *testing.T, o qemu.Options, text string) started {
	t.Helper()
	dir := t.TempDir()
	console := filepath.Join(dir, "console.log")
	if err := os.WriteFile(console, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Serials, o.QMPSocket = []qemu.Serial{{File: console, Append: true}}, filepath.Join(dir, "qmp")
	log, err := os.Create(filepath.Join(dir, "qemu.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p, err := qemu.Start(t.Context(), o, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if said, err := os.ReadFile(log.Name()); err == nil && len(said) > 0 {
			t.Logf("QEMU: %s", said)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	vm, err := qmp.Dial(ctx, o.QMPSocket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close() })
	return started{p, vm, console}
}

// end waits for the last letter, ends the machine so that its disks are written out, and gives its console.
func (s started) end(t *testing.T) string {
	t.Helper()
	s.wait(t, "z")
	if err := s.process.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.console)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wait waits for a letter on the console.
func (s started) wait(t *testing.T, letter string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(s.console); err == nil && strings.Contains(string(text), letter) {
			return
		}
	}
	t.Fatalf("no %q on the console within a minute", letter)
}

// sector2 is the first byte of an image's second sector.
func sector2(t *testing.T, d qemu.Drive) string {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	out, err := exec.Command("qemu-img", "dd", "-f", string(d.Format), "-O", "raw", "bs=512", "skip=1", "count=2", "if="+d.Path, "of="+raw).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func machineOptions(t *testing.T) qemu.Options {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "boot.img")
	if err := os.WriteFile(disk, append(alphabet(), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return qemu.Options{
		Binary: qemu.BinaryI386, MemoryMiB: 16, Cores: 1, Accel: qemu.AccelTCG, NoDefaults: true,
		Drives: []qemu.Drive{{Path: disk, Format: qemu.FormatRaw, Interface: qemu.InterfaceIDE}},
	}
}

// A machine is kept twice on its way, ends, and goes on twice from each of the two: every time where it was, with the
// disk as it was then, and none of it changes what was kept.
func TestTakeAndRestore(t *testing.T) {
	o := machineOptions(t)
	m := start(t, o, "")
	o.Serials = []qemu.Serial{{File: m.console}}
	taker := &Taker{Dir: filepath.Join(t.TempDir(), "checkpoints"), Machine: o, Started: time.Now(), Sockets: t.TempDir(),
		Mirrors: []Mirror{{"/srv", 8080}}}
	for _, tc := range []struct{ letter, name string }{{"d", "early"}, {"k", "late"}} {
		m.wait(t, tc.letter)
		if _, err := taker.Take(t.Context(), m.vm, tc.name, "phase"); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.end(t); got != letters {
		t.Fatalf("the machine that was kept wrote %q", got)
	}
	if got := sector2(t, taker.Machine.Drives[0]); got != "z" {
		t.Errorf("its disk ends with %q", got)
	}
	list, err := List(taker.Dir)
	if err != nil || len(list) != 2 || list[0].Name != "early" || list[1].Name != "late" {
		t.Fatalf("list %v, %v", list, err)
	}
	for _, c := range list {
		had := letters[:c.Console]
		kept := sector2(t, c.Machine.Drives[0])
		if last := had[len(had)-1:]; kept != last && kept != string(last[0]+1) { // the disk comes first
			t.Errorf("%s: the frozen disk has %q, the console ends with %q", c.Name, kept, last)
		}
		for range 2 {
			again(t, c, had)
		}
		if now := sector2(t, c.Machine.Drives[0]); now != kept {
			t.Errorf("%s: the frozen disk was %q and is %q", c.Name, kept, now)
		}
	}
}

// again starts a machine from c and checks that it comes to the end.
func again(t *testing.T, c *Checkpoint, had string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "memory")
	o, err := c.Restored(t.Context(), t.TempDir(), socket)
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, o, had)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Resume(ctx, m.vm, socket); err != nil {
		t.Fatal(err)
	}
	if got := m.end(t); got != letters {
		t.Errorf("%s: went on to %q", c.Name, got)
	}
	if got := sector2(t, o.Drives[0]); got != "z" {
		t.Errorf("%s: its disk ends with %q", c.Name, got)
	}
}

// refusing is a QEMU that fails one command.
type refusing struct {
	command string
	asked   []string
}

func (r *refusing) Execute(_ context.Context, command string, _, result any) error {
	r.asked = append(r.asked, command)
	if command == r.command {
		return errors.New("refused")
	}
	if info, ok := result.(*struct {
		Status string `json:"status"`
		Error  string `json:"error-desc"`
	}); ok {
		info.Status = "failed"
	}
	return nil
}

// Whatever QEMU refuses, the machine goes on and nothing is left that looks like a checkpoint.
func TestTakeFails(t *testing.T) {
	for _, command := range []string{"stop", "transaction", "migrate-set-parameters", "migrate", "query-migrate", "none"} {
		t.Run(command, func(t *testing.T) {
			vm := &refusing{command: command}
			o := machineOptions(t)
			taker := &Taker{Dir: filepath.Join(t.TempDir(), "c"), Machine: o, Sockets: t.TempDir()}
			if _, err := taker.Take(t.Context(), vm, "x", "phase"); err == nil {
				t.Fatal("no error")
			}
			if last := vm.asked[len(vm.asked)-1]; command != "stop" && last != "cont" {
				t.Errorf("the last command was %s: the machine stands still", last)
			}
			if list, err := List(taker.Dir); err != nil || len(list) > 0 {
				t.Errorf("left: %v, %v", list, err)
			}
			if _, err := os.Stat(filepath.Join(taker.Dir, "x"+unfinished)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the unfinished folder is still there: %v", err)
			}
			frozen := taker.Machine.Drives[0].Path != o.Drives[0].Path
			if want := command != "stop" && command != "transaction"; frozen != want {
				t.Errorf("disk frozen: %v, want %v", frozen, want)
			}
		})
	}
}

func TestNoRoom(t *testing.T) {
	o := machineOptions(t)
	o.MemoryMiB = 1 << 20
	vm := &refusing{}
	taker := &Taker{Dir: t.TempDir(), Machine: o, Sockets: t.TempDir()}
	if _, err := taker.Take(t.Context(), vm, "x", "phase"); !errors.Is(err, ErrSpace) {
		t.Errorf("error %v, want %v", err, ErrSpace)
	}
	if len(vm.asked) > 0 {
		t.Errorf("the machine was touched: %s", vm.asked)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "disk")
	memory := []byte("memory")
	good := fmt.Sprintf(`{"schema":1,"name":"x","memory_bytes":%d,"machine":{"Binary":"q","MemoryMiB":1,"Cores":1,"Accel":"tcg",`+
		`"Drives":[{"Path":%q,"Format":"raw","Interface":"ide"}]}}`, len(memory), image)
	for _, tc := range []struct{ name, meta, want string }{
		{"good", good, ""},
		{"schema", strings.Replace(good, `"schema":1`, `"schema":2`, 1), "this program knows 1"},
		{"another's", strings.Replace(good, `"x"`, `"y"`, 1), "calls itself"},
		{"cut memory", strings.Replace(good, `_bytes":6`, `_bytes":7`, 1), "has 6 bytes, not 7"},
		{"disk gone", strings.Replace(good, image, image+"-gone", 1), "no such file"},
		{"machine that cannot be", strings.Replace(good, `"tcg"`, `"magic"`, 1), "none of auto, kvm, tcg"},
		{"cut", good[:40], "damaged"},
		{"huge", strings.Repeat(" ", maxMeta+1), "more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sub := filepath.Join(t.TempDir(), "all")
			if err := os.MkdirAll(filepath.Join(sub, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			for path, data := range map[string][]byte{
				image: nil, filepath.Join(sub, "x", metaFile): []byte(tc.meta), filepath.Join(sub, "x", memoryFile): memory,
			} {
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(sub, "x")
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if list, err := List(sub); (err == nil) != (tc.want == "") || len(list) > 1 {
				t.Errorf("list %v, %v", list, err)
			}
		})
	}
	for _, name := range []string{"", "..", "../x", "X", ".x", strings.Repeat("a", 41)} {
		if _, err := Open(dir, name); !errors.Is(err, ErrNone) {
			t.Errorf("open %q: %v", name, err)
		}
		if err := Remove(dir, name); !errors.Is(err, ErrNone) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a/" + metaFile, "a/" + memoryFile, "b/" + metaFile, "drive0-after-a.qcow2"} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("{}"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Remove(dir, "a"); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names bytes.Buffer
	for _, l := range left {
		names.WriteString(filepath.Base(l) + " ")
	}
	if got := names.String(); got != "b drive0-after-a.qcow2 " {
		t.Errorf("left: %s", got)
	}
	if err := Remove(dir, "a"); !errors.Is(err, ErrNone) {
		t.Errorf("again: %v", err)
	}
}
