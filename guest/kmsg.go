// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kindling/internal/event"
)

const (
	kmsgRecord = 8 << 10 // bytes; the kernel's own limit is CONSOLE_EXT_LOG_MAX, the same
	maxKills   = 10      // that are said of one step; more are counted
)

// kill is a process that the kernel has killed because memory ran out.
type kill struct {
	pid  int
	name string // its own choice, cleaned
}

// parseKmsg reads one record of /dev/kmsg ("PRIORITY,SEQUENCE,TIME,FLAGS;TEXT\n CONTINUATION...", see
// Documentation/ABI/testing/dev-kmsg) and finds what mm/oom_kill.c says of a kill: "Out of memory: Kill process PID
// (NAME) score ..." up to 5.0, "Out of memory: Killed process PID (NAME) ..." since, with "Memory cgroup out of memory"
// in the same place. Only the kernel can write with its facility, 0: what programs write there is taken for theirs.
func parseKmsg(record string) (kill, bool) {
	head, text, ok := strings.Cut(record, ";")
	if !ok {
		return kill{}, false
	}
	priority, _, _ := strings.Cut(head, ",")
	if n, err := strconv.ParseUint(priority, 10, 32); err != nil || n>>3 != 0 {
		return kill{}, false
	}
	text, _, _ = strings.Cut(text, "\n")
	_, rest, ok := strings.Cut(text, "ut of memory: Kill")
	if !ok || !strings.HasPrefix(text, "Out of") && !strings.HasPrefix(text, "Memory cgroup o") {
		return kill{}, false
	}
	rest = strings.TrimPrefix(rest, "ed")
	number, rest, ok := strings.Cut(strings.TrimPrefix(rest, " process "), " (")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil || pid <= 0 {
		return kill{}, false
	}
	const commLen = 15 // TASK_COMM_LEN without its NUL
	if end := strings.LastIndexByte(rest[:min(len(rest), 4*commLen+1)], ')'); end >= 0 {
		rest = rest[:end]
	}
	return kill{pid, event.Clean(rest[:min(len(rest), 4*commLen)])}, true // a byte that is not printable is \xNN there
}

// kills is what is known of the kills during the present step.
type kills struct {
	mu    sync.Mutex
	step  string
	count int
	last  kill
}

// begin names the step that runs from now on, "" for none.
func (k *kills) begin(step string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.step, k.count = step, 0
}

// add notes a kill and gives the line to say, "" when enough has been said.
func (k *kills) add(killed kill) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count++
	k.last = killed
	if k.count > maxKills {
		return ""
	}
	during := ""
	if k.step != "" {
		during = " during " + k.step
	}
	return fmt.Sprintf("memory has run out%s: the kernel killed process %d (%s)", during, killed.pid, killed.name)
}

// explain is what a step that has failed should be told of, nil if there is nothing.
func (k *kills) explain() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch k.count {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("the kernel killed %s (process %d) because memory ran out", k.last.name, k.last.pid)
	}
	return fmt.Errorf("the kernel killed %d processes because memory ran out, %s (process %d) last", k.count, k.last.name, k.last.pid)
}

// watchKernel follows the kernel's messages from now on. A kernel without /dev/kmsg is one that nobody hears.
func (a *agent) watchKernel() error {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return errors.Join(err, f.Close())
	}
	a.spawn("kernel messages", func() { a.readKernel(f) })
	return nil
}

// readKernel reads records; each read gives one. EPIPE says that some were overwritten before they could be read.
func (a *agent) readKernel(r io.Reader) {
	buf := make([]byte, kmsgRecord)
	for {
		n, err := r.Read(buf)
		if killed, ok := parseKmsg(string(buf[:max(n, 0)])); ok {
			if line := a.kills.add(killed); line != "" {
				a.note("%s", line)
			}
		}
		if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.EINVAL) {
			return
		}
	}
}
