// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kindling/internal/shell"
)

// fakeQEMU makes the test binary act as QEMU; its value says how.
const fakeQEMU = "KINDLING_FAKE_QEMU"

func TestMain(m *testing.M) {
	switch how := os.Getenv(fakeQEMU); how {
	case "":
		os.Exit(m.Run())
	case "exit":
		fmt.Fprintln(os.Stderr, "qemu: cannot do that")
		os.Exit(3)
	case "obey", "ignore":
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		fmt.Println("ready")
		<-terminated
		if how == "ignore" {
			select {}
		}
		os.Exit(0)
	case "parent": // starts a machine as Kindling does, says its process ID, and waits to be killed
		p, err := Start(context.Background(), fakeOptions("obey"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	}
}

// fakeOptions describe a machine whose QEMU is this test binary; the environment says what it does.
func fakeOptions(how string) Options {
	if err := os.Setenv(fakeQEMU, how); err != nil {
		panic(err)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Options{Binary: self, MemoryMiB: 1, Cores: 1, Accel: AccelTCG, Kernel: self}
}

// startFake starts it and waits for "ready" where it says so.
func startFake(t *testing.T, how string) *Process {
	t.Helper()
	t.Setenv(fakeQEMU, how)
	p, err := Start(t.Context(), fakeOptions(how))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()); _ = p.Close() })
	if how != "exit" {
		if err := p.Output.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(p.Output).ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("the fake QEMU is not ready: %q, %v", line, err)
		}
	}
	return p
}

func TestProcessEnds(t *testing.T) {
	p := startFake(t, "exit")
	exit, err := p.Wait(t.Context())
	if err != nil || exit.Code != 3 || exit.String() != "exit status 3" || p.ExitText() != "exit status 3" {
		t.Errorf("Wait = %v, %v; want exit status 3", exit, err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("Stop after the end: %v", err)
	}
	data, err := io.ReadAll(p.Output)
	if err != nil || string(data) != "qemu: cannot do that\n" {
		t.Errorf("log %q, %v", data, err)
	}
}

func TestProcessOwnGroup(t *testing.T) {
	p := startFake(t, "obey")
	if group, err := syscall.Getpgid(p.PID()); err != nil || group != p.PID() {
		t.Errorf("process group %d, %v; want %d", group, err, p.PID())
	}
	if exit := p.Exit(); exit.Err == nil {
		t.Errorf("Exit of a running QEMU = %v", exit)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with an ended context: %v", err)
	}
}

func TestStopObeyed(t *testing.T) {
	p := startFake(t, "obey")
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.Exit().String(); got != "exit status 0" {
		t.Errorf("exit %q, want exit status 0", got)
	}
}

func TestStopIgnored(t *testing.T) {
	p := startFake(t, "ignore")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if exit := p.Exit(); exit.Signal != syscall.SIGKILL || exit.String() != "signal killed" {
		t.Errorf("exit %v, want killed", exit)
	}
}

// TestDiesWithParent kills a process that has started a machine and expects the machine to end.
func TestDiesWithParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self)
	parent.Env = append(os.Environ(), fakeQEMU+"=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its parent", pid)
		}
	}
}

// alive reports whether a process runs; one that has ended and waits for a reaper does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name   string
		ctx    context.Context
		change func(*Options)
		want   string
	}{
		{"invalid", t.Context(), func(o *Options) { o.Cores = 0 }, "QEMU options: cores"},
		{"no program", t.Context(), func(o *Options) { o.Binary = "qemu-system-nothing" }, "install qemu-system-x86"},
		{"no kernel", t.Context(), func(o *Options) { o.Kernel = dir + "/vmlinuz" }, "kernel: open " + dir + "/vmlinuz"},
		{"directory", t.Context(), func(o *Options) { o.Initrd = dir }, "initrd: " + dir + ": neither a file nor"},
		{"device", t.Context(), func(o *Options) { o.Initrd = os.DevNull }, "initrd: /dev/null: neither a file nor"},
		{"no drive", t.Context(), func(o *Options) {
			o.Drives = []Drive{{Chain: raw(dir + "/x"), Interface: InterfaceIDE}}
		}, "drive 1: open " + dir + "/x"},
		{"ended context", canceled, func(*Options) {}, "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(fakeQEMU, "exit")
			o := fakeOptions("exit")
			tt.change(&o)
			p, err := Start(tt.ctx, o)
			if p != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Start = %v, %v; want %q", p, err, tt.want)
			}
		})
	}
}

// TestRealQEMU lets the real program read every kind of argument that Argv makes, for a machine that powers off at
// once: a boot sector that writes to isa-debug-exit. Repeat by hand with the line it logs.
func TestRealQEMU(t *testing.T) {
	if _, err := exec.LookPath(BinaryI386); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs QEMU: %v", err)
		}
		t.Skipf("SKIPPED, not tested: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "a,b=c d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk,x.img")
	// mov dx,0x3f8; mov al,'K'; out dx,al; mov dx,0xf4; mov al,20; out dx,al; hlt
	sector := append([]byte{0xba, 0xf8, 0x03, 0xb0, 'K', 0xee, 0xba, 0xf4, 0x00, 0xb0, 20, 0xee, 0xf4},
		make([]byte, 497)...)
	sector = append(sector, 0x55, 0xaa)
	if err := os.WriteFile(disk, append(sector, make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Binary: BinaryI386, MemoryMiB: 32, Cores: 1, Accel: AccelTCG, CPU: "pentium3", Machine: "pc", NoDefaults: true,
		Drives: []Drive{
			{Chain: raw(disk), Interface: InterfaceIDE, Snapshot: true},
			{Chain: raw(disk), Interface: InterfaceAHCI, Snapshot: true},
			{Chain: raw(disk), Interface: InterfaceUSB, Snapshot: true},
			{Chain: raw(disk), Interface: InterfaceNVMe, Snapshot: true},
			{Chain: raw(disk), Interface: InterfaceVirtio, Snapshot: true},
		},
		NIC:     &NIC{Model: "e1000"},
		Ports:   2,
		PortDir: dir,
		Control: true,
		Extra:   []string{"-device", "isa-debug-exit,iobase=0xf4"},
	}
	t.Log("by hand:", shell.Line(o.Argv()))
	p, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	exit, err := p.Wait(ctx)
	if err != nil || exit.Code != 41 {
		_ = p.Stop(context.Background())
		said, _ := io.ReadAll(p.Output)
		t.Fatalf("exit %v, %v; want status 41; QEMU said: %s", exit, err, said)
	}
	console := make([]byte, 10)
	if n, err := p.Ports[0].Read(console); err != nil || string(console[:n]) != "K" {
		t.Errorf("console %q, %v; want K", console, err)
	}
}
