// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package steps

import (
	"bytes"
	"io/fs"
	"strconv"
)

// File is a file for the guest.
type File struct {
	Path string // absolute in the guest, as in "/steps/0.sh"
	Mode fs.FileMode
	Data []byte
}

// scriptMode is what the C program's fopen gives its files under the usual umask.
const scriptMode fs.FileMode = 0o644

// ConfigPath is where bootstrap.cfg stands in the guest, for every root.
const ConfigPath = "/steps/bootstrap.cfg"

// Scripts writes what seed/script-generator.c writes, in the order in which it finishes them: the numbered scripts,
// /init.N or /kaem.run.N for each jump, /preseed-jump.kaem, and last bootstrap.cfg with the defines in it, byte for byte
// for the root "steps". env is the content of /steps/env, which is copied into kaem's scripts; bash's scripts source it.
//
// The scripts of another root ROOT are /ROOT/N.sh. They start in bash, in /ROOT, with bootstrap.cfg, env and helpers.sh
// of /steps (the one configuration that all roots share, so defines go there too), with SRCDIR=/ROOT, where the
// functions of helpers.sh then find packages, and with a package repository of their own, put into those functions in
// place of the main one; a jump writes /init.ROOT.N, so that it never meets one of the main root.
func (p *Plan) Scripts(env []byte) ([]File, error) {
	g := generator{plan: p, env: env}
	if p.Root == MainRoot {
		if err := checkEnv(env); err != nil {
			return nil, err
		}
		g.start(0, FamilyKaem)
	} else {
		g.start(0, FamilyBash)
	}
	for _, step := range p.Steps {
		g.step(step)
	}
	g.finish()
	g.files = append(g.files, File{Path: ConfigPath, Mode: scriptMode, Data: p.Config.Bytes()})
	return g.files, nil
}

// checkEnv rejects an env file that cannot be put in front of other lines, or that the C program reads in part.
func checkEnv(env []byte) error {
	const name = MainRoot + "/env"
	if len(env) > MaxFile {
		return parseErrorf(name, 0, "larger than %d bytes: this cannot be the right file", MaxFile)
	}
	if i := bytes.IndexByte(env, 0); i >= 0 {
		return parseErrorf(name, 1+bytes.Count(env[:i], []byte("\n")), "a zero byte: remove it")
	}
	if len(env) > 0 && env[len(env)-1] != '\n' {
		return parseErrorf(name, 1+bytes.Count(env, []byte("\n")),
			"the last line does not end in a newline: the generated script would go on in it")
	}
	return nil
}

// generator writes scripts one after the other.
type generator struct {
	plan  *Plan
	env   []byte
	files []File

	name string // the script being written
	out  bytes.Buffer
}

// The traps of interactive runs. The first bash cannot be trusted with ERR, and has no prompt of its own.
const (
	trapEarlyBash = `trap 'bash -c '"'"'while true; do printf "[TRAP - use Ctrl+D] $(pwd) # "; ` +
		`eval "$(cat)"; done'"'"'' EXIT` + "\n"
	trapBash = `trap 'env PS1="[TRAP] \w # " bash -i' ERR` + "\n"
)

// start begins the script with that number.
func (g *generator) start(number int, family Family) {
	g.name = g.scriptPath(number)
	g.out.Reset()
	if family == FamilyKaem {
		g.write("set -ex\n", "cd /", g.plan.Root, "\n")
		g.out.Write(g.plan.Config.Bytes())
		g.out.Write(g.env)
		return
	}
	g.write("#!/bin/bash\n")
	switch {
	case g.plan.Config.First(varInteractive) != valueTrue:
		g.write("set -e\n")
	case family == FamilyEarlyBash:
		g.write("set -e\n", trapEarlyBash)
	case g.plan.plainE:
		g.write("set -E\n", trapBash)
	default:
		g.write("set -eEo pipefail\n", trapBash)
	}
	g.write("cd /", g.plan.Root, "\n")
	if g.plan.Root == MainRoot {
		g.write(". ./bootstrap.cfg\n", ". ./env\n", ". ./helpers.sh\n")
		return
	}
	repo := "/" + Repo(g.plan.Root)
	g.write(". ", ConfigPath, "\n", ". /steps/env\n", "SRCDIR=/", g.plan.Root, "\n", "mkdir -p ", repo, "\n",
		"eval \"$(sed 's,/", Repo(MainRoot), ",", repo, ",g' /steps/helpers.sh)\"\n")
}

// step writes one step, and begins the next script where it ends one.
func (g *generator) step(s Step) {
	switch s.Kind {
	case KindBuild:
		g.build(s)
	case KindImprove:
		g.callScript(s.Family, "improve/"+s.Name, true)
	case KindJump:
		g.jump(s)
	case KindUninstall:
		g.write("uninstall ", s.arg(), "\n")
	}
}

func (g *generator) build(s Step) {
	pass := strconv.Itoa(s.Pass)
	if s.Family == FamilyKaem {
		g.write("pkg=", s.Name, "\n", "cd ${pkg}\n", "kaem --file pass", pass, ".kaem\n", "cd ..\n")
	} else {
		g.write("build ", s.Name, " pass", pass, ".sh\n")
	}
	if !startsShell(s) {
		return
	}
	next := s.Script + 1
	if s.Family == FamilyKaem {
		// An early preseed enters here: kaem hands over to the first bash.
		g.add("/preseed-jump.kaem", "set -ex\nPATH=/usr/bin\nbash "+g.scriptPath(next)+"\n")
	}
	family := nextFamily(s.Family)
	g.callScript(family, strconv.Itoa(next), false)
	g.finish()
	g.start(next, family)
}

// jump puts the call of the next script where the next kernel starts, then leaves this one.
func (g *generator) jump(s Step) {
	next := s.Script + 1
	if s.Family == FamilyKaem {
		run := "/kaem.run." + strconv.Itoa(next)
		g.write("cp ", run, " /kaem.run\n", "cp /usr/bin/kaem /init\n", "chmod 755 /init\n")
		g.callScript(s.Family, "jump/"+s.Name, true)
		g.finish()
		g.name = run
		g.write("set -ex\n")
	} else {
		init := "/init."
		if g.plan.Root != MainRoot {
			init += g.plan.Root + "."
		}
		init += strconv.Itoa(next)
		g.write("mv /init /init.bak\n", "cp ", init, " /init\n", "chmod 755 /init\n")
		g.callScript(s.Family, "jump/"+s.Name, true)
		g.finish()
		g.name = init
		g.write("#!/bin/bash\n")
	}
	g.callScript(s.Family, strconv.Itoa(next), false)
	g.finish()
	g.start(next, s.Family)
}

// callScript writes the call of a script below the root. Sourced scripts run in the same bash; kaem always starts anew.
func (g *generator) callScript(family Family, name string, source bool) {
	verb := "bash "
	switch {
	case family == FamilyKaem:
		verb = "kaem --file "
	case source:
		verb = ". "
	}
	g.write(verb, "/", g.plan.Root, "/", name, ".sh\n")
}

func (g *generator) scriptPath(number int) string {
	return "/" + g.plan.Root + "/" + strconv.Itoa(number) + ".sh"
}

func (g *generator) write(parts ...string) {
	for _, part := range parts {
		g.out.WriteString(part)
	}
}

// finish closes the file being written; what is written next belongs to another one.
func (g *generator) finish() {
	g.add(g.name, g.out.String())
	g.out.Reset()
}

func (g *generator) add(name, data string) {
	g.files = append(g.files, File{Path: name, Mode: scriptMode, Data: []byte(data)})
}
