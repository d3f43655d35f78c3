// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// anyRoute lets the policy's own rules decide: the host says that everything is on another machine.
type anyRoute struct{}

func (anyRoute) Lookup(netip.Addr) (Route, error) { return Route{Unicast: true}, nil }
func (anyRoute) Own() ([]netip.Addr, error)       { return nil, nil }

// redirect is the outside of a test: it notes what is dialled, and connects it to a listener of the test.
type redirect struct {
	to     string
	mu     sync.Mutex
	dialed []string
}

func (r *redirect) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	r.mu.Lock()
	r.dialed = append(r.dialed, address)
	r.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, network, r.to)
}

// data is incompressible, and the same for a seed.
func data(size int, seed uint64) []byte {
	b := make([]byte, size)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// client is HTTP in the guest.
func (g guest) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return g.dial(ctx, address)
		},
	}}
}

func (g guest) get(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestDownloads has two downloads at once from a server inside the network, one of which the guest cuts in the middle.
func TestDownloads(t *testing.T) {
	n, conn := serve(t, Options{})
	l, err := n.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"/whole": data(8<<20, 1), "/cut": data(8<<20, 2)}
	ended := make(chan error, 2)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := w.Write(files[r.URL.Path])
		if r.URL.Path == "/cut" {
			ended <- err
		}
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	g := boot(t, conn)
	cut := g.get(t, "http://10.0.2.2/cut")
	whole := g.get(t, "http://10.0.2.2/whole")
	defer whole.Body.Close()
	if _, err := io.CopyN(io.Discard, cut.Body, 2<<20); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1<<20)
	if _, err := io.ReadFull(whole.Body, first); err != nil {
		t.Fatal(err)
	}
	cut.Body.Close()
	rest, err := io.ReadAll(whole.Body)
	if err != nil || !bytes.Equal(append(first, rest...), files["/whole"]) {
		t.Errorf("%v, %d bytes, want the file", err, len(first)+len(rest))
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the server has sent the whole of the cut download")
		}
	case <-time.After(patience):
		t.Error("the server does not see that the download was cut")
	}
}

// TestHost has a service on every address of the host, and a guest that must not reach it on any of them.
func TestHost(t *testing.T) {
	service, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	var reached atomic.Int32
	go func() {
		for c, err := service.Accept(); err == nil; c, err = service.Accept() {
			reached.Add(1)
			c.Close()
		}
	}()
	targets := []netip.Addr{HostAddr, DNSAddr, GuestAddr.Prev()}
	own, err := kernelRoutes{}.Own()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"127.0.0.1", "127.0.0.53", "127.255.255.254", "0.0.0.0", "0.0.0.1", "169.254.169.254"} {
		targets = append(targets, netip.MustParseAddr(text))
	}
	for _, a := range own {
		if a.Is4() {
			targets = append(targets, a)
		}
	}
	port := uint16(service.Addr().(*net.TCPAddr).Port)
	for _, outside := range []bool{false, true} {
		t.Run(fmt.Sprintf("outside=%t", outside), func(t *testing.T) {
			n, conn := serve(t, Options{Outside: outside})
			w := newWire(t, conn)
			for i, target := range targets {
				at := netip.AddrPortFrom(target, port)
				w.send(synFrame(netip.AddrPortFrom(GuestAddr, uint16(40000+i)), at))
				if target == GuestAddr.Prev() || target.IsUnspecified() {
					continue // no answer at all
				}
				reply := w.receive(patience, from(target, header.TCPProtocolNumber))
				if reply == nil {
					t.Errorf("%s: no answer", at)
				} else if flags := header.TCP(packet(reply)).Flags(); !flags.Contains(header.TCPFlagRst) {
					t.Errorf("%s: flags %v, want a reset", at, flags)
				}
			}
			if want := int64(len(targets) - 2); n.Refused() != want {
				t.Errorf("%d refused, want %d", n.Refused(), want)
			}
		})
	}
	if got := reached.Load(); got != 0 {
		t.Errorf("the service was reached %d times", got)
	}
}

// echo sends back what it is sent, after the sender's end.
func echo(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() {
				defer c.Close()
				all, _ := io.ReadAll(c)
				_, _ = c.Write(all)
			}()
		}
	}()
	return l
}

// roundTrip sends data, ends that direction, and wants all of it back.
func roundTrip(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	if _, err := c.Write(want); err != nil {
		t.Error(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, got %d bytes back, want %d", err, len(got), len(want))
	}
}

// TestForward reaches the one address that was named, and no other port of it. Its half-close passes both ways.
func TestForward(t *testing.T) {
	named, other := echo(t), echo(t)
	to := netip.MustParseAddrPort(named.Addr().String())
	_, conn := serve(t, Options{Forward: []Forward{{Port: 8000, To: to}}})
	g := boot(t, conn)
	roundTrip(t, g.mustDial(t, "10.0.2.2:8000"), data(1<<20, 3))
	_, port, _ := net.SplitHostPort(other.Addr().String())
	for _, address := range []string{fmt.Sprintf("10.0.2.2:%d", to.Port()), "10.0.2.2:" + port, "10.0.2.3:8000", "192.0.2.1:8000"} {
		if _, err := g.dial(t.Context(), address); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v, want it refused", address, err)
		}
	}
}

func TestOutside(t *testing.T) {
	service := echo(t)
	dialer := &redirect{to: service.Addr().String()}
	_, conn := serve(t, Options{Outside: true, Routes: anyRoute{}, Dialer: dialer})
	g := boot(t, conn)
	for _, address := range []string{"198.51.100.7:443", "192.168.7.7:80", "10.0.3.1:22"} {
		roundTrip(t, g.mustDial(t, address), data(1<<16, 4))
	}
	want := []string{"198.51.100.7:443", "192.168.7.7:80", "10.0.3.1:22"}
	if diff := cmp.Diff(want, dialer.dialed); diff != "" {
		t.Errorf("dialled (-want +got):\n%s", diff)
	}
}

// TestReset cuts connections at either side with a reset, which the other one sees as an error, not as an end.
func TestReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, conn := serve(t, Options{Forward: []Forward{{Port: 80, To: netip.MustParseAddrPort(l.Addr().String())}}})
	g := boot(t, conn)
	c := g.mustDial(t, "10.0.2.2:80")
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = server.(*net.TCPConn).SetLinger(0)
	server.Close()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the server's reset is an ordinary end for the guest")
	}
	g.mustDial(t, "10.0.2.2:80")
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, ep := range g.RegisteredEndpoints() {
		ep.Abort()
	}
	if _, err := io.ReadAll(server); err == nil {
		t.Error("the guest's reset is an ordinary end for the server")
	}
}

// TestSlowGuest reads nothing: the server's data waits with the server.
func TestSlowGuest(t *testing.T) {
	const size = 64 << 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var sent atomic.Int64
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for b := make([]byte, 64<<10); sent.Load() < size; {
			n, err := c.Write(b)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	_, conn := serve(t, Options{Forward: []Forward{{Port: 80, To: netip.MustParseAddrPort(l.Addr().String())}}})
	c := boot(t, conn).mustDial(t, "10.0.2.2:80")
	for last := int64(-1); sent.Load() != last; time.Sleep(5 * quiet) {
		last = sent.Load()
	}
	// The kernel's buffers of a loopback connection, 256 KiB here, and those of the guest.
	if got := sent.Load(); got > 24<<20 {
		t.Errorf("%d MiB are on the way to a guest that reads nothing", got>>20)
	}
	if got, err := io.Copy(io.Discard, c); err != nil || got != size {
		t.Errorf("%d bytes in the end, %v, want %d", got, err, size)
	}
}

// TestConnections opens more connections than a network has, and as many again once those are closed.
func TestConnections(t *testing.T) {
	n, conn := serve(t, Options{})
	l, err := n.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	g := boot(t, conn)
	for round := range 2 {
		var conns []net.Conn
		for i := range maxConnections {
			c, err := g.dial(t.Context(), "10.0.2.2:80")
			if err != nil {
				t.Fatalf("round %d, connection %d: %v", round, i, err)
			}
			conns = append(conns, c)
		}
		if _, err := g.dial(t.Context(), "10.0.2.2:80"); err == nil {
			t.Error("one more connection than there may be")
		}
		for _, c := range conns {
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			server.Close()
		}
		for limit := time.Now().Add(patience); len(n.slots) > 0; time.Sleep(quiet / 10) {
			if time.Now().After(limit) {
				t.Fatalf("%d connections are left", len(n.slots))
			}
		}
	}
}

func TestListen(t *testing.T) {
	n, err := New(Options{Forward: []Forward{{Port: 81, To: netip.MustParseAddrPort("127.0.0.1:1")}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := n.Listen(80)
	if err != nil || l.Addr().String() != "10.0.2.2:80" {
		t.Fatalf("%v, %v", l.Addr(), err)
	}
	for port, want := range map[uint16]string{80: "in use", 81: "in use", 0: "from 1 to 65535"} {
		if _, err := n.Listen(port); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("port %d: %v, want %q", port, err, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	l, err = n.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if _, err := n.Listen(82); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen: %v", err)
	}
	for _, f := range []Forward{{}, {Port: 1}, {Port: 81, To: netip.MustParseAddrPort("127.0.0.1:0")}} {
		if _, err := New(Options{Forward: []Forward{f}}); err == nil {
			t.Errorf("forward %+v is taken", f)
		}
	}
}

// TestSilence has what the stack would answer, and this network must or must not.
func TestSilence(t *testing.T) {
	_, conn := serve(t, Options{Outside: true, Routes: anyRoute{}, Dialer: &redirect{to: "127.0.0.1:1"}})
	w := newWire(t, conn)
	outside, neighbour := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("10.0.2.77")
	isARP := func(frame []byte) bool {
		return header.Ethernet(frame).Type() == header.ARPProtocolNumber && header.ARP(frame[header.EthernetMinimumSize:]).Op() == header.ARPReply
	}
	anything := func([]byte) bool { return true }
	at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	tests := []struct {
		name   string
		frame  []byte
		answer func([]byte) bool // nil: none
	}{
		{"ARP for the host", arpFrame(header.ARPRequest, GuestAddr, HostAddr), isARP},
		{"ARP for the nameserver", arpFrame(header.ARPRequest, GuestAddr, DNSAddr), isARP},
		{"ARP for the guest", arpFrame(header.ARPRequest, netip.IPv4Unspecified(), GuestAddr), nil},
		{"ARP for the outside", arpFrame(header.ARPRequest, GuestAddr, outside), nil},
		{"ping of the host", pingFrame(GuestAddr, HostAddr), from(HostAddr, header.ICMPv4ProtocolNumber)},
		{"ping of the outside", pingFrame(GuestAddr, outside), nil},
		{"ping of a neighbour", pingFrame(GuestAddr, neighbour), nil},
		{"ping from a foreign address", pingFrame(outside, HostAddr), nil},
		{"UDP to the outside", udpFrame(at(GuestAddr, 4000), at(outside, 53), []byte("query")), from(outside, header.ICMPv4ProtocolNumber)},
		{"UDP to a neighbour", udpFrame(at(GuestAddr, 4000), at(neighbour, 53), []byte("query")), nil},
		{"TCP to a neighbour", synFrame(at(GuestAddr, 4000), at(neighbour, 80)), nil},
		{"TCP to a multicast address", synFrame(at(GuestAddr, 4000), at(netip.MustParseAddr("224.0.0.1"), 80)), nil},
		{"TCP to a broadcast address", synFrame(at(GuestAddr, 4000), at(broadcast, 80)), nil},
		{"IPv6", ethernetFrame("\x33\x33\x00\x00\x00\x02", header.IPv6ProtocolNumber, make([]byte, 60)), nil},
		{"short frame", []byte("short"), nil},
		{"empty frame", nil, nil},
		{"a jumbo frame", make([]byte, 9000), nil},
		{"the host, after all that", pingFrame(GuestAddr, HostAddr), from(HostAddr, header.ICMPv4ProtocolNumber)},
	}
	for _, tt := range tests {
		w.send(tt.frame)
		if tt.answer == nil {
			if got := w.receive(quiet, anything); got != nil {
				t.Errorf("%s: answer %x", tt.name, got)
			}
		} else if w.receive(patience, tt.answer) == nil {
			t.Errorf("%s: no answer", tt.name)
		}
	}
}

// TestFraming has streams that are not QEMU's. The network has ended after each, and says why.
func TestFraming(t *testing.T) {
	tests := []struct {
		name   string
		stream string
		want   error // nil: an ordinary end
	}{
		{"nothing", "", nil},
		{"empty frames", "\x00\x00\x00\x00\x00\x00\x00\x00", nil},
		{"longest frame", "\x00\x01\x10\x00" + strings.Repeat("x", maxQEMUFrame), nil},
		{"too long", "\x00\x01\x10\x01", errFrameLength},
		{"text", "GET / HTTP/1.0\r\n\r\n", errFrameLength},
		{"all ones", "\xff\xff\xff\xff", errFrameLength},
		{"cut length", "\x00\x00", io.ErrUnexpectedEOF},
		{"cut frame", "\x00\x00\x00\x40data", io.ErrUnexpectedEOF},
		{"cut jumbo frame", "\x00\x00\x40\x00data", io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			ours, qemus := socketpair(t)
			go func() {
				_, _ = io.WriteString(qemus, tt.stream)
				_ = qemus.(*net.UnixConn).CloseWrite()
			}()
			if err := n.Serve(t.Context(), ours); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			qemus.Close()
			if err := n.Serve(t.Context(), ours); err == nil {
				t.Error("a network can be served twice")
			}
		})
	}
}

// TestEnd ends a network in the middle of everything, and wants no goroutine of it left.
func TestEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	service := echo(t)
	n, err := New(Options{
		Outside: true, Routes: anyRoute{}, Dialer: &redirect{to: service.Addr().String()},
		Resolver: stuckResolver{},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := n.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	ours, qemus := socketpair(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- n.Serve(ctx, ours) }()
	t.Run("guest", func(t *testing.T) {
		g := boot(t, qemus)
		g.mustDial(t, "198.51.100.7:80")                            // relayed, nothing comes
		g.mustDial(t, "10.0.2.2:80")                                // not accepted
		_, _ = g.mustDial(t, "10.0.2.3:53").Write([]byte("\x00"))   // half a query
		_, _ = g.dialDNS(t).Write(query("x.example.", dnsTypeA, 1)) // nobody answers
		accepted, err := net.Dial("tcp", service.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		w := newWire(t, qemus)
		w.send(synFrame(netip.MustParseAddrPort("10.0.2.77:1"), netip.AddrPortFrom(HostAddr, 80))) // half a handshake
		for limit := time.Now().Add(patience); len(n.slots) < 4 && time.Now().Before(limit); {
			time.Sleep(quiet / 10)
		}
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("Serve does not end")
		}
	})
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	service.Close()
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(quiet / 10) {
		if time.Now().After(limit) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
