// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package powercut is a disk for tests that loses what was not flushed when its power goes: an NBD server for QEMU
// (NetworkBlockDevice, doc/proto.md) with a volatile write cache. At a cut every sector that was written since the last
// flush has, by chance, its old content or any of those that were written since, as a real disk may leave it; the machine
// that uses the disk is killed. Sectors have 512 bytes, as those of an IDE disk, so a larger write can be torn.
//
// Writes can be made to fail as well, by what is in them.
//
// It is for tests only, serves one machine at a time, and trusts its peer no further than not to end the test program.
package powercut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Disk is a served image file.
type Disk struct {
	path     string
	listener net.Listener
	finished sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand
	file   *os.File
	dirty  map[int64][][]byte // by sector: its contents since the last flush, oldest first
	peer   int                // process of the machine that uses it, 0 for none
	conn   net.Conn
	dead   bool // the power is off until the next machine comes
	writes int64
	left   int64  // writes until the power goes; 0: never
	lost   int64  // sectors that have not their newest content
	refuse []byte // writes with this in them fail
	err    error
}

const sectorSize = 512

// Serve serves the image at path on a unix socket. The image need not exist before a machine comes. The same seed and
// the same writes give the same loss.
func Serve(path, socket string, seed uint64) (*Disk, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	d := &Disk{path: path, listener: l, random: rand.New(rand.NewPCG(seed, 1)), dirty: make(map[int64][][]byte)}
	d.finished.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			d.serve(c)
		}
	})
	return d, nil
}

// Close ends the server and gives the first thing that went wrong in it.
func (d *Disk) Close() error {
	err := d.listener.Close()
	d.mu.Lock()
	if d.conn != nil {
		err = errors.Join(err, d.conn.Close())
	}
	d.mu.Unlock()
	d.finished.Wait()
	return errors.Join(err, d.err)
}

// CutAfter lets the power go with the n-th write from now on; 0 takes that back.
func (d *Disk) CutAfter(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

// Refuse makes every write that has mark in it fail with an I/O error and change nothing, until it is called with nil.
func (d *Disk) Refuse(mark []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = bytes.Clone(mark)
}

// Writes is how many writes there have been in all.
func (d *Disk) Writes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// Lost is how many sectors have lost their newest content in all cuts.
func (d *Disk) Lost() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// Cut lets the power go now. It does nothing without a machine.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut()
}

func (d *Disk) cut() {
	if d.peer == 0 || d.dead {
		return
	}
	d.dead, d.left = true, 0
	sectors := make([]int64, 0, len(d.dirty))
	for s := range d.dirty {
		sectors = append(sectors, s)
	}
	slices.Sort(sectors) // so that a seed means something
	for _, s := range sectors {
		versions := d.dirty[s]
		n := d.random.IntN(len(versions) + 1)
		if n < len(versions) {
			d.lost++
		}
		if n > 0 {
			_, err := d.file.WriteAt(versions[n-1], s*sectorSize)
			d.note(err)
		}
	}
	clear(d.dirty)
	d.note(syscall.Kill(d.peer, syscall.SIGKILL)) // last: whoever waits for the machine's end finds the disk at rest
	_ = d.conn.Close()
}

func (d *Disk) note(err error) {
	if d.err == nil && err != nil && !errors.Is(err, syscall.ESRCH) {
		d.err = err
	}
}

// serve talks to one machine until it is gone.
func (d *Disk) serve(c *net.UnixConn) {
	defer c.Close()
	if err := d.begin(c); err != nil {
		d.mu.Lock()
		d.note(err)
		d.mu.Unlock()
		return
	}
	err := d.handshake(c)
	for err == nil {
		err = d.request(c)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead { // it has ended by itself: nothing is lost
		d.flush()
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
			d.note(err)
		}
	}
	d.note(d.file.Close())
	d.peer, d.conn = 0, nil
}

// begin opens the image and learns who is there.
func (d *Disk) begin(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return errors.Join(err, credErr)
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.file, d.peer, d.conn, d.dead = f, int(cred.Pid), c, false
	return nil
}

// The protocol's numbers.
const (
	magicInit   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption = 0x49484156454f5054 // "IHAVEOPT"
	magicReply  = 0x3e889045565a9

	optAbort = 2
	optInfo  = 6
	optGo    = 7

	replyAck   = 1
	replyInfo  = 3
	replyUnsup = 1<<31 + 1

	magicRequest  = 0x25609513
	magicResponse = 0x67446698

	cmdRead  = 0
	cmdWrite = 1
	cmdDisc  = 2
	cmdFlush = 3
	flagFUA  = 1
	errorIO  = 5

	sendsFlags, sendsFlush, sendsFUA = 1, 1 << 2, 1 << 3

	maxLength = 32 << 20
)

var be = binary.BigEndian

// errRefused is a write that a test wants to fail.
var errRefused = errors.New("the write is refused")

// handshake offers the one export there is, whatever its name.
func (d *Disk) handshake(c net.Conn) error {
	const fixedNewstyle = 1
	hello := be.AppendUint16(be.AppendUint64(be.AppendUint64(nil, magicInit), magicOption), fixedNewstyle)
	if _, err := c.Write(hello); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c, 4); err != nil { // the client's flags
		return err
	}
	for {
		var head [16]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return err
		}
		option, length := be.Uint32(head[8:]), be.Uint32(head[12:])
		if be.Uint64(head[:]) != magicOption || length > maxLength {
			return fmt.Errorf("NBD option: % x", head)
		}
		if _, err := io.CopyN(io.Discard, c, int64(length)); err != nil {
			return err
		}
		var answer []byte
		switch option {
		case optInfo, optGo:
			size, err := d.size()
			if err != nil {
				return err
			}
			info := be.AppendUint16(be.AppendUint64(be.AppendUint16(nil, 0), uint64(size)), sendsFlags|sendsFlush|sendsFUA)
			answer = append(reply(option, replyInfo, info), reply(option, replyAck, nil)...)
		case optAbort:
			answer = reply(option, replyAck, nil)
		default:
			answer = reply(option, replyUnsup, nil)
		}
		if _, err := c.Write(answer); err != nil || option == optGo {
			return err
		}
		if option == optAbort {
			return io.EOF
		}
	}
}

func reply(option, kind uint32, data []byte) []byte {
	out := be.AppendUint32(be.AppendUint64(nil, magicReply), option)
	return append(be.AppendUint32(be.AppendUint32(out, kind), uint32(len(data))), data...)
}

func (d *Disk) size() (int64, error) {
	info, err := d.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// request serves one request.
func (d *Disk) request(c net.Conn) error {
	var head [28]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	flags, command, handle := be.Uint16(head[4:]), be.Uint16(head[6:]), be.Uint64(head[8:])
	offset, length := int64(be.Uint64(head[16:])), int64(be.Uint32(head[24:]))
	if be.Uint32(head[:]) != magicRequest || length > maxLength || offset < 0 || offset%sectorSize != 0 || length%sectorSize != 0 {
		return fmt.Errorf("NBD request: % x", head)
	}
	var number uint32 // of the error
	data, more := make([]byte, length), []byte(nil)
	var err error
	switch command {
	case cmdRead:
		err = d.read(data, offset)
		more = data
	case cmdWrite:
		if _, err = io.ReadFull(c, data); err == nil {
			err = d.write(data, offset, flags&flagFUA != 0)
		}
		if errors.Is(err, errRefused) {
			number, err = errorIO, nil
		}
	case cmdFlush:
		d.mu.Lock()
		d.flush()
		d.mu.Unlock()
	case cmdDisc:
		return io.EOF
	default:
		return fmt.Errorf("NBD command %d", command)
	}
	if err == nil {
		answer := be.AppendUint64(be.AppendUint32(be.AppendUint32(nil, magicResponse), number), handle)
		_, err = c.Write(append(answer, more...))
	}
	return err
}

func (d *Disk) read(data []byte, offset int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.file.ReadAt(data, offset); err != nil {
		return err
	}
	for i := int64(0); i < int64(len(data)); i += sectorSize {
		if versions := d.dirty[(offset+i)/sectorSize]; len(versions) > 0 {
			copy(data[i:], versions[len(versions)-1])
		}
	}
	return nil
}

// write takes data into the cache; forced data goes to the disk itself.
func (d *Disk) write(data []byte, offset int64, force bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead:
		return io.EOF
	case len(d.refuse) > 0 && bytes.Contains(data, d.refuse):
		return errRefused
	}
	if force {
		if _, err := d.file.WriteAt(data, offset); err != nil {
			return err
		}
	}
	for content := range slices.Chunk(data, sectorSize) {
		if s := offset / sectorSize; force {
			delete(d.dirty, s)
		} else {
			d.dirty[s] = append(d.dirty[s], content) // the data are this request's own
		}
		offset += sectorSize
	}
	d.writes++
	if d.left > 0 {
		if d.left--; d.left == 0 {
			d.cut()
			return io.EOF
		}
	}
	return nil
}

// flush makes everything in the cache last.
func (d *Disk) flush() {
	if d.dead {
		return
	}
	for s, versions := range d.dirty {
		_, err := d.file.WriteAt(versions[len(versions)-1], s*sectorSize)
		d.note(err)
	}
	clear(d.dirty)
}
