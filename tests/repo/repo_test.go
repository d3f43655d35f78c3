// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package repo checks promises about the project as a whole: what the programs are made of, and that making a release
// twice gives the same bytes.
package repo

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goCommand runs the go command in dir.
func goCommand(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func agentEnv() []string {
	return []string{"GOOS=linux", "GOARCH=386", "GO386=softfloat", "CGO_ENABLED=0"}
}

// The libraries do the work that they are there for, and nothing heavy or foreign slips into either program.
func TestDependencies(t *testing.T) {
	const uroot = "github.com/u-root/u-root/pkg/"
	for _, tt := range []struct {
		program string
		env     []string
		must    []string
		mustNot []string // packages, with everything below them
	}{
		{
			program: "kindling/cmd/init", env: agentEnv(),
			must: []string{
				uroot + "mount", uroot + "mount/block", "github.com/vishvananda/netlink",
				"github.com/insomniacslk/dhcp/dhcpv4/nclient4", "golang.org/x/sys/unix",
				"kindling/steps", "kindling/netcfg", "kindling/internal/payload", "kindling/internal/event",
			},
			mustNot: []string{"net/http", "crypto/tls", "regexp", "text/template", "encoding/xml", uroot + "kmodule",
				"github.com/klauspost", "github.com/ulikunitz", "C", "runtime/cgo", "testing", "embed", "kindling/host",
				"github.com/alecthomas/kong", "github.com/vbauerster/mpb", uroot + "libinit", uroot + "dhclient"},
		},
		{
			program: "kindling/cmd/host", env: []string{"CGO_ENABLED=0"},
			must: []string{uroot + "cpio", "kindling/steps", "kindling/internal/payload", "kindling/internal/event",
				"github.com/alecthomas/kong", "github.com/vbauerster/mpb/v8", "github.com/google/renameio/v2"},
			mustNot: []string{"kindling/guest", "kindling/netcfg", "C", "runtime/cgo", "testing", "github.com/insomniacslk/dhcp/dhcpv4/nclient4"},
		},
	} {
		deps := strings.Fields(goCommand(t, ".", tt.env, "list", "-deps", tt.program))
		for _, p := range tt.must {
			if !slices.Contains(deps, p) {
				t.Errorf("%s does not use %s", tt.program, p)
			}
		}
		for _, p := range tt.mustNot {
			if i := slices.IndexFunc(deps, func(d string) bool { return d == p || strings.HasPrefix(d, p+"/") }); i >= 0 {
				t.Errorf("%s contains %s", tt.program, deps[i])
			}
		}
	}
}

// copySource copies what git tracks, and what it does not know yet and does not ignore.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = from
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
