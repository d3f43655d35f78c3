// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/imagefile"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/internal/shell"
)

// How a boot sector ends.
var (
	powerOff = []byte{0xba, 0xf4, 0x00, 0xb0, 0x00, 0xee} // mov dx,0xf4; mov al,0; out dx,al: isa-debug-exit, status 1
	halt     = []byte{0xfa, 0xf4, 0xeb, 0xfd}             // cli; hlt; jmp hlt
)

// bootSector is a whole operating system: it writes console to the first serial port and events to the second, then it
// ends.
func bootSector(console, events string, end []byte) []byte {
	const origin = 0x7c00
	puts := []byte{0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xc3} // lodsb; test al,al; jz ret; out dx,al; jmp; ret
	const setup, call = 5, 9
	putsAt := setup + 2*call + len(end)
	text := putsAt + len(puts)
	sector := []byte{0x31, 0xc0, 0x8e, 0xd8, 0xfc} // xor ax,ax; mov ds,ax; cld
	write := func(port, at int) {                  // mov si,at; mov dx,port; call puts
		rel := putsAt - (len(sector) + call)
		sector = append(sector, 0xbe, byte(origin+at), byte((origin+at)>>8), 0xba, byte(port), byte(port>>8),
			0xe8, byte(rel), byte(rel>>8))
	}
	write(0x2f8, text+len(console)+1) // the events first: what comes after a panic refutes it
	write(0x3f8, text)
	sector = append(append(sector, end...), puts...)
	sector = append(sector, console+"\x00"+events+"\x00"...)
	sector = append(sector, make([]byte, 510-len(sector))...)
	return append(sector, 0x55, 0xaa)
}

// startMachine boots a sector in the real QEMU.
func startMachine(t *testing.T, sector []byte) (Run, *qemu.Process) {
	t.Helper()
	if _, err := exec.LookPath(qemu.BinaryI386); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs QEMU: %v", err)
		}
		t.Skipf("SKIPPED, not tested: %v", err)
	}
	dir, err := rundir.Create(rundir.Options{Path: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	disk := dir.At("disks/boot.img")
	if err := os.WriteFile(disk, append(sector, make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	o := qemu.Options{
		Binary: qemu.BinaryI386, MemoryMiB: 16, Cores: 1, Accel: qemu.AccelTCG, NoDefaults: true,
		Drives: []qemu.Drive{{Chain: imagefile.Chain{{Path: disk, Format: imagefile.Raw}}, Interface: qemu.InterfaceIDE}},
		Ports:  2, PortDir: dir.Path(),
		Extra: []string{"-device", "isa-debug-exit,iobase=0xf4"},
	}
	t.Log("by hand:", shell.Line(o.Argv()))
	p, err := qemu.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()); _ = p.Close() })
	return Run{Process: p, Console: p.Ports[0], Events: p.Ports[1], Output: p.Output, Dir: dir, Options: testOptions(), Report: report.Report{Argv: o.Argv()}}, p
}

// TestMachine runs QEMU under Supervise, with guests that do what the real ones do at their end.
func TestMachine(t *testing.T) {
	const phase, done = `{"seq":1,"kind":"phase","name":"init"}` + "\n", `{"seq":2,"kind":"done","status":"ok"}` + "\n"
	tests := []struct {
		name   string
		sector []byte
		change func(*Options)
		want   report.Result
		line   string
	}{
		{"success", bootSector("hello\r\n", phase+done, powerOff), nil, report.ResultOK, "the run ended successfully"},
		{"success, no power-off", bootSector("hello\r\n", phase+done, halt),
			func(o *Options) { o.PowerOff = 100 * time.Millisecond }, report.ResultOK, "the run ended successfully"},
		{"silent end", bootSector("hello\r\n", phase, powerOff), nil, report.ResultQEMU,
			"QEMU ended (exit status 1) without a final event in phase init"},
		{"panic", bootSector("[    1.000000] Kernel panic - not syncing: x\r\n", phase, halt),
			func(o *Options) { o.PanicGrace = 100 * time.Millisecond }, report.ResultPanic,
			"kernel panic in phase init: Kernel panic - not syncing: x"},
		{"hang", bootSector("hello\r\n", phase, halt), func(o *Options) { o.Rules, o.Patience = nil, 2*time.Second },
			report.ResultHang, "hang: no sign of life for 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, p := startMachine(t, tt.sector)
			if tt.change != nil {
				tt.change(&r.Options)
			}
			v := Supervise(t.Context(), r)
			if v.Result != tt.want || !strings.HasPrefix(v.Line, tt.line) {
				said, _ := os.ReadFile(r.Dir.At(rundir.QEMULog))
				t.Errorf("verdict %+v, want %s %q; QEMU said %q", v, tt.want, tt.line, said)
			}
			select {
			case <-p.Done():
			default:
				t.Error("QEMU is left behind")
			}
			doc, err := report.Read(r.Dir.At(rundir.Report))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, doc.Result); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMachineInterrupted ends the context while QEMU runs.
func TestMachineInterrupted(t *testing.T) {
	r, p := startMachine(t, bootSector("hello\r\n", `{"seq":1,"kind":"phase","name":"init"}`+"\n", halt))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	v := Supervise(ctx, r)
	if v.ExitStatus() != 130 || !strings.HasPrefix(v.Line, "interrupted in phase ") {
		t.Errorf("verdict %+v", v)
	}
	select {
	case <-p.Done():
	default:
		t.Error("QEMU is left behind")
	}
	if doc, err := report.Read(r.Dir.At(rundir.Report)); err != nil || doc.ExitStatus != 130 {
		t.Errorf("report: %d, %v", doc.ExitStatus, err)
	}
}
