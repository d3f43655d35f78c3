// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package event

import (
	"strconv"
	"unicode/utf8"
)

// appendJSON appends what encoding/json would write. A build prints lines by the hundred thousand, each of which is an
// event, on machines where reflection is felt: it was the largest part of what the agent does before its first step.
func (e Event) appendJSON(b []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, e.Seq, 10)
	b = append(b, `,"ms":`...)
	b = strconv.AppendInt(b, e.TimeMS, 10)
	b = append(b, `,"kind":`...)
	b = appendString(b, string(e.Kind))
	b = appendText(b, `,"name":`, e.Name)
	b = appendText(b, `,"step":`, e.Step)
	b = appendNumber(b, `,"n":`, int64(e.Number))
	b = appendText(b, `,"status":`, string(e.Status))
	b = appendText(b, `,"reason":`, string(e.Reason))
	b = appendNumber(b, `,"exit":`, int64(e.Exit))
	b = appendNumber(b, `,"duration_ms":`, e.DurationMS)
	b = appendNumber(b, `,"done":`, e.Done)
	b = appendNumber(b, `,"total":`, e.Total)
	b = appendText(b, `,"text":`, e.Text)
	return append(b, '}')
}

// appendNumber appends a member, unless it is 0.
func appendNumber(b []byte, member string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, member...), n, 10)
}

// appendText appends a member, unless it is empty.
func appendText(b []byte, member, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(append(b, member...), s)
}

// appendString appends a JSON string (RFC 8259, 7). As encoding/json does, it escapes U+2028 and U+2029, which JavaScript
// takes for ends of lines, and puts U+FFFD in the place of bytes that are no UTF-8.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20, r == utf8.RuneError, r == 0x2028, r == 0x2029:
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
