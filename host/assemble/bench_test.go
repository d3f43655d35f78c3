// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"kindling/host/tree"
)

// envRuns is how often each program is run for one number of the benchmark; benchRuns if it is not set.
const (
	envRuns   = "KINDLING_BENCH_RUNS"
	benchRuns = 5
)

// maxMemory is what an assembly may have in memory at its peak, in KiB.
const maxMemory = 40 << 10

// measured is one run of a program.
type measured struct {
	wall   time.Duration
	memory int64 // peak of the program and of those that it started, in KiB
}

// BenchmarkRootfs runs the tree's own rootfs.py and kindling in turn, page cache warm, and gives medians. kindling checks
// the sha256 of every distfile in that time, as rootfs.py does. limit is the share of rootfs.py's time that it may take.
func BenchmarkRootfs(b *testing.B) {
	checkout, distfiles := os.Getenv(envTree), os.Getenv(envDistfiles)
	if checkout == "" || distfiles == "" {
		b.Skipf("%s or %s is not set: the first names a complete live-bootstrap checkout", envTree, envDistfiles)
	}
	work := b.TempDir()
	program, copied := filepath.Join(work, "kindling"), filepath.Join(work, "tree")
	run(b, "", "go", "build", "-o", program, "kindling/cmd/host")
	agent := filepath.Join(work, "agent")
	if err := os.WriteFile(agent, make([]byte, 5<<20), 0o755); err != nil {
		b.Fatal(err)
	}
	copyForBench(b, checkout, distfiles, copied)
	for _, mode := range []struct {
		name  string
		flags []string
		limit float64 // 0: none is promised
	}{
		{"a", []string{"--bare-metal"}, 0.35},
		{"b", []string{"--bare-metal", "--external-sources"}, 0.2},
		{"c", []string{"--bare-metal", "--kernel", os.DevNull}, 0.6},
		{"d", []string{"--bare-metal", "--kernel", os.DevNull, "--external-sources"}, 0},
	} {
		b.Run(mode.name, func(b *testing.B) {
			for b.Loop() {
				theirs, ours := measurePairs(b, work, copied, program, agent, mode.flags)
				report(b, theirs, ours, mode.limit)
			}
		})
	}
}

// measurePairs runs both in turn.
func measurePairs(b *testing.B, work, copied, program, agent string, flags []string) (theirs, ours []measured) {
	target, out := filepath.Join(work, "target"), filepath.Join(work, "out")
	for range runs(b) {
		clean(b, target, out)
		if slices.Contains(flags, "--kernel") { // rootfs.py copies into this folder, and does not make it
			if err := os.MkdirAll(filepath.Join(target, "disk"), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		args := append([]string{"./rootfs.py", "--target", target, "--mirrors", "http://127.0.0.1:9/none"}, flags...)
		theirs = append(theirs, measure(b, copied, "python3", args...))
		clean(b, target, out)
		args = append([]string{"assemble", "--tree", copied, "--out", out, "--mirrors", "http://127.0.0.1:9/none",
			"--agent", agent}, flags...)
		ours = append(ours, measure(b, "", program, args...))
	}
	clean(b, target, out)
	return theirs, ours
}

// clean removes what a run has made, and has the disk write what is left to write.
func clean(b *testing.B, dirs ...string) {
	b.Helper()
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	syscall.Sync()
}

// report gives medians, and fails where a promise is not held.
func report(b *testing.B, theirs, ours []measured, limit float64) {
	wall := func(m measured) float64 { return m.wall.Seconds() }
	memory := func(m measured) float64 { return float64(m.memory) }
	ratio := median(ours, wall) / median(theirs, wall)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(theirs, wall), "rootfs-s")
	b.ReportMetric(median(ours, wall), "kindling-s")
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(median(theirs, memory)/1024, "rootfs-MiB")
	b.ReportMetric(median(ours, memory)/1024, "kindling-MiB")
	b.Logf("rootfs.py %v, kindling %v", spread(theirs), spread(ours))
	if limit > 0 && ratio > limit {
		b.Errorf("%.2f of rootfs.py's time, %.2f are promised", ratio, limit)
	}
	if peak := median(ours, memory); peak > maxMemory {
		b.Errorf("%.0f KiB of memory, %d are promised", peak, maxMemory)
	}
}

func median(all []measured, of func(measured) float64) float64 {
	values := make([]float64, 0, len(all))
	for _, m := range all {
		values = append(values, of(m))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// spread is the shortest and the longest run.
func spread(all []measured) string {
	byWall := func(a, b measured) int { return int(a.wall - b.wall) }
	return fmt.Sprintf("%.2f to %.2f s", slices.MinFunc(all, byWall).wall.Seconds(), slices.MaxFunc(all, byWall).wall.Seconds())
}

func runs(b *testing.B) int {
	b.Helper()
	text := os.Getenv(envRuns)
	if text == "" {
		return benchRuns
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q: want a number of runs", envRuns, text)
	}
	return n
}

// measure runs a program to its end.
func measure(b *testing.B, dir, name string, args ...string) measured {
	b.Helper()
	began := time.Now()
	cmd := run(b, dir, name, args...)
	wall := time.Since(began)
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		b.Fatal("no resource usage here")
	}
	return measured{wall, usage.Maxrss}
}

func run(b *testing.B, dir, name string, args ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", name, err, out)
	}
	return cmd
}

// copyForBench copies a checkout, because rootfs.py writes into it.
func copyForBench(b *testing.B, checkout, distfiles, copied string) {
	b.Helper()
	if err := os.Mkdir(copied, 0o755); err != nil {
		b.Fatal(err)
	}
	names, err := os.ReadDir(checkout)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range names {
		if n.Name() != tree.Distfiles && n.Name() != ".git" {
			run(b, "", "cp", "-a", filepath.Join(checkout, n.Name()), copied)
		}
	}
	abs, err := filepath.Abs(distfiles)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.Symlink(abs, filepath.Join(copied, tree.Distfiles)); err != nil {
		b.Fatal(err)
	}
}
