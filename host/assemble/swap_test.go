// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"kindling/host/assemble"
	"kindling/host/options"
)

const secret = "a secret of the user\n"

// A file that is another one when it is copied is refused, in each format, and nothing of what it leads to gets onto a
// medium: not through a link, not through a pipe that never ends.
func TestSwappedSources(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	swaps := map[string]func(string) error{
		"a link": func(name string) error { return os.Symlink(outside, name) },
		"a pipe": func(name string) error { return syscall.Mkfifo(name, 0o600) },
	}
	formats := []string{"bootstrap-sources", "payload", "kernel-sources", "bwrap-sources"}
	for _, c := range modeCases(makeRepo(t)) {
		if !slices.Contains(formats, c.name) {
			continue
		}
		for how, swap := range swaps {
			for _, victim := range []string{"tree/steps/late-1.0/files/text", "tree/distfiles/extra", "repo/package", "agent", "lfs/text"} {
				s := makeTree(t, t.TempDir(), usualShape())
				top := filepath.Dir(s.tree)
				for name, text := range map[string]string{victim: secret, "lfs/manifest": "improve: x\n", "lfs/improve/x.sh": ":\n", "repo/other": "x"} {
					put(t, filepath.Join(top, name), text) // of the secret's size, in the same second
				}
				o := c.smallDisks().options(t, s)
				o.Boot.Repo = filepath.Join(top, "repo")
				o.Extra.ExtraRoot, o.Extra.ExtraBuild = []string{filepath.Join(top, "lfs")}, []string{"lfs"}
				if victim == "agent" && o.Agent != "" {
					o.Agent = filepath.Join(top, "agent")
				}
				a, err := assemble.Plan(t.Context(), o)
				if err != nil {
					t.Fatalf("%s, %s: %v", c.name, victim, err)
				}
				name := filepath.Join(top, victim)
				if !carries(a, filepath.Base(name)) && (victim != "agent" || !carries(a, "kindling-init")) {
					continue
				}
				if err := errors.Join(os.Remove(name), swap(name)); err != nil {
					t.Fatal(err)
				}
				refusedSoon(t, c.name+", "+victim+" is "+how, a)
			}
		}
	}
}

func refusedSoon(t *testing.T, what string, a *assemble.Assembly) {
	t.Helper()
	out, ended := filepath.Join(t.TempDir(), "out"), make(chan error)
	go func() {
		_, err := a.Write(t.Context(), out, nil)
		ended <- errors.Join(err, a.Close())
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Errorf("%s: written", what)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: still waiting", what)
	}
	err := filepath.WalkDir(filepath.Dir(out), func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s: the secret is in %s", what, name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Planning never waits for a pipe, wherever it is, and takes nothing from outside of a folder.
func TestOddInputs(t *testing.T) {
	all := bare(func(o *options.Rootfs) { o.ExternalSources = true })
	c := modeCase{boot: all, payload: options.Payload{Payload: "auto", PayloadStage: "auto"}, agent: true}
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, secret)
	for how, create := range map[string]func(string) error{
		"a pipe":            func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"a link to outside": func(name string) error { return os.Symlink(outside, name) },
	} {
		for _, victim := range []string{
			"tree/steps/manifest", "tree/steps/bash-2.05b/sources", "tree/steps/jump/fiwix.sh", "tree/steps/helpers.sh",
			"tree/steps/kexec-fiwix-1.0/src/kexec-fiwix.c", "tree/seed/seed.kaem",
			"tree/builder-hex0/builder-hex0-x86-stage1.hex0", "tree/builder-hex0/README.md", "tree/distfiles/fiwix-1.0.tar.gz",
			"agent",
		} {
			s := makeTree(t, t.TempDir(), usualShape())
			o := c.options(t, s)
			name := filepath.Join(filepath.Dir(s.tree), victim)
			if victim == "agent" {
				if o.Agent = name; how != "a pipe" {
					continue // the user has named that link
				}
			}
			_ = os.Remove(name)
			if err := create(name); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() {
				a, err := assemble.Plan(t.Context(), o)
				if err == nil {
					err = a.Close()
					t.Errorf("%s is %s: planned", victim, how)
				}
				ended <- err
			}()
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s is %s: still waiting", victim, how)
			}
		}
	}
}
