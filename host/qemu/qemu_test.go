// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qemu

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/imagefile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func raw(path string) imagefile.Chain { return imagefile.Chain{{Path: path, Format: imagefile.Raw}} }

// demo is the machine of the embedded default.
func demo() Options {
	return Options{
		Binary: BinaryX8664, MemoryMiB: 1024, Cores: 2, Accel: AccelTCG, NoDefaults: true,
		Kernel: "/cache/vmlinuz", Initrd: "/run/initramfs", Append: "console=ttyS0 panic=1",
		Drives: []Drive{
			{Chain: raw("/run/disks/target.img"), Interface: InterfaceIDE},
			{Chain: raw("/run/payload.img"), Interface: InterfaceIDE, Snapshot: true},
		},
		NIC:   &NIC{Model: "e1000"},
		Ports: 2, PortDir: "/run",
	}
}

// bareTree is live-bootstrap's own reference line with a second disk.
func bareTree() Options {
	return Options{
		Binary: BinaryX8664, MemoryMiB: 4096, Cores: 4, Accel: AccelKVM, CPU: "host", Machine: "kernel-irqchip=split",
		Drives: []Drive{
			{Chain: raw("init.img"), Interface: InterfaceIDE},
			{Chain: imagefile.Chain{{Path: "external.qcow2", Format: imagefile.QCOW2}, {Path: "base,1.img", Format: imagefile.Raw}},
				Interface: InterfaceIDE},
		},
		NIC: &NIC{Model: "e1000"},
	}
}

// odd has every other interface and paths that QEMU's option syntax would read as something else.
func odd() Options {
	return Options{
		Binary: "/opt/qemu/bin/qemu-system-i386", MemoryMiB: 64, Cores: 1, Accel: AccelTCG, Machine: "q35",
		Kernel: "a b/vmlinuz", Append: `console=ttyS0 foo="a b"`,
		Drives: []Drive{
			{Chain: raw("nbd:disk,readonly=on.img"), Interface: InterfaceAHCI},
			{Chain: raw("/x/a,b.img"), Interface: InterfaceAHCI, Snapshot: true},
			{Chain: raw("/x/usb.img"), Interface: InterfaceUSB, ReadOnly: true},
			{Chain: raw("/x/usb2.img"), Interface: InterfaceUSB},
			{Chain: imagefile.Chain{{Path: "/x/nvme.img", Format: imagefile.QCOW2}}, Interface: InterfaceNVMe},
			{Chain: raw("../virtio.img"), Interface: InterfaceVirtio},
		},
		NIC:     &NIC{Model: "virtio-net-pci"},
		Ports:   1,
		PortDir: "/a,b",
		Control: true, Incoming: true,
		Extra: []string{"-device", "isa-debug-exit"},
	}
}

func TestArgvGolden(t *testing.T) {
	for name, o := range map[string]Options{"demo": demo(), "bare-tree": bareTree(), "odd": odd()} {
		t.Run(name, func(t *testing.T) {
			if err := o.Validate(); err != nil {
				t.Fatalf("Validate: %v", err)
			}
			got := strings.Join(o.Argv(), "\n") + "\n"
			golden := filepath.Join("testdata", name+".argv")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("argv (-want +got; -update rewrites):\n%s", diff)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Options)
		want   string // part of the message
	}{
		{"no binary", func(o *Options) { o.Binary = "" }, "binary: empty"},
		{"no memory", func(o *Options) { o.MemoryMiB = 0 }, "memory: 0 MiB"},
		{"much memory", func(o *Options) { o.MemoryMiB = maxMemoryMiB + 1 }, "memory: 1048577 MiB"},
		{"no cores", func(o *Options) { o.Cores = 0 }, "cores: 0"},
		{"negative cores", func(o *Options) { o.Cores = -1 }, "cores: -1"},
		{"undecided accel", func(o *Options) { o.Accel = AccelAuto }, "accel: auto is not decided yet"},
		{"unknown accel", func(o *Options) { o.Accel = "xen" }, `accel: "xen"`},
		{"cpu with space", func(o *Options) { o.CPU = "a b" }, `cpu: "a b"`},
		{"machine with space", func(o *Options) { o.Machine = "q35 -x" }, `machine: "q35 -x"`},
		{"initrd alone", func(o *Options) { o.Kernel, o.Append = "", "" }, "initrd /run/initramfs: there is no kernel"},
		{"append alone", func(o *Options) { o.Kernel, o.Initrd = "", "" }, "append: there is no kernel"},
		{"nothing to boot", func(o *Options) { *o = Options{Binary: "q", MemoryMiB: 1, Cores: 1, Accel: AccelTCG} },
			"nothing to boot"},
		{"long append", func(o *Options) { o.Append = strings.Repeat("a", MaxCmdline+1) }, "append: 2048 bytes"},
		{"newline in append", func(o *Options) { o.Append = "a\nb" }, "append: control character"},
		{"NUL in kernel", func(o *Options) { o.Kernel = "a\x00b" }, "kernel: control character"},
		{"empty drive", func(o *Options) { o.Drives[1].Chain[0].Path = "" }, "drive 2: path: empty path"},
		{"no layers", func(o *Options) { o.Drives[1].Chain = nil }, "drive 2: 0 layers"},
		{"guessed format", func(o *Options) { o.Drives[0].Chain[0].Format = "" }, `drive 1: format: want raw or qcow2, got ""`},
		{"unknown interface", func(o *Options) { o.Drives[0].Interface = "scsi" }, `drive 1: interface: "scsi"`},
		{"read-only IDE", func(o *Options) { o.Drives[0].ReadOnly = true }, "ide disk cannot be read-only"},
		{"five IDE drives", func(o *Options) { o.Drives = append(append(o.Drives, o.Drives...), o.Drives[0]) },
			"drives: 5 with interface ide"},
		{"too many drives", func(o *Options) { o.Drives = make([]Drive, maxDrives+1) }, "drives: 17"},
		{"nic model", func(o *Options) { o.NIC.Model = "e1000,hostfwd=tcp::22-:22" }, "network card"},
		{"five ports", func(o *Options) { o.Ports = 5 }, "serial ports: 5"},
		{"ports nowhere", func(o *Options) { o.PortDir = "" }, "folder of the serial ports: empty path"},
		{"restored without control", func(o *Options) { o.Incoming = true }, "needs a control socket"},
		{"control in extra", func(o *Options) { o.Extra = []string{"-x", "\x1b"} }, "extra argument 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := demo()
			tt.change(&o)
			err := o.Validate()
			if !errors.Is(err, ErrOptions) {
				t.Fatalf("error %v, want ErrOptions", err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestCmdline(t *testing.T) {
	tests := []struct {
		name string
		c    Cmdline
		want string
	}{
		{"initramfs", Cmdline{Args: []string{"console=ttyS0"}}, "panic=1 console=ttyS0"},
		{"disk", Cmdline{Root: "/dev/sda1", Args: []string{"rw"}}, "root=/dev/sda1 panic=1 rw rootwait"},
		{"disk among the arguments", Cmdline{Args: []string{"root=UUID=1-2"}}, "panic=1 root=UUID=1-2 rootwait"},
		{"rootwait there", Cmdline{Root: "/dev/sda1", Args: []string{"rootwait", "rw"}},
			"root=/dev/sda1 panic=1 rootwait rw"},
		{"init's rootwait is not the kernel's", Cmdline{Root: "/dev/sda1", Args: []string{"--", "rootwait"}},
			"root=/dev/sda1 panic=1 rootwait -- rootwait"},
		{"ramdisk", Cmdline{Root: "/dev/ram0"}, "root=/dev/ram0 panic=1"},
		{"panic at once", Cmdline{Panic: -1}, "panic=-1"},
		{"panic given", Cmdline{Panic: 5, Args: []string{"panic=30"}}, "panic=30"},
		{"init's panic is not the kernel's", Cmdline{Panic: 5, Args: []string{"--", "panic=30"}}, "panic=5 -- panic=30"},
		{"spaces", Cmdline{Args: []string{"dyndbg=file a +p", "x y"}}, `panic=1 dyndbg="file a +p" "x y"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.c.Render()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, bad := range []Cmdline{
		{Args: []string{"a\nb"}}, {Args: []string{`a"b`}}, {Root: "/dev/s\x00"}, {Args: []string{""}},
		{Args: []string{strings.Repeat("x", MaxCmdline)}},
	} {
		if got, err := bad.Render(); !errors.Is(err, ErrCmdline) {
			t.Errorf("Render(%+v) = %.40q, %v; want ErrCmdline", bad, got, err)
		}
	}
}

func TestEnsureRootwait(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"console=ttyS0":                    "console=ttyS0",
		"root=/dev/sda1 rw":                "root=/dev/sda1 rw rootwait",
		"root=/dev/sda1  rootwait rw":      "root=/dev/sda1  rootwait rw",
		"root=PARTUUID=x init=/init ":      "root=PARTUUID=x init=/init rootwait",
		"root=/dev/sda1 -- single":         "root=/dev/sda1 rootwait -- single",
		"root=/dev/ram0 initrd=x":          "root=/dev/ram0 initrd=x",
		"root=/dev/ram0 root=/dev/nvme0n1": "root=/dev/ram0 root=/dev/nvme0n1 rootwait",
	} {
		got := EnsureRootwait(in)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("EnsureRootwait(%q) (-want +got):\n%s", in, diff)
		}
		if again := EnsureRootwait(got); again != got {
			t.Errorf("EnsureRootwait(%q) = %q, not stable", got, again)
		}
	}
}

func TestResolveAccel(t *testing.T) {
	broken := fmt.Errorf("%w: no such device", ErrNoKVM)
	tests := []struct {
		want  Accel
		probe error
		got   Accel
		note  bool
		err   error
	}{
		{AccelAuto, nil, AccelKVM, false, nil},
		{AccelAuto, broken, AccelTCG, true, nil},
		{AccelTCG, nil, AccelTCG, false, nil},
		{AccelKVM, nil, AccelKVM, false, nil},
		{AccelKVM, broken, "", false, ErrNoKVM},
		{"xen", nil, "", false, ErrOptions},
	}
	for _, tt := range tests {
		got, note, err := ResolveAccel(tt.want, func() error { return tt.probe })
		if got != tt.got || (note != "") != tt.note || !errors.Is(err, tt.err) {
			t.Errorf("ResolveAccel(%s, %v) = %q, %q, %v", tt.want, tt.probe, got, note, err)
		}
	}
}

func TestCheckVirtualises(t *testing.T) {
	for in, ok := range map[string]bool{
		"processor : 0\nflags\t\t: fpu vmx sse\n": true,
		"flags : fpu svm":                         true,
		"flags : fpu svmx hypervisor\n":           false,
		"vmx flags : fpu\nflags: fpu\n":           false,
		"":                                        false,
	} {
		if err := checkVirtualises(strings.NewReader(in)); (err == nil) != ok {
			t.Errorf("checkVirtualises(%q) = %v", in, err)
		}
	}
}

func TestProbeDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".absent", os.DevNull} {
		if err := probeDevice(path); !errors.Is(err, ErrNoKVM) {
			t.Errorf("probeDevice(%s) = %v, want ErrNoKVM", path, err)
		}
	}
}

func FuzzEnsureRootwait(f *testing.F) {
	for _, seed := range []string{"root=/dev/sda1 rw", "root=/dev/sda1 -- x", "a  b\trootwait", " -- root=/dev/sda"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := EnsureRootwait(line)
		if again := EnsureRootwait(got); again != got {
			t.Errorf("%q -> %q -> %q", line, got, again)
		}
	})
}
