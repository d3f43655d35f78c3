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
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Addresses of the network, those of QEMU's user network (docs/system/devices/net.rst).
var (
	HostAddr  = netip.AddrFrom4([4]byte{10, 0, 2, 2})  // gateway, DHCP server, Listen and Forward
	DNSAddr   = netip.AddrFrom4([4]byte{10, 0, 2, 3})  // nameserver
	GuestAddr = netip.AddrFrom4([4]byte{10, 0, 2, 15}) // what DHCP gives the guest

	broadcast        = netip.AddrFrom4([4]byte{10, 0, 2, 255})
	limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

const (
	prefixBits = 24
	nicID      = tcpip.NICID(1)
	hostMAC    = "\x52\x55\x0a\x00\x02\x02" // as in QEMU's network: a restored guest goes on using it
)

// Bounds of one network.
const (
	maxConnections = 256       // of the guest, also while they are dialled or closed
	tcpBuffer      = 256 << 10 // bytes, for each direction of a connection
	dialTimeout    = 15 * time.Second
	closeTimeout   = 2 * time.Minute // for the guest to take the rest of a connection that was closed here
	timeWait       = time.Second     // nothing arrives late on a link without hops
	keepaliveIdle  = 5 * time.Minute // then every half minute: a paused guest has a quarter of an hour
	keepaliveEvery = 30 * time.Second
	keepaliveCount = 20
)

func subnet() netip.Prefix { return netip.PrefixFrom(HostAddr, prefixBits).Masked() }

// isServer reports one of the two addresses that this network answers for.
func isServer(a netip.Addr) bool { return a == HostAddr || a == DNSAddr }

// Forward lets the guest reach one address of the host, or of another machine, that the user named.
type Forward struct {
	Port uint16         // on 10.0.2.2
	To   netip.AddrPort // where it leads; no policy is applied to it
}

// Options of a network.
type Options struct {
	Outside bool         // the guest may reach other machines by TCP, and resolve names
	Forward []Forward    // each with a port of its own
	Log     func(string) // called with one clean line for each address that is refused first, at most 64; nil: silent

	// For tests; nil is the host's own.
	Dialer   Dialer
	Routes   Routes
	Resolver Resolver
}

// Dialer opens connections to the outside and to forwarded addresses. *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Network is one guest's network. It is used for one connection to QEMU.
type Network struct {
	opt       Options
	forward   map[uint16]netip.AddrPort
	stack     *stack.Stack
	link      *channel.Endpoint
	ctx       context.Context //nolint:containedctx // the life of the network, ended by Close
	cancel    context.CancelFunc
	slots     chan struct{} // one for each connection
	exchanges chan struct{} // one for each DNS query under way
	refused   refusals
	serving   atomic.Bool

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	closed    bool
	work      sync.WaitGroup // grows under mu, and only while closed is false
	once      sync.Once
}

// New creates a network. The caller ends it with Serve or Close.
func New(opt Options) (*Network, error) {
	n := &Network{
		opt: opt, forward: make(map[uint16]netip.AddrPort), listeners: make(map[netip.AddrPort]*listener),
		slots: make(chan struct{}, maxConnections), exchanges: make(chan struct{}, maxExchanges),
	}
	n.refused.log = opt.Log
	if n.opt.Dialer == nil {
		n.opt.Dialer = &net.Dialer{}
	}
	if n.opt.Routes == nil {
		n.opt.Routes = kernelRoutes{}
	}
	if n.opt.Resolver == nil {
		n.opt.Resolver = hostResolver{path: resolvConf, port: dnsPort}
	}
	for _, f := range opt.Forward {
		if f.Port == 0 || !f.To.IsValid() || f.To.Port() == 0 {
			return nil, fmt.Errorf("forward %s:%d to %s: want two ports and an address", HostAddr, f.Port, f.To)
		}
		if _, ok := n.forward[f.Port]; ok {
			return nil, fmt.Errorf("forward %s:%d to %s: the port is in use", HostAddr, f.Port, f.To)
		}
		n.forward[f.Port] = f.To
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("guest network: %w", err), n.Close())
	}
	return n, nil
}

// start sets up the stack and the services in it.
func (n *Network) start() error {
	// A packet to a loopback address gets as far as the policy, which refuses it.
	ip := ipv4.NewProtocolWithOptions(ipv4.Options{AllowExternalLoopbackTraffic: true})
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ip, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	n.link = channel.New(outgoingQueue, maxFrame, hostMAC)
	if err := n.configure(); err != nil {
		return errors.New(err.String())
	}
	forwarder := tcp.NewForwarder(n.stack, tcpBuffer, maxConnections, n.accept)
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, forwarder.HandlePacket)
	if err := n.serveUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpPort), n.dhcp); err != nil {
		return err
	}
	if err := n.serveUDP(netip.AddrPortFrom(DNSAddr, dnsPort), n.dnsUDP); err != nil {
		return err
	}
	l, err := n.listen(netip.AddrPortFrom(DNSAddr, dnsPort))
	if err == nil {
		n.begin(func() { n.dnsTCP(l) })
	}
	return err
}

func (n *Network) configure() tcpip.Error {
	size, wait, sack := tcpBuffer, tcpip.TCPTimeWaitTimeoutOption(timeWait), tcpip.TCPSACKEnabled(true)
	for _, option := range []tcpip.SettableTransportProtocolOption{
		&tcpip.TCPSendBufferSizeRangeOption{Min: size, Default: size, Max: size},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: size, Default: size, Max: size},
		&wait, &sack,
	} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return err
		}
	}
	if err := n.stack.CreateNIC(nicID, ethernet.New(n.link)); err != nil {
		return err
	}
	for _, a := range []netip.Addr{HostAddr, DNSAddr} {
		address := tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(a.As4()), PrefixLen: prefixBits},
		}
		if err := n.stack.AddProtocolAddress(nicID, address, stack.AddressProperties{}); err != nil {
			return err
		}
	}
	// Answer for every address: a connection to the outside ends here, and another one begins (see admit).
	if err := n.stack.SetPromiscuousMode(nicID, true); err != nil {
		return err
	}
	if err := n.stack.SetSpoofing(nicID, true); err != nil {
		return err
	}
	n.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}})
	return nil
}

// serveUDP calls handle with the endpoint at address until the network ends.
func (n *Network) serveUDP(address netip.AddrPort, handle func(*gonet.UDPConn)) error {
	var queue waiter.Queue
	ep, err := n.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if err != nil {
		return fmt.Errorf("listen udp %s: %s", address, err)
	}
	ep.SocketOptions().SetBroadcast(true)
	at := tcpip.FullAddress{NIC: nicID, Port: address.Port()}
	if !address.Addr().IsUnspecified() {
		at.Addr = tcpip.AddrFrom4(address.Addr().As4())
	}
	if err := ep.Bind(at); err != nil {
		ep.Close()
		return fmt.Errorf("listen udp %s: %s", address, err)
	}
	conn := gonet.NewUDPConn(&queue, ep)
	n.begin(func() {
		stop := context.AfterFunc(n.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		handle(conn)
		_ = conn.Close()
	})
	return nil
}

// begin runs f beside the caller, unless the network has ended. Close waits for it.
func (n *Network) begin(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.work.Go(f)
	return true
}

// Serve connects the network to QEMU's stream netdev on conn, and ends with conn or with ctx. Both network and conn are
// closed then, and nothing of them runs any more. A conn that QEMU closed, and the end of ctx, are no errors.
func (n *Network) Serve(ctx context.Context, conn net.Conn) error {
	if !n.serving.CompareAndSwap(false, true) {
		return errors.New("serve guest network: it has been served before")
	}
	hangUp := func() { _ = conn.Close() }
	defer hangUp()
	stop := context.AfterFunc(ctx, hangUp)
	defer stop()
	stopWithNetwork := context.AfterFunc(n.ctx, hangUp)
	defer stopWithNetwork()
	sent := make(chan error, 1)
	go func() {
		defer hangUp()
		sent <- writeFrames(n.ctx, conn, n.link)
	}()
	err := n.receive(conn)
	ended := ctx.Err() != nil || n.ctx.Err() != nil
	hangUp()
	_ = n.Close()
	writeErr := <-sent
	if ended || isHangUp(err) {
		return nil
	}
	// Writing ends the connection too; then it has the cause, and reading has "use of closed connection".
	if errors.Is(err, net.ErrClosed) {
		err = writeErr
	}
	if isHangUp(err) {
		return nil
	}
	return fmt.Errorf("serve guest network: %w", err)
}

// isHangUp reports the ways in which a connection ends when QEMU does.
func isHangUp(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// receive gives the guest's frames to the stack.
func (n *Network) receive(r io.Reader) error {
	frames := newFrameReader(r)
	for {
		frame, err := frames.next()
		if err != nil {
			return err
		}
		n.inject(frame)
	}
}

func (n *Network) inject(frame []byte) {
	if !admit(frame) {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	n.link.InjectInbound(0, pkt)
	pkt.DecRef()
}

// Close ends a network, its listeners and its connections, and waits for them. It gives no error.
func (n *Network) Close() error {
	n.once.Do(func() {
		n.mu.Lock()
		n.closed = true
		listeners := n.listeners
		n.listeners = make(map[netip.AddrPort]*listener)
		n.mu.Unlock()
		n.cancel()
		for _, l := range listeners {
			l.end()
		}
		n.destroyStack()
	})
	return nil
}

// destroyStack ends the connections, waits for what works on them, then for the stack. A handshake under way can only
// be ended once its endpoint exists: so it is tried until nothing is left.
func (n *Network) destroyStack() {
	if n.stack == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.work.Wait()
	}()
	for wait := true; wait; {
		n.stack.Close()
		select {
		case <-done:
			wait = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	n.stack.Destroy()
	n.link.Close()
}

// Refused is the number of connections that were refused because of their address.
func (n *Network) Refused() int64 { return n.refused.count.Load() }
