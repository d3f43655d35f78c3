// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"kindling/host/imagefile"
	"kindling/host/programs"
)

// The trial's machine counts from trialCount down to 0. TCG takes about half a second for that on a slow processor,
// real hardware support a few hundredths.
const (
	trialCount  = 100_000_000
	trialMemory = 16 // MiB
	trialExit   = 0x10
)

// TrialLimit is how long a trial's machine may take in all, firmware included: a hundred times what it needs.
const TrialLimit = 6 * time.Second

// trialBegin and trialEnd are what the machine writes to its serial port before and after it counts.
const (
	trialBegin = 'a'
	trialEnd   = 'b'
)

// KVM is what was found out about KVM on this host.
type KVM struct {
	Obstacle error         // why it cannot be used; nil: it can. It wraps ErrNoKVM
	Count    time.Duration // what the trial's machine took to count under KVM; 0: it was not tried, or did not get there
	TCG      time.Duration // the same under TCG
}

// TryKVM finds out whether KVM does what it is there for: whether the host shows it (see ProbeKVM), and whether a real
// machine of the given program then counts faster under it than under TCG. The trial is made only where the host shows
// KVM, unless always is set: then it is made wherever /dev/kvm opens, for the times. It takes at most twice TrialLimit.
func TryKVM(ctx context.Context, program string, always bool) KVM {
	k := KVM{Obstacle: ProbeKVM()}
	if k.Obstacle == nil || always && probeDevice(kvmDevice) == nil {
		k.measure(func(accel Accel) (time.Duration, error) { return trial(ctx, program, accel) })
	}
	return k
}

// measure compares the two. What was in the way before stays in the way.
func (k *KVM) measure(count func(Accel) (time.Duration, error)) {
	found := func(format string, args ...any) {
		if k.Obstacle == nil {
			k.Obstacle = fmt.Errorf("%w: "+format, append([]any{ErrNoKVM}, args...)...)
		}
	}
	var err error
	if k.TCG, err = count(AccelTCG); err != nil {
		found("the trial does not run under TCG either: %w", err)
		return
	}
	if k.Count, err = count(AccelKVM); err != nil {
		found("a trial machine: %w (under TCG it counts in %s)", err, k.TCG.Round(time.Millisecond))
		return
	}
	if k.Count >= k.TCG {
		found("a trial machine counts slower than under TCG (%s against %s)", k.Count.Round(time.Millisecond),
			k.TCG.Round(time.Millisecond))
	}
}

// trial boots a machine that counts, and gives the time from when it begins to when it ends to count.
func trial(ctx context.Context, program string, accel Accel) (count time.Duration, err error) {
	dir, err := os.MkdirTemp("", "kindling-trial-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk := filepath.Join(dir, "disk.img")
	o := trialOptions(program, accel, disk)
	if err := o.Validate(); err != nil {
		return 0, err
	}
	if err := os.WriteFile(disk, append(trialSector(trialCount), make([]byte, 1<<20)...), 0o600); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, TrialLimit, fmt.Errorf("did not end within %s", TrialLimit))
	defer cancel()
	argv := o.Argv()
	path, err := programs.Find(argv[0])
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	count, counted := clock(out)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case cmd.ProcessState.ExitCode() != 2*trialExit+1:
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return 0, fmt.Errorf("ended with %w: %s", errOrNone(err), line)
	case !counted:
		return 0, errors.New("ended without having counted")
	}
	return count, nil
}

// clock takes the time between the two bytes of the machine.
func clock(r io.Reader) (time.Duration, bool) {
	in := bufio.NewReaderSize(r, 16)
	var begin time.Time
	for {
		b, err := in.ReadByte()
		switch {
		case err != nil:
			return 0, false
		case b == trialBegin:
			begin = time.Now()
		case b == trialEnd && !begin.IsZero():
			return time.Since(begin), true
		}
	}
}

// trialOptions are the smallest machine there is, with its second serial port (the first is none) on standard output.
func trialOptions(program string, accel Accel, disk string) Options {
	return Options{
		Binary: program, MemoryMiB: trialMemory, Cores: 1, Accel: accel, NoDefaults: true,
		Drives: []Drive{{Chain: imagefile.Chain{{Path: disk, Format: imagefile.Raw}}, Interface: InterfaceIDE}},
		Extra: []string{"-device", "isa-debug-exit,iobase=0xf4", "-chardev", "stdio,id=count,signal=off",
			"-serial", "chardev:count"},
	}
}

// trialSector is a boot sector, a whole operating system: it writes a byte, counts n down to 0, writes another byte and
// ends QEMU through isa-debug-exit.
func trialSector(n uint32) []byte {
	const size = 512
	s := []byte{
		0xba, 0xf8, 0x02, // mov dx, 0x2f8: the second serial port
		0xb0, trialBegin, 0xee, // mov al, 'a'; out dx, al
		0x66, 0xb9, 0, 0, 0, 0, // mov ecx, n
		0x66, 0x49, // dec ecx
		0x75, 0xfc, // jnz, back to dec
		0xb0, trialEnd, 0xee, // mov al, 'b'; out dx, al
		0xba, 0xf4, 0x00, // mov dx, 0xf4
		0xb0, trialExit, 0xee, // mov al, exit; out dx, al
		0xfa, 0xf4, 0xeb, 0xfd, // cli; hlt; jmp back to hlt
	}
	binary.LittleEndian.PutUint32(s[8:], n)
	s = append(s, make([]byte, size-2-len(s))...)
	return append(s, 0x55, 0xaa)
}
