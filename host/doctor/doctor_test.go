// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindling/host/qemu"
)

// fake is a host that has everything but what a test takes away.
type fake struct {
	lacks    map[string]bool // programs
	says     map[string]error
	texts    map[string]string
	memory   int64
	free     map[string]int64 // -1: not writable
	kvm      qemu.KVM
	kernel   string
	agentErr error
	user     bool
}

func full() *fake {
	return &fake{
		lacks: map[string]bool{}, says: map[string]error{},
		texts:  map[string]string{"/etc/os-release": "VERSION_CODENAME=bookworm\n", "/proc/cpuinfo": "flags : fpu vmx\n"},
		memory: 16 << 30, free: map[string]int64{"runs": 100 << 30, "cache": 100 << 30},
		kvm: qemu.KVM{Count: 40 * time.Millisecond, TCG: 400 * time.Millisecond}, kernel: "6.1.0-50-686",
	}
}

func (f *fake) Program(name string) (string, error) {
	if f.lacks[name] {
		return "", errors.New("not found")
	}
	return "/usr/bin/" + name, nil
}

func (f *fake) Output(_ context.Context, argv ...string) (string, error) {
	return filepath.Base(argv[0]) + " 7.2", f.says[filepath.Base(argv[0])]
}

func (f *fake) Memory() (int64, error) { return f.memory, nil }

func (f *fake) Free(dir string) (int64, error) {
	if f.free[dir] < 0 {
		return 0, fmt.Errorf("write to %s: permission denied", dir)
	}
	return f.free[dir], nil
}

func (f *fake) Text(path string) string              { return f.texts[path] }
func (f *fake) KVM(context.Context, string) qemu.KVM { return f.kvm }
func (f *fake) Packages(string) (string, bool)       { return f.kernel, f.kernel != "" }
func (f *fake) Agent() (string, error)               { return "/opt/kindling-init-386", f.agentErr }
func (f *fake) Root() bool                           { return !f.user }
func examine(ctx context.Context, f *fake) Report {
	return Examine(ctx, f, Options{QEMU: qemu.BinaryX8664, MemoryMiB: 4096, Runs: "runs", Cache: "cache"})
}

// TestExamine takes one thing away at a time: the one finding that must change, how it stands, and what mends it.
func TestExamine(t *testing.T) {
	if r := examine(t.Context(), full()); !r.Ready {
		t.Errorf("a host with everything: %+v", r)
	} else {
		for _, f := range r.Findings {
			if f.State != OK || f.Remedy != "" || f.What == "" || f.Found == "" {
				t.Errorf("a host with everything: %+v", f)
			}
		}
	}
	no := fmt.Errorf("%w: slower than TCG", qemu.ErrNoKVM)
	for _, tt := range []struct {
		name, id string
		take     func(*fake)
		state    State
		remedy   string // part of it
	}{
		{"no QEMU", "qemu.qemu-system-x86_64", func(f *fake) { f.lacks[qemu.BinaryX8664] = true }, Missing, "apt-get install qemu-system-x86"},
		{"broken QEMU", "qemu.qemu-system-x86_64", func(f *fake) { f.says[qemu.BinaryX8664] = errors.New("no library") }, Missing, "apt-get install qemu-system-x86"},
		{"no i386 QEMU", "qemu.qemu-system-i386", func(f *fake) { f.lacks[qemu.BinaryI386] = true }, Limited, "apt-get install qemu-system-x86"},
		{"no agent", "agent", func(f *fake) { f.agentErr = errors.New("no agent") }, Missing, "make build"},
		{"slow KVM", "kvm", func(f *fake) { f.kvm.Obstacle = no }, Limited, "modprobe kvm_intel"},
		{"slow KVM, user", "kvm", func(f *fake) { f.kvm.Obstacle, f.user = no, true }, Limited, "adduser $USER kvm"},
		{"KVM off", "kvm", func(f *fake) { f.kvm.Obstacle, f.texts["/proc/cpuinfo"] = no, "flags : fpu\n" }, Limited, "firmware"},
		{"KVM in a guest", "kvm", func(f *fake) { f.kvm.Obstacle, f.texts["/proc/cpuinfo"] = no, "flags : fpu hypervisor\n" }, Limited, "nested"},
		{"some memory", "memory", func(f *fake) { f.memory = 3 << 30 }, Limited, "end other programs"},
		{"no memory", "memory", func(f *fake) { f.memory = 600 << 20 }, Missing, "--qemu-ram 512"},
		{"other system", "packages", func(f *fake) { f.kernel, f.texts["/etc/os-release"] = "", "VERSION_CODENAME=noble" }, Limited, "bookworm main"},
		{"small disk", "space.runs", func(f *fake) { f.free["runs"] = 4 << 30 }, Limited, "larger disk"},
		{"full disk", "space.runs", func(f *fake) { f.free["runs"] = 1 << 20 }, Missing, "--run DIR"},
		{"others' folder", "space.runs", func(f *fake) { f.free["runs"] = -1 }, Missing, "--run DIR"},
		{"full cache", "space.cache", func(f *fake) { f.free["cache"], f.kernel = 1<<20, "" }, Missing, "KINDLING_CACHE"},
		{"others' cache", "space.cache", func(f *fake) { f.free["cache"], f.kernel = -1, "" }, Missing, "KINDLING_CACHE"},
		{"no depmod", "tool.depmod", func(f *fake) { f.lacks["depmod"], f.kernel = true, "" }, Missing, "apt-get install kmod"},
		{"no depmod, but a cache", "tool.depmod", func(f *fake) { f.lacks["depmod"] = true }, Limited, "apt-get install kmod"},
		{"no mke2fs", "tool.mke2fs", func(f *fake) { f.lacks["mke2fs"] = true }, Limited, "apt-get install e2fsprogs"},
		{"no bwrap", "namespaces", func(f *fake) { f.lacks["bwrap"] = true }, Limited, "apt-get install bubblewrap"},
		{"no namespaces", "namespaces", func(f *fake) { f.says["bwrap"] = errors.New("Permission denied") }, Limited, "--chroot"},
		{"namespaces off", "namespaces", func(f *fake) {
			f.says["bwrap"], f.texts["/proc/sys/kernel/unprivileged_userns_clone"] = errors.New("no"), "0\n"
		}, Limited, "sysctl kernel.unprivileged_userns_clone=1"},
		{"namespaces behind AppArmor", "namespaces", func(f *fake) {
			f.says["bwrap"], f.texts["/proc/sys/kernel/apparmor_restrict_unprivileged_userns"] = errors.New("no"), "1\n"
		}, Limited, "sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
		{"a user", "root", func(f *fake) { f.user = true }, Limited, "sudo kindling write"},
		{"a user installs with sudo", "tool.mke2fs", func(f *fake) { f.user, f.lacks["mke2fs"] = true, true }, Limited, "sudo apt-get install"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := full()
			tt.take(f)
			r := examine(t.Context(), f)
			if r.Ready != (tt.state != Missing) {
				t.Errorf("ready: %t", r.Ready)
			}
			for _, found := range r.Findings {
				if found.ID != tt.id {
					continue
				}
				if found.State != tt.state || !strings.Contains(found.Remedy, tt.remedy) || found.For == "" {
					t.Errorf("%+v, want %s and %q", found, tt.state, tt.remedy)
				}
				return
			}
			t.Errorf("nothing about %s", tt.id)
		})
	}
}

// TestSystem asks the machine that the test runs on.
func TestSystem(t *testing.T) {
	s := System{}
	if n, err := s.Memory(); err != nil || n < 1<<20 {
		t.Errorf("memory: %d, %v", n, err)
	}
	dir := t.TempDir()
	here, err := s.Free(dir)
	if err != nil || here <= 0 {
		t.Errorf("free: %d, %v", here, err)
	}
	if n, err := s.Free(filepath.Join(dir, "will", "be", "made")); err != nil || n <= 0 {
		t.Errorf("free of a folder to come: %d, %v", n, err)
	}
	if _, err := s.Free(filepath.Join(os.DevNull, "x")); err == nil {
		t.Error("a folder below a device has room")
	}
	if line, err := s.Output(t.Context(), "sh", "-c", `printf 'one\033[31m\ntwo\n'`); err != nil || line != "one" {
		t.Errorf("output: %q, %v", line, err)
	}
	for script, want := range map[string]string{"echo why >&2; exit 3": "why", "exit 3": "sh: exit status 3"} {
		_, err := s.Output(t.Context(), "sh", "-c", script)
		if err == nil {
			err = errors.New("none")
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", script, diff)
		}
	}
	if _, err := s.Program("no-such-program"); err == nil {
		t.Error("a program that nobody has is found")
	}
	if kernel, userland := s.Packages(t.TempDir()); kernel != "" || userland {
		t.Errorf("an empty cache has %q, %t", kernel, userland)
	}
}
