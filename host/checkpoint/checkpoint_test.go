// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package checkpoint

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kindling/host/imagefile"
	"kindling/host/machine"
	"kindling/host/qemu"
	"kindling/host/qmp"
	"kindling/host/rundir"
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
	run     *rundir.Dir
}

func newRun(t *testing.T) *rundir.Dir {
	t.Helper()
	run, err := rundir.Create(rundir.Options{Path: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run.Close() })
	return run
}

// start runs o; its console goes into the log of run.
func start(t *testing.T, o qemu.Options, run *rundir.Dir) started {
	t.Helper()
	o.Control = true
	p, err := qemu.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	console, err := run.Append(rundir.ConsoleLog)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(console, p.Ports[0]); console.Close() }()
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if said, err := io.ReadAll(p.Output); err == nil && len(said) > 0 {
			t.Logf("QEMU: %s", said)
		}
		p.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	vm, err := qmp.New(ctx, p.Control)
	if err != nil {
		t.Fatal(err)
	}
	return started{p, vm, run}
}

// end waits for the last letter, ends the machine so that its disks are written out, and gives its console.
func (s started) end(t *testing.T) string {
	t.Helper()
	s.wait(t, "z")
	if err := s.process.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.console(t)
}

func (s started) console(t *testing.T) string {
	t.Helper()
	text, err := s.run.Read(rundir.ConsoleLog, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wait waits for a letter on the console.
func (s started) wait(t *testing.T, letter string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(s.console(t), letter) {
			return
		}
	}
	t.Fatalf("no %q on the console within a minute", letter)
}

// sector2 is the first byte of a disk's second sector.
func sector2(t *testing.T, chain imagefile.Chain) string {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	out, err := exec.Command("qemu-img", "convert", "--image-opts", chain.Options(), "-O", "raw", raw).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	return string(data[512:513])
}

// letterMachine is a machine of a run that writes the alphabet.
func letterMachine(t *testing.T) (*rundir.Dir, machine.Machine) {
	t.Helper()
	run := newRun(t)
	if err := os.WriteFile(run.At("disks/boot.img"), append(alphabet(), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return run, machine.Machine{Schema: machine.Schema, Accel: qemu.AccelTCG, MemoryMiB: 16, Cores: 1, Demo: true, Disks: []machine.Disk{
		{Layers: []machine.Layer{{File: "disks/boot.img", Format: imagefile.Raw}}, Interface: qemu.InterfaceIDE},
	}}
}

// A machine is kept twice on its way, ends, and goes on twice from each of the two: every time where it was, with the
// disk as it was then, and none of it changes what was kept.
func TestTakeAndRestore(t *testing.T) {
	run, facts := letterMachine(t)
	m := start(t, facts.Options(run.Path(), qemu.BinaryI386), run)
	settle := func(context.Context) error { time.Sleep(100 * time.Millisecond); return nil }
	taker := &Taker{Run: run, Machine: facts, Started: time.Now(), Settle: settle}
	for _, tc := range []struct{ letter, name string }{{"d", "early"}, {"k", "late"}} {
		m.wait(t, tc.letter)
		if _, err := taker.Take(t.Context(), m.vm, tc.name, "phase"); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.end(t); got != letters {
		t.Fatalf("the machine that was kept wrote %q", got)
	}
	if got := sector2(t, taker.Machine.Disks[0].Chain(run.Path())); got != "z" {
		t.Errorf("its disk ends with %q", got)
	}
	list, err := List(run)
	if err != nil || len(list) != 2 || list[0].Name != "early" || list[1].Name != "late" {
		t.Fatalf("list %v, %v", list, err)
	}
	for _, c := range list {
		had := letters[:c.Console]
		frozen := c.Machine.Disks[0].Chain(run.Path())
		kept := sector2(t, frozen)
		if last := had[len(had)-1:]; kept != last && kept != string(last[0]+1) { // the disk comes first
			t.Errorf("%s: the frozen disk has %q, the console ends with %q", c.Name, kept, last)
		}
		for range 2 {
			again(t, c, had)
		}
		if now := sector2(t, frozen); now != kept {
			t.Errorf("%s: the frozen disk was %q and is %q", c.Name, kept, now)
		}
	}
	for _, name := range []string{"early/memory.zst", "drive0-after-early.qcow2", "drive0-after-late.qcow2"} {
		if info, err := os.Stat(run.At(filepath.Join(folder, name))); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want it for its owner alone", name, info, err)
		}
	}
}

// again starts a machine from c and checks that it comes to the end.
func again(t *testing.T, c *Checkpoint, had string) {
	t.Helper()
	run := newRun(t)
	o, err := c.Restored(t.Context(), run.At(rundir.Disks), qemu.BinaryI386)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Write(rundir.ConsoleLog, []byte(had)); err != nil {
		t.Fatal(err)
	}
	m := start(t, o, run)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Resume(ctx, m.vm, m.process.Incoming); err != nil {
		t.Fatal(err)
	}
	if got := m.end(t); got != letters {
		t.Errorf("%s: went on to %q", c.Name, got)
	}
	if got := sector2(t, o.Drives[0].Chain); got != "z" {
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

func (r *refusing) PassFile(ctx context.Context, name string, _ *os.File) error {
	return r.Execute(ctx, "getfd", name, nil)
}

// Whatever QEMU refuses, the machine goes on and nothing is left that looks like a checkpoint.
func TestTakeFails(t *testing.T) {
	for _, command := range []string{"stop", "transaction", "migrate-set-parameters", "migrate", "query-migrate", "none"} {
		t.Run(command, func(t *testing.T) {
			vm := &refusing{command: command}
			run, facts := letterMachine(t)
			taker := &Taker{Run: run, Machine: facts}
			if _, err := taker.Take(t.Context(), vm, "x", "phase"); err == nil {
				t.Fatal("no error")
			}
			if last := vm.asked[len(vm.asked)-1]; command != "stop" && last != "cont" {
				t.Errorf("the last command was %s: the machine stands still", last)
			}
			if list, err := List(run); err != nil || len(list) > 0 {
				t.Errorf("left: %v, %v", list, err)
			}
			if _, err := os.Stat(run.At(filepath.Join(folder, "x"+unfinished))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the unfinished folder is still there: %v", err)
			}
			frozen := len(taker.Machine.Disks[0].Layers) > 1
			if want := command != "stop" && command != "transaction"; frozen != want {
				t.Errorf("disk frozen: %v, want %v", frozen, want)
			}
		})
	}
}

func TestNoRoom(t *testing.T) {
	run, facts := letterMachine(t)
	facts.MemoryMiB = 1 << 20
	vm := &refusing{}
	taker := &Taker{Run: run, Machine: facts}
	if _, err := taker.Take(t.Context(), vm, "x", "phase"); !errors.Is(err, ErrSpace) {
		t.Errorf("error %v, want %v", err, ErrSpace)
	}
	if len(vm.asked) > 0 {
		t.Errorf("the machine was touched: %s", vm.asked)
	}
}

const good = `{"schema":2,"name":"x","phase":"p","made":"2026-01-02T03:04:05Z","elapsed_ms":1,"machine":{"schema":2,"label":"l","demo":true,` +
	`"accel":"tcg","memory_mib":1,"cores":1,"disks":[{"layers":[{"file":"disks/boot.img","format":"raw"}],"interface":"ide"}]},` +
	`"console_bytes":1,"event_bytes":2,"memory_bytes":6}`

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct{ name, meta, want string }{
		{"good", good, ""},
		{"schema", strings.Replace(good, `"schema":2`, `"schema":1`, 1), "this program knows 2"},
		{"another's", strings.Replace(good, `"x"`, `"y"`, 1), "calls itself"},
		{"cut memory", strings.Replace(good, `y_bytes":6`, `y_bytes":7`, 1), "has 6 bytes, not 7"},
		{"negative size", strings.Replace(good, `"console_bytes":1`, `"console_bytes":-1`, 1), "negative"},
		{"out of the folder", strings.Replace(good, "disks/boot.img", "../boot.img", 1), "neither a plain path"},
		{"machine that cannot be", strings.Replace(good, `"tcg"`, `"magic"`, 1), "none of auto, kvm, tcg"},
		{"a program to start", strings.Replace(good, `"cores"`, `"Binary":"/bin/sh","cores"`, 1), "unknown field"},
		{"cut", good[:40], "damaged"},
		{"huge", strings.Repeat(" ", maxMeta+1), "larger than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run := newRun(t)
			if err := os.MkdirAll(run.At(at("x", "")), 0o700); err != nil {
				t.Fatal(err)
			}
			for file, data := range map[string]string{metaFile: tc.meta, memoryFile: "memory"} {
				if err := os.WriteFile(run.At(at("x", file)), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(run, "x")
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if list, err := List(run); (err == nil) != (tc.want == "") || len(list) > 1 {
				t.Errorf("list %v, %v", list, err)
			}
		})
	}
	run := newRun(t)
	for _, name := range []string{"", "..", "../x", "X", ".x", strings.Repeat("a", 41)} {
		if _, err := Open(run, name); !errors.Is(err, ErrNone) {
			t.Errorf("open %q: %v", name, err)
		}
		if err := Remove(run, name); !errors.Is(err, ErrNone) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
}

// A frozen image that a foreign folder has replaced by a link is not followed.
func TestRestoreLink(t *testing.T) {
	run, facts := letterMachine(t)
	if err := errors.Join(os.Remove(run.At("disks/boot.img")), os.Symlink("/etc/passwd", run.At("disks/boot.img"))); err != nil {
		t.Fatal(err)
	}
	c := &Checkpoint{Name: "x", Machine: facts, run: run}
	if o, err := c.Restored(t.Context(), t.TempDir(), "qemu"); !errors.Is(err, rundir.ErrFile) {
		t.Errorf("restored %v, %v", o.Drives, err)
	}
}

// QEMU writes a new image only where nothing is: a link in a foreign folder would lead it anywhere.
func TestNewLayer(t *testing.T) {
	run := newRun(t)
	taker := &Taker{Run: run}
	if err := errors.Join(os.Mkdir(run.At(folder), 0o700), os.Symlink("/etc/passwd", run.At(folder+"/drive0-after-x.qcow2"))); err != nil {
		t.Fatal(err)
	}
	if file, err := taker.newLayer("drive0-after-x"); err != nil || file != folder+"/drive0-after-x-2.qcow2" {
		t.Errorf("%s, %v", file, err)
	}
	if err := errors.Join(os.RemoveAll(run.At(folder)), os.Symlink(t.TempDir(), run.At(folder))); err != nil {
		t.Fatal(err)
	}
	if _, err := taker.prepare("x"); !errors.Is(err, rundir.ErrFile) {
		t.Errorf("a folder of checkpoints that is a link: %v", err)
	}
}

func TestRemove(t *testing.T) {
	run := newRun(t)
	for _, name := range []string{at("a", metaFile), at("a", memoryFile), at("b", metaFile), folder + "/drive0-after-a.qcow2"} {
		path := run.At(name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("{}"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Remove(run, "a"); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(run.At(folder))
	if err != nil || len(left) != 2 || left[0].Name() != "b" {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := Remove(run, "a"); !errors.Is(err, ErrNone) {
		t.Errorf("again: %v", err)
	}
}

// FuzzDecode reads checkpoint.json of a hostile folder.
func FuzzDecode(f *testing.F) {
	if _, err := decode([]byte(good)); err != nil {
		f.Fatalf("the seed does not parse: %v", err)
	}
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decode(data); err == nil && c.Machine.Check() != nil {
			t.Errorf("a machine that cannot be: %+v", c.Machine)
		}
	})
}
