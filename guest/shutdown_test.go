// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fakeMachine is a machine with mounts and loop devices that hold each other, as a kernel has them. Everything that is
// done to it is written down.
type fakeMachine struct {
	done   []string
	fail   bool
	deaf   int               // processes that only SIGKILL ends; negative: nothing does
	mounts []mounted         // in the order of their making
	on     map[string]string // what is on what: mount or loop device -> mount that it keeps busy
	source map[string]string // mount -> its loop device
	loops  []string
	never  chan struct{} // a mount of the name "/dead" waits for it
}

func (m *fakeMachine) did(format string, args ...any) error {
	m.done = append(m.done, fmt.Sprintf(format, args...))
	if m.fail {
		return errors.New("no")
	}
	return nil
}

func (m *fakeMachine) Kill(sig syscall.Signal) error {
	if sig == unix.SIGKILL && m.deaf > 0 {
		m.deaf = 0
	}
	return m.did("kill %d", int(sig))
}
func (m *fakeMachine) Processes() int                    { return max(m.deaf, -m.deaf) }
func (m *fakeMachine) Swaps() []string                   { return []string{"/swapfile"} }
func (m *fakeMachine) Swapoff(path string) error         { return m.did("swapoff %s", path) }
func (m *fakeMachine) Sync() error                       { return m.did("sync") }
func (m *fakeMachine) Mounts() []mounted                 { return slices.Clone(m.mounts) }
func (m *fakeMachine) Loops() []string                   { return slices.Clone(m.loops) }
func (m *fakeMachine) Sysrq(key byte) error              { return m.did("sysrq %c", key) }
func (m *fakeMachine) RemountReadOnly(path string) error { return m.did("read-only %s", path) }
func (m *fakeMachine) PowerOff() error                   { return m.did("power off") }
func (m *fakeMachine) Reboot() error                     { return m.did("reboot") }

func (m *fakeMachine) Unmount(path string, lazy bool) error {
	if path == "/dead" {
		<-m.never
		return unix.EIO
	}
	busy := slices.Contains(m.mounts, mounted{path + "/busy", "busy"})
	for _, at := range m.on {
		busy = busy || at == path
	}
	if busy && !lazy {
		return unix.EBUSY
	}
	m.mounts = slices.DeleteFunc(m.mounts, func(x mounted) bool { return x.path == path })
	delete(m.on, path)
	return m.did("unmount %s lazy=%v", path, lazy)
}

func (m *fakeMachine) DetachLoop(dev string) error {
	for _, x := range m.mounts {
		if m.source[x.path] == dev {
			return unix.EBUSY
		}
	}
	m.loops = slices.DeleteFunc(m.loops, func(x string) bool { return x == dev })
	delete(m.on, dev)
	return m.did("detach %s", dev)
}

// quick is a shutdown that does not wait long for the hopeless.
func quick(m machine, said *[]string) *shutdown {
	s := newShutdown(m, func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) })
	s.patience, s.grace = 50*time.Millisecond, 50*time.Millisecond
	return s
}

// The order is a promise, and no failure on the way may keep the machine from powering off.
func TestShutdownOrder(t *testing.T) {
	for _, tt := range []struct {
		name string
		m    fakeMachine
		how  ending
		want []string
		said int
	}{
		{"sound", fakeMachine{}, powerOff, []string{"swapoff /swapfile", "sync", "sync", "sysrq u", "read-only /", "sysrq o"}, 0},
		{"reboot", fakeMachine{}, reboot, []string{"swapoff /swapfile", "sync", "sync", "sysrq u", "read-only /", "reboot"}, 0},
		{"everything fails", fakeMachine{fail: true}, powerOff,
			[]string{"swapoff /swapfile", "sync", "sync", "sysrq u", "read-only /", "sysrq o", "power off"}, 7},
		{"reboot fails", fakeMachine{fail: true}, reboot,
			[]string{"swapoff /swapfile", "sync", "sync", "sysrq u", "read-only /", "reboot", "sysrq b"}, 7},
		{"processes", fakeMachine{deaf: 2}, powerOff, []string{"kill 15", "kill 1", "kill 18", "kill 9", "swapoff /swapfile", "sync", "sync",
			"sysrq u", "read-only /", "sysrq o"}, 0},
		{"processes that hang in the kernel", fakeMachine{deaf: -2}, powerOff, []string{"kill 15", "kill 1", "kill 18", "kill 9",
			"swapoff /swapfile", "sync", "sync", "sysrq u", "read-only /", "sysrq o"}, 1},
	} {
		var said []string
		s := quick(&tt.m, &said)
		s.quiet()
		s.end(tt.how)
		if d := cmp.Diff(tt.want, tt.m.done); d != "" || len(said) != tt.said {
			t.Errorf("%s: said %q (-want +got)\n%s", tt.name, said, d)
		}
	}
}

func TestUnmountOrder(t *testing.T) {
	own := []mounted{{"/", "ext4"}, {"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}, {"/dev/pts", "devpts"}}
	for _, tt := range []struct {
		name string
		m    fakeMachine
		want []string
		left []mounted
	}{
		{"the last first", fakeMachine{mounts: []mounted{{"/a", "ext4"}, {"/a/b", "tmpfs"}}}, []string{"unmount /a/b lazy=false", "unmount /a lazy=false"}, own},
		{"a filesystem in a file on a filesystem in a file", fakeMachine{
			mounts: []mounted{{"/outer", "ext4"}, {"/inner", "ext4"}, {"/tmp", "tmpfs"}},
			source: map[string]string{"/outer": "/dev/loop0", "/inner": "/dev/loop1"},
			on:     map[string]string{"/dev/loop1": "/outer", "/dev/loop0": "/tmp"},
			loops:  []string{"/dev/loop0", "/dev/loop1"},
		}, []string{"unmount /inner lazy=false", "detach /dev/loop1", "unmount /outer lazy=false", "detach /dev/loop0",
			"unmount /tmp lazy=false"}, own},
		{"busy for ever", fakeMachine{mounts: []mounted{{"/a", "ext4"}, {"/b", "ext4"}},
			on: map[string]string{"a process": "/a"}, source: map[string]string{"/a": "/dev/loop0"}, loops: []string{"/dev/loop0"}},
			[]string{"unmount /b lazy=false", "read-only /a", "unmount /a lazy=true", "detach /dev/loop0"}, own},
	} {
		var said []string
		tt.m.mounts = append(slices.Clone(own), tt.m.mounts...)
		quick(&tt.m, &said).unmount()
		if d := cmp.Diff(tt.want, tt.m.done); d != "" {
			t.Errorf("%s: said %q (-want +got)\n%s", tt.name, said, d)
		}
		if d := cmp.Diff(tt.left, tt.m.mounts, cmp.AllowUnexported(mounted{})); d != "" || len(tt.m.loops) > 0 {
			t.Errorf("%s: loops %q, mounts (-want +got)\n%s", tt.name, tt.m.loops, d)
		}
	}
}

// A disk that has died holds up what is on it, not the shutdown; and many such disks not more than one.
func TestUnmountBounded(t *testing.T) {
	m := &fakeMachine{never: make(chan struct{}), mounts: slices.Repeat([]mounted{{"/dead", "ext4"}}, 20)}
	defer close(m.never)
	var said []string
	s := quick(m, &said)
	s.deadline = time.Now().Add(200 * time.Millisecond)
	began := time.Now()
	s.unmount()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if !strings.Contains(strings.Join(said, "\n"), "unmount /dead: no end in 50ms") || !strings.Contains(strings.Join(said, "\n"), "no time left") {
		t.Errorf("said %q", said)
	}
}

// An action that never ends, on a disk that has died, is left behind.
func TestWithin(t *testing.T) {
	never := make(chan struct{})
	defer close(never)
	said := ""
	say := func(format string, args ...any) { said = fmt.Sprintf(format, args...) }
	if within(10*time.Millisecond, "sync", say, func() error { <-never; return nil }) || said != "sync: no end in 10ms" {
		t.Errorf("said %q", said)
	}
	if within(time.Second, "x", say, func() error { panic("boom") }) || said != "x: panic: boom" {
		t.Errorf("said %q", said)
	}
}

func TestKernelLists(t *testing.T) {
	const swaps = "Filename\t\t\tType\t\tSize\n/swapfile  file 1024 0 -2\n/a\\040b partition 1 0 -3\n"
	if d := cmp.Diff([]string{"/swapfile", "/a b"}, swapsIn(strings.NewReader(swaps))); d != "" {
		t.Errorf("swaps (-want +got)\n%s", d)
	}
	const mounts = "rootfs / rootfs rw 0 0\n/dev/sda1 /a\\040\\134b ext4 rw 0 0\nbroken\n"
	want := []mounted{{"/", "rootfs"}, {`/a \b`, "ext4"}}
	if d := cmp.Diff(want, mountsIn(strings.NewReader(mounts)), cmp.AllowUnexported(mounted{})); d != "" {
		t.Errorf("mounts (-want +got)\n%s", d)
	}
}

func FuzzKernelLists(f *testing.F) {
	f.Add("/dev/sda1 /a\\040\\134b ext4 rw 0 0\nMemAvailable: 2048 kB\nsome avg60=1.00\n")
	f.Add("/swapfile  file 1024 0 -2\n\\04")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range mountsIn(strings.NewReader(text)) {
			if m.path == "" || len(m.path) > len(text) {
				t.Errorf("%q: %+v", text, m)
			}
		}
		swapsIn(strings.NewReader(text))
		var m memory
		m.parse(strings.NewReader(text))
		m.stalled = someStalled(text)
		if n := jobsFor(8, m); n < 1 || n > 8 {
			t.Errorf("%q: %d jobs", text, n)
		}
	})
}

func TestRequests(t *testing.T) {
	for sig, want := range map[syscall.Signal]string{
		unix.SIGTERM: "powers off", unix.SIGPWR: "powers off", unix.SIGUSR1: "powers off", unix.SIGUSR2: "powers off",
		unix.SIGINT: "reboots", 37: "powers off", 38: "powers off", 39: "reboots", unix.SIGHUP: "", unix.SIGQUIT: "", 40: "",
	} {
		if how, asked := requestOf(sig); asked != (want != "") || asked && how.String() != want {
			t.Errorf("%s: %s, %v; want %q", sig, how, asked, want)
		}
	}
}

// confined is the real machine, seen through a mount namespace and a process namespace, and below one folder.
type confined struct {
	linux
	dir   string
	loops []string
}

func (c confined) Swaps() []string { return nil }
func (c confined) Loops() []string {
	return slices.DeleteFunc(c.linux.Loops(), func(dev string) bool { return !slices.Contains(c.loops, dev) })
}
func (c confined) Mounts() []mounted {
	return slices.DeleteFunc(c.linux.Mounts(), func(m mounted) bool { return !strings.HasPrefix(m.path, c.dir) })
}

// quietRole is set in the process that is PID 1 of the namespace.
const quietRole = "KINDLING_TEST_QUIET"

// Processes that ignore SIGTERM or are stopped, filesystems in files on filesystems in files, with open files on all of
// them: a real kernel has nothing left of it afterwards, and the data is there.
func TestQuietForReal(t *testing.T) {
	if dir := os.Getenv(quietRole); dir != "" {
		beQuiet(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to run this test as root")
		}
		t.Skip("needs root: loop devices and mounts")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), quietRole+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	loops, _ := os.ReadFile(filepath.Join(dir, "loops"))
	for _, dev := range strings.Fields(string(loops)) { // what a failed test has left
		_ = linux{}.DetachLoop(dev)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Errorf("in the namespace: %v\n%s", err, out)
	}
	if data, err := exec.CommandContext(t.Context(), "debugfs", "-R", "cat data", filepath.Join(dir, "outer.img")).Output(); string(data) != "kept\n" {
		t.Errorf("the data: %q, %v", data, err)
	}
}

// beQuiet is the test inside the namespaces.
func beQuiet(t *testing.T, dir string) {
	script := `set -e
mount --make-rprivate /; mount -t proc proc /proc; cd "$1"
mkdir outer inner shm
truncate -s 16M outer.img; mkfs.ext4 -q -F outer.img
a=$(losetup -f --show outer.img); mount "$a" outer; echo "$a" > loops
truncate -s 8M outer/inner.img; mkfs.ext4 -q -F outer/inner.img
b=$(losetup -f --show outer/inner.img); mount "$b" inner; echo "$b" >> loops
mount -t tmpfs tmpfs shm
for at in outer inner shm; do
	(trap '' TERM HUP; cd $at; exec > open; while :; do echo x; sleep 0.1; done) > /dev/null 2>&1 &
done
(cd inner; sh -c 'kill -STOP $$') > /dev/null 2>&1 &
sleep 0.3
echo kept > outer/data
`
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	loops, err := os.ReadFile(filepath.Join(dir, "loops"))
	if err != nil {
		t.Fatal(err)
	}
	m := confined{dir: dir, loops: strings.Fields(string(loops))}
	if len(m.loops) != 2 || len(m.Loops()) != 2 || len(m.Mounts()) != 3 || m.Processes() < 4 {
		t.Fatalf("%q %q %v, %d processes", m.loops, m.Loops(), m.Mounts(), m.Processes())
	}
	var said []string
	s := newShutdown(m, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	s.grace = time.Second
	s.quiet()
	if len(m.Loops()) != 0 || len(m.Mounts()) != 0 || m.Processes() != 0 || len(said) != 0 {
		t.Errorf("left: %q %v, %d processes; said %q", m.Loops(), m.Mounts(), m.Processes(), said)
	}
}
