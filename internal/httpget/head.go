// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package httpget

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of an answer's head.
const (
	maxHead     = 64 << 10 // bytes, interim answers included
	maxLine     = 16 << 10 // bytes of one line
	maxHeaders  = 128
	maxInterim  = 8  // 1xx answers before the real one
	maxReason   = 80 // bytes of a reason phrase that are kept
	protocol    = "HTTP/1."
	headerBytes = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" // of a name, in lower case (RFC 9110, 5.6.2)
)

// head is the status line and the header fields of an answer.
type head struct {
	status  int
	reason  string
	headers map[string][]string // by lower-case name; only the fields that this package reads
}

// one returns the value of a field that may occur once, "" when it is missing. A repetition of the same value is
// forgiven (RFC 9110, section 8.6), different values are an error.
func (h head) one(name string) (string, error) {
	values := h.headers[name]
	if len(values) == 0 {
		return "", nil
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return "", fmt.Errorf("%w: header %s twice, with different values", ErrProtocol, name)
		}
	}
	return values[0], nil
}

// readHead reads the head of an answer, passing over interim ones (1xx). Its grammar, from RFC 9112, with LF accepted
// in the place of CRLF:
//
//	head   = "HTTP/1." DIGIT SP 3DIGIT [ SP reason ] CRLF *( field CRLF ) CRLF
//	field  = name ":" OWS value OWS
func readHead(r *bufio.Reader) (head, error) {
	budget := maxHead
	for range maxInterim + 1 {
		h, err := readOneHead(r, &budget)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: head cut short: %w", ErrProtocol, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return head{}, err
		}
		if h.status >= 200 {
			return h, nil
		}
	}
	return head{}, fmt.Errorf("%w: more than %d interim answers", ErrProtocol, maxInterim)
}

func readOneHead(r *bufio.Reader, budget *int) (head, error) {
	line, err := readLine(r, budget)
	if err != nil {
		return head{}, err
	}
	h, err := parseStatus(line)
	if err != nil {
		return head{}, err
	}
	h.headers = make(map[string][]string)
	for range maxHeaders + 1 {
		line, err := readLine(r, budget)
		if err != nil || len(line) == 0 {
			return h, err
		}
		if err := h.addField(line); err != nil {
			return head{}, err
		}
	}
	return head{}, fmt.Errorf("%w: more than %d header fields", ErrProtocol, maxHeaders)
}

// readLine reads a line without its end and takes it off the budget.
func readLine(r *bufio.Reader, budget *int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		*budget -= len(part)
		if *budget < 0 || len(line) > maxLine {
			return nil, fmt.Errorf("%w: head longer than %d bytes, or a line longer than %d", ErrProtocol, maxHead, maxLine)
		}
		if err == nil {
			return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

func parseStatus(line []byte) (head, error) {
	bad := fmt.Errorf("%w: status line %.60q", ErrProtocol, line)
	version, rest, ok := bytes.Cut(line, []byte{' '})
	digit, isHTTP := bytes.CutPrefix(version, []byte(protocol))
	if !ok || !isHTTP || len(digit) != 1 || digit[0] < '0' || digit[0] > '9' {
		return head{}, bad
	}
	code, reason, _ := bytes.Cut(rest, []byte{' '})
	if len(code) != 3 {
		return head{}, bad
	}
	status := 0
	for _, c := range code {
		if c < '0' || c > '9' {
			return head{}, bad
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return head{}, bad
	}
	return head{status: status, reason: cleanReason(string(reason))}, nil
}

// cleanReason keeps what is printable ASCII, because the text ends up on terminals and in logs.
func cleanReason(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(text[:min(len(text), maxReason)])
}

// addField parses a header field and keeps it if this package reads it.
func (h *head) addField(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte{':'})
	lower := strings.ToLower(string(name))
	if !ok || lower == "" || strings.Trim(lower, headerBytes) != "" {
		return fmt.Errorf("%w: header line %.60q", ErrProtocol, line)
	}
	switch lower {
	case "content-length", "content-range", "location", "transfer-encoding":
	default:
		return nil
	}
	text := strings.Trim(string(value), " \t")
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return fmt.Errorf("%w: control characters in header %s", ErrProtocol, lower)
	}
	h.headers[lower] = append(h.headers[lower], text)
	return nil
}
