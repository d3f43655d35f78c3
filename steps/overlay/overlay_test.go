// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package overlay_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling"
	"kindling/steps"
	"kindling/steps/overlay"
)

const (
	manifest = "# A comment.\nbuild: tcc-0.9.27\njump: fiwix ( KERNEL_BOOTSTRAP == True )\nbuild: make-1.0\n" +
		"jump: linux ( CHROOT == False )\njump: move_disk ( KERNEL_BOOTSTRAP == True )\nimprove: after\n"
	fiwix = "#!/bin/sh\nif match x${BARE_METAL} xTrue; then\n" +
		"    kexec-fiwix -c \"fiwix root=/dev/ram0 kexec_size=195 kexec_cmdline=\\\"init=/init consoleblank=0\\\"\"\n" +
		"else\n    kexec-fiwix -c \"fiwix kexec_size=195 kexec_cmdline=\\\"init=/init console=ttyS0\\\" x=y\"\nfi\n"
	linux = "#!/bin/bash\nkexec -l k --append=\"root=/dev/sda1 rootwait\"\nkexec -l k --append=\"console=ttyS0\"\n"
	move  = "#!/bin/sh\nmkfs.ext4 \"/dev/${DISK}1\"\nDISK=\"${DISK}1\"\nmount \"/dev/${DISK}\" /newroot\n"
	menu  = "m /general _ _ _ General\nLong.\n\no /general/disk DISK \"\" _ Disk\nWhere to.\n"
)

func tree() fstest.MapFS {
	return fstest.MapFS{
		"steps/manifest":          {Data: []byte(manifest)},
		"steps/jump/fiwix.sh":     {Data: []byte(fiwix)},
		"steps/jump/linux.sh":     {Data: []byte(linux)},
		"steps/jump/move_disk.sh": {Data: []byte(move)},
		"steps/configurator":      {Data: []byte(menu)},

		"steps/improve/setup_repo.sh":       {Data: []byte("#!/bin/sh\nmkdir -p /external/repo\n")},
		"steps/improve/update_checksums.sh": {Data: []byte("cd /external/repo\n")},
	}
}

func keys() []overlay.Key {
	return []overlay.Key{
		{Name: "PAYLOAD_REQUIRED", Value: "True", Type: "bool", Short: "One"},
		{Name: "PAYLOAD_ID", Value: strings.Repeat("0f", 32), Type: `""`, Short: "Two"},
	}
}

func apply(t *testing.T, in overlay.Input) map[string]string {
	t.Helper()
	result, err := overlay.Apply(in)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range result.Files {
		if _, twice := files[f.Path]; twice {
			t.Errorf("%s is there twice", f.Path)
		}
		if f.Exec != bytes.HasPrefix(f.Data, []byte("#!")) {
			t.Errorf("%s: executable %t", f.Path, f.Exec)
		}
		files[f.Path] = string(f.Data)
	}
	return files
}

// What is laid over depends on what is asked for, and on nothing else.
func TestParts(t *testing.T) {
	const (
		own, wrapper = "steps/jump/linux-tree.sh", "steps/jump/linux.sh"
		script       = "steps/jump/fiwix.sh"
		done         = "steps/after/999999999-kindling-done.sh"
		options      = "steps/configurator"
		guard, moved = "steps/jump/move_disk.sh", "steps/jump/move_disk-tree.sh"
	)
	importer := []string{
		options, "steps/improve/import_payload.sh", "steps/improve/import_payload_rest.sh",
		"steps/manifest", "steps/payload-import-1.0/pass1.kaem", "steps/payload-import-1.0/payload-import-1.0.checksums",
		"steps/payload-import-1.0/src/payload-import.c",
	}
	const repo, sums = "steps/improve/setup_repo", "steps/improve/update_checksums"
	base := []string{repo + ".sh", repo + "-tree.sh", sums + ".sh", sums + "-tree.sh"}
	for _, tt := range []struct {
		name string
		in   overlay.Input
		want []string
	}{
		{"base tarball", overlay.Input{BaseTarball: true}, append([]string{own, wrapper}, base...)},
		{"base tarball and agent", overlay.Input{BaseTarball: true, Agent: true}, append([]string{own, wrapper}, base...)},
		{"nothing", overlay.Input{}, nil},
		{"panic alone", overlay.Input{Panic: 10}, nil},
		{"agent", overlay.Input{Agent: true}, []string{own, wrapper}},
		{"agent with panic", overlay.Input{Agent: true, Panic: 10}, []string{own, wrapper, script}},
		{"done", overlay.Input{DoneEvent: true}, []string{done, guard, moved}},
		{"payload", overlay.Input{Payload: true, Keys: keys()}, append([]string{own, wrapper, guard, moved}, importer...)},
		{"all", overlay.Input{Payload: true, Keys: keys(), Agent: true, DoneEvent: true, Panic: 1},
			append([]string{own, wrapper, script, done}, importer...)},
	} {
		tt.in.Tree = tree()
		var got []string
		for name := range apply(t, tt.in) {
			got = append(got, name)
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestManifest(t *testing.T) {
	want := "# A comment.\nbuild: tcc-0.9.27\nbuild: payload-import-1.0 ( PAYLOAD_REQUIRED == True )\n" +
		"jump: fiwix ( KERNEL_BOOTSTRAP == True )\nimprove: import_payload ( PAYLOAD_REQUIRED == True )\nbuild: make-1.0\n" +
		"jump: linux ( CHROOT == False )\njump: move_disk ( KERNEL_BOOTSTRAP == True )\n" +
		"improve: import_payload_rest ( PAYLOAD_REQUIRED == True )\nimprove: after\n"
	got, err := overlay.Manifest("m", []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	again, err := overlay.Manifest("m", got)
	if err != nil || string(again) != want {
		t.Errorf("a second time: %v\n%s", err, again)
	}
	if _, err := overlay.Manifest("m", []byte("fetch: x\n")); !errors.As(err, new(*steps.ParseError)) {
		t.Errorf("a broken manifest: %v", err)
	}
}

// With PAYLOAD_REQUIRED unset the manifest with its new lines plans what the tree's own plans.
func TestGated(t *testing.T) {
	changed := tree()
	text, err := overlay.Manifest("steps/manifest", []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	changed["steps/manifest"] = &fstest.MapFile{Data: text}
	cfg := &steps.Config{}
	cfg.Set("KERNEL_BOOTSTRAP", "True")
	cfg.Set("CHROOT", "False")
	scripts := func(fsys fs.FS, cfg *steps.Config) map[string]string {
		plan, err := steps.NewPlan(fsys, "steps", cfg)
		if err != nil {
			t.Fatal(err)
		}
		files, err := plan.Scripts(nil)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, f := range files {
			out[f.Path] = string(f.Data)
		}
		return out
	}
	if diff := cmp.Diff(scripts(tree(), cfg), scripts(changed, cfg)); diff != "" {
		t.Errorf("scripts without a payload (-tree +overlay):\n%s", diff)
	}
	cfg.Set("PAYLOAD_REQUIRED", "True")
	if cmp.Equal(scripts(tree(), cfg), scripts(changed, cfg)) {
		t.Error("PAYLOAD_REQUIRED changes nothing")
	}
}

func TestJumps(t *testing.T) {
	files := apply(t, overlay.Input{Tree: tree(), Agent: true})
	if files["steps/jump/linux-tree.sh"] != linux {
		t.Error("the tree's own jump to Linux is not what it was")
	}
	files = apply(t, overlay.Input{Tree: tree(), Agent: true, Panic: 7})
	want := "#!/bin/bash\nkexec -l k --append=\"root=/dev/sda1 rootwait panic=7\"\nkexec -l k --append=\"console=ttyS0 panic=7\"\n"
	if diff := cmp.Diff(want, files["steps/jump/linux-tree.sh"]); diff != "" {
		t.Errorf("jump/linux.sh (-want +got):\n%s", diff)
	}
	want = strings.ReplaceAll(strings.ReplaceAll(fiwix, "consoleblank=0\\\"", "consoleblank=0 panic=7\\\""),
		"console=ttyS0\\\"", "console=ttyS0 panic=7\\\"")
	if diff := cmp.Diff(want, files["steps/jump/fiwix.sh"]); diff != "" {
		t.Errorf("jump/fiwix.sh (-want +got):\n%s", diff)
	}
	lines := []string{
		`fiwix root=/dev/ram0 kexec_size=195 kexec_cmdline="init=/init consoleblank=0"`,
		`fiwix kexec_size=195 kexec_cmdline="init=/init console=ttyS0" x=y`,
	}
	if diff := cmp.Diff(lines, overlay.CommandLines([]byte(fiwix))); diff != "" {
		t.Errorf("command lines (-want +got):\n%s", diff)
	}
}

// The tree's move to disk gets the names of partitions right that it would get wrong, and is otherwise what it was.
func TestMoveDisk(t *testing.T) {
	in := overlay.Input{Tree: tree(), DoneEvent: true}
	want := strings.ReplaceAll(move, "${DISK}1", "${DISK}${KINDLING_P}1")
	if diff := cmp.Diff(want, apply(t, in)["steps/jump/move_disk-tree.sh"]); diff != "" {
		t.Errorf("jump/move_disk.sh (-want +got):\n%s", diff)
	}
	in.Tree.(fstest.MapFS)["steps/jump/move_disk.sh"] = &fstest.MapFile{Data: []byte("another way\n")}
	result, err := overlay.Apply(in)
	if err != nil || len(result.Warnings) != 1 {
		t.Errorf("no names of partitions: %q, %v", result.Warnings, err)
	}
	delete(in.Tree.(fstest.MapFS), "steps/jump/move_disk.sh")
	if _, there := apply(t, in)["steps/jump/move_disk.sh"]; there {
		t.Error("a tree that does not move gets a move")
	}
}

func TestCommandLineTooLong(t *testing.T) {
	line := func(n int) *fstest.MapFile { // with panic=10 and its NUL, n bytes
		head, tail := `fiwix `, ` kexec_cmdline=\"init=/init\"`
		fill := n - 1 - len(head+tail) + 2 - len(" panic=10")
		return &fstest.MapFile{Data: []byte(`kexec-fiwix -c "` + head + strings.Repeat("x", fill) + tail + "\"\n")}
	}
	in := overlay.Input{Tree: tree(), Agent: true, Panic: 10}
	in.Tree.(fstest.MapFS)["steps/jump/fiwix.sh"] = line(overlay.MaxCommandLine)
	if _, err := overlay.Apply(in); err != nil {
		t.Errorf("the longest command line: %v", err)
	}
	in.Tree.(fstest.MapFS)["steps/jump/fiwix.sh"] = line(overlay.MaxCommandLine + 1)
	if _, err := overlay.Apply(in); !errors.Is(err, overlay.ErrTree) || !strings.Contains(err.Error(), "257 bytes") {
		t.Errorf("one byte more: %v", err)
	}
	in.Tree.(fstest.MapFS)["steps/jump/fiwix.sh"] = &fstest.MapFile{Data: []byte("another way\n")}
	result, err := overlay.Apply(in)
	if err != nil || len(result.Warnings) != 1 {
		t.Errorf("no command line: %q, %v", result.Warnings, err)
	}
}

func TestConfigurator(t *testing.T) {
	want := menu + "\nm /kindling _ _ _ [INTERNAL] Kindling\n" +
		"What the tool that made these media has to tell the guest. Leave it as it is.\n" +
		"\no /kindling/payload_required PAYLOAD_REQUIRED bool True [INTERNAL] One\nSet by the host.\n" +
		"\no /kindling/payload_id PAYLOAD_ID \"\" " + strings.Repeat("0f", 32) + " [INTERNAL] Two\nSet by the host.\n"
	for _, end := range []string{"", "\n", "\n\n"} {
		in := overlay.Input{Tree: tree(), Keys: keys()}
		in.Tree.(fstest.MapFS)["steps/configurator"].Data = []byte(strings.TrimRight(menu, "\n") + end)
		if diff := cmp.Diff(want, apply(t, in)["steps/configurator"]); diff != "" {
			t.Errorf("configurator with the end %q (-want +got):\n%s", end, diff)
		}
	}
	for _, bad := range []string{"", "two words", "a\nb", strings.Repeat("x", 128)} {
		if _, err := overlay.Apply(overlay.Input{Tree: tree(), Keys: []overlay.Key{{Name: "X", Value: bad}}}); !errors.Is(err, overlay.ErrTree) {
			t.Errorf("value %q: %v", bad, err)
		}
	}
}

func TestIncompleteTree(t *testing.T) {
	for _, name := range []string{"steps/manifest", "steps/jump/linux.sh"} {
		in := overlay.Input{Tree: tree(), Payload: true}
		delete(in.Tree.(fstest.MapFS), name)
		if _, err := overlay.Apply(in); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	in := overlay.Input{Tree: tree(), Payload: true, Keys: keys(), Panic: 1}
	delete(in.Tree.(fstest.MapFS), "steps/configurator")
	delete(in.Tree.(fstest.MapFS), "steps/jump/fiwix.sh")
	if _, err := overlay.Apply(in); err != nil {
		t.Errorf("a tree without a configurator and without Fiwix: %v", err)
	}
}

// The sha256 of payload-import as the bootstrap builds it stands in the overlay, and only that compiler can make it. So
// the source that it was made of is pinned here. When the source has changed: build it as pass1.kaem does, with tcc
// 0.9.27 and meslibc of a live-bootstrap tree that has got to its jump to Fiwix (in a chroot it gets there in 40
// minutes), and put both sums in their places.
func TestImporterChecksum(t *testing.T) {
	const source = "4ec3b984bce952bb75f4c3a20c67ffcfcfb05702b45ef71e6c32a82396f64270"
	if got := fmt.Sprintf("%x", sha256.Sum256(kindling.PayloadImportSource)); got != source {
		t.Errorf("payload-import.c has sha256 %s, payload-import-1.0.checksums was made with %s", got, source)
	}
	sums, err := os.ReadFile("tree/steps/payload-import-1.0/payload-import-1.0.checksums")
	if err != nil {
		t.Fatal(err)
	}
	if sum, name, found := strings.Cut(string(sums), "  "); !found || len(sum) != 64 || name != "/usr/bin/payload-import\n" {
		t.Errorf("checksums: %q", sums)
	}
}

// The scripts of the tree stay as they are beside what wraps them.
func TestBaseTarball(t *testing.T) {
	from := tree()
	files := apply(t, overlay.Input{Tree: from, BaseTarball: true})
	for _, name := range []string{"steps/improve/setup_repo", "steps/improve/update_checksums", "steps/jump/linux"} {
		if diff := cmp.Diff(string(from[name+".sh"].Data), files[name+"-tree.sh"]); diff != "" {
			t.Errorf("%s-tree.sh (-want +got):\n%s", name, diff)
		}
		if !strings.Contains(files[name+".sh"], "\n. /"+name+"-tree.sh\n") {
			t.Errorf("%s.sh does not run the tree's own", name)
		}
	}

	delete(from, "steps/jump/linux.sh") // a tree for chroots
	delete(from, "steps/improve/update_checksums.sh")
	if files := apply(t, overlay.Input{Tree: from, BaseTarball: true}); len(files) != 2 {
		t.Errorf("%d files for a tree with neither jump nor checksums", len(files))
	}
	delete(from, "steps/improve/setup_repo.sh")
	if _, err := overlay.Apply(overlay.Input{Tree: from, BaseTarball: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tree without a package repository: %v", err)
	}
}

// A script that the tree lacks is missing, unless the overlay brings it whole.
func TestProvides(t *testing.T) {
	for _, tt := range []struct {
		kind steps.Kind
		name string
		want bool
	}{
		{steps.KindImprove, "import_payload", true}, {steps.KindBuild, "payload-import-1.0", true},
		{steps.KindImprove, "setup_repo", false}, {steps.KindJump, "linux", false}, {steps.KindImprove, "swap", false},
	} {
		if got := overlay.Provides(steps.Step{Kind: tt.kind, Name: tt.name}); got != tt.want {
			t.Errorf("%s: %s: %t, want %t", tt.kind, tt.name, got, tt.want)
		}
	}
}
