// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Listen listens on a port of 10.0.2.2, for the guest only: no port is opened on the host. The listener ends with the
// network.
func (n *Network) Listen(port uint16) (net.Listener, error) {
	return n.listen(netip.AddrPortFrom(HostAddr, port))
}

func (n *Network) listen(at netip.AddrPort) (*listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, forwarded := n.forward[at.Port()]
	switch {
	case n.closed:
		return nil, fmt.Errorf("listen on guest network %s: %w", at, net.ErrClosed)
	case at.Port() == 0:
		return nil, fmt.Errorf("listen on guest network %s: want a port from 1 to 65535", at)
	case n.listeners[at] != nil, forwarded && at.Addr() == HostAddr:
		return nil, fmt.Errorf("listen on guest network %s: the port is in use", at)
	}
	l := &listener{network: n, at: at, conns: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[at] = l
	return l, nil
}

// listener is a port of this network.
type listener struct {
	network *Network
	at      netip.AddrPort
	conns   chan net.Conn
	done    chan struct{}
	once    sync.Once
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.network.mu.Lock()
	if l.network.listeners[l.at] == l {
		delete(l.network.listeners, l.at)
	}
	l.network.mu.Unlock()
	l.end()
	return nil
}

func (l *listener) end() { l.once.Do(func() { close(l.done) }) }

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// deliver gives a connection to Accept. The guest sees it as open while it waits.
func (l *listener) deliver(c *conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.abort()
	}
}

// accept takes the first packet of a connection from the stack.
func (n *Network) accept(r *tcp.ForwarderRequest) {
	if !n.begin(func() { n.connect(r) }) {
		r.Complete(true)
	}
}

// connect answers a connection's first packet, with a reset if it leads nowhere, otherwise once the other side is open,
// and relays the connection until its end.
func (n *Network) connect(r *tcp.ForwarderRequest) {
	id := r.ID()
	dst := netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
	select {
	case n.slots <- struct{}{}:
	default:
		r.Complete(true)
		return
	}
	n.mu.Lock()
	l := n.listeners[dst]
	n.mu.Unlock()
	if l != nil {
		if guest := n.shakeHands(r); guest != nil {
			l.deliver(guest)
		}
		return
	}
	remote, err := n.dial(dst)
	if err != nil {
		<-n.slots
		r.Complete(true)
		return
	}
	guest := n.shakeHands(r)
	if guest == nil {
		reset(remote)
		return
	}
	relay(n.ctx, guest, remote)
}

// dial opens the other side of a connection to dst, if the guest may have one.
func (n *Network) dial(dst netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	if to, ok := n.forward[dst.Port()]; ok && dst.Addr() == HostAddr {
		return n.opt.Dialer.DialContext(ctx, "tcp", to.String())
	}
	if why := judge(dst.Addr(), n.opt.Outside, n.opt.Routes); why != "" {
		n.refused.add(dst, why)
		return nil, errors.New(string(why))
	}
	return n.opt.Dialer.DialContext(ctx, "tcp4", dst.String())
}

// shakeHands opens the guest's side. The connection has the slot that the caller has taken; without one, nil, the slot
// is free again.
func (n *Network) shakeHands(r *tcp.ForwarderRequest) *conn {
	queue := new(waiter.Queue)
	ep, err := r.CreateEndpoint(queue)
	r.Complete(err != nil)
	if err != nil {
		<-n.slots
		return nil
	}
	// Both only fail for values out of range.
	idle, every := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveEvery)
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&every)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
	ep.SocketOptions().SetKeepAlive(true)
	return &conn{TCPConn: gonet.NewTCPConn(queue, ep), ep: ep, queue: queue, free: func() { <-n.slots }}
}

// conn is a connection of the guest. Its slot is free when the guest has all of it, not when it is closed here: until
// then it takes memory.
type conn struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	queue *waiter.Queue
	free  func()
	once  sync.Once
}

// Close closes both directions. What was written before still goes to the guest, for up to two minutes.
func (c *conn) Close() error {
	c.end(c.ep.Close)
	return nil
}

// abort ends the connection with a reset.
func (c *conn) abort() { c.end(c.ep.Abort) }

func (c *conn) end(how func()) {
	c.once.Do(func() {
		_ = c.SetDeadline(time.Unix(1, 0)) // wakes pending calls
		late := time.AfterFunc(closeTimeout, c.ep.Abort)
		var gone sync.Once
		entry := waiter.NewFunctionEntry(waiter.EventHUp, func(waiter.EventMask) {
			gone.Do(func() { late.Stop(); c.free() })
		})
		c.queue.EventRegister(&entry)
		how()
	})
}

// relay copies both directions, each until its end, which the other side is told.
func relay(ctx context.Context, guest *conn, remote net.Conn) {
	var abort sync.Once
	fail := func() {
		abort.Do(func() {
			guest.abort()
			reset(remote)
		})
	}
	stop := context.AfterFunc(ctx, fail)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pipe(remote, guest, fail) })
	pipe(guest, remote, fail)
	wg.Wait()
	_ = guest.Close()
	_ = remote.Close()
}

// reset ends a connection to the outside as conn.abort does one of the guest.
func reset(c net.Conn) {
	if c, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = c.SetLinger(0)
	}
	_ = c.Close()
}

// pipe copies one direction, and closes it at its end. It holds at most one buffer: the rest waits in the sender.
func pipe(dst io.Writer, src io.Reader, fail func()) {
	_, err := io.Copy(dst, src)
	half, ok := dst.(interface{ CloseWrite() error })
	if err == nil && ok {
		err = half.CloseWrite()
	}
	if err != nil || !ok {
		fail()
	}
}
