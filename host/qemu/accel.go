// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoKVM is what every error of ProbeKVM and ResolveAccel is.
var ErrNoKVM = errors.New("KVM cannot be used")

// ResolveAccel turns AccelAuto into KVM where probe gives no error, TCG elsewhere. The note, if not empty, is worth
// telling the user once: why the slow way was taken. Asking for KVM where probe fails is an error.
func ResolveAccel(want Accel, probe func() error) (accel Accel, note string, err error) {
	switch want {
	case AccelTCG:
		return AccelTCG, "", nil
	case AccelAuto, AccelKVM:
	default:
		return "", "", fmt.Errorf("%w: accel: %q is none of auto, kvm, tcg", ErrOptions, want)
	}
	err = probe()
	switch {
	case err == nil:
		return AccelKVM, "", nil
	case want == AccelKVM:
		return "", "", fmt.Errorf("accel kvm: %w", err)
	}
	return AccelTCG, fmt.Sprintf("running under TCG, many times slower: %v", err), nil
}

// The ioctls of Linux' include/uapi/linux/kvm.h that the probe makes.
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmAPIVersion    = 12 // the only one there has ever been since Linux 2.6.22
)

const kvmDevice = "/dev/kvm"

// ProbeKVM finds out whether the host shows that KVM can run an unmodified x86 guest: it is x86, its processor says that
// it virtualises (vmx or svm), /dev/kvm opens and makes a virtual machine. A /dev/kvm alone is no proof: kernels with
// the software-only kvm_pvm have one that makes machines and then runs them slower than TCG. The proof is TryKVM's.
func ProbeKVM() error {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "386" {
		return fmt.Errorf("%w: the host is no x86 machine", ErrNoKVM)
	}
	cpuinfo, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoKVM, err)
	}
	defer func() { _ = cpuinfo.Close() }()
	if err := checkVirtualises(cpuinfo); err != nil {
		return err
	}
	return probeDevice(kvmDevice)
}

// checkVirtualises reads /proc/cpuinfo and looks for the flag of Intel's VT-x (vmx) or AMD's SVM (svm).
func checkVirtualises(cpuinfo io.Reader) error {
	lines := bufio.NewScanner(io.LimitReader(cpuinfo, 1<<20))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for flag := range strings.FieldsSeq(value) {
			if flag == "vmx" || flag == "svm" {
				return nil
			}
		}
		break
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: read /proc/cpuinfo: %w", ErrNoKVM, err)
	}
	return fmt.Errorf("%w: the processor shows neither vmx nor svm", ErrNoKVM)
}

func probeDevice(path string) error {
	kvm, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoKVM, err)
	}
	defer func() { _ = kvm.Close() }()
	fd := int(kvm.Fd())
	if v, err := unix.IoctlRetInt(fd, kvmGetAPIVersion); err != nil || v != kvmAPIVersion {
		return fmt.Errorf("%w: %s: API version %d, want %d (%w)", ErrNoKVM, path, v, kvmAPIVersion, errOrNone(err))
	}
	vm, err := unix.IoctlRetInt(fd, kvmCreateVM)
	if err != nil {
		return fmt.Errorf("%w: %s: create a machine: %w", ErrNoKVM, path, err)
	}
	if err := unix.Close(vm); err != nil {
		return fmt.Errorf("%w: %s: close the machine: %w", ErrNoKVM, path, err)
	}
	return nil
}

// errOrNone keeps a nil error out of a format that wraps it.
func errOrNone(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
