// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const hello = `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}` + "\n"

// hear gives a client everything that QEMU says, and returns the result of one command.
func hear(t testing.TB, said []byte) (result json.RawMessage, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ours, theirs := pair(t)
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(io.Discard, theirs); ended <- struct{}{} }()
	go func() { _, _ = theirs.Write(said); _ = theirs.CloseWrite(); ended <- struct{}{} }()
	defer func() { _ = ours.Close(); <-ended; <-ended; _ = theirs.Close() }()
	c, err := New(ctx, ours)
	if err != nil {
		return nil, err
	}
	err = c.Execute(ctx, "query-status", nil, &result)
	if ctx.Err() != nil {
		t.Error("still waiting after the connection has ended")
	}
	return result, err
}

// pair is two ends of a unix socket.
func pair(t testing.TB) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = conn.(*net.UnixConn)
		_ = f.Close()
	}
	return ends[0], ends[1]
}

// FuzzAnswers is a hostile QEMU: whatever it says ends in a result that is JSON, an answer of QEMU's, or an error.
func FuzzAnswers(f *testing.F) {
	for _, good := range []string{
		`{"return": {}, "id": 1}` + "\n" + `{"return": {"running": true, "status": "running"}, "id": 2}` + "\n",
		`{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}` + "\n" + `{"id": 1, "return": {}}` + "\n\n  \n" +
			`{"event": "STOP", "data": {"a": [1]}}` + "\r\n" + `{"id": 2, "return": null}` + "\n",
		`{"return": {}, "id": 1}` + "\n" + `{"return": [[[[[]]]]], "id": 2}`,
	} {
		if _, err := hear(f, []byte(hello+good)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(hello + good))
	}
	refused := `{"return": {}, "id": 1}` + "\n" + `{"id": 2, "error": {"class": "GenericError", "desc": "no"}}` + "\n"
	var answer *Error
	if _, err := hear(f, []byte(hello+refused)); !errors.As(err, &answer) {
		f.Fatal(err)
	}
	f.Add([]byte(hello + refused))
	f.Fuzz(func(t *testing.T, said []byte) {
		result, err := hear(t, said)
		if err == nil && !json.Valid(result) {
			t.Errorf("the result is %q", result)
		}
		if err != nil && len(err.Error()) > 4*maxDesc {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

// The bounds and the shape of answers.
func TestHostileAnswers(t *testing.T) {
	start := hello + `{"return": {}, "id": 1}` + "\n"
	for what, tt := range map[string]struct {
		said string
		ok   bool
	}{
		"nothing":          {"", false},
		"no greeting":      {`{"return": {}, "id": 1}` + "\n", false},
		"null greeting":    {`{"QMP": null}` + "\n", false},
		"cut":              {start + `{"return": {`, false},
		"never an answer":  {start + strings.Repeat(`{"event": "X"}`+"\n", 10000), false},
		"another ID":       {start + `{"return": {}, "id": 7}` + "\n", false},
		"neither":          {start + `{"id": 2}` + "\n", false},
		"not JSON":         {start + "\x00\xff\n", false},
		"a long line":      {start + `{"id": 2, "return": "` + strings.Repeat("x", maxMessage) + `"}` + "\n", false},
		"without an end":   {strings.Repeat("x", maxMessage+1), false},
		"the longest line": {start + `{"id": 2, "return": "` + strings.Repeat("x", maxMessage-30) + `"}` + "\n", true},
		"deep":             {start + `{"id": 2, "return": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}\n", false},
		"a long account":   {start + `{"id": 2, "error": {"class": "G", "desc": "` + strings.Repeat("x", 1<<20) + `"}}` + "\n", false},
	} {
		result, err := hear(t, []byte(tt.said))
		if (err == nil) != tt.ok || err != nil && len(err.Error()) > 4*maxDesc {
			t.Errorf("%s: %.40q, %.200v", what, result, err)
		}
	}
}
