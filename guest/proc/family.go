// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the walk to an ancestor: a listing that was read while processes came and went can have loops.
const maxDepth = 4096

// entry is what /proc tells of one process.
type entry struct {
	pid, ppid, pgrp, session int
	tty                      uint64 // device number of its controlling terminal, 0 for none
	ended                    bool   // a zombie, or on its way out
	kernel                   bool   // a thread of the kernel's
	start                    uint64 // clock ticks since the kernel started
}

// errStat is a /proc/PID/stat that is none.
var errStat = errors.New("malformed /proc/PID/stat")

// parseStat reads the format of /proc/PID/stat (proc(5)): "PID (NAME) STATE PPID PGRP SESSION ...", the start time being
// field 22. NAME is the process's own choice, so the fields are counted from the last parenthesis on.
func parseStat(text string) (entry, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return entry{}, errStat
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text[:open]))
	fields := strings.Fields(text[end+1:])
	const flags, start = 9 - 3, 22 - 3
	if err != nil || len(fields) <= start {
		return entry{}, errStat
	}
	e := entry{pid: pid, ended: fields[0] == "Z" || fields[0] == "X"}
	for i, to := range []*int{&e.ppid, &e.pgrp, &e.session} {
		if *to, err = strconv.Atoi(fields[i+1]); err != nil {
			return entry{}, errStat
		}
	}
	// The device number is printed as a signed int, in the kernel's own encoding (new_encode_dev).
	tty, err := strconv.ParseInt(fields[7-3], 10, 64)
	if err != nil {
		return entry{}, errStat
	}
	e.tty = uint64(uint32(tty))
	bits, err := strconv.ParseUint(fields[flags], 10, 64)
	if err != nil {
		return entry{}, errStat
	}
	const pfKthread = 0x00200000 // include/linux/sched.h
	e.kernel = bits&pfKthread != 0
	if e.start, err = strconv.ParseUint(fields[start], 10, 64); err != nil {
		return entry{}, errStat
	}
	return e, nil
}

// readStat reads that of one process.
func readStat(pid int) (entry, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return entry{}, err
	}
	return parseStat(string(data))
}

// listProcesses lists the processes of the machine. One that ends meanwhile is left out.
func listProcesses() ([]entry, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list /proc: %w", err)
	}
	var all []entry
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if e, err := readStat(pid); err == nil {
			all = append(all, e)
		}
	}
	return all, nil
}

// Living counts the machine's processes that have not ended, besides this one and the kernel's own threads. It takes what
// it cannot count for nobody.
func Living() int {
	all, err := listProcesses()
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range all {
		if !e.ended && !e.kernel && e.pid != os.Getpid() {
			n++
		}
	}
	return n
}

// Controls reports whether a terminal is some living process's controlling one. dev is its device number as stat(2) has it.
func Controls(dev uint64) bool {
	all, err := listProcesses()
	if err != nil {
		return false
	}
	major, minor := uint64(unix.Major(dev)), uint64(unix.Minor(dev))
	number := minor&0xff | major<<8 | minor&^0xff<<12
	for _, e := range all {
		if e.tty == number && !e.ended {
			return true
		}
	}
	return false
}

// family picks from all the living processes those that leader has brought into the world: its process group, its
// descendants, and, because a process whose parent has ended is the reaper's child, every orphan that has started since,
// with its descendants. Orphans of what else the reaper has started (others, by process ID, each with the session that
// it may lead) are not told apart by their parents; they are by their session.
func family(all []entry, leader entry, reaper int, others map[int]bool) []int {
	byPID := make(map[int]entry, len(all))
	for _, e := range all {
		byPID[e.pid] = e
	}
	var members []int
	for _, e := range all {
		if !e.ended && e.pid != reaper && descends(e, byPID, leader, reaper, others) {
			members = append(members, e.pid)
		}
	}
	return members
}

// descends walks from e towards the reaper, and decides at the first process that is known.
func descends(e entry, byPID map[int]entry, leader entry, reaper int, others map[int]bool) bool {
	for range maxDepth {
		switch {
		case others[e.pid], others[e.session], others[e.pgrp]:
			return false
		case e.pid == leader.pid, e.pgrp == leader.pid, e.session == leader.pid:
			return e.start >= leader.start
		case e.start < leader.start:
			return false
		case e.ppid == reaper:
			return true
		}
		parent, ok := byPID[e.ppid]
		if !ok { // its parent ended while the list was read: the next look will know
			return false
		}
		e = parent
	}
	return false
}

// kin lists the living family of a process.
func (r *Reaper) kin(p *Process) ([]int, error) {
	all, err := listProcesses()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	others := make(map[int]bool, len(r.waiting))
	for pid := range r.waiting {
		others[pid] = pid != p.pid
	}
	r.mu.Unlock()
	return family(all, entry{pid: p.pid, start: p.start}, os.Getpid(), others), nil
}

// signalKin sends a signal to the whole family, in whatever groups and sessions they are, and reports how many it has.
func (r *Reaper) signalKin(p *Process, sig syscall.Signal) (int, error) {
	pids, err := r.kin(p)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return len(pids), fmt.Errorf("signal %d to process %d: %w", int(sig), pid, err)
		}
	}
	return len(pids), nil
}
