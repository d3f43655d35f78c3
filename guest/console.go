// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// consoleQueue is how many writes may wait for a slow console.
const consoleQueue = 256

// console writes to a slow terminal without making anybody wait: what finds no room is dropped and counted.
type console struct {
	queue chan []byte

	mu      sync.Mutex
	dropped int
}

func newConsole() *console { return &console{queue: make(chan []byte, consoleQueue)} }

// run writes to w until ctx ends. Errors are not reported: there is nowhere left to report them.
func (c *console) run(ctx context.Context, w io.Writer) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-c.queue:
			_, _ = w.Write(b)
		}
	}
}

// Write queues a copy of b and never blocks or fails.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := append([]byte(nil), b...)
	if c.dropped > 0 && len(c.queue) < consoleQueue/2 {
		out = append(fmt.Appendf(nil, "kindling: %d console writes dropped; the log on the disk is complete\n", c.dropped), out...)
		c.dropped = 0
	}
	select {
	case c.queue <- out:
	default:
		c.dropped++
	}
	return len(b), nil
}
