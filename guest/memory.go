// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	// jobKiB is what one job of a build is taken to need, in KiB: a compiler of C++ in the middle of a large file.
	jobKiB = 256 << 10
	// stallPercent of the last minute in which some process waited for memory is too much.
	stallPercent = 20
)

// memory is how much of it there is.
type memory struct {
	availableKiB uint64  // what programs can have without swapping (MemAvailable)
	swapFreeKiB  uint64  // of the swap areas in use
	stalled      float64 // percent of the last minute in which some process waited for memory; 0 where the kernel does not say
}

// readMemory asks the kernel: /proc/meminfo, and from 4.20 on /proc/pressure/memory, if it was built with that.
func readMemory() (memory, bool) {
	var m memory
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return m, false
	}
	defer f.Close()
	known := m.parse(f)
	if text, err := os.ReadFile("/proc/pressure/memory"); err == nil {
		m.stalled = someStalled(string(text))
	}
	return m, known
}

// parse reads the format of /proc/meminfo ("MemAvailable:   123 kB") and reports whether it says what is available.
func (m *memory) parse(r io.Reader) (known bool) {
	in := bufio.NewScanner(r)
	for in.Scan() {
		fields := strings.Fields(in.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 50)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemAvailable:":
			m.availableKiB, known = n, true
		case "SwapFree:":
			m.swapFreeKiB = n
		}
	}
	return known
}

// someStalled reads the format of /proc/pressure/memory: "some avg10=0.00 avg60=1.23 avg300=0.00 total=1\nfull ...".
func someStalled(text string) float64 {
	line, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(line, "some ") {
		return 0
	}
	for _, field := range strings.Fields(line) {
		if value, ok := strings.CutPrefix(field, "avg60="); ok {
			if percent, err := strconv.ParseFloat(value, 64); err == nil && percent >= 0 && percent <= 100 {
				return percent
			}
		}
	}
	return 0
}

// jobsFor is how many jobs a step may have: as configured, but no more than there is memory for, half of the free swap
// counted in, and no more than half of them while processes wait for memory anyway. One job is always allowed.
func jobsFor(configured int, m memory) int {
	jobs := min(uint64(max(configured, 1)), (m.availableKiB+m.swapFreeKiB/2)/jobKiB)
	if m.stalled >= stallPercent {
		jobs = min(jobs, uint64(configured/2))
	}
	return int(max(jobs, 1))
}

// assignments says which variables of bootstrap.cfg are different for this step alone: JOBS, when memory is low.
func (j *job) assignments() []string {
	configured, err := strconv.Atoi(j.config.Get("JOBS"))
	if err != nil || configured < 2 {
		return nil
	}
	m, known := readMemory()
	if !known {
		return nil
	}
	a, jobs := j.agent, jobsFor(configured, m)
	if said := a.jobs; jobs != said && (jobs != configured || said != 0) {
		state := "memory is low"
		if jobs > said && said != 0 {
			state = "there is more memory again"
		}
		a.note("%s (%d MiB available, %d MiB of swap free, %.0f %% of the time stalled): JOBS=%d of %d", state,
			m.availableKiB>>10, m.swapFreeKiB>>10, m.stalled, jobs, configured)
	}
	if jobs == configured {
		a.jobs = 0
		return nil
	}
	a.jobs = jobs
	return []string{"JOBS=" + strconv.Itoa(jobs)}
}
