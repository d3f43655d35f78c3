// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package usernet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

const (
	dnsPort        = 53
	resolvConf     = "/etc/resolv.conf"
	maxServers     = 3 // MAXNS of resolv.conf(5)
	maxExchanges   = 32
	maxDNSQuery    = 1400 // bytes; a name has at most 255
	maxDNSUDP      = 4096 // bytes, of an answer
	serverTimeout  = 4 * time.Second
	answerTimeout  = 10 * time.Second // all servers
	dnsIdleTimeout = 10 * time.Second // between two queries over TCP
)

// Resolver answers the guest's DNS queries when it may reach the outside.
type Resolver interface {
	// Exchange gives the answer to a query, both as they are on the wire without a length. network is "udp" or "tcp".
	Exchange(ctx context.Context, query []byte, network string) ([]byte, error)
}

// dnsUDP answers queries over UDP until conn ends.
func (n *Network) dnsUDP(conn *gonet.UDPConn) {
	buf := make([]byte, maxDNSQuery)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		query := slices.Clone(buf[:size])
		if !n.takeExchange() {
			return
		}
		n.begin(func() {
			defer n.freeExchange()
			if reply := n.resolve(query, "udp"); reply != nil {
				_, _ = conn.WriteTo(reply, from) // one that is lost is asked for again
			}
		})
	}
}

// dnsTCP answers queries over TCP until the listener ends.
func (n *Network) dnsTCP(l *listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		n.begin(func() {
			defer c.Close()
			for err := error(nil); err == nil; {
				err = n.dnsTCPQuery(c)
			}
		})
	}
}

// dnsTCPQuery reads one query and answers it.
func (n *Network) dnsTCPQuery(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(dnsIdleTimeout)); err != nil {
		return err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint16(length[:])
	if size > maxDNSQuery {
		return fmt.Errorf("DNS query of %d bytes", size)
	}
	query := make([]byte, size)
	if _, err := io.ReadFull(c, query); err != nil {
		return err
	}
	if !n.takeExchange() {
		return net.ErrClosed
	}
	defer n.freeExchange()
	reply := n.resolve(query, "tcp")
	if reply == nil {
		return errors.New("not a DNS query")
	}
	if err := c.SetDeadline(time.Now().Add(dnsIdleTimeout)); err != nil {
		return err
	}
	_, err := c.Write(withLength(reply))
	return err
}

// takeExchange waits for a free place among the queries under way, false if the network ends.
func (n *Network) takeExchange() bool {
	select {
	case n.exchanges <- struct{}{}:
		return true
	case <-n.ctx.Done():
		return false
	}
}

func (n *Network) freeExchange() { <-n.exchanges }

// resolve is the reply to a query, nil for what is none.
func (n *Network) resolve(query []byte, network string) []byte {
	head, question, code, ok := parseQuery(query)
	if !ok {
		return nil
	}
	// A name server that refuses is asked again by some resolvers (musl's waits 5 s for another answer); one that knows
	// of no such name is believed at once.
	if code == dnsmessage.RCodeSuccess && !n.opt.Outside {
		code = dnsmessage.RCodeNameError
	}
	if code == dnsmessage.RCodeSuccess {
		ctx, cancel := context.WithTimeout(n.ctx, answerTimeout)
		defer cancel()
		reply, err := n.opt.Resolver.Exchange(ctx, query, network)
		if err == nil && answers(reply, head, question) {
			return reply
		}
		code = dnsmessage.RCodeServerFailure
	}
	return failure(head, question, code)
}

// parseQuery checks a query: ok is false for what is not answered, code tells how a query that is not relayed is.
func parseQuery(query []byte) (head dnsmessage.Header, question dnsmessage.Question, code dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil || head.Response {
		return head, question, code, false
	}
	if question, err = p.Question(); err != nil {
		return head, question, code, false
	}
	if _, err = p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return head, question, dnsmessage.RCodeFormatError, true
	}
	switch {
	case head.OpCode != 0:
		code = dnsmessage.RCodeNotImplemented
	case question.Class != dnsmessage.ClassINET, question.Type == dnsmessage.TypeAXFR:
		code = dnsmessage.RCodeRefused
	}
	return head, question, code, true
}

// answers reports whether reply belongs to a query.
func answers(reply []byte, head dnsmessage.Header, question dnsmessage.Question) bool {
	var p dnsmessage.Parser
	got, err := p.Start(reply)
	if err != nil || !got.Response || got.ID != head.ID {
		return false
	}
	q, err := p.Question()
	return err == nil && q.Type == question.Type && q.Class == question.Class &&
		strings.EqualFold(q.Name.String(), question.Name.String())
}

// failure is a reply that has only a code; nil if it cannot be built.
func failure(head dnsmessage.Header, question dnsmessage.Question, code dnsmessage.RCode) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired,
			RecursionAvailable: true, RCode: code,
		},
		Questions: []dnsmessage.Question{question},
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// withLength is a message as it is sent over TCP.
func withLength(message []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(message))) //nolint:gosec // at most 64 KiB, as it was read
	return append(b, message...)
}

// hostResolver relays queries to the nameservers in the host's resolv.conf, which may well be on its loopback.
type hostResolver struct {
	path string
	port uint16
}

// Exchange implements Resolver. The servers are asked in their order, the next one when one does not answer.
func (h hostResolver) Exchange(ctx context.Context, query []byte, network string) ([]byte, error) {
	servers, err := nameservers(h.path)
	if err != nil {
		return nil, err
	}
	for _, server := range servers {
		var reply []byte
		reply, err = exchange(ctx, netip.AddrPortFrom(server, h.port), query, network)
		if err == nil {
			return reply, nil
		}
	}
	return nil, err
}

// nameservers are the first three in a resolv.conf; without one it is this machine, as resolv.conf(5) has it.
func nameservers(path string) ([]netip.Addr, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []netip.Addr
	lines := bufio.NewScanner(f)
	for lines.Scan() && len(list) < maxServers {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			list = append(list, a)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(list) == 0 {
		list = append(list, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return list, nil
}

// exchange asks one server. Over UDP, what does not answer the query is passed over: anything may arrive there.
func exchange(ctx context.Context, server netip.AddrPort, query []byte, network string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		return exchangeTCP(c, query)
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	head, question, _, _ := parseQuery(query)
	buf := make([]byte, maxDNSUDP)
	for {
		size, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:size], head, question) {
			return buf[:size], nil
		}
	}
}

func exchangeTCP(c net.Conn, query []byte) ([]byte, error) {
	if _, err := c.Write(withLength(query)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(c, reply)
	return reply, err
}
