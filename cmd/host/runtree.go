// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"kindling"
	"kindling/host/assemble"
	"kindling/host/budget"
	"kindling/host/doctor"
	"kindling/host/machine"
	"kindling/host/options"
	"kindling/host/programs"
	"kindling/host/qemu"
	"kindling/host/report"
	"kindling/host/rundir"
	"kindling/host/tree"
	"kindling/host/usernet"
	"kindling/host/watch"
	"kindling/steps"
)

// prepareTree assembles the media of a tree and describes the machine that runs them.
func (r *run) prepareTree(ctx context.Context) (guest, error) {
	boot := options.Rootfs(r.cmd.Boot)
	boot.SerialConsole = true
	if err := boot.Validate(); err != nil {
		return guest{}, inputError(err)
	}
	if boot.BareMetal {
		return guest{}, usageError("--bare-metal: nothing runs here; 'kindling assemble' makes the images and says what to do with them")
	}
	if boot.Interactive && !boot.Qemu {
		return guest{}, usageError("--interactive goes with --qemu here: a chroot has no console of its own; 'kindling assemble' makes the root for your own")
	}
	if boot.Qemu {
		if err := checkLoopback(boot.Mirrors); err != nil {
			return guest{}, err
		}
	}
	if err := r.serveMirrors(ctx, &boot); err != nil {
		return guest{}, err
	}
	assembly, err := assemble.Plan(ctx, assemble.Options{
		Boot: boot, Payload: r.cmd.Media, Extra: r.cmd.Extra, Net: r.cmd.Net, Tree: r.cmd.Tree, Distfiles: r.cmd.Distfiles, Agent: r.agent,
		Importer: kindling.PayloadImportSource, DoneEvent: r.agent == "",
	})
	if err != nil {
		return guest{}, assembleError(ctx, err)
	}
	defer assembly.Close()
	for _, w := range slices.Concat(assembly.Warnings, tight(assembly.Budget)) {
		r.notes = append(r.notes, w)
		r.say("warning: " + w)
	}
	dir := r.dir.At(rundir.Disks)
	if boot.Target != "" && boot.Target != "target" {
		dir = boot.Target
	}
	result, err := assembly.Write(ctx, dir, assembleProgress(r.streams))
	if err != nil {
		return guest{}, assembleError(ctx, err)
	}
	if err := r.recordPlan(assembly.Plan, assembly.Extra); err != nil {
		return guest{}, err
	}
	g, err := r.treeMachine(ctx, boot, assembly, result)
	if err != nil {
		return guest{}, err
	}
	g.watch = treeWatch(g.accel, assembly.Budget)
	g.budgets = reportBudgets(assembly.Budget)
	for _, i := range result.Images {
		medium := report.Medium{Name: i.Name, Path: r.dir.Rel(i.Path), Size: i.Size}
		if a := assembly.Medium(i.Name); a != nil && a.Format == assemble.FormatPayload {
			if medium.SHA256, err = sumFile(ctx, i.Path); err != nil {
				return guest{}, assembleError(ctx, err)
			}
		}
		g.media = append(g.media, medium)
	}
	return g, nil
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
	source, folder, err := tree.FindFile(path)
	if err != nil {
		return "", err
	}
	defer folder.Close()
	return source.SHA256(ctx)
}

// serveMirrors has every file:// mirror served, and puts the URL by which the guest knows it in the mirror's place.
func (r *run) serveMirrors(ctx context.Context, boot *options.Rootfs) error {
	for i, m := range boot.Mirrors {
		dir, ok := strings.CutPrefix(m, "file://")
		if !ok {
			continue
		}
		url, err := r.serve(ctx, dir, boot.Qemu)
		if err != nil {
			return err
		}
		boot.Mirrors[i] = url
	}
	return nil
}

// forwards are the mirrors on the host's own loopback that the user has named: each of them, and nothing else there, is
// reached under the same port.
func forwards(mirrors []string) []usernet.Forward {
	var list []usernet.Forward
	for _, m := range mirrors {
		port, ok := loopbackPort(m)
		same := func(f usernet.Forward) bool { return f.Port == port }
		if ok && !slices.ContainsFunc(list, same) {
			list = append(list, usernet.Forward{Port: port, To: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)})
		}
	}
	return list
}

// loopbackPort is the port of a mirror on 127.0.0.1, the one name of this host that a guest's scripts know how to reach.
func loopbackPort(mirror string) (uint16, bool) {
	u, err := url.Parse(mirror)
	if err != nil || u.Hostname() != "127.0.0.1" {
		return 0, false
	}
	otherwise := "80"
	if u.Scheme == "https" {
		otherwise = "443"
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), otherwise), 10, 16)
	return uint16(port), err == nil && port > 0
}

// checkLoopback refuses mirrors that name this host in a way that means the guest itself inside the guest.
func checkLoopback(mirrors []string) error {
	for _, m := range mirrors {
		u, err := url.Parse(m)
		if err != nil || u.Scheme == "file" {
			continue
		}
		addr, err := netip.ParseAddr(u.Hostname())
		here := u.Hostname() == "localhost" || err == nil && (addr.IsLoopback() || addr.IsUnspecified())
		if _, ok := loopbackPort(m); here && !ok {
			return usageError("mirror %s: in the guest that is the guest itself: name it as 127.0.0.1 with a port", m)
		}
	}
	return nil
}

// needsOutside reports whether a step has to reach other machines: to download what no mirror of this host has to have,
// or because the tree's own script for the network insists on it.
func needsOutside(a *assemble.Assembly, boot options.Rootfs, agent bool) bool {
	local := len(boot.Mirrors) > 0 && !slices.ContainsFunc(boot.Mirrors, func(m string) bool {
		u, err := url.Parse(m)
		return err != nil || u.Hostname() != usernet.HostAddr.String() && u.Hostname() != "127.0.0.1"
	})
	scripted := !agent && slices.ContainsFunc(a.Plan.Steps, func(s steps.Step) bool { return s.Name == "get_network" })
	return downloads(a) && !local || scripted
}

// downloads reports whether steps download distfiles.
func downloads(a *assemble.Assembly) bool {
	return slices.ContainsFunc(a.Distfiles, func(d steps.Distfile) bool { return d.Medium == steps.MediumNetwork })
}

// treeMachine is the machine for the mode.
func (r *run) treeMachine(ctx context.Context, boot options.Rootfs, a *assemble.Assembly, result assemble.Result) (guest, error) {
	if boot.Chroot || boot.Bwrap {
		return r.rootMachine(ctx, boot, downloads(a), result.Dir)
	}
	m, err := r.facts(ctx)
	if err != nil {
		return guest{}, err
	}
	for _, medium := range a.Media {
		if medium.Format == assemble.FormatInitramfs || medium.Format == assemble.FormatFolder {
			continue
		}
		m.Disks = append(m.Disks, r.disk(raw(filepath.Join(result.Dir, medium.File)), medium.Format == assemble.FormatPayload))
	}
	if boot.Kernel != "" {
		m.Kernel = machine.Below(r.dir.Path(), boot.Kernel)
		m.Append, err = qemu.Cmdline{Root: "/dev/sda1", Args: []string{"console=ttyS0", "rootfstype=ext3", "init=/init", "rw"}}.Render()
		if err != nil {
			return guest{}, err
		}
	}
	r.outside = r.cmd.GuestNet == guestNetFull || needsOutside(a, boot, r.agent != "")
	return r.virtual(ctx, m, "")
}

// rootMachine is a chroot or bubblewrap in place of a machine.
func (r *run) rootMachine(ctx context.Context, boot options.Rootfs, downloads bool, root string) (guest, error) {
	first := filepath.Join("/bootstrap-seeds/POSIX", archDir(boot.Arch), "kaem-optional-seed")
	if boot.Chroot && os.Geteuid() != 0 {
		return guest{}, usageError("--chroot needs root: run kindling as root, or take --bwrap")
	}
	name, install := "chroot", "coreutils"
	if boot.Bwrap {
		name, install = "bwrap", "bubblewrap"
	}
	program, err := programs.Find(name)
	if err != nil {
		return guest{}, usageError("%s: install %s, or put it into PATH", err, install)
	}
	argv := []string{"env", "-i", "PATH=/bin", program, root, first}
	if boot.Bwrap {
		full := r.cmd.GuestNet == guestNetFull
		if downloads && !full {
			return guest{}, usageError("--bwrap without --external-sources downloads inside: add --guest-net full, which shares the host's network with the steps, its loopback included")
		}
		argv = bwrapArgv(program, root, first, full)
		if _, err := (doctor.System{}).Output(ctx, doctor.BwrapTrial(program)...); err != nil {
			return guest{}, usageError("--bwrap: %s; 'kindling doctor' says what helps, --chroot needs root instead", err)
		}
	}
	return guest{
		argv: argv, versions: map[string]string{},
		start: func(ctx context.Context) (*started, error) { return startRoot(ctx, argv, root) },
	}, nil
}

// archDir is stage0-posix's folder of an architecture.
func archDir(arch string) string {
	if arch == "amd64" {
		return "AMD64"
	}
	return arch
}

// bwrapArgv is bubblewrap's command line: root in namespaces of its own (users, processes, System V IPC, host name) without
// any capability, the devices that a build needs, a session without the user's terminal, and no network unless it is asked
// for. Called by root, bubblewrap would leave it all capabilities, and to the kernel root owns /proc/sys: so that is
// read-only.
func bwrapArgv(bwrap, root, first string, network bool) []string {
	argv := []string{"env", "-i", bwrap, "--unshare-user", "--uid", "0", "--gid", "0", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
		"--cap-drop", "ALL"}
	if !network {
		argv = append(argv, "--unshare-net")
	}
	argv = append(argv, "--new-session", "--die-with-parent", "--setenv", "PATH", "/usr/bin", "--bind", root, "/", "--dir", "/dev")
	for _, dev := range []string{"null", "zero", "random", "urandom", "ptmx", "tty"} {
		argv = append(argv, "--dev-bind", "/dev/"+dev, "/dev/"+dev)
	}
	return append(argv, "--tmpfs", "/dev/shm", "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys",
		"--ro-bind", "/sys", "/sys", "--tmpfs", "/tmp", first)
}

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
