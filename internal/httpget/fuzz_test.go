// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package httpget

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// headSeeds are heads that parse.
var headSeeds = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.0 404 Not Found\r\n\r\n",
	"HTTP/1.1 301\r\nLocation: /x\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\n" +
		"HTTP/1.1 206 Partial Content\nContent-Range: bytes 1-2/3\nTransfer-Encoding: chunked\n\n",
}

func FuzzReadHead(f *testing.F) {
	for _, s := range headSeeds {
		if _, err := readHead(bufio.NewReader(strings.NewReader(s))); err != nil {
			f.Fatalf("seed %q does not parse: %v", s, err)
		}
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := bytes.NewReader(data)
		h, err := readHead(bufio.NewReaderSize(src, 16))
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("error %v does not wrap %v", err, ErrProtocol)
			}
			checkOneLine(t, err)
			return
		}
		if read := len(data) - src.Len(); read > maxHead+16 {
			t.Errorf("%d bytes were read", read)
		}
		if h.status < 200 || h.status > 999 || len(h.reason) > maxReason {
			t.Errorf("status %d, reason %q", h.status, h.reason)
		}
		checkOneLine(t, errors.New(h.reason))
		if _, length, err := h.framing(); err == nil && length < -1 {
			t.Errorf("length %d", length)
		}
		if total, err := h.rangeTotal(1, -1); err == nil && total != -1 && total < 2 {
			t.Errorf("range from 1 in a file of %d bytes", total)
		}
	})
}

// TestHeadTruncated cuts heads at every byte: each cut is an error, and says so.
func TestHeadTruncated(t *testing.T) {
	for _, s := range headSeeds {
		end := strings.LastIndex(s, "\n") + 1
		for n := range end {
			if _, err := readHead(bufio.NewReader(strings.NewReader(s[:n]))); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q: got error %v, want %v", s[:n], err, io.ErrUnexpectedEOF)
			}
		}
	}
}

const chunkSeed = "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n"

func FuzzChunked(f *testing.F) {
	if got, err := io.ReadAll(newChunked(bufio.NewReader(strings.NewReader(chunkSeed)))); err != nil ||
		string(got) != "abc0123456789" {
		f.Fatalf("seed gives %q: %v", got, err)
	}
	f.Add([]byte(chunkSeed))
	f.Add([]byte("0\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := io.ReadAll(newChunked(bufio.NewReader(bytes.NewReader(data))))
		if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v is of no known kind", err)
		}
		if len(got) > len(data) {
			t.Errorf("%d bytes came out of %d", len(got), len(data))
		}
	})
}

func TestChunkedTruncated(t *testing.T) {
	for n := range len(chunkSeed) {
		got, err := io.ReadAll(newChunked(bufio.NewReader(strings.NewReader(chunkSeed[:n]))))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: got error %v, want %v", chunkSeed[:n], err, io.ErrUnexpectedEOF)
		}
		if !strings.HasPrefix("abc0123456789", string(got)) {
			t.Errorf("%q: got %q", chunkSeed[:n], got)
		}
	}
}
