// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package reportpage

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// frame is a page that shows another one in a window of its own width and, once that is drawn, writes down what it
// looks like there.
const frame = `<!doctype html><iframe id=f src=/page style="border:0;width:%dpx;height:900px"></iframe><pre id=out></pre><script>
f.onload = () => {
  const d = f.contentDocument, root = d.documentElement, style = e => f.contentWindow.getComputedStyle(e);
  const outside = [...d.querySelectorAll('body *')].filter(e => {
    for (let p = e; p; p = p.parentElement) if (['auto', 'scroll', 'hidden'].includes(style(p).overflowX) && p !== d.body) return false;
    return e.getBoundingClientRect().right > root.clientWidth + 1;
  });
  out.textContent = JSON.stringify({
    width: root.clientWidth, needs: root.scrollWidth, outside: outside.slice(0, 5).map(e => e.tagName + '.' + e.className),
    background: style(d.body).backgroundColor, ink: style(d.body).color,
    bars: d.querySelectorAll('svg rect').length, drawn: [...d.querySelectorAll('svg rect')].filter(r => r.getBoundingClientRect().width > 0).length,
    title: d.querySelector('h1').getBoundingClientRect().height,
  });
};
</script>`

// seen is what the browser has written down.
type seen struct {
	Width, Needs    int
	Outside         []string
	Background, Ink string
	Bars, Drawn     int
	Title           float64
}

var outRE = regexp.MustCompile(`<pre id="out">([^<]*)</pre>`)

// browse shows a page in a real Chromium.
func browse(t *testing.T, page string, width int, flags ...string) seen {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) })
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, frame, width) })
	server := httptest.NewServer(mux)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir=" + t.TempDir(),
		"--virtual-time-budget=5000", "--window-size=1400,1000", "--dump-dom"}, flags...)
	out, err := exec.CommandContext(ctx, "chromium", append(args, server.URL)...).Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	m := outRE.FindStringSubmatch(string(out))
	if m == nil {
		t.Fatalf("the browser has written nothing down: %.300s", out)
	}
	var s seen
	if err := json.Unmarshal([]byte(html.UnescapeString(m[1])), &s); err != nil {
		t.Fatalf("%v: %q", err, m[1])
	}
	return s
}

// TestBrowser looks at the page of a failed run and of a long one as a person would: on a phone, on a screen, in the dark.
func TestBrowser(t *testing.T) {
	if _, err := exec.LookPath("chromium"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is missing: the Makefile installs it")
		}
		t.Skip("SKIPPED, not tested: chromium is missing; `make test` installs it")
	}
	failedPage, _ := render(t, failed())
	longPage, _ := render(t, bootstrap())
	for _, tc := range []struct {
		name, page string
		width      int
		flags      []string
		dark       bool
	}{
		{"failed run on a phone", failedPage, 360, nil, false},
		{"long run on a phone, in the dark", longPage, 360, []string{"--blink-settings=preferredColorScheme=0"}, true},
		{"long run on a screen", longPage, 1280, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := browse(t, tc.page, tc.width, tc.flags...)
			t.Logf("%+v", s)
			if s.Needs > s.Width || len(s.Outside) > 0 {
				t.Errorf("%d pixels wide, needs %d; outside: %s", s.Width, s.Needs, strings.Join(s.Outside, ", "))
			}
			if s.Bars == 0 || s.Drawn*10 < s.Bars*9 {
				t.Errorf("%d of %d bars of the timeline are to be seen", s.Drawn, s.Bars)
			}
			if s.Title <= 0 {
				t.Error("no heading is to be seen")
			}
			if got := brightness(t, s.Background) < brightness(t, s.Ink); got != tc.dark {
				t.Errorf("dark: %t, want %t: %s on %s", got, tc.dark, s.Ink, s.Background)
			}
		})
	}
}

// brightness is the sum of red, green and blue of a computed colour.
func brightness(t *testing.T, color string) int {
	t.Helper()
	var r, g, b int
	if _, err := fmt.Sscanf(color, "rgb(%d, %d, %d)", &r, &g, &b); err != nil {
		t.Fatalf("colour %q: %v", color, err)
	}
	return r + g + b
}
