// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"kindling/host/options"
	"kindling/steps"
)

// line is a command line with all options.
type line struct {
	Boot  options.Rootfs
	Media options.Payload
}

// unchecked is Rootfs without its methods: kong fills it and does not call Validate.
type unchecked options.Rootfs

// parse lets kong read a command line.
func parse(t *testing.T, args string) (*line, error) {
	t.Helper()
	var grammar struct {
		Boot  unchecked       `embed:""`
		Media options.Payload `embed:""`
	}
	parser, err := kong.New(&grammar, kong.Exit(func(int) { t.Error("kong wants to exit") }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(strings.Fields(args))
	return &line{Boot: options.Rootfs(grammar.Boot), Media: grammar.Media}, err
}

func mustParse(t *testing.T, args string) *line {
	t.Helper()
	l, err := parse(t, args)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Who sits at a serial console is not put before a screen.
func TestSerialConsole(t *testing.T) {
	for serial, want := range map[bool]string{false: "True", true: "False"} {
		r := options.Rootfs{Arch: "x86", Qemu: true, Interactive: true, SerialConsole: serial}
		if got := r.Config().Get("BARE_METAL"); got != want {
			t.Errorf("serial %v: BARE_METAL=%s, want %s", serial, got, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	want := &line{
		Boot: options.Rootfs{
			Arch: "x86", Target: "target", TmpfsSize: "8G", Cores: 2, QemuCmd: "qemu-system-x86_64", QemuRAM: 4096,
			TargetSize: 16384,
		},
		Media: options.Payload{Payload: "auto", PayloadStage: "auto", BaseTarball: "auto"},
	}
	if diff := cmp.Diff(want, mustParse(t, "")); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	long := "--arch=amd64 --chroot --bwrap --target=t --tmpfs --tmpfs-size=1G --cores=3 --force-timestamps " +
		"--update-checksums --external-sources --build-kernels --no-create-config --interactive --configurator " +
		"--mirrors=http://a --mirrors=http://b,c --repo=r --early-preseed=e --internal-ci=pass1 --swap=1G --qemu " +
		"--qemu-cmd=q --qemu-ram=5 --target-size=7 --kernel=k --bare-metal"
	want := options.Rootfs{
		Arch: "amd64", Chroot: true, Bwrap: true, Target: "t", Tmpfs: true, TmpfsSize: "1G", Cores: 3,
		ForceTimestamps: true, UpdateChecksums: true, ExternalSources: true, BuildKernels: true, NoCreateConfig: true,
		Interactive: true, Configurator: true, Mirrors: []string{"http://a", "http://b,c"}, Repo: "r",
		EarlyPreseed: "e", InternalCI: "pass1", Swap: 1024, Qemu: true, QemuCmd: "q", QemuRAM: 5, TargetSize: 7,
		Kernel: "k", BareMetal: true,
	}
	if diff := cmp.Diff(want, mustParse(t, long).Boot); diff != "" {
		t.Errorf("long names (-want +got):\n%s", diff)
	}
	short := mustParse(t, "-a amd64 -c -t t -i -m http://a -r r -s 512M -q -b").Boot
	want = options.Rootfs{
		Arch: "amd64", Chroot: true, Target: "t", Interactive: true, Mirrors: []string{"http://a"}, Repo: "r", Swap: 512,
		Qemu: true, BareMetal: true, TmpfsSize: "8G", Cores: 2, QemuCmd: "qemu-system-x86_64", QemuRAM: 4096,
		TargetSize: 16384,
	}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Errorf("short names (-want +got):\n%s", diff)
	}
}

func TestParseErrors(t *testing.T) {
	for _, args := range []string{
		"--cores=x", "--cores=-1", "--cores=0x10", "--cores=1.5", "--cores=", "--cores=99999999999999999999", "--cores=2G",
		"--swap=1T", "--swap=GG", "--swap=1GM", "--swap=G", "--swap=-1", "--swap=+1", "--target-size=2000000G",
		"--payload=maybe", "--payload-stage=never",
	} {
		if l, err := parse(t, args); err == nil {
			t.Errorf("%s is accepted: %+v", args, l)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]options.MiB{"0": 0, "7": 7, "7m": 7, "7M": 7, "2g": 2048, "2G": 2048, "010": 10} {
		var got options.MiB
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %d MiB, %v; want %d", text, got, err, want)
		}
	}
	if got := options.MiB(3).Bytes(); got != 3<<20 {
		t.Errorf("3 MiB are %d bytes", got)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		args, want string // want "" is no error
	}{
		{"-q", ""},
		{"-b -k", ""},
		{"-q -m file:///srv/mirror", ""},
		{"-c -m https://a.example/lb%20x", ""},
		{"", "no mode: give one of --qemu, --bare-metal, --chroot, --bwrap"},
		{"-q -c", "--qemu and --chroot exclude each other"},
		{"-b --bwrap", "--bwrap and --bare-metal exclude each other"},
		{"--bwrap --tmpfs", "--tmpfs and --bwrap exclude each other"},
		{"-q --cores=0", "--cores 0: at least one core"},
		{"-q --target-size=0", "--target-size: must be at least 1M"},
		{"-q -s 99999G", "--swap 102398976M does not fit on a disk of --target-size 16384M"},
		{"-q -s 16G", "--swap 16384M does not fit"},
		{"-q -s 16383M", ""},
		{"-b -k -s 2G --target-size=2G", "--swap 2048M does not fit on a disk of --target-size 2048M"},
		{"-b -s 99G", ""}, // the real disk's size is not known
		{"-c -s 99G", ""}, // it has no effect
		{"-q --qemu-ram=0", "--qemu-ram: must be at least 1"},
		{"-c --target-size=0", ""}, // QEMU only
		{"-q -a x;y", "--arch \"x;y\": must be a plain word"},
		{"-q -a foo", "--arch foo: there is no seed for it: give one of x86, amd64, "},
		{"-q -a riscv64", ""},
		{"-q --internal-ci=a$b", "--internal-ci \"a$b\": must be a plain word"},
		{"-q -m ftp://a", "must be http://"},
		{"-q -m a.example", "must be http://"},
		{"-q -m http://", "must be http://"},
		{"-q -m file://srv/mirror", "must be an absolute path: write file:///folder"},
		{"-q -m http://a\"b", "has a '\"', which has no place in a URL"},
		{"-q -m http://a$b", "has a '$'"},
		{"-q -m http://[a", "no URL"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			l := mustParse(t, strings.Replace(test.args, "-k", "--kernel=k", 1))
			err := l.Boot.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestRequireMirror(t *testing.T) {
	if err := mustParse(t, "-q").Boot.RequireMirror(); err == nil {
		t.Error("no mirror is accepted")
	}
	if err := mustParse(t, "-q -m http://a").Boot.RequireMirror(); err != nil {
		t.Errorf("with a mirror: %v", err)
	}
}

func TestMode(t *testing.T) {
	for args, want := range map[string]options.Mode{
		"-q": options.ModeQemu, "-b": options.ModeBareMetal, "-c": options.ModeChroot, "--bwrap": options.ModeBwrap,
		"": "", "-q -b": "",
	} {
		if got := mustParse(t, args).Boot.Mode(); got != want {
			t.Errorf("%q has mode %q, want %q", args, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	l := mustParse(t, "-c -a amd64 --kernel=k --swap=1G --no-create-config")
	if got := l.Boot.Warnings(); len(got) != 4 {
		t.Errorf("warnings %q, want four", got)
	}
	if got := mustParse(t, "-q --kernel=k --swap=1G").Boot.Warnings(); len(got) != 0 {
		t.Errorf("warnings %q, want none", got)
	}
}

// TestConfig has one command line for each value that a variable of bootstrap.cfg can take.
func TestConfig(t *testing.T) {
	tests := []struct {
		args string
		want string // the variables that are not as in common
	}{
		{"-q -m http://a", "QEMU=True DISK=sda KERNEL_BOOTSTRAP=True MIRRORS=\"http://a\" MIRRORS_LEN=1"},
		{"-q", "QEMU=True DISK=sda KERNEL_BOOTSTRAP=True MIRRORS_LEN=0"},
		{"-q --external-sources -m http://a", "QEMU=True DISK=sdb1 KERNEL_BOOTSTRAP=True"},
		{"-q --repo=r -m http://a -m http://b", "QEMU=True DISK=sdb1 KERNEL_BOOTSTRAP=True MIRRORS=\"http://a http://b\" MIRRORS_LEN=2"},
		{"-q -i --external-sources", "INTERACTIVE=True QEMU=True BARE_METAL=True DISK=sdb1 KERNEL_BOOTSTRAP=True"},
		{"-b --external-sources --swap=1G --cores=8", "JOBS=8 SWAP_SIZE=1024 FINAL_JOBS=8 BARE_METAL=True DISK=sdb1 KERNEL_BOOTSTRAP=True"},
		{"-b --kernel=k --external-sources --build-kernels", "BARE_METAL=True BUILD_KERNELS=True"},
		{"-c --external-sources --update-checksums --swap=1G", "CHROOT=True UPDATE_CHECKSUMS=True BUILD_KERNELS=True"},
		{"--bwrap --external-sources --internal-ci=pass2", "CHROOT=True INTERNAL_CI=pass2"},
		{"-q --kernel=k --external-sources -a amd64", "ARCH=amd64 ARCH_DIR=AMD64 QEMU=True"},
		{"-q --kernel=k --external-sources -a riscv64", "ARCH=riscv64 ARCH_DIR=riscv64 QEMU=True"},
		{"-q --kernel=k --external-sources --force-timestamps --configurator", "FORCE_TIMESTAMPS=True QEMU=True CONFIGURATOR=True"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			if diff := cmp.Diff(common(t, test.want), string(mustParse(t, test.args).Boot.Config().Bytes())); diff != "" {
				t.Errorf("bootstrap.cfg (-want +got):\n%s", diff)
			}
		})
	}
	if got := mustParse(t, "-q --no-create-config").Boot.Config().Bytes(); len(got) != 0 {
		t.Errorf("--no-create-config: %s", got)
	}
}

// A tree of before October 2025 has the variables that its own rootfs.py writes.
func TestConfigOf(t *testing.T) {
	for rootfs, lost := range map[string]string{
		"": "", "QEMU={args.qemu} MIRRORS=x MIRRORS_LEN=0": "", "MIRRORS=x MIRRORS_LEN=0": "QEMU", "ARCH=": "QEMU MIRRORS MIRRORS_LEN",
	} {
		for _, args := range []string{"-q -m http://a", "-q -m http://a --external-sources", "-q --no-create-config"} {
			want := mustParse(t, args).Boot.Config()
			for name := range strings.FieldsSeq(lost) {
				want.Unset(name)
			}
			got := options.ConfigOf([]byte(rootfs), mustParse(t, args).Boot.Config())
			if diff := cmp.Diff(string(want.Bytes()), string(got.Bytes())); diff != "" {
				t.Errorf("rootfs.py %q, %s (-want +got):\n%s", rootfs, args, diff)
			}
		}
	}
}

// common is bootstrap.cfg with everything switched off, changed by a list of NAME=VALUE (only MIRRORS has spaces).
func common(t *testing.T, changes string) string {
	t.Helper()
	const off = "ARCH=x86\nARCH_DIR=x86\nFORCE_TIMESTAMPS=False\nCHROOT=False\nUPDATE_CHECKSUMS=False\nJOBS=2\n" +
		"SWAP_SIZE=0\nFINAL_JOBS=2\nINTERNAL_CI=False\nINTERACTIVE=False\nQEMU=False\nBARE_METAL=False\nDISK=sda1\n" +
		"KERNEL_BOOTSTRAP=False\nBUILD_KERNELS=False\nCONFIGURATOR=False\n"
	cfg, err := steps.ParseConfig("common", strings.NewReader(off))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range strings.Split(strings.ReplaceAll(changes, " http", "+http"), " ") {
		name, value, _ := strings.Cut(change, "=")
		cfg.Set(name, strings.ReplaceAll(value, "+http", " http"))
	}
	return string(cfg.Bytes())
}

func TestPayload(t *testing.T) {
	tests := []struct {
		args    string
		wanted  bool
		disk    string
		allowed bool
	}{
		{"-q --external-sources", true, "sda", true},
		{"-b --external-sources", true, "sda", true},
		{"-q --external-sources --repo=r", true, "sdb1", true},
		{"-q --external-sources --payload=off", false, "sdb1", true},
		{"-q", false, "sda", true},
		{"-q --payload=on", true, "sda", true},
		{"-q --kernel=k --external-sources", false, "sda1", true},
		{"-c --external-sources", false, "sda1", true},
		{"-c --payload=on", false, "sda1", false},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			l := mustParse(t, test.args)
			if err := l.Media.Check(&l.Boot); (err == nil) != test.allowed {
				t.Errorf("check: %v", err)
			}
			cfg := l.Media.Config(&l.Boot)
			if l.Media.Wanted(&l.Boot) != test.wanted || (cfg.Get("PAYLOAD_REQUIRED") == "True") != test.wanted {
				t.Errorf("wanted %t, PAYLOAD_REQUIRED=%q", l.Media.Wanted(&l.Boot), cfg.Get("PAYLOAD_REQUIRED"))
			}
			if got := cfg.Get("DISK"); got != test.disk {
				t.Errorf("DISK=%s, want %s", got, test.disk)
			}
			want := steps.MediaOptions{
				ExternalSources: l.Boot.ExternalSources, Payload: test.wanted, PayloadStage: steps.PayloadStageAuto,
			}
			if diff := cmp.Diff(want, l.Media.Media(&l.Boot)); diff != "" {
				t.Errorf("media (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddPayload(t *testing.T) {
	id := strings.Repeat("0f", 32)
	cfg := &steps.Config{}
	if err := options.AddPayload(cfg, 64, id); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("PAYLOAD_EARLY_COUNT=64\nPAYLOAD_ID="+id+"\n", string(cfg.Bytes())); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", id[1:], strings.ToUpper(id), id + "0"} {
		if err := options.AddPayload(cfg, 1, bad); err == nil {
			t.Errorf("ID %q is accepted", bad)
		}
	}
	if err := options.AddPayload(cfg, -1, id); err == nil {
		t.Error("a negative count is accepted")
	}
}

// TestConfigOracle compares with what rootfs.py wrote for the command lines of an oracle file, which is no part of this
// repository; TestConfig has every value without it.
func TestConfigOracle(t *testing.T) {
	const env = "KINDLING_ORACLE"
	name := os.Getenv(env)
	if name == "" {
		t.Logf("set %s=FILE (configurations with their command lines, JSON) to run this test", env)
		t.Skipf("%s is not set", env)
	}
	data, err := os.ReadFile(filepath.Clean(name))
	if err != nil {
		t.Fatal(err)
	}
	var oracle struct {
		Configurations map[string]struct {
			Flags  string `json:"flags"`
			Config string `json:"bootstrap.cfg"`
		} `json:"configurations"`
	}
	if err := json.Unmarshal(data, &oracle); err != nil || len(oracle.Configurations) == 0 {
		t.Fatalf("parse %s: %d configurations, %v", name, len(oracle.Configurations), err)
	}
	for name, conf := range oracle.Configurations {
		l := mustParse(t, conf.Flags)
		if err := l.Boot.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(conf.Config, string(l.Boot.Config().Bytes())); diff != "" {
			t.Errorf("%s: bootstrap.cfg (-rootfs.py +ours):\n%s", name, diff)
		}
	}
}
