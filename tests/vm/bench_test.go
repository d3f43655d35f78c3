// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package vm

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kindling"
	"kindling/host/debian"
	hostdemo "kindling/host/demo"
	"kindling/host/initramfs"
	"kindling/steps"
)

// What the agent may cost. Times are ratios to the same in bash in the same run: TCG's own scatter by half.
const (
	maxAgentBytes = 5 << 20
	maxRSS        = 12 << 10 // KiB
	maxStartRatio = 1.0
	maxStepRatio  = 1.5

	startRounds = 7   // boots of each kind by the clock
	countRounds = 3   // and with their instructions counted
	stepRounds  = 8   // of bash and agent in turn, in one boot
	roundSteps  = 250 // on a disk: 2,000 in all; a fifth of that in memory
)

// BenchmarkAgentSize is the size of the 386 agent.
func BenchmarkAgentSize(b *testing.B) {
	info, err := os.Stat(filepath.Join(bin, "kindling-init-386"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.ReportMetric(float64(info.Size()), "bytes")
	}
	b.ReportMetric(0, "ns/op")
	if info.Size() > maxAgentBytes {
		b.Errorf("%d bytes, %d are promised", info.Size(), maxAgentBytes)
	}
}

// BenchmarkFirstStep is the time from the start of PID 1 to the first line of the first step: that of the agent, without
// modules to load, against that of a bash script that makes the same mounts and runs the same step. Boots alternate.
//
// Under TCG on a machine that has other work to do, times scatter by more than what is to be seen. So both are told also
// in instructions: with -icount the guest's clock counts those, 8 ns each, and each boot gives nearly the same number.
// The promise is held against that one. Modules, link and DHCP are in one boot of their own, which also gives the memory
// that the agent has in use.
func BenchmarkFirstStep(b *testing.B) {
	g := newBenchGuest(b)
	for b.Loop() {
		b.ReportMetric(0, "ns/op")
		g.firstSteps(b, "time", startRounds)
		ratio := g.firstSteps(b, "counted", countRounds, counted()...)
		if ratio > maxStartRatio {
			b.Errorf("the first step begins after %.2f of bash's instructions, %.2f is promised", ratio, maxStartRatio)
		}
		g.full(b)
	}
}

// firstSteps boots agent and bash in turn, and gives the ratio of the medians.
func (g *benchGuest) firstSteps(b *testing.B, name string, n int, args ...string) float64 {
	b.Helper()
	var agent, bash, rss []float64
	for range fromEnv(b, "KINDLING_BENCH_RUNS", n) {
		c := g.boot(b, startFiles("improve: first\n"), args...)
		agent = append(agent, c.between(b, "Run /init", "bench: first"))
		rss = append(rss, c.number(b, "rss"))
		c = g.boot(b, g.bashInit(b), args...)
		bash = append(bash, c.between(b, "Run /init", "bench: first"))
	}
	b.ReportMetric(middle(agent), name+"-agent-s")
	b.ReportMetric(middle(bash), name+"-bash-s")
	b.ReportMetric(middle(agent)/middle(bash), name+"-ratio")
	b.ReportMetric(middle(rss), name+"-rss-KiB")
	b.Logf("%s: agent %s s, bash %s s, agent's memory %s KiB", name, spread(agent), spread(bash), spread(rss))
	return middle(agent) / middle(bash)
}

// fromEnv is a number from the environment, n if it is not set: on a loaded machine one wants less.
func fromEnv(b *testing.B, name string, n int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// full is a boot with modules and network.
func (g *benchGuest) full(b *testing.B) {
	b.Helper()
	files := startFiles("improve: before\nimprove: get_network\nimprove: first\n")
	delete(files, g.modules.LoadPath())
	files["steps/improve/before.sh"] = "echo 'bench: before' > /dev/kmsg\n"
	c := g.boot(b, files, "-nic", "user,model=e1000")
	b.ReportMetric(c.between(b, "Run /init", "bench: before"), "with-modules-s")
	b.ReportMetric(c.between(b, "bench: before", "bench: first"), "network-s")
	rss := c.number(b, "rss")
	b.ReportMetric(rss, "rss-network-KiB")
	if rss > maxRSS {
		b.Errorf("%.0f KiB of memory after modules and DHCP, %d are promised", rss, maxRSS)
	}
}

// BenchmarkSteps is what a step costs that does nothing: 2,000 of the agent's on a disk against as many bash processes
// of a loop in bash, with the same three files sourced and the same syncs. Both take turns in one boot; a second one
// counts their instructions, as BenchmarkFirstStep does. The numbers of a loop without syncs, and of all in memory, are
// for comparison.
func BenchmarkSteps(b *testing.B) {
	g := newBenchGuest(b)
	n := fromEnv(b, "KINDLING_BENCH_STEPS", roundSteps)
	for b.Loop() {
		b.ReportMetric(0, "ns/op")
		g.manySteps(b, "time", n)
		g.manySteps(b, "counted", max(1, n/5), counted()...)
	}
}

// manySteps is one boot with rounds of n steps on the disk, and a fifth of that in memory.
func (g *benchGuest) manySteps(b *testing.B, name string, n int, args ...string) {
	b.Helper()
	disk := filepath.Join(b.TempDir(), "disk.img")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, hostdemo.TargetSize)); err != nil {
		b.Fatal(err)
	}
	fewer := max(1, n/5)
	c := g.boot(b, g.stepFiles(b, fewer, n), append(args, "-drive", "if=ide,format=raw,file="+disk)...)
	for where, count := range map[string]int{"memory": fewer, "disk": n} {
		ms := func(what string, steps int) []float64 {
			all := c.durations(b, where+"-"+what)
			for i := range all {
				all[i] *= 1000 / float64(steps)
			}
			return all
		}
		agent, loop, bare := ms("agent", count+1), ms("loop", count), ms("bare", count) // a mark is a step as well
		ratio := middle(agent) / middle(loop)
		b.ReportMetric(middle(agent), name+"-"+where+"-agent-ms")
		b.ReportMetric(middle(loop), name+"-"+where+"-loop-ms")
		b.ReportMetric(middle(bare), name+"-"+where+"-unsynced-ms")
		b.ReportMetric(ratio, name+"-"+where+"-ratio")
		b.Logf("%s, %s, %d rounds of %d steps: ms a step: agent %s, loop %s, loop without syncs %s", name, where, stepRounds, count,
			spread(agent), spread(loop), spread(bare))
		if where == "disk" && ratio > maxStepRatio {
			b.Errorf("%s: a step costs %.2f of a loop's, %.2f is promised", name, ratio, maxStepRatio)
		}
	}
}

// counted makes the guest's clock count instructions of its one processor, 8 ns each.
func counted() []string { return []string{"-icount", "shift=3,sleep=off", "-smp", "1"} }

// benchGuest is the embedded default's machine, to be booted with other steps.
type benchGuest struct {
	media   hostdemo.Media
	modules debian.ModuleSet
	dir     string
}

func newBenchGuest(b *testing.B) *benchGuest {
	b.Helper()
	needs(b, "qemu-system-x86_64", "depmod", "dpkg-deb", "apt-get")
	g := &benchGuest{dir: b.TempDir()}
	var err error
	if g.media, err = hostdemo.Assemble(b.Context(), hostdemo.Options{
		Dir: g.dir, Cache: packages(b), KernelArch: "i386", Importer: kindling.PayloadImportSource, Cores: runtime.NumCPU(),
		Agent: filepath.Join(bin, "kindling-init-386"),
	}); err != nil {
		b.Fatal(err)
	}
	g.modules, err = g.media.Kernel.Modules(debian.DefaultModules())
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// The first step tells that it runs, and how much memory PID 1 has in use, and ends the machine.
const firstStep = `echo 'bench: first' > /dev/kmsg
while read -r name value _; do [ "${name}" != VmRSS: ] || echo "bench: rss=${value}" > /dev/kmsg; done < /proc/1/status
echo o > /proc/sysrq-trigger
while :; do sleep 1; done
`

// startFiles are those of a boot whose plan is the lines given; it loads no modules.
func startFiles(lines string) map[string]string {
	return map[string]string{
		"steps/manifest":                         "build: bash-debian\nbuild: bash-debian\njump: linux\n" + lines,
		"steps/improve/first.sh":                 firstStep,
		debian.ModuleSet{Release: ""}.LoadPath(): "",
	}
}

// bashInit is an init in bash that makes the mounts that the agent makes (mountSpecs of package guest) and runs the step.
func (g *benchGuest) bashInit(b *testing.B) map[string]string {
	b.Helper()
	files := startFiles("improve: first\n")
	files["usr/bin/mount"] = early(b)
	files["step.sh"] = g.script(b, "first")
	files["init"] = `#!/bin/bash
export PATH=/usr/bin:/usr/sbin
mkdir -p /proc /sys /dev /tmp
mount proc /proc
mount sysfs /sys
mount devtmpfs /dev mode=0755
mkdir -p /dev/pts /dev/shm
mount devpts /dev/pts mode=0620,ptmxmode=0666
mount tmpfs /dev/shm mode=1777
mount tmpfs /tmp mode=1777
exec < /dev/console > /dev/console 2>&1
bash /step.sh
`
	return files
}

// script is what the agent runs for an improvement of that name.
func (g *benchGuest) script(b *testing.B, name string) string {
	b.Helper()
	for _, s := range g.media.Plan.Steps {
		if s.Kind == steps.KindImprove && s.Kernel == steps.KernelDisk {
			s.Name = name
			text, err := g.media.Plan.StepScript(s)
			if err != nil {
				b.Fatal(err)
			}
			return string(text)
		}
	}
	b.Fatal("the embedded default has no improvement on the disk")
	return ""
}

// stepFiles are those of a boot with rounds of steps, in memory and then on the disk.
func (g *benchGuest) stepFiles(b *testing.B, inMemory, onDisk int) map[string]string {
	b.Helper()
	round := func(where string, n int) string {
		return "improve: " + where + "-loops\nimprove: " + where + "-begin\n" + strings.Repeat("improve: nothing\n", n) + "improve: " + where + "-end\n"
	}
	files := startFiles(strings.Repeat(round("memory", inMemory), stepRounds) + "jump: move_disk\n" +
		strings.Repeat(round("disk", onDisk), stepRounds) + "improve: first\n")
	delete(files, g.modules.LoadPath())
	files["steps/improve/nothing.sh"] = ":\n"
	files["reference/nothing.sh"] = g.script(b, "nothing")
	for where, n := range map[string]int{"memory": inMemory, "disk": onDisk} {
		files["steps/improve/"+where+"-begin.sh"] = "echo 'bench: " + where + "-agent begins' > /dev/kmsg\n"
		files["steps/improve/"+where+"-end.sh"] = "echo 'bench: " + where + "-agent ends' > /dev/kmsg\n"
		files["steps/improve/"+where+"-loops.sh"] = strings.NewReplacer("WHERE", where, "COUNT", strconv.Itoa(n)).Replace(`mkdir -p /reference/log
echo 'bench: WHERE-loop begins' > /dev/kmsg
for ((i = 0; i < COUNT; i++)); do
	echo "start ${i}" >> /reference/journal
	sync /reference/journal
	bash /reference/nothing.sh < /dev/null > "/reference/log/${i}.log" 2>&1
	sync -f /
	echo "end ${i}" >> /reference/journal
	sync /reference/journal
done
echo 'bench: WHERE-loop ends' > /dev/kmsg
rm /reference/log/*
echo 'bench: WHERE-bare begins' > /dev/kmsg
for ((i = 0; i < COUNT; i++)); do
	bash /reference/nothing.sh < /dev/null > "/reference/log/${i}.log" 2>&1
done
echo 'bench: WHERE-bare ends' > /dev/kmsg
rm /reference/log/*
sync
`)
	}
	return files
}

// consoleText is what a machine has said.
type consoleText string

// boot runs the machine with other files until it powers off.
func (g *benchGuest) boot(b *testing.B, files map[string]string, args ...string) consoleText {
	b.Helper()
	var extra []initramfs.File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		extra = append(extra, initramfs.Regular(name, 0o755, []byte(files[name])))
	}
	initrd, console := filepath.Join(g.dir, "initrd"), filepath.Join(g.dir, "console")
	if _, err := initramfs.Create(b.Context(), filepath.Join(g.dir, "extra"), initramfs.Files(extra...)); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.CommandContext(b.Context(), "bash", "-c", `cat "$1" "$2" > "$3"`, "-", g.media.Initramfs.Path,
		filepath.Join(g.dir, "extra"), initrd).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	argv := append([]string{
		"-no-user-config", "-nodefaults", "-accel", "tcg", "-m", "1024", "-smp", strconv.Itoa(runtime.NumCPU()), "-display", "none",
		"-no-reboot", "-kernel", g.media.Kernel.Image, "-initrd", initrd, "-serial", "file:" + console, "-serial", "file:" + console + ".events",
		"-append", "console=ttyS0 panic=1 no_timer_check kindling.seed=" + strings.Repeat("5a", 32),
	}, args...)
	out, err := exec.CommandContext(b.Context(), "qemu-system-x86_64", argv...).CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(console)
	if err != nil {
		b.Fatal(err)
	}
	return consoleText(text)
}

// times gives the kernel's time of each of its lines that has what in it, in seconds.
func (c consoleText) times(what string) []float64 {
	var all []float64
	for _, m := range regexp.MustCompile(`\[ *(\d+\.\d+)\] `+regexp.QuoteMeta(what)+`\b`).FindAllStringSubmatch(string(c), -1) {
		seconds, _ := strconv.ParseFloat(m[1], 64) // digits
		all = append(all, seconds)
	}
	return all
}

// between is the time from one line to another; each is there once.
func (c consoleText) between(b *testing.B, from, to string) float64 {
	b.Helper()
	begin, end := c.times(from), c.times(to)
	if len(begin) != 1 || len(end) != 1 {
		b.Fatalf("%q %v, %q %v in:\n%s", from, begin, to, end, tail(string(c), 40))
	}
	return end[0] - begin[0]
}

// durations is how long each round of something took.
func (c consoleText) durations(b *testing.B, what string) []float64 {
	b.Helper()
	begin, end := c.times("bench: "+what+" begins"), c.times("bench: "+what+" ends")
	if len(begin) != stepRounds || len(end) != stepRounds {
		b.Fatalf("%s: %d rounds began, %d ended, in:\n%s", what, len(begin), len(end), tail(string(c), 40))
	}
	var all []float64
	for i := range begin {
		all = append(all, end[i]-begin[i])
	}
	return all
}

// number is the value of a "bench: name=value" line.
func (c consoleText) number(b *testing.B, name string) float64 {
	b.Helper()
	m := regexp.MustCompile(`bench: ` + name + `=(\d+)`).FindStringSubmatch(string(c))
	if m == nil {
		b.Fatalf("no %s in:\n%s", name, tail(string(c), 40))
	}
	value, _ := strconv.ParseFloat(m[1], 64) // digits
	return value
}

// middle is the median.
func middle(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func spread(all []float64) string {
	return fmt.Sprintf("%.3g (%.3g to %.3g)", middle(all), slices.Min(all), slices.Max(all))
}
