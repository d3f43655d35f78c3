// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"fmt"
	"io"
	"sync"
)

const (
	consoleBytes = 16 << 10 // that may wait for a slow console: 1.4 s at 115,200 baud
	consoleChunk = 1 << 10  // bytes in one write
)

// console writes to a slow terminal without making anybody wait: what finds no room is dropped and counted.
type console struct {
	wake chan struct{} // has room for one: there is something to write

	mu      sync.Mutex
	waiting []byte
	busy    bool // a write is under way
	dropped int  // bytes
}

func newConsole() *console { return &console{wake: make(chan struct{}, 1)} }

// run writes to w until ctx ends. Errors are not reported: there is nowhere left to report them.
func (c *console) run(ctx context.Context, w io.Writer) {
	for {
		chunk := c.take()
		if chunk != nil {
			_, _ = w.Write(chunk)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
	}
}

func (c *console) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped > 0 && len(c.waiting) == 0 {
		c.waiting = fmt.Appendf(nil, "\nkindling: %d bytes of output dropped here; the log on the disk is complete\n", c.dropped)
		c.dropped = 0
	}
	n := min(len(c.waiting), consoleChunk)
	chunk := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	c.busy = n > 0
	if n == 0 {
		return nil
	}
	return chunk
}

// Write takes as much of b as there is room for; it never blocks or fails.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := max(consoleBytes-len(c.waiting), 0)
	taken := b[:min(room, len(b))]
	if c.dropped > 0 { // once something is missing, nothing is put behind it before that is said
		taken = nil
	}
	c.dropped += len(b) - len(taken)
	c.waiting = append(c.waiting, taken...)
	c.kick()
	return len(b), nil
}

// last writes b before everything that waits: the last words of a run must not be lost in what came before them.
func (c *console) last(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped += len(c.waiting)
	c.waiting = append([]byte("\n"), b...)
	c.kick()
}

func (c *console) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// flushed reports whether everything has been written.
func (c *console) flushed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) == 0 && !c.busy
}
