// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package mirror serves one folder over HTTP, read-only: the distfile mirror of a run, which the guest reaches
// through package usernet, or on the host's loopback.
//
// It answers GET and HEAD for regular files below the folder and nothing else: no listing, no directory, nothing
// outside the folder even through symbolic links (os.Root). It never writes, and trusts nothing in a request. It is
// called by host, which starts one server for each run that needs one.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"
	"time"
)

// DefaultAddr is a free port that only this machine can reach.
const DefaultAddr = "127.0.0.1:0"

// Times a client may take. A guest under emulation hashes while it reads, at a few MB/s, so a whole download has no
// limit; one write of at most 32 KiB has.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	idleTimeout   = 60 * time.Second
	writeTimeout  = 60 * time.Second
	drainTimeout  = 2 * time.Second
)

const maxHeaderBytes = 16 << 10

// Request tells about one finished request.
type Request struct {
	Method string
	Path   string // as the client wrote it, cut to 1024 bytes: untrusted text, clean it before it meets a terminal
	Status int
	Bytes  int64 // of the body, as sent
}

// maxLoggedPath is the longest path, in bytes, that a Request carries.
const maxLoggedPath = 1024

// Options of a server.
type Options struct {
	Dir      string        // the folder to serve
	Addr     string        // host:port to listen on; empty is DefaultAddr
	Listener net.Listener  // to serve on instead, such as one inside a guest's network
	Log      func(Request) // called once after each request, from several goroutines; nil is silent
}

// Server is a running mirror.
type Server struct {
	addr *net.TCPAddr
	done chan struct{}
	err  error
}

// Serve starts a mirror. When ctx ends, the server stops listening, lets running downloads go on for two seconds, then
// cuts them. A caller that needs the port free again waits with Wait.
func Serve(ctx context.Context, opt Options) (*Server, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("mirror of %s: %w", opt.Dir, err)
	}
	root, err := os.OpenRoot(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("mirror of %s: %w", opt.Dir, err)
	}
	l := opt.Listener
	if l == nil {
		addr := opt.Addr
		if addr == "" {
			addr = DefaultAddr
		}
		var lc net.ListenConfig
		if l, err = lc.Listen(ctx, "tcp", addr); err != nil {
			return nil, errors.Join(fmt.Errorf("mirror of %s: %w", opt.Dir, err), root.Close())
		}
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.Join(fmt.Errorf("mirror of %s: no TCP address: %s", opt.Dir, l.Addr()), l.Close(),
			root.Close())
	}
	s := &Server{addr: tcp, done: make(chan struct{})}
	go s.run(ctx, root, l, opt.Log)
	return s, nil
}

// run serves until ctx ends or the listener fails, then releases everything and closes done.
func (s *Server) run(ctx context.Context, root *os.Root, l net.Listener, log func(Request)) {
	defer close(s.done)
	srv := &http.Server{
		Handler:           &handler{root: root, log: log},
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		if errors.Is(err, net.ErrClosed) { // whoever made the listener has closed it
			s.err = errors.Join(srv.Close(), root.Close())
			return
		}
		s.err = errors.Join(fmt.Errorf("mirror on %s: %w", s.addr, err), srv.Close(), root.Close())
	case <-ctx.Done():
		s.err = errors.Join(drain(ctx, srv), root.Close())
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			s.err = errors.Join(s.err, fmt.Errorf("mirror on %s: %w", s.addr, err))
		}
	}
}

// drain ends the server: politely for drainTimeout, then at once. Cut downloads are no error.
func drain(ctx context.Context, srv *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return srv.Close()
	}
	return err
}

// Port is the TCP port the server listens on.
func (s *Server) Port() int { return s.addr.Port }

// Addr is the address the server listens on, as host:port.
func (s *Server) Addr() string { return s.addr.String() }

// URL is the mirror's address as this machine sees it, without a final slash.
func (s *Server) URL() string { return "http://" + s.addr.String() }

// Done is closed when the server has ended and its port is free.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait waits until the server has ended and gives the reason: nil when its context ended.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// handler answers requests for files below root.
type handler struct {
	root *os.Root
	log  func(Request)
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, control: http.NewResponseController(w)}
	h.serve(rec, r)
	if h.log == nil {
		return
	}
	name := r.URL.Path
	if len(name) > maxLoggedPath {
		name = name[:maxLoggedPath]
	}
	h.log(Request{Method: r.Method, Path: name, Status: rec.status, Bytes: rec.bytes})
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name, ok := fileName(r.URL.Path)
	if !ok {
		http.Error(w, "bad path", http.StatusBadRequest)
		return
	}
	f, info, err := h.open(name)
	if err != nil {
		// One answer for missing, outside, unreadable and not regular: a client learns nothing about the host.
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// fileName turns a request path into a name below the root. It accepts exactly one leading slash and no empty, "." or
// ".." element: a mirror's addresses are literal file names.
func fileName(urlPath string) (string, bool) {
	name, ok := strings.CutPrefix(urlPath, "/")
	if !ok || name == "" || name == "." || !fs.ValidPath(name) || strings.ContainsAny(name, "\x00\\") {
		return "", false
	}
	return path.Clean(name), true
}

// open opens a regular file. O_NONBLOCK keeps a named pipe in the folder from blocking the request for ever.
func (h *handler) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := h.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: no regular file", name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// recorder notes status and body size, and gives every write its own deadline.
type recorder struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	bytes   int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if err := r.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}
