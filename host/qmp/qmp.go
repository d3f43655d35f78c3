// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package qmp is a client of the QEMU Machine Protocol: JSON commands over a unix socket, one at a time.
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
	"time"
)

// maxMessage bounds one line from QEMU, in bytes; query commands answer with some tens of KiB.
const maxMessage = 4 << 20

// dialPoll is how often a socket is tried that QEMU has not made yet.
const dialPoll = 20 * time.Millisecond

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

// Client is a connection, ready for commands. It is for one goroutine.
type Client struct {
	conn net.Conn
	in   *bufio.Scanner
	id   int
}

// Dial connects and negotiates. A socket that is not there yet, or that nobody listens on, is waited for until ctx ends.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil {
			return negotiate(ctx, conn)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to QEMU at %s: %w (%w)", socket, context.Cause(ctx), err)
		case <-time.After(dialPoll):
		}
	}
}

func negotiate(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{conn: conn, in: bufio.NewScanner(conn)}
	c.in.Buffer(make([]byte, 0, 64<<10), maxMessage)
	defer c.bounded(ctx)()
	var hello struct {
		QMP *json.RawMessage `json:"QMP"`
	}
	err := c.read(&hello)
	if err == nil && hello.QMP == nil {
		err = ErrProtocol
	}
	if err == nil {
		err = c.execute("qmp_capabilities", nil, nil)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to QEMU: %w", err), conn.Close())
	}
	return c, nil
}

// bounded makes ctx's end the end of what the connection waits for; call what it returns when done.
func (c *Client) bounded(ctx context.Context) (done func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// Execute sends a command with its arguments (nil for none), and reads its result into result (nil: nobody asks). An
// answer that QEMU refuses with is an *Error. After any other error the connection is of no more use.
func (c *Client) Execute(ctx context.Context, command string, arguments, result any) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("QEMU, %s: %w", command, err)
	}
	defer c.bounded(ctx)()
	err := c.execute(command, arguments, result)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("QEMU, %s: %w", command, context.Cause(ctx))
	}
	return err
}

func (c *Client) execute(command string, arguments, result any) error {
	c.id++
	request := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, c.id}
	line, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("QEMU, %s: %w", command, err)
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("QEMU, %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  *Error          `json:"error"`
			ID     int             `json:"id"`
		}
		if err := c.read(&answer); err != nil {
			return fmt.Errorf("QEMU, %s: %w", command, err)
		}
		if answer.ID != c.id {
			continue // an event, which has no ID
		}
		switch {
		case answer.Error != nil:
			answer.Error.Command = command
			return answer.Error
		case answer.Return == nil:
			return fmt.Errorf("QEMU, %s: %w: neither a result nor an error", command, ErrProtocol)
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(answer.Return, result); err != nil {
			return fmt.Errorf("QEMU, %s: %w: %w", command, ErrProtocol, err)
		}
		return nil
	}
}

// read takes one message, whatever it is.
func (c *Client) read(into any) error {
	for c.in.Scan() {
		line := bytes.TrimSpace(c.in.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := json.Unmarshal(line, into); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		return nil
	}
	if err := c.in.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// Close ends the connection; QEMU goes on.
func (c *Client) Close() error { return c.conn.Close() }
