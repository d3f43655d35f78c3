// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kindling/internal/payload"
)

// TestDocs runs the shell examples of docs/payload.md, and reads what they make with the Go package.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/payload.md")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -eu\n"
	blocks := strings.Split(string(text), "```sh\n")[1:]
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		script += code
	}
	if len(blocks) != 3 {
		t.Fatalf("%d examples, want 3", len(blocks))
	}
	program := compilers()[0].build(t, "payload-import.c")
	dir := t.TempDir()
	if err := os.Symlink(program, filepath.Join(dir, "payload-import")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(filepath.Join(dir, "payload.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := payload.Verify(t.Context(), f, payload.VerifyOptions{}); err != nil || info.Files != 2 || info.ID == "" {
		t.Errorf("the container of the example: %+v, %v", info, err)
	}
}
