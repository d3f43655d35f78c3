// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"encoding/hex"
	"strings"
)

// Parameters of the kernel command line that are Kindling's own.
const (
	paramSeed    = "kindling.seed"    // hexadecimal bytes for the entropy pool
	paramMirrors = "kindling.mirrors" // comma-separated base URLs, before those of bootstrap.cfg
	paramResume  = "kindling.resume"  // go on with the unfinished run on a disk of this machine
	paramEvents  = "kindling.events"  // device name of the event port, "none" for no port
)

// maxSeed bounds the bytes taken from the seed parameter; the pool holds no more.
const maxSeed = 256

// cmdline is what the agent takes from the kernel command line.
type cmdline struct {
	seed    []byte
	mirrors []string
	events  string
	resume  bool
}

// parseCmdline reads /proc/cmdline. Unknown parameters are the kernel's or other programs' business; a malformed one of
// ours is ignored, because a machine must come up in any case.
func parseCmdline(text string) cmdline {
	c := cmdline{events: "ttyS1"}
	for _, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case paramSeed:
			if seed, err := hex.DecodeString(value); err == nil && len(seed) <= maxSeed {
				c.seed = seed
			}
		case paramMirrors:
			c.mirrors = nil
			for m := range strings.SplitSeq(value, ",") {
				if strings.HasPrefix(m, "http://") || strings.HasPrefix(m, "https://") {
					c.mirrors = append(c.mirrors, strings.TrimRight(m, "/"))
				}
			}
		case paramResume:
			c.resume = true
		case paramEvents:
			if value != "" && !strings.ContainsAny(value, "/.") {
				c.events = value
			}
		}
	}
	return c
}
