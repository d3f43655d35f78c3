// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package options holds the command line that Kindling shares with live-bootstrap's rootfs.py: the same names, the same
// defaults, the same bootstrap.cfg out of it.
//
// Rootfs is a struct for kong to fill; checking it and turning it into a configuration is pure. The package never
// touches files, starts anything or asks the machine; it is called by the verbs of cmd/host. The two-letter options of
// rootfs.py (-bw, -qc, -qr, -qs, -qk) and its lists behind -m are no command line for kong: cmd/host rewrites them.
package options

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"kindling/steps"
)

// Rootfs is the argument list of rootfs.py (live-bootstrap 984b8322). Embed it in a kong command.
type Rootfs struct {
	Arch   string `help:"Architecture to bootstrap." short:"a" default:"x86"`
	Chroot bool   `help:"Run inside a chroot, as root on this host: it isolates nothing, so only for trees that are trusted."       short:"c"`
	Bwrap  bool   `help:"Run inside bubblewrap (-bw)."`

	Target    string `help:"Folder for everything that is made." short:"t" default:"target"`
	Tmpfs     bool   `help:"Mount a tmpfs on the target folder."`
	TmpfsSize string `help:"Size of that tmpfs."                    default:"8G"`

	Cores           Count `help:"Cores to build with."                          default:"2"`
	ForceTimestamps bool  `help:"Set the time of all files to 0 at the end."`
	UpdateChecksums bool  `help:"Write new checksums instead of comparing."`
	ExternalSources bool  `help:"Take all sources along; nothing is downloaded in the guest."`
	BuildKernels    bool  `help:"Build the kernels in a chroot or bubblewrap as well."`
	NoCreateConfig  bool  `help:"Leave bootstrap.cfg empty."`
	Interactive     bool  `help:"Prompt when something goes wrong, and at the end." short:"i"`
	Configurator    bool  `help:"Run the interactive configurator in the guest."`

	// SerialConsole says that the person at an interactive run in QEMU sits at the first serial port. The tree's own script
	// puts that person before a virtual screen, and the consoles of all kernels there (BARE_METAL).
	SerialConsole bool `kong:"-"`

	Mirrors []string `help:"Mirrors to download distfiles from." short:"m" sep:"none" placeholder:"URL"`

	Repo         string `help:"Folder of prebuilt packages."                     short:"r" placeholder:"DIR"`
	EarlyPreseed string `help:"Tarball that stands for the earliest stages."                placeholder:"TAR"`
	InternalCI   string `help:"Stage of the tree's own CI (internal)."                     placeholder:"STAGE" name:"internal-ci"`
	Swap         MiB    `help:"Swap space in Linux, as in 512M or 2G."           short:"s" default:"0"`

	Qemu       bool   `help:"Run in QEMU."                        short:"q"`
	QemuCmd    string `help:"QEMU program (-qc)."                 default:"qemu-system-x86_64"`
	QemuRAM    Count  `help:"Memory of the guest in MiB (-qr)."   default:"4096"  name:"qemu-ram"`
	TargetSize MiB    `help:"Size of the guest's disk (-qs)."     default:"16G"`
	Kernel     string `help:"Own kernel to begin with (-qk)."     placeholder:"FILE"`
	BareMetal  bool   `help:"Make images for a real machine."     short:"b"`
}

// architectures are those that stage0-posix has a folder for, under the names that rootfs.py knows them by.
func architectures() []string {
	return []string{"x86", "amd64", "AArch64", "armv7l", "riscv32", "riscv64"}
}

// Mode is where a bootstrap runs.
type Mode string

// The modes; exactly one has to be chosen.
const (
	ModeQemu      Mode = "qemu"
	ModeChroot    Mode = "chroot"
	ModeBwrap     Mode = "bwrap"
	ModeBareMetal Mode = "bare-metal"
)

// modes are those that are asked for.
func (r *Rootfs) modes() []Mode {
	var modes []Mode
	for _, m := range []struct {
		on   bool
		mode Mode
	}{
		{r.Qemu, ModeQemu}, {r.Chroot, ModeChroot}, {r.Bwrap, ModeBwrap}, {r.BareMetal, ModeBareMetal},
	} {
		if m.on {
			modes = append(modes, m.mode)
		}
	}
	return modes
}

// Mode is the chosen mode, or "" before Validate has found that there is exactly one.
func (r *Rootfs) Mode() Mode {
	if modes := r.modes(); len(modes) == 1 {
		return modes[0]
	}
	return ""
}

// KernelBootstrap reports whether the guest begins with builder-hex0 and builds its own kernels.
func (r *Rootfs) KernelBootstrap() bool { return (r.Qemu || r.BareMetal) && r.Kernel == "" }

// sized reports whether the disk that the system moves to is made here, with TargetSize, and is not a real one.
func (r *Rootfs) sized() bool { return r.Qemu || r.BareMetal && (r.Kernel != "" || r.Repo != "") }

// Validate reports the first thing that cannot be as it stands; kong calls it when it has filled the struct. That there
// is a mirror at all is RequireMirror's business, because a plan needs none.
func (r *Rootfs) Validate() error {
	modes := r.modes()
	switch {
	case len(modes) == 0:
		return errors.New("no mode: give one of --qemu, --bare-metal, --chroot, --bwrap")
	case len(modes) > 1:
		return fmt.Errorf("--%s and --%s exclude each other: give one of them", modes[0], modes[1])
	case r.Bwrap && r.Tmpfs:
		return errors.New("--tmpfs and --bwrap exclude each other: leave out --tmpfs")
	case r.Cores < 1:
		return fmt.Errorf("--cores %d: at least one core is needed", r.Cores)
	case r.Qemu && r.TargetSize < 1:
		return errors.New("--target-size: must be at least 1M")
	case r.sized() && r.Swap > 0 && r.Swap >= r.TargetSize:
		return fmt.Errorf("--swap %dM does not fit on a disk of --target-size %dM: give a smaller --swap or a larger --target-size",
			r.Swap, r.TargetSize)
	case r.Qemu && r.QemuRAM < 1:
		return errors.New("--qemu-ram: must be at least 1 (MiB)")
	case !isWord(r.Arch):
		return fmt.Errorf("--arch %q: must be a plain word such as x86", r.Arch)
	case !slices.Contains(architectures(), r.Arch):
		return fmt.Errorf("--arch %s: there is no seed for it: give one of %s", r.Arch, strings.Join(architectures(), ", "))
	case r.InternalCI != "" && !isWord(r.InternalCI):
		return fmt.Errorf("--internal-ci %q: must be a plain word such as pass1", r.InternalCI)
	}
	for _, mirror := range r.Mirrors {
		if err := checkMirror(mirror); err != nil {
			return err
		}
	}
	return nil
}

// RequireMirror reports that there is no mirror, where files may have to be downloaded.
func (r *Rootfs) RequireMirror() error {
	if len(r.Mirrors) == 0 {
		return errors.New("no mirror: give at least one with --mirrors URL")
	}
	return nil
}

// Warnings are options that are accepted, as rootfs.py does, and have no effect or none that is supported.
func (r *Rootfs) Warnings() []string {
	var warnings []string
	if r.Arch != "x86" {
		warnings = append(warnings, fmt.Sprintf("--arch %s: live-bootstrap supports x86 only so far", r.Arch))
	}
	if r.Kernel != "" && (r.Chroot || r.Bwrap) {
		warnings = append(warnings, "--kernel has no effect without --qemu or --bare-metal")
	}
	if r.Swap != 0 && (r.Chroot || r.Bwrap) {
		warnings = append(warnings, "--swap has no effect without --qemu or --bare-metal")
	}
	if r.NoCreateConfig {
		warnings = append(warnings, "--no-create-config: everything is planned with an empty bootstrap.cfg")
	}
	return warnings
}

// Config is bootstrap.cfg as rootfs.py writes it: names, order and values. Mirrors are written as they are; whoever
// serves a file:// mirror to the guest puts the address of that server into Mirrors first.
func (r *Rootfs) Config() *steps.Config {
	c := &steps.Config{}
	if r.NoCreateConfig {
		return c
	}
	c.Set("ARCH", r.Arch)
	c.Set("ARCH_DIR", archDir(r.Arch))
	c.Set("FORCE_TIMESTAMPS", pyBool(r.ForceTimestamps))
	c.Set("CHROOT", pyBool(r.Chroot || r.Bwrap))
	c.Set("UPDATE_CHECKSUMS", pyBool(r.UpdateChecksums))
	c.Set("JOBS", r.Cores.String())
	c.Set("SWAP_SIZE", r.swap().String())
	c.Set("FINAL_JOBS", r.Cores.String())
	c.Set("INTERNAL_CI", orFalse(r.InternalCI))
	c.Set("INTERACTIVE", pyBool(r.Interactive))
	c.Set("QEMU", pyBool(r.Qemu))
	c.Set("BARE_METAL", pyBool(r.BareMetal || (r.Qemu && r.Interactive && !r.SerialConsole)))
	c.Set("DISK", r.disk())
	c.Set("KERNEL_BOOTSTRAP", pyBool(r.KernelBootstrap()))
	c.Set("BUILD_KERNELS", pyBool(r.UpdateChecksums || r.BuildKernels))
	c.Set("CONFIGURATOR", pyBool(r.Configurator))
	if !r.ExternalSources {
		if len(r.Mirrors) > 0 {
			c.Set("MIRRORS", `"`+strings.Join(r.Mirrors, " ")+`"`)
		}
		c.Set("MIRRORS_LEN", fmt.Sprint(len(r.Mirrors)))
	}
	return c
}

// ConfigOf is c, which Config or Payload.Config has made, as the rootfs.py of that text writes it: without the variables
// that it does not write. QEMU came in October 2025, MIRRORS and MIRRORS_LEN are younger than release 1.0. No text changes
// nothing.
func ConfigOf(rootfs []byte, c *steps.Config) *steps.Config {
	for _, name := range []string{"QEMU", "MIRRORS", "MIRRORS_LEN"} {
		if len(rootfs) > 0 && !bytes.Contains(rootfs, []byte(name+"=")) {
			c.Unset(name)
		}
	}
	return c
}

// disk is the disk that the system moves to: the partition of a second disk that has a filesystem, all of the only
// disk, or the partition that an own kernel has its root on.
func (r *Rootfs) disk() string {
	switch {
	case !r.KernelBootstrap():
		return "sda1"
	case r.Repo != "" || r.ExternalSources:
		return "sdb1"
	default:
		return "sda"
	}
}

// swap is the swap space in MiB; a chroot has none.
func (r *Rootfs) swap() MiB {
	if r.Qemu || r.BareMetal {
		return r.Swap
	}
	return 0
}

// archDir is the folder of the architecture in stage0-posix.
func archDir(arch string) string {
	if arch == "amd64" {
		return "AMD64"
	}
	return arch
}

// pyBool writes a boolean as Python and the tree do.
func pyBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func orFalse(s string) string {
	if s == "" {
		return "False"
	}
	return s
}

// isWord reports whether s needs no quotes anywhere.
func isWord(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	return s != "" && strings.Trim(s, letters) == ""
}

// checkMirror admits what can stand between double quotes in bootstrap.cfg and in front of "/NAME".
func checkMirror(mirror string) error {
	for i := 0; i < len(mirror); i++ {
		if c := mirror[i]; c <= ' ' || c > '~' || strings.IndexByte("\\\"'`$", c) >= 0 {
			return fmt.Errorf("mirror %q: has a %q, which has no place in a URL: write it as %%%02X", mirror, c, c)
		}
	}
	u, err := url.Parse(mirror)
	if err != nil {
		return fmt.Errorf("mirror %q: no URL: %w", mirror, errors.Unwrap(err))
	}
	switch {
	case u.Scheme == "file" && (u.Host != "" || !strings.HasPrefix(u.Path, "/")):
		return fmt.Errorf("mirror %q: must be an absolute path: write file:///folder", mirror)
	case u.Scheme == "file":
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return fmt.Errorf("mirror %q: must be http://..., https://... or file:///folder", mirror)
	}
	return nil
}
