// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"kindling"
	"kindling/host/assemble"
	"kindling/host/budget"
	"kindling/host/doctor"
	"kindling/host/options"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/watch"
	"kindling/internal/payload"
)

// prepareTree assembles the media of a tree and describes the machine that runs them.
func (r *run) prepareTree(ctx context.Context) (machine, error) {
	boot := options.Rootfs(r.cmd.Boot)
	boot.SerialConsole = true
	if err := boot.Validate(); err != nil {
		return machine{}, usageError("%s", err)
	}
	if boot.BareMetal {
		return machine{}, usageError("--bare-metal: nothing runs here; 'kindling assemble' makes the images and says what to do with them")
	}
	if boot.Interactive && !boot.Qemu {
		return machine{}, usageError("--interactive goes with --qemu here: a chroot has no console of its own; 'kindling assemble' makes the root for your own")
	}
	if err := r.serveMirrors(ctx, &boot); err != nil {
		return machine{}, err
	}
	assembly, err := assemble.Plan(ctx, assemble.Options{
		Boot: boot, Payload: r.cmd.Media, Extra: r.cmd.Extra, Net: r.cmd.Net, Tree: r.cmd.Tree, Distfiles: r.cmd.Distfiles, Agent: r.agent,
		Importer: kindling.PayloadImportSource, DoneEvent: r.agent == "",
	})
	if err != nil {
		return machine{}, assembleError(ctx, err)
	}
	for _, w := range slices.Concat(assembly.Warnings, tight(assembly.Budget)) {
		r.notes = append(r.notes, w)
		r.say("warning: " + w)
	}
	dir := r.dir.Disks()
	if boot.Target != "" && boot.Target != "target" {
		dir = boot.Target
	}
	result, err := assembly.Write(ctx, dir, assembleProgress(r.streams))
	if err != nil {
		return machine{}, assembleError(ctx, err)
	}
	if err := r.recordPlan(assembly.Plan, assembly.Extra); err != nil {
		return machine{}, err
	}
	m, err := r.treeMachine(ctx, boot, assembly, result)
	if err != nil {
		return machine{}, err
	}
	m.watch = treeWatch(m.accel, assembly.Budget)
	m.budgets = reportBudgets(assembly.Budget)
	for _, i := range result.Images {
		medium := report.Medium{Name: i.Name, Path: r.dir.Rel(i.Path), Size: i.Size}
		if a := assembly.Medium(i.Name); a != nil && a.Format == assemble.FormatPayload {
			if medium.SHA256, err = sumFile(ctx, i.Path); err != nil {
				return machine{}, assembleError(ctx, err)
			}
		}
		m.media = append(m.media, medium)
	}
	return m, nil
}

// reportBudgets are the limits as the report has them.
func reportBudgets(r *budget.Report) []report.Budget {
	if r == nil {
		return nil
	}
	var out []report.Budget
	for _, row := range r.Rows {
		out = append(out, report.Budget{ID: row.ID, Kernel: row.Kernel, What: row.What, Unit: row.Unit, Limit: row.Limit,
			Used: row.Used, Certainty: string(row.Certainty), Verdict: string(row.Verdict)})
	}
	return out
}

// sumFile is the sha256 of a file that the guest only reads.
func sumFile(ctx context.Context, path string) (string, error) {
	entry, err := payload.SumFile(ctx, filepath.Base(path), path)
	return entry.SHA256, err
}

// serveMirrors starts a server for every file:// mirror and puts its address in the mirror's place: the guest knows how
// to reach the host's loopback.
func (r *run) serveMirrors(ctx context.Context, boot *options.Rootfs) error {
	for i, m := range boot.Mirrors {
		dir, ok := strings.CutPrefix(m, "file://")
		if !ok {
			continue
		}
		server, err := r.serve(ctx, dir)
		if err != nil {
			return usageError("mirror %s: %s", m, err)
		}
		boot.Mirrors[i] = server.URL()
	}
	return nil
}

// treeMachine is the machine for the mode.
func (r *run) treeMachine(ctx context.Context, boot options.Rootfs, a *assemble.Assembly, result assemble.Result) (machine, error) {
	if boot.Chroot || boot.Bwrap {
		return r.rootMachine(ctx, boot, result.Dir)
	}
	accel, err := r.accel(ctx)
	if err != nil {
		return machine{}, err
	}
	o := qemu.Options{
		Binary: boot.QemuCmd, MemoryMiB: int(boot.QemuRAM), Cores: int(boot.Cores), Accel: accel, CPU: r.cmd.CPU,
		NIC: &qemu.NIC{Model: "e1000"}, Machine: machineType + ",graphics=off", // so that the BIOS prints to the serial port
	}
	if accel == qemu.AccelKVM && boot.Kernel == "" {
		o.Machine += ",kernel-irqchip=split" // builder-hex0 and Fiwix want the old interrupt controllers in QEMU itself
	}
	for _, medium := range a.Media {
		if medium.Format == assemble.FormatInitramfs || medium.Format == assemble.FormatFolder {
			continue
		}
		o.Drives = append(o.Drives, qemu.Drive{Path: filepath.Join(result.Dir, medium.File), Format: qemu.FormatRaw,
			Interface: qemu.InterfaceIDE, Snapshot: medium.Format == assemble.FormatPayload})
	}
	if boot.Kernel != "" {
		o.Kernel = boot.Kernel
		o.Append, err = qemu.Cmdline{Root: "/dev/sda1", Args: []string{"console=ttyS0", "rootfstype=ext3", "init=/init", "rw"}}.Render()
		if err != nil {
			return machine{}, err
		}
	}
	return r.virtual(ctx, o)
}

// rootMachine is a chroot or bubblewrap in place of a machine.
func (r *run) rootMachine(ctx context.Context, boot options.Rootfs, root string) (machine, error) {
	first := filepath.Join("/bootstrap-seeds/POSIX", archDir(boot.Arch), "kaem-optional-seed")
	if boot.Chroot && os.Geteuid() != 0 {
		return machine{}, usageError("--chroot needs root: run kindling as root, or take --bwrap")
	}
	name, install := "chroot", "coreutils"
	if boot.Bwrap {
		name, install = "bwrap", "bubblewrap"
	}
	program, err := exec.LookPath(name)
	if err != nil {
		return machine{}, usageError("%s: install %s, or put it into PATH", err, install)
	}
	argv := []string{"env", "-i", "PATH=/bin", program, root, first}
	if boot.Bwrap {
		argv = bwrapArgv(program, root, first, boot.ExternalSources)
		if _, err := (doctor.System{}).Output(ctx, doctor.BwrapTrial(program)...); err != nil {
			return machine{}, usageError("--bwrap: %s; 'kindling doctor' says what mends it, --chroot needs root instead", err)
		}
	}
	return machine{
		argv: argv, versions: map[string]string{},
		start: func(ctx context.Context, log *os.File) (watch.Process, error) {
			return startRoot(ctx, argv, root, r.dir, log)
		},
	}, nil
}

// archDir is stage0-posix's folder of an architecture.
func archDir(arch string) string {
	if arch == "amd64" {
		return "AMD64"
	}
	return arch
}

// bwrapArgv is bubblewrap's command line: root in a user namespace, the devices that a build needs, no network when
// every source is there.
func bwrapArgv(bwrap, root, first string, offline bool) []string {
	argv := []string{"env", "-i", bwrap, "--unshare-user", "--uid", "0", "--gid", "0"}
	if offline {
		argv = append(argv, "--unshare-net")
	}
	argv = append(argv, "--die-with-parent", "--setenv", "PATH", "/usr/bin", "--bind", root, "/", "--dir", "/dev")
	for _, dev := range []string{"null", "zero", "random", "urandom", "ptmx", "tty"} {
		argv = append(argv, "--dev-bind", "/dev/"+dev, "/dev/"+dev)
	}
	return append(argv, "--tmpfs", "/dev/shm", "--proc", "/proc", "--bind", "/sys", "/sys", "--tmpfs", "/tmp", first)
}

// machineType is QEMU's machine: the one with the IDE disks that builder-hex0 and Fiwix can see.
const machineType = "pc"

// treeWatch are the options for watching a real bootstrap: patience with the kernels before Linux depends on what they
// have to load and to write. Without a budget none of them runs, but what runs on a Linux takes its time as well.
func treeWatch(accel qemu.Accel, budgets *budget.Report) watch.Options {
	if budgets == nil {
		return watch.HostedOptions(accel == qemu.AccelTCG)
	}
	facts := watch.TreeFacts{TCG: accel == qemu.AccelTCG}
	if len(budgets.Largest) > 0 {
		facts.LargestFile = budgets.Largest[0].Size
	}
	for _, row := range budgets.Rows {
		if row.ID == "fiwix.ramdisk" {
			facts.Ramdisk = row.Limit
		}
	}
	return watch.TreeOptions(facts)
}
