// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
)

// reach is how far away the machines are that can have an address. A server may redirect to what is as far away as
// itself or farther: otherwise anyone on the internet could have this machine ask its own services, or its neighbours.
type reach int

const (
	public    reach = iota
	private         // RFC 1918, RFC 4193, and the shared addresses of RFC 6598
	linkLocal       // also a cloud's metadata service
	loopback
)

func (r reach) String() string {
	return [...]string{"a public", "a private", "a link-local", "a loopback"}[r] + " address"
}

// hostReach judges an address as this host sees it now.
func hostReach(a netip.Addr) reach {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return loopback // nothing is far when the near is not known
	}
	var own []netip.Prefix
	for _, addr := range list {
		if p, err := netip.ParsePrefix(addr.String()); err == nil {
			own = append(own, p)
		}
	}
	return reachOf(a, own)
}

// reachOf judges an address for a host that has the addresses own, in networks of these sizes.
func reachOf(a netip.Addr, own []netip.Prefix) reach {
	a = a.Unmap()
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)
	near := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case a.IsLoopback(), a.IsUnspecified(), // Linux connects 0.0.0.0 to itself
		slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr().Unmap() == a }):
		return loopback
	case a.IsLinkLocalUnicast(), a.IsMulticast(), isMetadata(a):
		return linkLocal
	case a.IsPrivate(), shared.Contains(a), slices.ContainsFunc(own, near):
		return private
	}
	return public
}

// isMetadata reports the metadata services of clouds (Azure, Alibaba, Oracle) whose addresses are not link-local.
func isMetadata(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{168, 63, 129, 16}) || a == netip.AddrFrom4([4]byte{100, 100, 100, 200}) ||
		a == netip.AddrFrom4([4]byte{192, 0, 0, 192})
}

// redirectError is a redirect that is not followed because of where it leads.
type redirectError struct {
	from, to *url.URL
	reach    reach
	limit    reach
}

func (e *redirectError) Error() string {
	return fmt.Sprintf("%v: from %s, %s, to %s, %s", errRedirect, e.from.Redacted(), e.limit, e.to.Redacted(), e.reach)
}

func (e *redirectError) Unwrap() error { return errRedirect }

// hop is one request of a chain of redirects.
type hop struct {
	from, to *url.URL // from is nil at the start of a chain
	limit    reach    // of the server that redirected here
	reached  reach    // of the server that was asked
	proxied  bool     // the addresses dialled are those of a proxy
}

// hopKey is where a request's context has its hop.
type hopKey struct{}

// check is the whole rule.
func (h *hop) check(r reach) error {
	if h.from != nil && r > h.limit {
		return &redirectError{from: h.from, to: h.to, reach: r, limit: h.limit}
	}
	return nil
}

// guard keeps redirects from coming nearer, by the addresses that are dialled: a name can mean anything. Requests that
// a redirect has made share no connections, so that each of them is dialled for itself.
type guard struct {
	first, redirected *http.Transport
	reachOf           func(netip.Addr) reach
}

func newGuard(reachOf func(netip.Addr) reach) *guard {
	g := &guard{reachOf: reachOf}
	dialer := &net.Dialer{Timeout: connectTimeout, ControlContext: g.control}
	g.first, g.redirected = newTransport(dialer), newTransport(dialer)
	g.redirected.DisableKeepAlives = true
	g.redirected.ForceAttemptHTTP2 = false // HTTP/2 shares connections
	return g
}

// RoundTrip implements http.RoundTripper. req.Response is the redirect that made the request.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	h := &hop{to: req.URL}
	transport := g.first
	if req.Response != nil {
		transport = g.redirected
		h.from = req.Response.Request.URL
		if last, ok := req.Response.Request.Context().Value(hopKey{}).(*hop); ok {
			h.limit = last.reached
		}
	}
	proxy, err := transport.Proxy(req)
	if err != nil {
		return nil, err
	}
	if h.proxied = proxy != nil; h.proxied {
		// A proxy looks names up by itself; only an address in the URL can be judged here.
		if a, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
			h.reached = g.reachOf(a)
		}
		if err := h.check(h.reached); err != nil {
			return nil, err
		}
	}
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if a, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil && !h.proxied {
			h.reached = g.reachOf(a.Addr())
		}
	}}
	ctx := httptrace.WithClientTrace(context.WithValue(req.Context(), hopKey{}, h), trace)
	req = req.WithContext(ctx)
	resp, err := transport.RoundTrip(req)
	var refused *redirectError
	if errors.As(err, &refused) {
		return nil, refused // without what the dialer says around it
	}
	if resp != nil {
		resp.Request = req // with the hop, for the next one
	}
	return resp, err
}

// control refuses addresses before they are connected to.
func (g *guard) control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	h, ok := ctx.Value(hopKey{}).(*hop)
	if !ok || h.proxied {
		return nil
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return h.check(g.reachOf(a.Addr()))
}

// CloseIdleConnections is what http.Client looks for.
func (g *guard) CloseIdleConnections() {
	g.first.CloseIdleConnections()
	g.redirected.CloseIdleConnections()
}
