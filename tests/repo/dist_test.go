// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// command runs a program and gives its standard output.
func command(t *testing.T, dir string, env []string, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	return string(out)
}

// release commits the source as it stands to a repository of its own, always the same commit, and makes a release of it.
func release(t *testing.T, from, name string, env ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), name)
	copySource(t, from, dir)
	const day = "2026-01-02T03:04:05Z"
	who := []string{"GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@localhost", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@localhost",
		"GIT_AUTHOR_DATE=" + day, "GIT_COMMITTER_DATE=" + day, "GIT_CONFIG_GLOBAL=/dev/null"}
	for _, args := range []string{"init -q", "add -A", "commit -q -m release"} {
		command(t, dir, who, append([]string{"git"}, strings.Fields(args)...)...)
	}
	command(t, dir, env, "bash", "-c", "umask 077; exec bash packaging/dist.sh dist")
	return filepath.Join(dir, "dist")
}

// files are all files of a folder with their sums.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]string)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		sums[e.Name()] = hex.EncodeToString(sum[:])
	}
	return sums
}

// maxAgent is how large the agent may be, in bytes: early media have to hold it.
const maxAgent = 5 << 20

// TestRelease makes two releases of one commit, in other places, time zones and languages, with nothing shared between
// them: the same bytes. What is in them is what they say, and the package works where it is unpacked.
func TestRelease(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dist := release(t, root, "one")
	first, second := files(t, dist), files(t, release(t, root, "another place", "TZ=Asia/Tokyo", "LANG=de_DE.UTF-8",
		"GOFLAGS=-v", "GOCACHE="+t.TempDir())) // from nothing, so that no cached object hides a path
	var names []string
	for name, sum := range first {
		names = append(names, name)
		if second[name] != sum {
			t.Errorf("%s differs between two releases", name)
		}
	}
	slices.Sort(names)
	const deb = "kindling_0~git20260102.030405."
	if len(second) != len(first) || len(names) != 6 || !strings.HasPrefix(names[5], deb) {
		t.Fatalf("files: %q", names)
	}
	command(t, dist, nil, "sha256sum", "--check", "--strict", "SHA256SUMS")
	for _, name := range names[1:5] { // all but SHA256SUMS and the package
		if name == "kindling.cdx.json" {
			checkMaterials(t, filepath.Join(dist, name), first)
			continue
		}
		if out := command(t, dist, nil, "go", "version", "-m", name); !strings.Contains(out, "CGO_ENABLED=0") {
			t.Errorf("%s: %s", name, out)
		}
		data, err := os.ReadFile(filepath.Join(dist, name))
		if err != nil || bytes.Contains(data, []byte(filepath.Dir(dist)+"/")) {
			t.Errorf("%s contains the path of its source: %v", name, err)
		}
		if name == "kindling-init-386" && len(data) > maxAgent {
			t.Errorf("%s has %d bytes, at most %d are allowed", name, len(data), maxAgent)
		}
		t.Logf("%s: %d bytes", name, len(data))
	}
	checkPackage(t, filepath.Join(dist, names[5]), first)
}

// checkMaterials holds the bill of materials against the programs.
func checkMaterials(t *testing.T, path string, sums map[string]string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat  string `json:"bomFormat"`
		Components []struct {
			Name   string
			Hashes []struct{ Content string }
		}
	}
	if err := json.Unmarshal(data, &bom); err != nil || bom.BOMFormat != "CycloneDX" {
		t.Fatalf("%v, format %q", err, bom.BOMFormat)
	}
	found := make(map[string]string)
	for _, c := range bom.Components {
		found[c.Name] = ""
		if len(c.Hashes) > 0 {
			found[c.Name] = c.Hashes[0].Content
		}
	}
	for _, name := range []string{"kindling", "kindling-init-386", "kindling-init-amd64"} {
		if found[name] != sums[name] {
			t.Errorf("%s: sum %q in the bill, %q is right", name, found[name], sums[name])
		}
	}
	for _, name := range []string{"std", "github.com/alecthomas/kong", "github.com/u-root/u-root"} {
		if _, ok := found[name]; !ok {
			t.Errorf("%s is not in the bill", name)
		}
	}
}

// checkPackage unpacks the package and uses what is in it.
func checkPackage(t *testing.T, deb string, sums map[string]string) {
	t.Helper()
	for line := range strings.Lines(command(t, ".", []string{"TZ=UTC"}, "dpkg-deb", "--contents", deb)) {
		if !strings.Contains(line, " root/root ") || !strings.Contains(line, " 2026-01-02 03:04 ") ||
			!strings.HasPrefix(line, "drwxr-xr-x") && !strings.HasPrefix(line, "-rw-r--r--") && !strings.HasPrefix(line, "-rwxr-xr-x") {
			t.Errorf("entry %s", line)
		}
	}
	if got := strings.TrimSpace(command(t, ".", nil, "dpkg-deb", "--field", deb, "Architecture")); got != "amd64" {
		t.Errorf("architecture %q", got)
	}
	dir := t.TempDir()
	command(t, ".", nil, "dpkg-deb", "--extract", deb, dir)
	for path, name := range map[string]string{"usr/bin/kindling": "kindling",
		"usr/lib/kindling/kindling-init-386": "kindling-init-386"} {
		if got := files(t, filepath.Dir(filepath.Join(dir, path)))[name]; got != sums[name] {
			t.Errorf("%s is another program than the one beside the package", path)
		}
	}
	program := filepath.Join(dir, "usr/bin/kindling")
	if got := command(t, dir, nil, program, "version"); !strings.Contains(got, " (2026-01-02T03:04:05Z) ") {
		t.Errorf("version: %s", got)
	}
	// It finds its agent where the package has it; without a QEMU of that name nothing is started.
	cmd := exec.CommandContext(t.Context(), program, "doctor", "--qemu-cmd", filepath.Join(dir, "no-qemu"))
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 3 ||
		!strings.Contains(string(out), "ok       the agent, PID 1 of the guest: "+dir+"/usr/lib/kindling/kindling-init-386\n") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	page := command(t, dir, nil, "gzip", "-dc", "usr/share/man/man1/kindling.1.gz")
	if !strings.Contains(page, ".Dd January 2, 2026\n") || !strings.Contains(page, ".It Nm Cm payload verify\n") {
		t.Errorf("manual page: %.300s", page)
	}
	for _, name := range []string{"bash-completion/completions/kindling", "zsh/vendor-completions/_kindling",
		"fish/vendor_completions.d/kindling.fish", "doc/kindling/copyright", "doc/kindling/docs/exit-status.md"} {
		if info, err := os.Stat(filepath.Join(dir, "usr/share", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
