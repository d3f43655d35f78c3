// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package doctor

import (
	"fmt"
	"strings"
	"time"

	"kindling/host/qemu"
)

// What runs take, measured with QEMU 7.2.
const (
	demoMemory = 1 << 30   // the embedded default's guest touches less than 700 MiB of its memory
	demoSpace  = 512 << 20 // its media and what the guest writes to its disk
	cacheSpace = 512 << 20 // Debian's packages, packed and unpacked
	treeSpace  = 32 << 30  // the media of a real tree with all sources, and a disk that fills up
	qemuMemory = 256 << 20 // QEMU itself
)

const demoRun = "kindling run"

func (e *examination) agent() {
	f := Finding{ID: "agent", State: OK, What: "the agent, PID 1 of the guest", For: demoRun}
	path, err := e.host.Agent()
	if f.Found = path; err != nil {
		f.State, f.Found, f.Remedy = Missing, err.Error(), "make build"
	}
	e.add(f)
}

func (e *examination) machine() {
	for _, program := range unique(e.o.QEMU, qemu.BinaryX8664, qemu.BinaryI386) {
		f := Finding{ID: "qemu." + program, State: OK, What: program, For: demoRun + ", run --qemu"}
		missing := Missing
		if program != e.o.QEMU {
			f.For, missing = "run --qemu-cmd "+program, Limited
		}
		path, err := e.host.Program(program)
		if err == nil {
			f.Found, err = e.host.Output(e.ctx, path, "--version")
		}
		if err != nil {
			f.State, f.Found, f.Remedy = missing, err.Error(), e.install("qemu-system-x86")
		}
		e.add(f)
	}
}

func (e *examination) kvm() {
	f := Finding{ID: "kvm", State: OK, What: "KVM", For: "speed; without it everything runs under TCG, several times slower"}
	if _, err := e.host.Program(e.o.QEMU); err != nil {
		f.State, f.Found, f.Remedy = Limited, "not tried: there is no QEMU", e.install("qemu-system-x86")
		e.add(f)
		return
	}
	k := e.host.KVM(e.ctx, e.o.QEMU)
	f.Found = "works, and counts faster than TCG" + trialTimes(k)
	if k.Obstacle != nil {
		f.State, f.Found = Limited, strings.TrimPrefix(k.Obstacle.Error(), qemu.ErrNoKVM.Error()+": ")+trialTimes(k)
		f.Remedy = e.kvmRemedy()
	}
	e.add(f)
}

func trialTimes(k qemu.KVM) string {
	if k.TCG == 0 {
		return ""
	}
	kvm := "no end"
	if k.Count > 0 {
		kvm = k.Count.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("; a trial machine: %s under KVM, %s under TCG", kvm, k.TCG.Round(time.Millisecond))
}

// kvmRemedy is what helps depending on how far one gets.
func (e *examination) kvmRemedy() string {
	cpu := e.host.Text("/proc/cpuinfo")
	switch {
	case !strings.Contains(cpu, " vmx") && !strings.Contains(cpu, " svm") && strings.Contains(cpu, " hypervisor"):
		return "this host is a virtual machine itself: switch nested virtualisation on where it runs"
	case !strings.Contains(cpu, " vmx") && !strings.Contains(cpu, " svm"):
		return "switch VT-x or AMD-V on in the firmware's setup, if the processor has it"
	case e.host.Root():
		return "modprobe kvm_intel || modprobe kvm_amd"
	}
	return "sudo modprobe -a kvm_intel kvm_amd; sudo adduser $USER kvm, then log in again"
}

func (e *examination) memory() {
	f := Finding{ID: "memory", State: OK, What: "memory", For: demoRun + "; run --tree"}
	free, err := e.host.Memory()
	want := int64(e.o.MemoryMiB)<<20 + qemuMemory
	f.Found = size(free) + " available"
	switch {
	case err != nil:
		f.State, f.Found = Limited, err.Error()
	case free < min(want, demoMemory):
		f.State, f.Remedy = Missing, "end other programs, or give the guest less: kindling run --qemu-ram 512"
	case free < want:
		f.State = Limited
		f.Found += fmt.Sprintf(", the guest of a real tree may use %d MiB", e.o.MemoryMiB)
		f.Remedy = "end other programs; kindling run without a tree is fine with this"
	}
	e.add(f)
}

func (e *examination) packages() {
	f := Finding{ID: "packages", State: OK, What: "Debian's kernel and userland", For: demoRun}
	kernel, userland := e.host.Packages(e.o.Cache)
	if e.cached = kernel != "" && userland; e.cached {
		f.Found = fmt.Sprintf("kernel %s and userland in %s", kernel, e.o.Cache)
	} else {
		f.Found = "the first run fetches them with apt-get (about 100 MB) into " + e.o.Cache
		if !strings.Contains(e.host.Text("/etc/os-release"), "VERSION_CODENAME=bookworm") {
			f.State = Limited
			f.Found += ", which needs package sources of Debian 12 (bookworm); this is another system"
			f.Remedy = "deb https://deb.debian.org/debian bookworm main, as a line in /etc/apt/sources.list.d/bookworm.list"
		}
	}
	e.add(f)
}

func (e *examination) space() {
	runs := Finding{ID: "space.runs", State: OK, What: "disk space for runs", For: demoRun + "; run --tree, assemble"}
	e.room(&runs, e.o.Runs, demoSpace, "--run DIR names another folder")
	if free, err := e.host.Free(e.o.Runs); err == nil && runs.State == OK && free < treeSpace {
		runs.State = Limited
		runs.Found += fmt.Sprintf("; a real tree may fill %s", size(treeSpace))
		runs.Remedy = "kindling run --tree DIR --run DIR, with a folder on a larger disk"
	}
	e.add(runs)
	cache := Finding{ID: "space.cache", State: OK, What: "disk space for the cache", For: demoRun}
	need := int64(cacheSpace)
	if e.cached {
		need = 0
	}
	e.room(&cache, e.o.Cache, need, "--cache DIR, or KINDLING_CACHE, names another folder")
	e.add(cache)
}

// room holds the free space of a folder against what is needed.
func (e *examination) room(f *Finding, dir string, need int64, remedy string) {
	free, err := e.host.Free(dir)
	switch {
	case err != nil && need > 0:
		f.State, f.Found, f.Remedy = Missing, err.Error(), remedy
	case err != nil:
		f.Found = err.Error() + "; everything is there already"
	case free < need:
		f.State, f.Remedy = Missing, remedy
		f.Found = fmt.Sprintf("%s in %s, %s are needed", size(free), dir, size(need))
	default:
		f.Found = fmt.Sprintf("%s in %s", size(free), dir)
	}
}

// tool is a program that some verb needs.
type tool struct{ program, install, verbs string }

// fetchTools fill the cache of packages: the embedded default needs them as long as that is empty.
func fetchTools() []tool {
	return []tool{
		{"apt-get", "apt", demoRun + ", to fetch packages"},
		{"dpkg-deb", "dpkg", demoRun + ", to unpack packages"},
		{"depmod", "kmod", demoRun + ", to index a kernel's modules"},
	}
}

func verbTools() []tool {
	return []tool{
		{"qemu-img", "qemu-utils", "run --from, to start from a checkpoint"},
		{"mke2fs", "e2fsprogs", "assemble and run --tree, for a disk with a filesystem (--repo, --kernel)"},
		{"mount", "mount", "assemble and run --tree --tmpfs"},
		{"chroot", "coreutils", "run --tree --chroot"},
		{"bwrap", "bubblewrap", "run --tree --bwrap"},
	}
}

func (e *examination) tools() {
	for _, t := range fetchTools() {
		missing := Missing
		if e.cached {
			missing = Limited
		}
		e.tool(t, missing)
	}
	for _, t := range verbTools() {
		e.tool(t, Limited)
	}
}

func (e *examination) tool(t tool, missing State) {
	f := Finding{ID: "tool." + t.program, State: OK, What: t.program, For: t.verbs}
	path, err := e.host.Program(t.program)
	if f.Found = path; err != nil {
		f.State, f.Found, f.Remedy = missing, "not found", e.install(t.install)
	}
	e.add(f)
}

// BwrapTrial is what bubblewrap has to be able to do, with a program that does nothing.
func BwrapTrial(bwrap string) []string {
	return []string{bwrap, "--unshare-user", "--uid", "0", "--gid", "0", "--unshare-net", "--ro-bind", "/", "/", "--dev", "/dev",
		"--proc", "/proc", "true"}
}

func (e *examination) namespaces() {
	f := Finding{ID: "namespaces", State: OK, What: "user namespaces", For: "run --tree --bwrap", Found: "bubblewrap makes one"}
	path, err := e.host.Program("bwrap")
	if err != nil {
		f.State, f.Found, f.Remedy = Limited, "not tried: there is no bwrap", e.install("bubblewrap")
	} else if _, err := e.host.Output(e.ctx, BwrapTrial(path)...); err != nil {
		f.State, f.Found = Limited, err.Error()
		f.Remedy = e.namespaceRemedy()
	}
	e.add(f)
}

func (e *examination) namespaceRemedy() string {
	is := func(name, value string) bool { return strings.TrimSpace(e.host.Text("/proc/sys/"+name)) == value }
	switch {
	case is("kernel/apparmor_restrict_unprivileged_userns", "1"):
		return e.asRoot("sysctl kernel.apparmor_restrict_unprivileged_userns=0")
	case is("kernel/unprivileged_userns_clone", "0"):
		return e.asRoot("sysctl kernel.unprivileged_userns_clone=1")
	case is("user/max_user_namespaces", "0"):
		return e.asRoot("sysctl user.max_user_namespaces=10000")
	}
	return "a container's own limits are set where it is started; run --tree --chroot needs root, but no namespaces"
}

func (e *examination) root() {
	f := Finding{ID: "root", State: OK, What: "root", For: "write, run --tree --chroot", Found: "yes"}
	if !e.host.Root() {
		f.State, f.Found, f.Remedy = Limited, "no; nothing else needs it", "sudo kindling write IMAGE DEVICE"
	}
	e.add(f)
}

// unique are the names without repetitions, in their order.
func unique(names ...string) []string {
	var out []string
	seen := make(map[string]bool)
	for _, n := range names {
		if !seen[n] {
			out = append(out, n)
		}
		seen[n] = true
	}
	return out
}
