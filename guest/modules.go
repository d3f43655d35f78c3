// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"kindling/guest/kmod"
)

// modulesList names the kernel modules to load, one a line, in the format of modules-load.d(5). A kernel without
// modules, as the tree's own is, has no such file.
const modulesList = "/etc/modules-load.d/kindling.conf"

// loadModules loads what modulesList names. A module that cannot be loaded is said and passed over: what really needed
// it says so itself.
func loadModules(say func(string, ...any)) error {
	f, err := os.Open(modulesList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kernel modules: %w", err)
	}
	defer f.Close()
	names, err := parseModules(f)
	if err != nil {
		return fmt.Errorf("%s: %w", modulesList, err)
	}
	if len(names) == 0 {
		return nil
	}
	prober, err := kmod.NewProber()
	if err != nil {
		return fmt.Errorf("kernel modules: %w", err)
	}
	loaded := 0
	for _, name := range names {
		if err := prober.Probe(name); err != nil {
			say("kernel module %s: %v", name, err)
			continue
		}
		loaded++
	}
	say("%d kernel modules loaded", loaded)
	return nil
}

// parseModules reads names, one a line; empty lines and lines that start with # or ; are comments.
func parseModules(r io.Reader) ([]string, error) {
	var names []string
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if strings.ContainsAny(line, "/ \t") {
			return nil, fmt.Errorf("module name %q: want a bare name", line)
		}
		names = append(names, line)
	}
	return names, in.Err()
}
