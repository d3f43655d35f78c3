// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"kindling/host/mirror"
	"kindling/internal/event"
)

// mirrorCmd is "kindling mirror": it serves a folder of distfiles over HTTP until it is interrupted.
type mirrorCmd struct {
	Dir    string `arg:"" help:"The folder to serve, read-only."`
	Listen string `help:"Where to listen; an empty address is every one, port 0 a free one." default:"127.0.0.1:0" placeholder:"ADDR:PORT"`
	JSON   bool   `help:"Print JSON lines." name:"json"`
}

// Help implements kong.HelpProvider.
func (mirrorCmd) Help() string {
	return examples(
		"kindling mirror ~/distfiles", "serve a folder to this machine, at a free port",
		"kindling mirror ~/distfiles --listen :8080", "serve it to every machine that gets here",
	)
}

// mirrorLine is one line of --json: the first has the address, every other one a request.
type mirrorLine struct {
	URL    string `json:"url,omitempty"`
	Folder string `json:"folder,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Status int    `json:"status,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
}

// Run serves until ctx ends, which is how it is meant to end.
func (c *mirrorCmd) Run(ctx context.Context, out io.Writer) error {
	if err := checkListen(c.Listen); err != nil {
		return inputError(err)
	}
	log := &requestLog{out: out, json: c.JSON}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	// A request may come before the address has been printed.
	log.mu.Lock()
	server, err := mirror.Serve(serving, mirror.Options{Dir: c.Dir, Addr: c.Listen, Log: log.request})
	if err == nil {
		log.begin(c.Dir, server.URL())
	}
	log.mu.Unlock()
	if err != nil {
		if ctx.Err() != nil {
			return nil // it was ended before it began
		}
		return inputError(err)
	}
	if log.err != nil {
		stop()
		_ = server.Wait()
		return fmt.Errorf("print the address: %w", log.err)
	}
	return server.Wait()
}

// checkListen reports an address that net would misunderstand or explain badly.
func checkListen(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--listen %q: write ADDRESS:PORT, as in 127.0.0.1:8080", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("--listen %q: %q is no port: write a number from 0 to 65535", addr, port)
	}
	if host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("--listen %q: %q is no address of a machine: write numbers, as in 127.0.0.1", addr, host)
	}
	return nil
}

// requestLog prints requests, one line each. What it cannot print it drops: a mirror outlives its audience.
type requestLog struct {
	mu   sync.Mutex
	out  io.Writer
	json bool
	err  error
}

// begin prints the address; mu is held.
func (l *requestLog) begin(dir, url string) {
	if l.json {
		l.err = json.NewEncoder(jsonWriter{rawWriter(l.out)}).Encode(mirrorLine{URL: url, Folder: dir})
		return
	}
	_, l.err = fmt.Fprintf(l.out, "%s serves %s\n", url, event.Clean(dir))
}

func (l *requestLog) request(r mirror.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := mirrorLine{Method: event.Clean(r.Method), Path: event.Clean(r.Path), Status: r.Status, Bytes: r.Bytes}
	if l.json {
		_ = json.NewEncoder(jsonWriter{rawWriter(l.out)}).Encode(line)
		return
	}
	_, _ = fmt.Fprintf(l.out, "%d %s %s %d\n", line.Status, line.Method, line.Path, line.Bytes)
}
