// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import (
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// Loopback addresses that stand for others in tests.
const (
	publicHost  = "127.0.0.2"
	privateHost = "127.0.0.3"
	metaHost    = "127.0.0.4"
)

// pretend is reachOf with them.
func pretend(a netip.Addr) reach {
	switch a.String() {
	case publicHost:
		return public
	case privateHost:
		return private
	case metaHost:
		return linkLocal
	}
	return reachOf(a, nil)
}

// on starts a server on one of them.
func on(t *testing.T, host string, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func TestRedirect(t *testing.T) {
	const loopbackHost = "127.0.0.1"
	tests := []struct {
		chain []string // hosts; the last one has the file
		want  string   // of the error, "" for none; FROM and TO are the addresses of the last two
	}{
		{[]string{publicHost, publicHost}, ""},
		{[]string{loopbackHost, loopbackHost}, ""},
		{[]string{loopbackHost, publicHost}, ""},
		{[]string{privateHost, privateHost, publicHost}, ""},
		{[]string{loopbackHost}, ""},
		{[]string{publicHost, loopbackHost}, "redirect refused: from FROM/x, a public address, to TO/x, a loopback address"},
		{[]string{publicHost, privateHost}, "redirect refused: from FROM/x, a public address, to TO/x, a private address"},
		{[]string{publicHost, metaHost}, "redirect refused: from FROM/x, a public address, to TO/x, a link-local address"},
		{[]string{privateHost, metaHost}, "redirect refused: from FROM/x, a private address, to TO/x, a link-local address"},
		{[]string{privateHost, loopbackHost}, "redirect refused: from FROM/x, a private address, to TO/x, a loopback address"},
		{[]string{publicHost, publicHost, loopbackHost}, "redirect refused: from FROM/x, a public address, to TO/x, a loopback address"},
		{[]string{loopbackHost, publicHost, loopbackHost}, "redirect refused: from FROM/x, a public address, to TO/x, a loopback address"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.chain, " "), func(t *testing.T) {
			var asked atomic.Int32
			urls := make([]string, len(tt.chain))
			for i := len(tt.chain) - 1; i >= 0; i-- {
				handler := func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, urls[i+1]+"/x", http.StatusFound)
				}
				if i == len(tt.chain)-1 {
					handler = func(w http.ResponseWriter, r *http.Request) {
						asked.Add(1)
						content("data")(w, r)
					}
				}
				urls[i] = on(t, tt.chain[i], handler)
			}
			report, err := Fetch(t.Context(), []Want{{Name: "x", SHA256: sumOf("data")}}, Options{
				Dir: t.TempDir(), Mirrors: []string{urls[0]}, Limits: quick(), Client: newClient(pretend),
			})
			if tt.want == "" {
				if err != nil || asked.Load() != 1 {
					t.Errorf("%v, %+v", err, report.Files[0])
				}
				return
			}
			want := strings.NewReplacer("FROM", urls[len(urls)-2], "TO", urls[len(urls)-1]).Replace(tt.want)
			if a := report.Files[0].Attempts; !errors.Is(err, ErrIncomplete) || len(a) != 1 || a[0].Cause != want {
				t.Errorf("%v, %+v, want one attempt with %q", err, a, want)
			}
			if asked.Load() != 0 {
				t.Error("the server was asked all the same")
			}
		})
	}
}

// TestRedirectToKnownServer has an open connection to a mirror on loopback, which a public server must not get at.
func TestRedirectToKnownServer(t *testing.T) {
	local := on(t, "127.0.0.1", content("data"))
	far := on(t, publicHost, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, local+r.URL.Path, http.StatusFound)
	})
	client := newClient(pretend)
	for i, mirror := range []string{local, far, local} {
		_, err := Fetch(t.Context(), []Want{{Name: "x", SHA256: sumOf("data")}},
			Options{Dir: t.TempDir(), Mirrors: []string{mirror}, Limits: quick(), Client: client})
		if (err == nil) != (mirror == local) {
			t.Errorf("%d, %s: %v", i, mirror, err)
		}
	}
}

// TestRedirectByProxy has a proxy on loopback: what stands behind it is not on loopback.
func TestRedirectByProxy(t *testing.T) {
	local := on(t, "127.0.0.1", content("data"))
	target := local
	proxy := on(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/direct/") {
			content("data")(w, r)
			return
		}
		http.Redirect(w, r, target+"/direct/x", http.StatusFound)
	})
	client := newClient(pretend)
	g := client.Transport.(*guard)
	byProxy := func(r *http.Request) (*url.URL, error) {
		if r.URL.Hostname() == "127.0.0.1" {
			return nil, nil // as ProxyFromEnvironment does
		}
		return url.Parse(proxy)
	}
	g.first.Proxy, g.redirected.Proxy = byProxy, byProxy
	for to, ok := range map[string]bool{
		local: false, "http://" + privateHost: false, "http://other.example": true, "http://192.0.2.1": true,
	} {
		target = to
		_, err := Fetch(t.Context(), []Want{{Name: "x", SHA256: sumOf("data")}},
			Options{Dir: t.TempDir(), Mirrors: []string{"http://mirror.example"}, Limits: quick(), Client: client})
		if (err == nil) != ok {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// setProxies gives the environment these variables of proxies, and no others.
func setProxies(t *testing.T, env map[string]string) {
	t.Helper()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(name, env[name])
		t.Setenv(strings.ToLower(name), env[strings.ToLower(name)])
	}
}

func TestEnvironmentProxy(t *testing.T) {
	tests := []struct {
		env         map[string]string
		http, https string // proxies of mirror.example
	}{
		{nil, "", ""},
		{map[string]string{"ALL_PROXY": "http://p.example:1"}, "http://p.example:1", "http://p.example:1"},
		{map[string]string{"all_proxy": "socks5h://p.example:1"}, "socks5h://p.example:1", "socks5h://p.example:1"},
		{map[string]string{"all_proxy": "p.example:1", "ALL_PROXY": "q.example:1"}, "http://p.example:1", "http://p.example:1"},
		{map[string]string{"ALL_PROXY": "p.example:1", "HTTPS_PROXY": "q.example:1"}, "http://p.example:1", "http://q.example:1"},
		{map[string]string{"ALL_PROXY": "p.example:1", "http_proxy": "q.example:1"}, "http://q.example:1", "http://p.example:1"},
		{map[string]string{"ALL_PROXY": "p.example:1", "NO_PROXY": "example"}, "", ""},
		{map[string]string{"ALL_PROXY": "p.example:1", "no_proxy": "*"}, "", ""},
	}
	for _, tt := range tests {
		setProxies(t, tt.env)
		find := environmentProxy()
		for to, want := range map[string]string{
			"http://mirror.example/x": tt.http, "https://mirror.example/x": tt.https, "http://127.0.0.1:8000/x": "", "http://localhost/x": "",
		} {
			proxy, err := find(httptest.NewRequest(http.MethodGet, to, nil))
			got := ""
			if proxy != nil {
				got = proxy.String()
			}
			if err != nil || got != want {
				t.Errorf("%v: %s: proxy %q, %v; want %q", tt.env, to, got, err, want)
			}
		}
	}
}

// TestAllProxy downloads by ALL_PROXY alone; what a redirect through that proxy may lead to is judged.
func TestAllProxy(t *testing.T) {
	target := ""
	proxy := on(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		if target == "" || strings.HasPrefix(r.URL.Path, "/direct/") {
			content("data")(w, r)
			return
		}
		http.Redirect(w, r, target+"/direct/x", http.StatusFound)
	})
	setProxies(t, map[string]string{"ALL_PROXY": proxy})
	for to, ok := range map[string]bool{
		"": true, "http://other.example": true, "http://10.0.0.1": false, "http://169.254.169.254": false, proxy: false,
	} {
		target = to
		_, err := Fetch(t.Context(), []Want{{Name: "x", SHA256: sumOf("data")}},
			Options{Dir: t.TempDir(), Mirrors: []string{"http://mirror.example"}, Limits: quick()})
		if (err == nil) != ok {
			t.Errorf("redirect to %q: %v", to, err)
		}
	}
}

// TestRedirectToTLS has servers with TLS and HTTP/2 at both ends of a redirect.
func TestRedirectToTLS(t *testing.T) {
	protocols := make(chan string, 2)
	secure := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			protocols <- r.Proto
			h(w, r)
		}))
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	last := secure(content("data"))
	first := secure(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, last.URL+"/x", http.StatusFound) })
	client := newClient(pretend)
	g := client.Transport.(*guard)
	roots := x509.NewCertPool()
	roots.AddCert(last.Certificate())
	g.first.TLSClientConfig.RootCAs, g.redirected.TLSClientConfig.RootCAs = roots, roots
	_, err := Fetch(t.Context(), []Want{{Name: "x", SHA256: sumOf("data")}},
		Options{Dir: t.TempDir(), Mirrors: []string{first.URL}, Limits: quick(), Client: client})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := <-protocols, <-protocols; a != "HTTP/2.0" || b != "HTTP/1.1" {
		t.Errorf("%s, then %s", a, b)
	}
}

func TestReachOf(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24")}
	for text, want := range map[string]reach{
		"198.51.100.2": loopback, "198.51.100.3": private, "168.63.129.16": linkLocal, "100.100.100.200": linkLocal,
		"192.0.2.1": public, "2001:db8::1": public, "172.32.0.1": public, "100.128.0.1": public,
		"10.1.2.3": private, "172.16.0.1": private, "192.168.0.1": private, "fd00::1": private, "100.64.0.1": private,
		"169.254.169.254": linkLocal, "fe80::1%eth0": linkLocal, "224.0.0.1": linkLocal, "ff02::1": linkLocal,
		"127.0.0.1": loopback, "127.9.9.9": loopback, "::1": loopback, "::ffff:127.0.0.1": loopback, "0.0.0.0": loopback, "::": loopback,
	} {
		if got := reachOf(netip.MustParseAddr(text), own); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
