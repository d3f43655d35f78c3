// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"kindling/steps"
)

// Payload is what Kindling adds to rootfs.py's options: whether and how distfiles travel in a payload image, and whether
// the guest keeps what it builds before its package repository. Embed it in a kong command beside Rootfs.
type Payload struct {
	Payload      string `help:"Take distfiles along in a payload image (auto: with --external-sources, if the kernels are bootstrapped)." enum:"auto,on,off" default:"auto"`
	PayloadStage string `help:"Import it under Fiwix (fiwix), on Linux (linux), or in two parts (auto)."                                                  enum:"auto,fiwix,linux" default:"auto"`
	BaseTarball  string `help:"Keep what is built before the package repository in base.tar.bz2 (auto: where there is room)."                              enum:"auto,on,off"      default:"auto"`
}

// Values of Payload.BaseTarball, besides "auto".
const (
	BaseTarballOn  = "on"
	BaseTarballOff = "off"
)

// Check reports a payload where there can be none.
func (p *Payload) Check(r *Rootfs) error {
	if p.Payload == "on" && !r.KernelBootstrap() {
		return errors.New("--payload=on: a payload needs a kernel bootstrap (--qemu or --bare-metal, without --kernel)")
	}
	return nil
}

// Wanted reports whether there will be a payload image. Left to itself, it is there when all sources are taken along in
// a kernel bootstrap.
func (p *Payload) Wanted(r *Rootfs) bool {
	switch p.Payload {
	case "on":
		return r.KernelBootstrap()
	case "off":
		return false
	default:
		return r.KernelBootstrap() && r.ExternalSources
	}
}

// Media is what the plan has to know to place distfiles.
func (p *Payload) Media(r *Rootfs) steps.MediaOptions {
	stage := steps.PayloadStage(p.PayloadStage)
	return steps.MediaOptions{ExternalSources: r.ExternalSources, Payload: p.Wanted(r), PayloadStage: stage}
}

// Config is bootstrap.cfg with a payload taken into account: Rootfs.Config and, if there is a payload,
// PAYLOAD_REQUIRED=True, and DISK=sda unless --repo makes a second disk with a filesystem, because a payload is nothing
// to move onto. AddPayload adds what is known only when the image has been made.
func (p *Payload) Config(r *Rootfs) *steps.Config {
	c := r.Config()
	if !p.Wanted(r) {
		return c
	}
	if r.Repo == "" && !r.NoCreateConfig {
		c.Set("DISK", "sda")
	}
	c.Set(steps.VarPayloadRequired, "True")
	return c
}

// AddPayload adds what the importers check: the number of files of the early part, and the payload's identity, the
// sha256 of its SHA256SUMS in lower-case hex.
func AddPayload(c *steps.Config, early int, id string) error {
	if early < 0 || len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("payload %q with %d early files: not a payload", id, early)
	}
	c.Set("PAYLOAD_EARLY_COUNT", strconv.Itoa(early))
	c.Set("PAYLOAD_ID", id)
	return nil
}
