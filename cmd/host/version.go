// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

// versionCmd prints what the Go toolchain recorded in the binary; nothing is set at link time, so that the same source
// gives the same bytes.
type versionCmd struct{}

// Help implements kong.HelpProvider.
func (versionCmd) Help() string {
	return examples(
		"kindling version", "one line: version, commit, its date, Go",
	)
}

// Run prints one line.
func (versionCmd) Run(out io.Writer) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	if _, err := fmt.Fprintln(out, "kindling", versionText(info)); err != nil {
		return fmt.Errorf("print version: %w", err)
	}
	return nil
}

// versionText is "v1.2.0 commit 0123456789ab (2026-01-02T03:04:05Z, modified) go1.26.0", as far as it is known.
func versionText(info *debug.BuildInfo) string {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	words := []string{"development"}
	// A pseudo-version is the commit once more.
	if v := info.Main.Version; v != "" && v != "(devel)" && !strings.HasPrefix(v, "v0.0.0-") {
		words[0] = v
	}
	if revision := settings["vcs.revision"]; revision != "" {
		detail := settings["vcs.time"]
		if settings["vcs.modified"] == "true" {
			detail = strings.TrimPrefix(detail+", modified", ", ")
		}
		const short = 12
		words = append(words, "commit", revision[:min(short, len(revision))], "("+detail+")")
	}
	if info.GoVersion != "" {
		words = append(words, info.GoVersion)
	}
	return strings.Join(words, " ")
}
