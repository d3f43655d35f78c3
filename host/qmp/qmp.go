// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package qmp is a client of the QEMU Machine Protocol: JSON commands over a connected unix socket, one at a time.
//
// It knows the protocol (qemu's docs/interop/qmp-spec), not what the commands mean. Answers and events come from
// QEMU, which runs the guest: they are bounded in size. It is called by package checkpoint and cmd/host.
package qmp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxMessage bounds one line from QEMU, in bytes; query commands answer with some tens of KiB.
const maxMessage = 4 << 20

// Error is what QEMU answers to a command that it cannot obey.
type Error struct {
	Command string
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

// maxDesc bounds what is quoted of QEMU's reason, in characters.
const maxDesc = 500

func (e *Error) Error() string { return fmt.Sprintf("QEMU, %s: %.*s", e.Command, maxDesc, e.Desc) }

// ErrProtocol is an answer that is none.
var ErrProtocol = errors.New("not the QEMU Machine Protocol")

// message is a line from QEMU: its greeting, an answer, or an event, which has neither field.
type message struct {
	QMP    *json.RawMessage `json:"QMP"`
	ID     *int             `json:"id"`
	Return json.RawMessage  `json:"return"`
	Error  *Error           `json:"error"`
}

// Client is a connection, ready for commands. It is for one goroutine. It reads all the time, so that events do not
// pile up in QEMU.
type Client struct {
	conn    *net.UnixConn
	answers chan message // has room for one: there is one command at a time
	failed  error        // why answers is closed
	id      int
}

// New negotiates on a connection; QEMU greets as soon as it runs. The connection's owner closes it.
func New(ctx context.Context, conn *net.UnixConn) (*Client, error) {
	c := &Client{conn: conn, answers: make(chan message, 1)}
	go c.pump()
	hello, err := c.answer(ctx)
	if err == nil && hello.QMP == nil {
		err = ErrProtocol
	}
	if err != nil {
		return nil, fmt.Errorf("talk to QEMU: %w", err)
	}
	return c, c.Execute(ctx, "qmp_capabilities", nil, nil)
}

// pump reads until the connection ends, and passes on what is not an event.
func (c *Client) pump() {
	defer close(c.answers)
	in := bufio.NewScanner(c.conn)
	in.Buffer(make([]byte, 0, 64<<10), maxMessage)
	for greeted := false; in.Scan(); {
		line := bytes.TrimSpace(in.Bytes())
		if len(line) == 0 {
			continue
		}
		m, err := decode(line)
		if err != nil {
			c.failed = err
			return
		}
		if m.ID == nil && greeted {
			continue
		}
		greeted = true
		c.answers <- m
	}
	if c.failed = in.Err(); c.failed == nil {
		c.failed = io.ErrUnexpectedEOF
	}
}

// decode reads a line from QEMU.
func decode(line []byte) (m message, err error) {
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, nil
}

// answer waits for a message.
func (c *Client) answer(ctx context.Context) (message, error) {
	select {
	case m, open := <-c.answers:
		if !open {
			return m, c.failed
		}
		return m, nil
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	}
}

// Execute sends a command with its arguments (nil for none), and reads its result into result (nil: nobody asks). An
// answer that QEMU refuses with is an *Error.
func (c *Client) Execute(ctx context.Context, command string, arguments, result any) error {
	return c.execute(ctx, command, arguments, nil, result)
}

// PassFile gives QEMU an open file under a name, which a migration can then use as "fd:NAME".
func (c *Client) PassFile(ctx context.Context, name string, f *os.File) error {
	return c.execute(ctx, "getfd", map[string]string{"fdname": name}, unix.UnixRights(int(f.Fd())), nil)
}

// execute sends a command, with rights (a file, for QEMU) beside it.
func (c *Client) execute(ctx context.Context, command string, arguments any, rights []byte, result any) error {
	answer, err := c.ask(ctx, command, arguments, rights)
	switch {
	case err != nil:
	case answer.Error != nil:
		answer.Error.Command = command
		return answer.Error
	case answer.Return == nil:
		err = fmt.Errorf("%w: neither a result nor an error", ErrProtocol)
	case result != nil:
		if err = json.Unmarshal(answer.Return, result); err != nil {
			err = fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
	if err != nil {
		return fmt.Errorf("QEMU, %s: %w", command, err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, command string, arguments any, rights []byte) (message, error) {
	if err := ctx.Err(); err != nil {
		return message{}, err
	}
	c.id++
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, c.id})
	if err != nil {
		return message{}, err
	}
	if _, _, err := c.conn.WriteMsgUnix(append(line, '\n'), rights, nil); err != nil {
		return message{}, err
	}
	for {
		answer, err := c.answer(ctx)
		if err != nil || answer.ID != nil && *answer.ID == c.id {
			return answer, err
		}
	}
}
