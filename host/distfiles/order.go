// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// demotedAfter is how many failures in a row, of a connection and not of a file, put a server behind all others.
const demotedAfter = 2

// address is one place where a file may be.
type address struct {
	url    *url.URL
	server string // what fails as a whole: a mirror, or the host of an origin
}

func (a address) String() string { return a.url.Redacted() }

// parseMirror checks the address of a mirror.
func parseMirror(mirror string) (*url.URL, error) {
	u, err := url.Parse(mirror)
	switch {
	case err != nil:
		return nil, fmt.Errorf("mirror %q: no address", mirror)
	case u.Scheme == "file" && (u.Host != "" || !strings.HasPrefix(u.Path, "/")):
		return nil, fmt.Errorf("mirror %q: must be an absolute path: write file:///folder", mirror)
	case u.Scheme == "file":
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return nil, fmt.Errorf("mirror %q: must be http://..., https://... or file:///folder", mirror)
	}
	return u, nil
}

// addresses are the places of a file: the mirrors, then its origins. What is no address at all is told as a failure.
func addresses(w Want, mirrors []*url.URL, bad func(address, cause string)) (list []address) {
	for _, m := range mirrors {
		list = append(list, address{url: m.JoinPath(url.PathEscape(w.Name)), server: m.String()})
	}
	for _, origin := range w.Origins {
		if origin == NoOrigin {
			continue
		}
		u, err := url.Parse(origin)
		switch {
		case err != nil:
			bad(clean(origin), "is no address")
		case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
			bad(clean(origin), "only http:// and https:// origins can be downloaded")
		default:
			list = append(list, address{url: u, server: u.Scheme + "://" + u.Host})
		}
	}
	return list
}

// shuffle puts mirrors into an order of their own for each file, the same for the same seed. 0 leaves them alone.
func shuffle(mirrors []*url.URL, seed uint64, name string) []*url.URL {
	if seed == 0 {
		return mirrors
	}
	sum := sha256.Sum256([]byte(name))
	r := rand.New(rand.NewPCG(seed, binary.LittleEndian.Uint64(sum[:8])))
	mirrors = slices.Clone(mirrors)
	r.Shuffle(len(mirrors), func(i, j int) { mirrors[i], mirrors[j] = mirrors[j], mirrors[i] })
	return mirrors
}

// demote puts the addresses on servers that have failed too often behind the others, origins included.
func demote(list []address, demoted func(server string) bool) []address {
	var good, bad []address
	for _, a := range list {
		if demoted(a.server) {
			bad = append(bad, a)
		} else {
			good = append(good, a)
		}
	}
	return append(good, bad...)
}

// health counts the failures in a row of each server.
type health struct {
	mu       sync.Mutex
	failures map[string]int
}

// note takes the end of an attempt into account: any answer shows that a server is alive.
func (h *health) note(server string, alive bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if alive {
		h.failures[server] = 0
		return
	}
	h.failures[server]++
}

// demoted reports whether a server comes after all others.
func (h *health) demoted(server string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures[server] >= demotedAfter
}
