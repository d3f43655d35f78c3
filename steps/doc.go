// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package steps is the brain that host and guest share: it reads what live-bootstrap says is to be done (manifest,
// bootstrap.cfg, sources) and turns it into a Plan, the ordered list of steps with the pass, the script family, the
// kernel and the distfiles of each.
//
// A Plan can write the scripts that the tree's own seed/script-generator.c writes (Plan.Scripts, byte for byte for the
// root "steps"), and it decides which distfile travels on which medium (Plan.Distfiles).
//
// The package is pure: an fs.FS or an io.Reader in, values out. It never writes, never looks at the machine it runs on
// and imports nothing of Kindling. Whatever the C program would misread or crash on is an error here that names file
// and line (ParseError). It is called by cmd/host and host (plan, scripts, media) and by guest (run, resume, report).
package steps
