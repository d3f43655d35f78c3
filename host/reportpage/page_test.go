// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package reportpage

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"kindling/host/report"
)

var (
	update = flag.Bool("update", false, "write testdata/failed.html")
	keep   = flag.String("pages", "", "write the pages of the tests into this folder, to be looked at")
)

func seconds(s float64) report.Seconds { return report.Seconds(s * float64(time.Second)) }

// hostile is what a guest may put wherever it has a word.
const hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[31mred\x07\u202e{{.}}"

// failed is a run of the embedded default that failed, with a hostile guest.
func failed() Source {
	used := int64(1_500_000_000)
	return Source{
		Name: "out/report.json",
		Report: report.Report{
			Label: "demo", Result: report.ResultStep, ExitStatus: 10, Reason: "exit status 1 " + hostile,
			Line:  "step 2 of 3 (build: b " + hostile + ") failed with exit status 1 in phase linux-disk",
			Phase: "linux-disk", Step: "002-build-b", Log: "steps/002-build-b.log", Planned: 3,
			Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Duration: seconds(100),
			Phases: []report.Phase{
				{Name: "start", Duration: seconds(4.2)}, {Name: "init " + hostile, Start: seconds(4.2), Duration: seconds(5.8)},
				{Name: "linux-disk", Start: seconds(10), Duration: seconds(90)},
			},
			Steps: []report.Step{
				{Number: 1, ID: "001-build-a", Name: "build: a", Status: "ok", Start: seconds(10), Duration: seconds(30)},
				{Number: 2, ID: "002-build-b", Name: "build: b " + hostile, Status: "failed", Exit: 1, Start: seconds(41),
					Duration: seconds(2)},
				{Number: 3, Name: "build: s", Status: "skipped", Exit: 9, Start: seconds(44), Duration: seconds(3)},
				{ID: "x", Name: "improve: c", Status: "start", Start: seconds(50), Duration: seconds(50)},
			},
			Media: []report.Medium{
				{Name: "payload", Path: "disks/payload.img", Size: 1_090_000_000, SHA256: strings.Repeat("ab", 32)},
				{Name: "target " + hostile, Path: "disks/target.img", Size: 3 << 30},
			},
			Budgets: []report.Budget{
				{Kernel: "fiwix", What: "bytes of its ramdisk", Unit: "bytes", Limit: 1_414_529_024, Used: &used, Verdict: "over",
					Certainty: "exact"},
				{Kernel: "linux", What: "something", Unit: "files", Limit: 10, Verdict: "unknown"},
			},
			Packages: []report.Package{{Name: "tcc", Version: "0.9.27", Architecture: "i386", SHA256: strings.Repeat("cd", 32)}},
			Versions: map[string]string{"qemu": "7.2 " + hostile, "kindling": "development"},
			Command:  []string{"kindling", "run", "--variant", hostile}, Argv: []string{"qemu-system-x86_64", hostile},
			Notes: []string{"running under TCG", hostile}, Accel: "tcg " + hostile,
		},
		Run: fstest.MapFS{
			"steps/002-build-b.log": {Data: []byte("cc -o b b.c\r\n" + hostile + "\n\xff\x00 end\n")},
			"console.log":           {Data: []byte("never shown\n")},
		},
	}
}

// bootstrap is a run like a real tree's: all kernels, 312 steps, nine hours, two boots from the disk.
func bootstrap() Source {
	s := Source{Name: "20260102T030405Z-live-bootstrap/report.json", Report: report.Report{
		Label: "live-bootstrap", Result: report.ResultOK, Line: "the run ended successfully", Planned: 312, Accel: "kvm",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Versions: map[string]string{"kindling": "v1.0", "qemu": "7.2.22"},
		Command: strings.Fields("kindling run --tree live-bootstrap --distfiles distfiles --qemu --external-sources"),
	}}
	r := &s.Report
	at := 0.0
	phase := func(name string, took float64) {
		r.Phases = append(r.Phases, report.Phase{Name: name, Start: seconds(at), Duration: seconds(took)})
		at += took
	}
	phase("start", 2)
	phase("builder-hex0", 410)
	phase("stage0", 1300)
	phase("kaem", 4100)
	phase("fiwix", 2600)
	phase("payload-import", 310)
	phase("kernel", 6)
	phase("linux-initramfs", 300)
	const boot = 312
	number := 0
	for i := range 312 {
		took := 20 + 60*math.Abs(math.Sin(float64(i)*1.7))
		if i%37 == 20 {
			took *= 14
		}
		if i == 200 {
			phase("start", 4)
			phase("kernel", 5)
		}
		number++
		r.Steps = append(r.Steps, report.Step{Number: number, ID: fmt.Sprintf("%03d", number), Status: "ok",
			Name: fmt.Sprintf("build: package-%d-%d.%d", i%150, i%7, i%10), Start: seconds(at), Duration: seconds(took)})
		if last := len(r.Phases) - 1; r.Phases[last].Name == "linux-disk" {
			r.Phases[last].Duration += seconds(took)
			at += took
		} else {
			phase("linux-disk", took)
		}
	}
	phase("shutdown", 3)
	if len(r.Steps) != boot {
		panic("the run has not the steps that its name says")
	}
	r.Duration = seconds(at)
	for _, m := range []struct {
		name string
		size int64
		sum  string
	}{{"init", 16 << 30, ""}, {"payload", 1_089_412_096, strings.Repeat("5e", 32)}} {
		r.Media = append(r.Media, report.Medium{Name: m.name, Path: "disks/" + m.name + ".img", Size: m.size, SHA256: m.sum})
	}
	for i, what := range []string{"files", "bytes of files", "ramdisk", "kexec window", "command line"} {
		used := int64(1000 * (i + 1))
		r.Budgets = append(r.Budgets, report.Budget{Kernel: "builder-hex0", What: what, Unit: "bytes", Limit: 5100, Used: &used,
			Certainty: []string{"exact", "at-least", "estimate"}[i%3], Verdict: []string{"ok", "ok", "ok", "ok", "tight"}[i]})
	}
	return s
}

// render gives the page and its elements.
func render(t *testing.T, s Source) (string, []*html.Node) {
	t.Helper()
	var page bytes.Buffer
	if err := Render(&page, s); err != nil {
		t.Fatal(err)
	}
	if *keep != "" {
		if err := os.WriteFile(filepath.Join(*keep, filepath.Base(t.Name())+".html"), page.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := html.Parse(bytes.NewReader(page.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var elements []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			elements = append(elements, n)
		}
	}
	return page.String(), elements
}

// text is what an element shows.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// checkSafe reports what may stand on no page: elements and attributes that load or run something, and characters that
// hide others.
func checkSafe(t *testing.T, page string, elements []*html.Node) {
	t.Helper()
	known := map[string]bool{}
	for name := range strings.FieldsSeq("html head meta title style body header main footer section h1 h2 h3 p dl div dt dd " +
		"span small i figure figcaption svg g rect line text table thead tbody tr th td ul li pre code") {
		known[name] = true
	}
	for _, n := range elements {
		if !known[n.Data] {
			t.Errorf("element <%s>", n.Data)
		}
		for _, a := range n.Attr {
			value := strings.ToLower(a.Val)
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" || a.Key == "style" || strings.Contains(value, "://") ||
				strings.Contains(value, "javascript:") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
		if n.Data == "style" && regexp.MustCompile(`(?i)url\(|@import|expression`).MatchString(text(n)) {
			t.Error("the style loads something")
		}
	}
	for _, r := range page {
		if r < 0x20 && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e {
			t.Errorf("character %U", r)
		}
	}
}

// TestFailed looks at everything that a page of a failed run must say.
func TestFailed(t *testing.T) {
	page, elements := render(t, failed())
	checkSafe(t, page, elements)
	golden := filepath.Join("testdata", "failed.html")
	if *update {
		if err := os.WriteFile(golden, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), page); diff != "" {
		t.Errorf("(-want +got; -update rewrites):\n%s", diff)
	}
	sections := map[string]string{}
	for _, n := range elements {
		if n.Data == "section" {
			sections[attr(n, "id")] = text(n)
		}
	}
	for section, words := range map[string][]string{
		"failure": {"cc -o b b.c\n", "<script>alert(1)</script>", "‹ESC›[31mred‹BEL›‹U+202E›", "�‹NUL› end", "steps/002-build-b.log"},
		"media":   {"1\u202f090\u202f000\u202f000 bytes", strings.Repeat("ab", 32), "none: the guest writes to it"},
		"budgets": {"fiwix: bytes of its ramdisk", "over", "1.4 GiB", "not known"},
		"steps":   {"failed, exit status 1", "no end", "build: a", "skipped by hand, exit status 9"},
		"made-with": {"7.2 <script>", "kindling run --variant '<script>", "qemu-system-x86_64 '<script>",
			"tcc:i386 0.9.27", strings.Repeat("cd", 32)},
		"notes": {"running under TCG"},
	} {
		for _, word := range words {
			if !strings.Contains(sections[section], word) {
				t.Errorf("section %s: no %q in %q", section, word, sections[section])
			}
		}
	}
	if strings.Contains(page, "never shown") {
		t.Error("the console of a step that has a log of its own is shown")
	}
}

// TestBootstrap holds the picture and the tables of a long run against its report.
func TestBootstrap(t *testing.T) {
	s := bootstrap()
	page, elements := render(t, s)
	checkSafe(t, page, elements)
	if d := time.Duration(s.Report.Duration); d < 8*time.Hour || d > 10*time.Hour {
		t.Fatalf("the run takes %s", d)
	}
	bars, rows := map[string]int{}, 0
	for _, n := range elements {
		switch {
		case n.Data == "tr" && strings.HasPrefix(attr(n, "id"), "step-"):
			rows++
		case n.Data == "rect" && (attr(n, "y") == "16" || attr(n, "y") == "56"):
			bars[attr(n, "y")]++
			x, xErr := strconv.ParseFloat(strings.TrimSuffix(attr(n, "x"), "%"), 64)
			w, wErr := strconv.ParseFloat(strings.TrimSuffix(attr(n, "width"), "%"), 64)
			if xErr != nil || wErr != nil || x < 0 || w <= 0 || x+w > 100.13 {
				t.Errorf("bar from %q, %q wide", attr(n, "x"), attr(n, "width"))
			}
		}
	}
	if rows != 312 || bars["56"] != 312 || bars["16"] != len(s.Report.Phases) {
		t.Errorf("%d rows and %d bars of 312 steps, %d bars of %d phases", rows, bars["56"], bars["16"], len(s.Report.Phases))
	}
	for _, step := range s.Report.Steps {
		if strings.Count(page, step.Name) < 2 { // the picture and the table
			t.Errorf("%s is missing", step.Name)
		}
	}
	if strings.Contains(page, `id="failure"`) {
		t.Error("a success has a failure")
	}
}

// TestOddRuns renders what a report may hold although no run would leave it.
func TestOddRuns(t *testing.T) {
	negative := int64(-5)
	for name, r := range map[string]report.Report{
		"empty":      {},
		"no time":    {Result: report.ResultOK, Phases: []report.Phase{{Name: "x"}}, Steps: []report.Step{{Name: "x"}}},
		"backwards":  {Duration: seconds(-5), Steps: []report.Step{{Name: "x", Start: seconds(-9), Duration: seconds(-1)}}},
		"beyond":     {Duration: seconds(1), Steps: []report.Step{{Name: "x", Start: seconds(5), Duration: seconds(1e8)}}},
		"odd budget": {Budgets: []report.Budget{{Used: &negative}}},
		"bad log":    {Result: report.ResultHang, Log: "../../etc/passwd"},
		"folder log": {Result: report.ResultHang, Log: "steps"},
	} {
		t.Run(name, func(t *testing.T) {
			page, elements := render(t, Source{Report: r, Run: fstest.MapFS{"steps/x.log": {}}})
			checkSafe(t, page, elements)
			if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
				t.Error("a number that is none")
			}
		})
	}
}

func TestTail(t *testing.T) {
	long := strings.Repeat("line\n", 50_000) + "end\n"
	run := fstest.MapFS{
		"short": {Data: []byte("a\r\nb\n\n")}, "long": {Data: []byte(long)}, "wide": {Data: bytes.Repeat([]byte("x"), 1<<20)},
		"many": {Data: []byte(strings.Repeat("l\n", 300))}, "empty": {},
	}
	for name, want := range map[string]struct {
		lines int
		cut   string
	}{"short": {2, ""}, "long": {200, "the last 200 lines of 244 KiB"}, "wide": {1, "the last 1 lines of 1.0 MiB"},
		"many": {200, "the last 200 lines of 600 B"}, "empty": {1, ""}} {
		text, cut, err := tail(run, name)
		if lines := strings.Count(text, "\n") + 1; err != nil || lines != want.lines || cut != want.cut || len(text) > logBytes {
			t.Errorf("%s: %d lines, %q, %v", name, lines, cut, err)
		}
	}
}

func TestSpan(t *testing.T) {
	for s, want := range map[float64]string{0: "0.0 s", 0.25: "0.2 s", 9.96: "10 s", 99: "99 s", 185: "3 min 05 s",
		5999: "99 min 59 s", 6000: "1 h 40 min", 32_520: "9 h 02 min", -1: "–"} {
		if got := span(seconds(s)); got != want {
			t.Errorf("%v s is %q, want %q", s, got, want)
		}
	}
}

func TestTicks(t *testing.T) {
	for whole, want := range map[time.Duration]string{
		500 * time.Millisecond: "0", 23 * time.Second: "0, 5 s, 10 s, 15 s, 20 s", 9 * time.Hour: "0, 2 h, 4 h, 6 h, 8 h",
		40 * time.Minute: "0, 10 min, 20 min, 30 min, 40 min", 61 * 24 * time.Hour: "0, 1464 h",
	} {
		var got []string
		for _, tick := range ticks(whole) {
			got = append(got, tick.Label)
		}
		if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", whole, diff)
		}
	}
}

// TestContrast computes the contrast ratios of WCAG 2.2 from the style's own variables: 4.5 for text, 3 for bars.
func TestContrast(t *testing.T) {
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(styleText, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d sets of colours, want light, dark and print", len(blocks))
	}
	for i, name := range []string{"light", "dark", "print"} {
		colour := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(blocks[i][1], -1) {
			colour[m[1]] = luminance(t, m[2])
		}
		check := func(front, back string, least float64) {
			a, okA := colour[front]
			b, okB := colour[back]
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); !okA || !okB || ratio < least {
				t.Errorf("%s: --%s on --%s: %.2f, at least %.1f wanted", name, front, back, ratio, least)
			}
		}
		for _, back := range []string{"bg", "surface"} {
			for _, front := range []string{"text", "muted", "bad", "warn"} {
				check(front, back, 4.5)
			}
		}
		for _, state := range []string{"ok", "bad", "warn"} {
			check("on-"+state, state, 4.5)
		}
		for _, bar := range []string{"step", "step-alt", "open", "bad", "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"} {
			check(bar, "bg", 3)
		}
	}
}

// luminance is the relative luminance of WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func FuzzRender(f *testing.F) {
	doc, err := report.Encode(failed().Report)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := report.Decode(doc); err != nil {
		f.Fatalf("the seed does not parse: %v", err)
	}
	f.Add(doc, []byte(hostile))
	f.Add([]byte(`{"schema":1}`), []byte{})
	f.Fuzz(func(t *testing.T, doc, log []byte) {
		r, err := report.Decode(doc)
		if err != nil {
			return
		}
		page, elements := render(t, Source{Report: r, Run: fstest.MapFS{"console.log": {Data: log}, "qemu.log": {Data: log}}})
		checkSafe(t, page, elements)
	})
}
