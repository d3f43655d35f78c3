// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1_500_000: "1.5 MB", 30_752_000_000: "30.8 GB",
		1<<63 - 1: "9.2 EB",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
	for _, tt := range []struct {
		done, total int64
		want        string
	}{
		{0, 0, "0 B"}, {500, 0, "500 B"}, {500, 1000, "500 B of 1.0 kB (50%)"}, {2000, 1000, "2.0 kB of 1.0 kB (100%)"},
		{999, 1000, "999 B of 1.0 kB (99%)"},
	} {
		if got := Amount(tt.done, tt.total); got != tt.want {
			t.Errorf("%d of %d: %s, want %s", tt.done, tt.total, got, tt.want)
		}
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	d := NewLines(&out, func() time.Time { return now })
	d.Row("a", "", 0, 100)
	now = now.Add(9 * time.Second)
	d.Row("a", "", 10, 100)
	d.Line("line \x1b[31mone")
	now = now.Add(time.Second)
	d.Row("a", "writing", 20, 100)
	d.Row("b", "", 5, 0)
	d.Row("a", "writing", 21, 100)
	d.Drop("a")
	d.Drop("never there")
	now = now.Add(time.Minute)
	d.Row("a", "", 30, 100)
	d.Row("b", "", 6, 0)
	d.Count(1, 2)
	d.Close()
	if diff := cmp.Diff("line one\na writing 20 B of 100 B (20%)\nb 6 B\n", out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// brokenPipe is an output whose reader has gone.
type brokenPipe struct{ writes int }

func (b *brokenPipe) Write([]byte) (int, error) {
	b.writes++
	return 0, errors.New("broken pipe")
}

func TestLinesWithoutReader(t *testing.T) {
	out := &brokenPipe{}
	d := NewLines(out, time.Now)
	d.Line("one")
	d.Line("two")
	d.Close()
	if out.writes != 1 {
		t.Errorf("%d writes to a closed pipe", out.writes)
	}
}

// TestBars shows bars on a real terminal, from several goroutines.
func TestBars(t *testing.T) {
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	screen := make(chan string)
	go func() {
		data, _ := io.ReadAll(master) // ends with EIO when the terminal is closed
		screen <- string(data)
	}()
	if _, ok := For(terminal, "dumb").(*lines); !ok {
		t.Error("a dumb terminal gets bars")
	}
	d := For(terminal, "xterm")
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			name := fmt.Sprintf("file-%d-%s", i, strings.Repeat("x", 40*(i%2)))
			for done := range int64(4) {
				d.Row(name, "", done*1000, 4000)
				time.Sleep(100 * time.Millisecond)
			}
			d.Drop(name)
			d.Line(fmt.Sprintf("finished \x1b[31m%d", i))
			d.Count(i+1, 4)
		})
	}
	group.Wait()
	d.Row("left over", "writing", 1, 0)
	d.Close()
	d.Row("after the end", "", 0, 0)
	d.Close()
	if err := terminal.Close(); err != nil {
		t.Fatal(err)
	}
	got := <-screen
	for _, want := range []string{"file-0-", "finished 3", "of 4 files", "of 4.0 kB (", "..."} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q on the screen: %q", want, got)
		}
	}
	if strings.Contains(got, "\x1b[31m") {
		t.Error("an escape sequence got through")
	}
	_ = master.Close()
}

// TestBarsOnClosedTerminal has a terminal that goes away: nothing blocks, nothing panics.
func TestBarsOnClosedTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	d := NewBars(f)
	d.Row("a", "", 1, 2)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * refresh)
	d.Row("a", "", 2, 2)
	d.Row("b", "", 2, 2)
	d.Line("line")
	d.Drop("a")
	done := make(chan struct{})
	go func() {
		d.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
	}
}
