// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package transfer

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"kindling/internal/event"
)

// Widths in columns.
const (
	nameWidth = 32 // the longest name that is shown in full
	barWidth  = 30
)

// refresh is how often the rows are drawn anew.
const refresh = 150 * time.Millisecond

// bars is the display for a terminal.
type bars struct {
	mu    sync.Mutex
	area  *mpb.Progress
	rows  map[string]*row
	count *mpb.Bar
	done  atomic.Int64
	all   atomic.Int64
}

// row is one bar.
type row struct {
	bar   *mpb.Bar
	doing atomic.Pointer[string]
}

// NewBars makes the display for a terminal.
func NewBars(out io.Writer) Display {
	b := &bars{rows: map[string]*row{}}
	b.area = mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(refresh), mpb.WithAutoRefresh())
	return b
}

// Row finds or makes the bar. A terminal that has gone makes no bars.
func (b *bars) Row(name, doing string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rows[name]
	if r == nil {
		r = &row{}
		r.doing.Store(&doing)
		if r.bar = b.add(name, r); r.bar == nil {
			return
		}
		b.rows[name] = r
	}
	r.doing.Store(&doing)
	r.bar.SetTotal(total, false)
	r.bar.SetCurrent(done)
}

func (b *bars) add(name string, r *row) *mpb.Bar {
	title := event.Clean(name)
	if len(title) > nameWidth {
		title = title[:nameWidth-3] + "..."
	}
	bar, err := b.area.Add(0, mpb.BarStyle().Build(), mpb.BarWidth(barWidth), mpb.BarPriority(1),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(title, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			return event.Clean(*r.doing.Load()) + " " + Amount(s.Current, s.Total)
		})))
	if err != nil {
		return nil
	}
	return bar
}

func (b *bars) Drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.rows[name]; r != nil {
		r.bar.Abort(true)
		delete(b.rows, name)
	}
}

func (b *bars) Count(done, all int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done.Store(int64(done))
	b.all.Store(int64(all))
	if b.count != nil {
		return
	}
	line := mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
		_, err := fmt.Fprintf(w, "%d of %d files", b.done.Load(), b.all.Load())
		return err
	})
	if bar, err := b.area.Add(0, line, mpb.BarFillerTrim(), mpb.BarPriority(2)); err == nil {
		b.count = bar
	}
}

func (b *bars) Line(text string) {
	_, _ = io.WriteString(b.area, event.Clean(text)+"\n") // a closed terminal is no reason to end anything
}

func (b *bars) Close() {
	b.mu.Lock()
	for _, r := range b.rows {
		r.bar.Abort(true)
	}
	if b.count != nil {
		b.count.Abort(true)
	}
	b.mu.Unlock()
	b.area.Wait()
}
