// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// StepScript is a bash script that runs one step alone, as the generated script that holds it would: the same files are
// sourced first, and all that packages export is exported inside functions, so one process for each step is the same as
// one for all. What it leaves out is the interactive trap, which is the caller's business, and what a jump or a new
// bash does to start the next script. A step in kaem is an error: kaem's own scripts run those.
//
// Each of lines, in shell syntax, stands behind what bootstrap.cfg says and before what is made of it.
func (p *Plan) StepScript(s Step, lines ...string) ([]byte, error) {
	if s.Family == FamilyKaem {
		return nil, fmt.Errorf("%s: it runs in kaem, not in a bash of its own", s)
	}
	g := generator{plan: &Plan{Root: p.Root, Config: &Config{}}}
	g.start(s.Script, s.Family)
	switch s.Kind {
	case KindBuild:
		g.write("build ", s.Name, " pass", strconv.Itoa(s.Pass), ".sh\n")
	case KindImprove, KindJump:
		g.callScript(s.Family, string(s.Kind)+"/"+s.Name, true)
	case KindUninstall:
		g.write("uninstall ", s.arg(), "\n")
	}
	const config = "bootstrap.cfg\n"
	script := g.out.String()
	for _, line := range slices.Backward(lines) {
		script = strings.Replace(script, config, config+line+"\n", 1)
	}
	return []byte(script), nil
}
