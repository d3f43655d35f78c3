// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Source is where a machine's output comes from: a socket or a pipe.
type Source interface {
	SyscallConn() (syscall.RawConn, error)
}

// wakeEvery is the shortest time between two looks at a stream: a serial port gives byte by byte.
const wakeEvery = 5 * time.Millisecond

// errQuota is output that a run is not allowed.
var errQuota = errors.New("the run's output is at its limit")

// quota is how much a run may still write to the host's disk, in bytes.
type quota struct{ left int64 }

// take takes up to n bytes.
func (q *quota) take(n int64) int64 {
	n = max(min(n, q.left), 0)
	q.left -= n
	return n
}

// stream takes what comes from a source, into a log and line by line. A source without a reader has to wait: that holds
// a guest back which writes faster than the host can take it, and for good when its quota is used up.
type stream struct {
	raw   syscall.RawConn // nil: nothing comes
	log   io.Writer
	quota *quota
	lines lines
	tee   func([]byte) // sees every byte; may be nil
	drop  bool         // read on without a log when the quota is used up
	total int64
	ended atomic.Bool
	buf   []byte
}

func newStream(src Source, log io.Writer, q *quota, maxLine int) (*stream, error) {
	s := &stream{log: log, quota: q, lines: lines{max: maxLine}, buf: make([]byte, chunkSize)}
	if src == nil {
		s.ended.Store(true)
		return s, nil
	}
	raw, err := src.SyscallConn()
	s.raw = raw
	return s, err
}

// poll takes what is there, up to 256 KiB, without waiting. errQuota: the log has all that it may have.
func (s *stream) poll(emit Emit) (n int, err error) {
	if s.ended.Load() {
		return 0, nil
	}
	size := int64(len(s.buf))
	if !s.drop {
		size = min(size, s.quota.left)
	}
	if size <= 0 {
		s.ended.Store(true)
		return 0, errQuota
	}
	if n, err = s.read(s.buf[:size]); n == 0 {
		return 0, err
	}
	s.total += int64(n)
	if kept := s.quota.take(int64(n)); kept > 0 {
		_, err = s.log.Write(s.buf[:kept])
	}
	if s.tee != nil {
		s.tee(s.buf[:n])
	}
	s.lines.feed(s.buf[:n], emit)
	return n, err
}

// read reads without waiting.
func (s *stream) read(b []byte) (n int, err error) {
	// Control and not Read, which waits for await.
	failed := s.raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), b) })
	switch {
	case failed != nil: // closed
		s.ended.Store(true)
		return 0, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ECONNRESET): // a pty, or a socket, whose other end is gone
		n, err = 0, nil
	}
	if n <= 0 {
		s.ended.Store(true)
		n = 0
	}
	if err != nil {
		err = fmt.Errorf("read what the machine writes: %w", err)
	}
	return n, err
}

// await sends on wake when there is something to read, until the stream or ctx ends.
func (s *stream) await(ctx context.Context, wake chan<- struct{}) {
	for !s.ended.Load() {
		err := s.raw.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil {
			return
		}
		select {
		case wake <- struct{}{}:
		case <-ctx.Done():
			return
		}
		time.Sleep(wakeEvery)
	}
}

// replay gives what a log already holds to emit.
func (s *stream) replay(f *os.File, emit Emit) error {
	for {
		n, err := f.Read(s.buf)
		s.lines.feed(s.buf[:n], emit)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
	}
}
