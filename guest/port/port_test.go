// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package port

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"kindling/internal/event"
)

func clock() time.Duration { return 42 * time.Millisecond }

// run gives the port a writer until the test ends.
func run(t *testing.T, p *Port, w io.Writer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx, w, nil) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func flush(t *testing.T, p *Port) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestSendNumbersAndStamps(t *testing.T) {
	var out bytes.Buffer
	p := New(clock)
	p.SetSeq(7)
	run(t, p, &out)
	if e := p.Send(event.Event{Kind: event.KindPhase, Name: "disk"}); e.Seq != 8 || e.TimeMS != 42 {
		t.Errorf("got %+v", e)
	}
	p.Send(event.Event{Kind: event.KindDone, Status: event.StatusOK})
	flush(t, p)
	want := `{"seq":8,"ms":42,"kind":"phase","name":"disk"}` + "\n" + `{"seq":9,"ms":42,"kind":"done","status":"ok"}` + "\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if p.Seq() != 9 {
		t.Errorf("seq %d", p.Seq())
	}
}

// Log lines beyond the queue are dropped at once, the numbers stay without gaps, and the loss is told.
func TestFloodIsDroppedAndTold(t *testing.T) {
	p := New(clock)
	for range droppableLen + 100 {
		p.Send(event.Event{Kind: event.KindLog, Text: "x"})
	}
	if e := p.Send(event.Event{Kind: event.KindStep, Step: "s", Status: event.StatusStart}); e.Seq != droppableLen+1 {
		t.Errorf("a step's event found no room behind a flood of log lines: %+v", e)
	}
	var out bytes.Buffer
	run(t, p, &out)
	flush(t, p)
	p.Send(event.Event{Kind: event.KindLog, Text: "after"})
	flush(t, p)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, line := range lines {
		e, err := event.Decode([]byte(line))
		if err != nil || e.Seq != uint64(i+1) {
			t.Fatalf("line %d: %+v, %v", i, e, err)
		}
		if i == droppableLen+1 && (e.Kind != event.KindNote || e.Total != 100) {
			t.Errorf("the loss is not told: %s", line)
		}
	}
	if len(lines) != droppableLen+3 {
		t.Errorf("%d lines", len(lines))
	}
}

// A line that nobody reads makes nobody wait: neither a log line nor a step's event, whatever their number.
func TestDeadLine(t *testing.T) {
	for name, w := range map[string]io.Writer{"fails": failing{}, "blocks": blocked{t.Context()}} {
		p := New(clock)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx, w, nil) })
		began := time.Now()
		for range 3 * queueLen {
			p.Send(event.Event{Kind: event.KindStep, Step: "s", Status: event.StatusStart})
			p.Send(event.Event{Kind: event.KindLog, Text: "x"})
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%s: sending took %s", name, d)
		}
		cancel()
		if name == "fails" {
			wg.Wait()
		}
	}
}

// Flush has an end where the line has none.
func TestFlushEnds(t *testing.T) {
	p := New(clock)
	p.Send(event.Event{Kind: event.KindNote})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

// blocked never returns from a write until its context ends.
type blocked struct{ ctx context.Context }

func (b blocked) Write(data []byte) (int, error) {
	<-b.ctx.Done()
	return len(data), nil
}
