// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package console connects the user's terminal with the console of a guest.
//
// Package watch reads the first serial port for the console log and shows each byte here; what is typed is written to the
// port. What the guest prints goes to the terminal as it is: who sits at a console sees what the machine draws
// there, escape sequences included. What is typed goes to the guest, Ctrl-C as well; Ctrl-A x ends the run. Neither side
// ever waits for the other: what a stuck terminal does not take is left out, and so is what a stuck guest does not read.
// The package decides nothing about the run. It is called by cmd/host.
package console

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	shownBytes = 1 << 20 // that may wait for a slow terminal
	typedBytes = 4 << 10 // that may wait for a guest
	chunk      = 32 << 10
	// endEvery is how often a guest that waits for a person is told that there is none.
	endEvery = 2 * time.Second
	// endOfFile is what a terminal takes for the end of its input: Ctrl-D.
	endOfFile = 0x04
)

// Help is what a person has to know, one line.
const Help = "the terminal is the guest's console now: Ctrl-C goes there, Ctrl-A x ends the run, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this"

// Options of a connection.
type Options struct {
	In  *os.File // what the user types; nil for nothing
	Out *os.File // what the user sees
	End func()   // the user wants the run to end
}

// Console is one connection. Make it with Open, then call Run with the port when the machine has started; Close it in any
// case.
type Console struct {
	o     Options
	state *term.State // of In before, if it is a terminal

	shown   *queue
	typed   *queue
	done    chan struct{} // closed by Close
	drained chan struct{} // closed when everything that the guest has printed is shown
	closing sync.Once

	every time.Duration // endEvery

	mu      sync.Mutex
	waiting bool // the guest waits for a person
	ended   bool // In has ended
}

// Open makes the terminal raw if In is one: from here on no key has a meaning of its own.
func Open(o Options) (*Console, error) {
	c := &Console{o: o, every: endEvery, shown: newQueue(shownBytes), typed: newQueue(typedBytes), done: make(chan struct{}), drained: make(chan struct{})}
	if c.terminal() {
		var err error
		if c.state, err = term.MakeRaw(int(o.In.Fd())); err != nil {
			return nil, fmt.Errorf("console: make the terminal raw: %w", err)
		}
	}
	go c.show()
	return c, nil
}

func (c *Console) terminal() bool { return c.o.In != nil && term.IsTerminal(int(c.o.In.Fd())) }

// Run connects what is typed with the port of a machine that has been started.
func (c *Console) Run(port io.Writer) {
	if c.state != nil {
		c.shown.put([]byte(Help + "\r\n"))
	}
	go c.typing()
	go c.send(port)
	go c.tellEnd()
}

// Show takes what the guest prints. It never waits.
func (c *Console) Show(b []byte) { c.shown.put(b) }

// Waiting says whether the guest waits for a person. Where there is none, because In has ended, the guest hears of it.
func (c *Console) Waiting(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = yes
}

// Close gives the terminal back, within a second, after what the guest has printed to its end is shown.
func (c *Console) Close() error {
	var err error
	c.closing.Do(func() {
		c.shown.end()
		select {
		case <-c.drained:
		case <-time.After(time.Second):
		}
		close(c.done)
		if c.state != nil {
			err = term.Restore(int(c.o.In.Fd()), c.state)
		}
		c.typed.end()
	})
	return err
}

// show writes it to the terminal.
func (c *Console) show() {
	defer close(c.drained)
	for {
		data, lost, more := c.shown.take()
		if lost > 0 {
			data = append(data, fmt.Sprintf("\r\nkindling: %d bytes are not shown here; console.log has them\r\n", lost)...)
		}
		if len(data) > 0 {
			if _, err := c.o.Out.Write(data); err != nil {
				return // the terminal has gone; the run goes on
			}
		}
		if !more {
			return
		}
	}
}

// typing takes what is typed. It ends with In, and In's read with the process: nothing can end it before.
func (c *Console) typing() {
	var k keys
	buf := make([]byte, chunk)
	for c.o.In != nil {
		n, err := c.o.In.Read(buf)
		if c.state != nil {
			c.obey(&k, buf[:n])
		} else {
			c.typed.put(buf[:n])
		}
		if err != nil || n == 0 {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// obey passes on what was typed at a terminal, and does the commands in it.
func (c *Console) obey(k *keys, typed []byte) {
	for rest := typed; len(rest) > 0; {
		var forGuest []byte
		var what command
		forGuest, what, rest = k.feed(rest)
		c.typed.put(forGuest)
		switch what {
		case commandEnd:
			c.o.End()
		case commandHelp:
			c.shown.put([]byte("\r\n" + Help + "\r\n"))
		case commandNone:
		}
	}
}

// send writes what was typed to the guest. A port without a reader blocks it, and nothing else.
func (c *Console) send(port io.Writer) {
	for {
		data, _, more := c.typed.take()
		if len(data) > 0 {
			if _, err := port.Write(data); err != nil {
				return // the machine has ended
			}
		}
		if !more {
			return
		}
	}
}

// tellEnd tells a guest that waits for a person that there is none.
func (c *Console) tellEnd() {
	ticker := time.NewTicker(c.every)
	defer ticker.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-ticker.C:
		}
		c.mu.Lock()
		tell := c.waiting && c.ended
		c.mu.Unlock()
		if tell {
			c.typed.put([]byte{endOfFile})
		}
	}
}

// queue is a bounded buffer between two goroutines. Nobody waits to put something in: what finds no room is counted.
type queue struct {
	mu    sync.Mutex
	some  *sync.Cond
	data  []byte
	limit int
	lost  int
	over  bool
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit}
	q.some = sync.NewCond(&q.mu)
	return q
}

func (q *queue) put(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := max(q.limit-len(q.data), 0)
	if q.lost > 0 { // what is lost is lost in one place
		room = 0
	}
	taken := b[:min(room, len(b))]
	q.data = append(q.data, taken...)
	q.lost += len(b) - len(taken)
	q.some.Signal()
}

func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	q.some.Signal()
}

// take waits for something and takes all of it. more is false at the end.
func (q *queue) take() (data []byte, lost int, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.data) == 0 && q.lost == 0 && !q.over {
		q.some.Wait()
	}
	data, lost = q.data, q.lost
	q.data, q.lost = nil, 0
	return data, lost, !q.over || len(data) > 0
}
