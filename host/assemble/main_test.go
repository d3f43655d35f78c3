// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"kindling/host/assemble"
	"kindling/host/options"
)

var update = flag.Bool("update", false, "write the golden files anew")

// small is the tree of testdata/tree.txtar on the host.
type small struct {
	tree, distfiles string
}

// shape is how a tree came to the host; nothing of it may show on a medium.
type shape struct {
	modes    os.FileMode // of files; folders get the execute bits as well
	when     time.Time
	reversed bool // written in the opposite order
	owner    int  // -1: whoever runs the test
}

func usualShape() shape { return shape{0o644, time.Unix(1.7e9, 0), false, -1} }

// makeTree writes the tree below dir.
func makeTree(t *testing.T, dir string, how shape) small {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/tree.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := archive.Files
	files = append(files, txtar.File{Name: "builder-hex0/builder-hex0-x86-stage1.hex0", Data: stage1Source()},
		txtar.File{Name: "lib/generator.py", Data: []byte("not for any medium\n")})
	digests := map[string]string{}
	for _, f := range files {
		digests[strings.TrimPrefix(f.Name, "distfiles/")] = fmt.Sprintf("%x", sha256.Sum256(f.Data))
	}
	if how.reversed {
		for i, j := 0, len(files)-1; i < j; i, j = i+1, j-1 {
			files[i], files[j] = files[j], files[i]
		}
	}
	placeholder := regexp.MustCompile(`sha256\(([^)]*)\)`)
	for _, f := range files {
		data := placeholder.ReplaceAllFunc(f.Data, func(m []byte) []byte {
			return []byte(digests[string(placeholder.FindSubmatch(m)[1])])
		})
		writeShaped(t, filepath.Join(dir, "tree", f.Name), data, how)
	}
	return small{filepath.Join(dir, "tree"), filepath.Join(dir, "tree", "distfiles")}
}

func writeShaped(t *testing.T, name string, data []byte, how shape) {
	t.Helper()
	mode := how.modes
	if strings.HasPrefix(string(data), "#!") || strings.HasSuffix(name, "kaem-optional-seed") {
		mode |= 0o100
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	if how.owner >= 0 {
		if err := os.Chown(name, how.owner, how.owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(name, how.when, how.when); err != nil {
		t.Fatal(err)
	}
}

// stage1Source is hex0 for a boot sector of 512 bytes.
func stage1Source() []byte {
	text := "# A boot sector that hangs.\nEB FE ; jump to itself\n"
	for range 508 / 4 {
		text += "00 00 0000\n"
	}
	return []byte(text + "55 aa\n")
}

// bare are the options of a bare-metal run with rootfs.py's defaults, changed by change.
func bare(change func(*options.Rootfs)) options.Rootfs {
	o := options.Rootfs{
		Arch: "x86", Target: "target", Cores: 2, QemuRAM: 4096, TargetSize: 16 << 10, BareMetal: true,
		Mirrors: []string{"http://mirror.invalid"},
	}
	if change != nil {
		change(&o)
	}
	return o
}

// modeCase is one way to assemble the small tree.
type modeCase struct {
	name    string
	boot    options.Rootfs
	payload options.Payload
	agent   bool
	done    bool
	initrd  bool
}

// modeCases are all of them.
func modeCases(repo string) []modeCase {
	none, auto := options.Payload{Payload: "off"}, options.Payload{Payload: "auto", PayloadStage: "auto"}
	qemu := func(o *options.Rootfs) { o.Qemu, o.BareMetal, o.TargetSize = true, false, 4 }
	all := func(o *options.Rootfs) { o.ExternalSources = true }
	return []modeCase{
		{name: "bootstrap", boot: bare(nil), payload: none},
		{name: "bootstrap-qemu-agent", boot: bare(qemu), payload: auto, agent: true},
		{name: "bootstrap-done", boot: bare(nil), payload: none, done: true},
		{name: "bootstrap-sources", boot: bare(all), payload: none},
		{name: "payload", boot: bare(all), payload: auto, agent: true},
		{name: "payload-qemu-off", boot: bare(func(o *options.Rootfs) { qemu(o); all(o) }), payload: auto},
		{name: "payload-fiwix", boot: bare(all), payload: options.Payload{Payload: "auto", PayloadStage: "fiwix"}, agent: true},
		{name: "payload-linux", boot: bare(all), payload: options.Payload{Payload: "auto", PayloadStage: "linux"}, agent: true},
		{name: "payload-some", boot: bare(nil), payload: options.Payload{Payload: "on", PayloadStage: "auto"}, agent: true},
		{name: "payload-base-tarball", boot: bare(all), payload: options.Payload{Payload: "on", BaseTarball: "on"}, agent: true},
		{name: "payload-repo", boot: bare(func(o *options.Rootfs) { all(o); o.Repo = repo }), payload: auto, agent: true},
		{name: "payload-no-config", payload: auto, boot: bare(func(o *options.Rootfs) { all(o); o.NoCreateConfig = true })},
		{name: "repo", boot: bare(func(o *options.Rootfs) { o.Repo = repo }), payload: none},
		{name: "kernel", boot: bare(func(o *options.Rootfs) { o.Kernel = os.DevNull }), payload: auto},
		{name: "kernel-sources", boot: bare(func(o *options.Rootfs) { all(o); o.Kernel = os.DevNull }), payload: auto,
			agent: true, initrd: true},
		{name: "chroot", boot: bare(func(o *options.Rootfs) { o.BareMetal, o.Chroot = false, true }), payload: auto, agent: true},
		{name: "chroot-done", boot: bare(func(o *options.Rootfs) { o.BareMetal, o.Chroot = false, true }), payload: auto, done: true},
		{name: "bwrap-sources", boot: bare(func(o *options.Rootfs) { o.BareMetal, o.Bwrap = false, true; all(o) }), payload: auto},
	}
}

// plan decides for a case.
func (c modeCase) plan(t *testing.T, s small) *assemble.Assembly {
	t.Helper()
	assembly, err := assemble.Plan(t.Context(), c.options(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return assembly
}

func (c modeCase) options(t *testing.T, s small) assemble.Options {
	t.Helper()
	o := assemble.Options{
		Boot: c.boot, Payload: c.payload, Tree: s.tree, Distfiles: s.distfiles, DoneEvent: c.done, Initramfs: c.initrd,
		Importer: []byte("int main(void) { return 0; }\n"),
	}
	if c.agent {
		o.Agent = filepath.Join(t.TempDir(), "agent")
		if err := os.WriteFile(o.Agent, []byte("the agent"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// golden compares text with a file of testdata, or writes that with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; 'go test -update' writes it anew):\n%s", file, diff)
	}
}
