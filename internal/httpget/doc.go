// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package httpget fetches files over plain HTTP without net/http, which alone would take more than half of the size
// that the guest's agent may have.
//
// Get makes one request; Download tries a list of addresses until a file with the wanted sha256 stands under its final
// name. The client speaks HTTP/1.1 with "Connection: close" (RFC 9112), follows redirects, takes up a download in the
// middle, and understands bodies with a length, chunked ones and those that end with the connection. It trusts no
// server: every line, header, body and wait is bounded, and only the sha256 makes a file count.
//
// It never speaks TLS: an address or a redirect that needs it is the error ErrNeedsTLS, for which the caller has curl.
// It keeps no connections, no cookies and no credentials, and reads no proxy settings. The guest's agent calls it.
package httpget
