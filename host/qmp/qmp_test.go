// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// peer answers one connection: the greeting, then for each command what answer gives, IDs put in for "ID".
func peer(t *testing.T, greeting string, answer func(n int, command string) string) *net.UnixConn {
	t.Helper()
	ours, conn := pair(t)
	t.Cleanup(func() { ours.Close() })
	go func() {
		defer conn.Close()
		fmt.Fprintln(conn, greeting)
		in := bufio.NewScanner(conn)
		for n := 1; in.Scan(); n++ {
			fmt.Fprint(conn, strings.ReplaceAll(answer(n, in.Text()), "ID", fmt.Sprint(n)))
		}
	}()
	return ours
}

const (
	greeting = `{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}`
	obeyed   = `{"return": {}, "id": ID}` + "\n"
)

func TestExecute(t *testing.T) {
	event := `{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}` + "\n"
	for _, tc := range []struct {
		name, greeting, answer string
		want                   string // of the result
		fails                  string
	}{
		{"result", greeting, `{"return": {"status": "running"}, "id": ID}` + "\n", "running", ""},
		{"events first", greeting, event + "\r\n" + event + `{"return": {"status": "paused"}, "id": ID}` + "\n", "paused", ""},
		{"refused", greeting, `{"error": {"class": "GenericError", "desc": "no such job"}, "id": ID}` + "\n", "",
			"QEMU, query-status: no such job"},
		{"no JSON", greeting, "what\n", "", "not the QEMU Machine Protocol"},
		{"another type", greeting, `{"return": {"status": 3}, "id": ID}` + "\n", "", "not the QEMU Machine Protocol"},
		{"greeting of something else", `{"hello": 1}`, "", "", "not the QEMU Machine Protocol"},
		{"too long", greeting, `{"return": "` + strings.Repeat("x", maxMessage) + `", "id": ID}` + "\n", "", "token too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := peer(t, tc.greeting, func(n int, _ string) string {
				if n == 1 {
					return obeyed
				}
				return tc.answer
			})
			c, err := New(t.Context(), conn)
			var got struct{ Status string }
			if err == nil {
				err = c.Execute(t.Context(), "query-status", nil, &got)
			}
			if tc.fails == "" && err != nil || tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)) {
				t.Errorf("error %v, want %q", err, tc.fails)
			}
			if got.Status != tc.want {
				t.Errorf("status %q, want %q", got.Status, tc.want)
			}
		})
	}
}

// A QEMU that never answers costs no more than the context allows.
func TestSilence(t *testing.T) {
	conn := peer(t, greeting, func(n int, _ string) string {
		if n == 1 {
			return obeyed
		}
		return ""
	})
	c, err := New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want a deadline", err)
	}
	if _, err := New(ctx, peer(t, "", nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no greeting: error %v, want a deadline", err)
	}
}
