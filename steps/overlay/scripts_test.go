// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package overlay_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// guest is a folder that stands for the root of the guest: the scripts' absolute paths are moved below it.
type guest struct {
	t    *testing.T
	root string
}

func newGuest(t *testing.T) guest {
	t.Helper()
	g := guest{t, t.TempDir()}
	g.write("external/distfiles/left-over.tar.gz", "x")
	g.write("init", "#!/bin/bash\nbash /steps/3.sh\n")
	g.write("boot/vmlinuz", strings.Repeat("k", 1000))
	g.write("steps/jump/fiwix.sh", `kexec-fiwix -c "kexec_proto=linux kexec_size=4 kexec_cmdline"`+"\n")
	g.write("bin/kexec-linux", "#!/bin/sh\necho jumped \"$1\" \"$2\" $(wc -c <\"$3\")\n")
	g.write("bin/payload-import", "#!/bin/sh\necho payload-import \"$@\" >>"+g.path("calls")+"\n"+
		"case \"$*\" in *'--count 0'*) n=$(cat "+g.path("absent")+" 2>/dev/null || echo 0)\n"+
		"[ \"$n\" -eq 0 ] || { echo $((n - 1)) >"+g.path("absent")+"; exit 1; } ;; esac\n")
	g.write("bin/sleep", "#!/bin/sh\n")
	return g
}

func (g guest) path(name string) string { return filepath.Join(g.root, name) }

func (g guest) write(name, text string) {
	g.t.Helper()
	if err := os.MkdirAll(filepath.Dir(g.path(name)), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.path(name), []byte(text), 0o755); err != nil {
		g.t.Fatal(err)
	}
}

func (g guest) read(name string) string {
	data, err := os.ReadFile(g.path(name))
	if err != nil {
		return "(none)"
	}
	return string(data)
}

var absolute = regexp.MustCompile(`(^|[\s"=])/(init|kindling|steps|external|dev)`)

// shell is the bash that runs the scripts: that of the machine, or the one that KINDLING_BASH names, such as the 2.05b of
// a tree, which is the first that a bootstrap has.
func shell() string {
	if name := os.Getenv("KINDLING_BASH"); name != "" {
		return name
	}
	return "bash"
}

// run runs a script of the overlay as the generated scripts do: sourced, with "set -e" and the configuration.
func (g guest) run(name, config string) (string, error) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join("tree", name))
	if err != nil {
		g.t.Fatal(err)
	}
	g.write(name, absolute.ReplaceAllString(string(text), "${1}"+g.root+"/$2"))
	main := "set -e\nDISTFILES=" + g.path("external/distfiles") + "\n" + config + "\n. " + g.path(name) + "\n"
	cmd := exec.CommandContext(g.t.Context(), shell(), "-c", main)
	cmd.Dir = g.root
	cmd.Env = []string{"PATH=" + g.path("bin") + ":/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), g.root, ""), err
}

const (
	jumpLinux = "steps/jump/linux.sh"
	bootstrap = "KERNEL_BOOTSTRAP=True\nPAYLOAD_REQUIRED=True\nPAYLOAD_REST_COUNT=3"
)

// ownJump is a tree's own jump that hands over an initramfs of so many bytes.
func (g guest) ownJump(initramfs string) {
	g.write("steps/jump/linux-tree.sh", "kexec-linux /dev/ram1 "+g.path("boot/vmlinuz")+" \""+initramfs+"\"\n")
}

func TestJumpLinux(t *testing.T) {
	for _, tt := range []struct {
		name, initramfs string
		want            string
		fails           bool
	}{
		{"fits to the byte", "!head -c 3088 /dev/zero", "kernel 1000 + initramfs 3088 + 8 = 4096 of 4096 bytes\njumped", false},
		{"one byte too many", "!head -c 3089 /dev/zero", "exceed the kexec window by 1 bytes, no jump", true},
		{"a file", "boot/vmlinuz", "kernel 1000 + initramfs 1000 + 8 = 2008 of 4096 bytes\njumped", false},
		{"a pipe", "!head -c 10 /dev/zero | cat", "initramfs 10 + 8", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuest(t)
			g.ownJump(tt.initramfs)
			out, err := g.run(jumpLinux, bootstrap)
			if (err != nil) != tt.fails || !strings.Contains(out, tt.want) || tt.fails && strings.Contains(out, "jumped") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// Without room to keep the initramfs it is counted all the same, and as what is made for the jump may be a little larger,
// a little room has to be left.
func TestJumpLinuxWithoutRoom(t *testing.T) {
	for _, tt := range []struct {
		size  string
		want  string
		fails bool
	}{
		{"100", "initramfs 101 + 8", false},
		{"3084", "initramfs 3088 + 8 = 4096 of 4096 bytes", false},
		{"3085", "exceed the kexec window by 1 bytes, no jump", true},
	} {
		g := newGuest(t)
		g.ownJump("!head -c " + tt.size + " /dev/zero")
		if err := os.Mkdir(g.path("kindling.initramfs"), 0o755); err != nil { // cannot be written
			t.Fatal(err)
		}
		g.write("bin/rm", "#!/bin/sh\n")
		g.write("bin/kexec-linux", "#!/bin/sh\necho jumped \"$3\"\n")
		out, err := g.run(jumpLinux, bootstrap)
		if (err != nil) != tt.fails || strings.Contains(out, "jumped !head -c "+tt.size) == tt.fails {
			t.Errorf("%s: %v\n%s", tt.size, err, out)
		}
		for _, want := range []string{"no room to keep the initramfs in", tt.want} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", tt.size, want, out)
			}
		}
	}
}

// A base tarball that does not fit is left out, also of a list that was made before; one that fits stays.
func TestJumpLinuxBaseTarball(t *testing.T) {
	const tarball = "external/repo/base.tar.bz2"
	for _, tt := range []struct {
		name    string
		size    int // of everything else in the initramfs; the tarball has 1000 bytes, the window takes 3088 in all
		listed  bool
		want    string
		remains bool
		fails   bool
	}{
		{"fits", 2000, true, "initramfs 3000 + 8 = 4008 of 4096 bytes\njumped", true, false},
		{"fits to the byte", 2088, true, "initramfs 3088 + 8 = 4096 of 4096 bytes\njumped", true, false},
		{"does not fit", 2089, true, "window by 1 bytes with /external/repo/base.tar.bz2 (1000 bytes): it is left out\n" +
			"kindling: kexec window: kernel 1000 + initramfs 2089 + 8 = 3097 of 4096 bytes\njumped", false, false},
		{"does not fit, no list", 2089, false, "initramfs 2089 + 8 = 3097 of 4096 bytes\njumped", false, false},
		{"nothing helps", 3089, true, "exceed the kexec window by 1 bytes, no jump", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuest(t)
			g.write(tarball, strings.Repeat("t", 1000))
			g.write("rest", strings.Repeat("r", tt.size))
			if tt.listed {
				g.write("list", g.path("rest")+"\n"+g.path(tarball)+"\n")
				g.write("bin/pack", "#!/bin/sh\nset -e\ncat $(cat \"$1\")\n")
				g.ownJump("!pack " + g.path("list"))
			} else {
				g.ownJump("!cat " + g.path("rest") + " " + g.path("external/repo") + "/* || true")
			}
			out, err := g.run(jumpLinux, bootstrap)
			if (err != nil) != tt.fails || !strings.Contains(out, tt.want) || tt.fails && strings.Contains(out, "jumped") {
				t.Errorf("%v\n%s", err, out)
			}
			if got := g.read(tarball) != "(none)"; got != tt.remains {
				t.Errorf("the tarball remains: %t", got)
			}
			if _, err := os.Stat(g.path("kindling.list")); err == nil {
				t.Error("a temporary list is left")
			}
		})
	}
}

func TestJumpLinuxWithoutWindow(t *testing.T) {
	g := newGuest(t)
	g.ownJump("!true")
	g.write("steps/jump/fiwix.sh", "another way\n")
	if out, err := g.run(jumpLinux, bootstrap); err == nil || !strings.Contains(out, "no kexec_size") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestJumpLinuxDistfiles(t *testing.T) {
	for config, stays := range map[string]bool{
		"KERNEL_BOOTSTRAP=True\nPAYLOAD_REQUIRED=True\nPAYLOAD_REST_COUNT=3": false,
		"KERNEL_BOOTSTRAP=True\nPAYLOAD_REQUIRED=True\nPAYLOAD_REST_COUNT=0": true,
		"KERNEL_BOOTSTRAP=True": true,
	} {
		g := newGuest(t)
		g.ownJump("!true")
		if out, err := g.run(jumpLinux, config); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := g.read("external/distfiles/left-over.tar.gz") == "x"; got != stays {
			t.Errorf("%q: distfiles stay: %t", config, got)
		}
	}
}

func TestJumpLinuxAgent(t *testing.T) {
	const generated = "#!/bin/bash\nbash /steps/3.sh\n"
	for _, tt := range []struct {
		config, agent     string
		init, tree, place string // what is in /init, /kindling/init.tree and /kindling/init then
	}{
		{"KERNEL_BOOTSTRAP=True", "", generated, "(none)", "(none)"},
		{"KERNEL_BOOTSTRAP=True", "agent", "agent", generated, "(none)"},
		{"KERNEL_BOOTSTRAP=False", "agent", "agent", generated, "agent"},
	} {
		g := newGuest(t)
		g.ownJump("!true")
		if tt.agent != "" {
			g.write("kindling/init", tt.agent)
		}
		if out, err := g.run(jumpLinux, tt.config); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if g.read("init") != tt.init || g.read("kindling/init.tree") != tt.tree || g.read("kindling/init") != tt.place {
			t.Errorf("%s with agent %q: init %q, init.tree %q, kindling/init %q", tt.config, tt.agent, g.read("init"),
				g.read("kindling/init.tree"), g.read("kindling/init"))
		}
	}
}

func TestImportRest(t *testing.T) {
	const script = "steps/improve/import_payload_rest.sh"
	config := func(count string) string {
		return "PAYLOAD_ID=0f\nPAYLOAD_REST_SKIP=5\nPAYLOAD_REST_COUNT=" + count
	}
	for _, tt := range []struct {
		name, count, absent string
		calls               int
		fails               bool
	}{
		{"nothing to import", "0", "0", 0, false},
		{"at once", "7", "0", 2, false},
		{"a late disk", "7", "3", 5, false},
		{"no disk", "7", "1000", 120, true},
	} {
		g := newGuest(t)
		g.write("absent", tt.absent)
		out, err := g.run(script, config(tt.count))
		calls := strings.Split(strings.TrimSuffix(g.read("calls"), "\n"), "\n")
		if g.read("calls") == "(none)" {
			calls = nil
		}
		if (err != nil) != tt.fails || len(calls) != tt.calls {
			t.Errorf("%s: %v, %d calls, want %d\n%s", tt.name, err, len(calls), tt.calls, out)
		}
		last := "payload-import --id 0f --skip 5 --count 7 " + g.path("external/distfiles")
		if tt.calls > 0 && !tt.fails && calls[len(calls)-1] != last {
			t.Errorf("%s: last call %q, want %q", tt.name, calls[len(calls)-1], last)
		}
	}
}

func TestDone(t *testing.T) {
	const script = "steps/after/999999999-kindling-done.sh"
	g := newGuest(t)
	g.write("steps/bootstrap.cfg", "CHROOT=False\n")
	out, err := g.run(script, "")
	if err != nil || g.read("kindling/done") != "ok\n" {
		t.Errorf("%v, marker %q\n%s", err, g.read("kindling/done"), out)
	}
	if g.read("dev/ttyS1") != "(none)" {
		t.Error("something was written where there is no serial port")
	}
}

// newBase is a guest with something in every place that matters to the base tarball. Its tar is the real one with the
// guest's folder in the place of "/".
func newBase(t *testing.T) guest {
	g := newGuest(t)
	g.write("steps/improve/setup_repo-tree.sh", "mkdir -p "+g.path("external/repo")+"\n")
	for _, name := range []string{
		"external/repo/some_0.tar.bz2", "external/repo-preseeded/some_0.tar.bz2", "dev/null", "proc/1", "sys/1", "tmp/1",
		"kindling/init", "usr/bin/tool", "usr/lib/.hidden",
	} {
		g.write(name, "x")
	}
	g.write("bin/tar", "#!/bin/bash\nargs=()\nfor a in \"$@\"; do\ncase \"$a\" in\n"+
		"--exclude=/*) a=--exclude="+g.root+"${a#--exclude=} ;; /) a="+g.root+" ;;\nesac\n"+
		"args+=(\"$a\"); done\nexec /usr/bin/tar \"${args[@]}\"\n")
	return g
}

const setupRepo, baseTarball = "steps/improve/setup_repo.sh", "external/repo/base.tar.bz2"

// packed lists what is in the base tarball.
func (g guest) packed() []string {
	g.t.Helper()
	out, err := exec.CommandContext(g.t.Context(), "tar", "-tjf", g.path(baseTarball)).Output()
	if err != nil {
		g.t.Fatalf("%v: is there a base tarball?", err)
	}
	return strings.Fields(strings.ReplaceAll(string(out), g.root[1:]+"/", ""))
}

func TestSetupRepo(t *testing.T) {
	g := newBase(t)
	out, err := g.run(setupRepo, "")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	packed := g.packed()
	for _, want := range []string{"usr/bin/tool", "usr/lib/.hidden", "init", "steps/jump/fiwix.sh", "external/repo/", "dev/", "tmp/"} {
		if !slices.Contains(packed, want) {
			t.Errorf("%s is not in it", want)
		}
	}
	for _, name := range packed {
		top, rest, _ := strings.Cut(strings.TrimPrefix(name, "external/"), "/")
		if slices.Contains([]string{"repo", "repo-preseeded", "distfiles", "dev", "proc", "sys", "tmp", "kindling"}, top) && rest != "" {
			t.Errorf("%s is in it", name)
		}
	}
	if got := g.read("external/repo/base.tar"); got != "(none)" {
		t.Error("what was to be packed is still there")
	}

	g.write("bin/tar", "#!/bin/sh\nexit 1\n") // a tree that makes one itself, or a second run
	if out, err := g.run(setupRepo, ""); err != nil || !strings.Contains(out, "there already") {
		t.Errorf("a second time: %v\n%s", err, out)
	}
}

// What was cut short is made anew.
func TestSetupRepoCut(t *testing.T) {
	g := newBase(t)
	g.write("external/repo/base.tar", "cut")
	g.write(baseTarball, "cut")
	if out, err := g.run(setupRepo, ""); err != nil || !slices.Contains(g.packed(), "usr/bin/tool") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Whatever goes wrong with it, the bootstrap goes on without a base tarball.
func TestSetupRepoFails(t *testing.T) {
	for program, script := range map[string]string{
		"tar":   "#!/bin/sh\necho cut >\"$2\"\nexit 2\n",
		"bzip2": "#!/bin/sh\necho cut >\"$2\".bz2\nexit 1\n",
	} {
		g := newBase(t)
		g.write("bin/"+program, script)
		out, err := g.run(setupRepo, "")
		if err != nil || !strings.Contains(out, "base.tar.bz2 is left out") {
			t.Errorf("%s: %v\n%s", program, err, out)
		}
		if g.read(baseTarball) != "(none)" || g.read("external/repo/base.tar") != "(none)" {
			t.Errorf("%s: something half-done is left", program)
		}
	}
}

func TestUpdateChecksums(t *testing.T) {
	const script = "steps/improve/update_checksums.sh"
	g := newGuest(t)
	for _, name := range []string{"base.tar.bz2", "database.tar.bz2", "make-3.82_0.tar.bz2"} {
		g.write("external/repo/"+name, name)
	}
	g.write("steps/improve/update_checksums-tree.sh", "cd "+g.path("external/repo")+"\nsha256sum -- * | tee \"${SRCDIR}/SHA256SUMS.pkgs\"\n")
	out, err := g.run(script, "SRCDIR="+g.path("steps"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var names []string
	for line := range strings.Lines(g.read("steps/SHA256SUMS.pkgs")) {
		names = append(names, strings.Fields(line)[1])
	}
	if diff := cmp.Diff([]string{"database.tar.bz2", "make-3.82_0.tar.bz2"}, names); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// The scripts have nothing that shellcheck complains about; it knows kaem's commands for what a shell would call.
func TestShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: install shellcheck", err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	names, err := filepath.Glob("tree/steps/*/*.sh")
	if err != nil || len(names) < 4 {
		t.Fatalf("%d scripts, %v", len(names), err)
	}
	if out, err := exec.CommandContext(t.Context(), "shellcheck", names...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
