// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Reader walks over a container from its first byte to its last file, strictly forward. It checks form, not content:
// Import and Verify hold the files against SHA256SUMS. It never reads behind the buffer that holds the last file's end.
type Reader struct {
	src    *bufio.Reader
	seeker io.Seeker // nil when data that nobody wants has to be read past
	offset int64     // of the next byte that src gives, from the start of the container
	wide   bool
	count  int // files in all
	next   int // index of the file that Next will return
	names  nameSet
	file   Header
	left   int64 // bytes of file not read yet
	err    error // sticky: after an error nothing of the rest can be trusted
}

// NewReader reads the magic and the number of files. r must stand at the container's first byte. Errors wrap
// ErrNotPayload when the magic is not there, ErrTruncated or ErrLimit otherwise.
//
// When r is an io.Seeker that can seek (a file or a disk), data that nobody reads is jumped over.
func NewReader(r io.Reader) (*Reader, error) {
	p := &Reader{src: bufio.NewReaderSize(r, BufferSize)}
	if s, ok := r.(io.Seeker); ok {
		if _, err := s.Seek(0, io.SeekCurrent); err == nil {
			p.seeker = s
		}
	}
	if err := p.readPreamble(); err != nil {
		return nil, err
	}
	return p, nil
}

// Count returns the number of files in the container, SHA256SUMS included.
func (p *Reader) Count() int { return p.count }

// Wide reports whether the container's numbers are u64; otherwise they are u32, as in the older draft.
func (p *Reader) Wide() bool { return p.wide }

func (p *Reader) readPreamble() error {
	head, err := p.src.Peek(16)
	if len(head) < len(Magic) || string(head[:len(Magic)]) != Magic {
		if err != nil && !errors.Is(err, io.EOF) {
			return p.fail(err)
		}
		return p.fail(ErrNotPayload)
	}
	if len(head) < 16 {
		p.offset = int64(len(head))
		return p.fail(endOf(err))
	}
	p.wide = binary.LittleEndian.Uint32(head[12:]) == 0
	count := binary.LittleEndian.Uint32(head[8:])
	p.offset = 8
	if count > MaxFiles {
		return p.fail(fmt.Errorf("%w: %d files, at most %d are allowed", ErrLimit, count, MaxFiles))
	}
	p.count = int(count)
	used := 12
	if p.wide {
		used = 16
	}
	_, err = p.src.Discard(used)
	p.offset = int64(used)
	return err
}

// Next goes to the next file, over what is left of the current one. At the end it returns io.EOF. Errors wrap
// ErrTruncated, ErrLimit, ErrName or ErrDuplicate, or what the underlying reader said.
func (p *Reader) Next() (Header, error) {
	if p.err != nil {
		return Header{}, p.err
	}
	if err := p.skip(); err != nil {
		return Header{}, err
	}
	if p.next == p.count {
		return Header{}, io.EOF
	}
	p.file = Header{Index: p.next}
	nameLen, size, err := p.readLengths()
	if err != nil {
		return Header{}, p.fail(err)
	}
	nameAt := p.offset
	name := make([]byte, nameLen)
	if err := p.readFull(name); err != nil {
		return Header{}, p.fail(err)
	}
	p.file.Name = string(name)
	if err := p.checkHeader(p.file.Name, size); err != nil {
		return Header{}, p.failAt(nameAt, err)
	}
	p.file.Size, p.file.Offset, p.left = int64(size), p.offset, int64(size)
	p.next++
	return p.file, nil
}

// checkHeader holds a name and a size against the limits.
func (p *Reader) checkHeader(name string, size uint64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if size > MaxSize {
		return fmt.Errorf("%w: %d bytes in one file, at most %d are allowed", ErrLimit, size, MaxSize)
	}
	return p.names.add(name)
}

// readLengths reads the two numbers before a name. The length of the name is checked, because it is needed next.
func (p *Reader) readLengths() (nameLen, size uint64, err error) {
	var buf [16]byte
	if p.wide {
		if err := p.readFull(buf[:]); err != nil {
			return 0, 0, err
		}
		nameLen, size = binary.LittleEndian.Uint64(buf[:]), binary.LittleEndian.Uint64(buf[8:])
	} else {
		if err := p.readFull(buf[:8]); err != nil {
			return 0, 0, err
		}
		nameLen, size = uint64(binary.LittleEndian.Uint32(buf[:])), uint64(binary.LittleEndian.Uint32(buf[4:]))
	}
	if nameLen == 0 || nameLen > MaxName {
		return 0, 0, fmt.Errorf("%w: length %d, 1 to %d are allowed", ErrName, nameLen, MaxName)
	}
	return nameLen, size, nil
}

// Read reads from the current file and returns io.EOF at its end. A container that ends before the file does gives an
// error that wraps ErrTruncated.
func (p *Reader) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if p.left == 0 {
		return 0, io.EOF
	}
	if int64(len(b)) > p.left {
		b = b[:p.left]
	}
	n, err := p.src.Read(b)
	p.offset += int64(n)
	p.left -= int64(n)
	if err != nil {
		return n, p.fail(endOf(err))
	}
	return n, nil
}

// skip goes over what is left of the current file: by seeking when that is possible and worth it, all but the last
// byte, whose reading shows that the file is really there.
func (p *Reader) skip() error {
	far := p.left - int64(p.src.Buffered()) - 1
	if p.seeker != nil && far > BufferSize {
		p.offset += int64(p.src.Buffered()) + far
		if _, err := p.seeker.Seek(far, io.SeekCurrent); err != nil {
			return p.fail(err)
		}
		p.src.Reset(p.seeker.(io.Reader))
		p.left = 1
	}
	for p.left > 0 {
		n, err := p.src.Discard(int(min(p.left, BufferSize)))
		p.offset += int64(n)
		p.left -= int64(n)
		if err != nil {
			return p.fail(endOf(err))
		}
	}
	return nil
}

// readFull reads the whole of b and counts what it read, also when that was less.
func (p *Reader) readFull(b []byte) error {
	n, err := io.ReadFull(p.src, b)
	p.offset += int64(n)
	if err != nil {
		return endOf(err)
	}
	return nil
}

// fail wraps err with the place where the reader stands, and keeps it.
func (p *Reader) fail(err error) error { return p.failAt(p.offset, err) }

// failAt does the same for another place.
func (p *Reader) failAt(offset int64, err error) error {
	p.err = &Error{File: p.file.Name, Offset: offset, Err: err}
	return p.err
}

// endOf turns the end of the underlying reader, which is always too early, into ErrTruncated.
func endOf(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}
