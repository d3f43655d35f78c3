// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"encoding/binary"
	"net"
	"os"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// The times of the lease that a scene's server grants, and shortLease what a client needs to believe them.
const (
	sceneRenew  = 1 * time.Second
	sceneRebind = 2 * time.Second
	sceneLease  = 4 * time.Second
	shortLease  = 100 * time.Millisecond
)

// scene is a server that remembers: its leases are short, and it behaves in its own way when they are to be extended.
// The second octet of all its addresses is the number of its network; the third of the nameserver that it names counts
// the extensions, so that a test sees them.
type scene struct {
	role     string
	net      byte
	granted  time.Time // when it has last acknowledged
	extended byte
	lost     bool // it has taken back, or let end, what it had granted
}

func sceneOf(role, number string) *scene {
	if !strings.HasPrefix(role, "scene ") {
		return nil
	}
	s := &scene{role: strings.TrimPrefix(role, "scene ")}
	for _, digit := range []byte(number) {
		s.net = 10*s.net + digit - '0'
	}
	return s
}

// answers are the packets for ask; refused says that they must go to everyone.
func (s *scene) answers(ask *dhcpv4.DHCPv4) (packets [][]byte, refused bool) {
	switch extends := !ask.ClientIPAddr.IsUnspecified(); {
	case ask.MessageType() == dhcpv4.MessageTypeRelease:
		_ = os.WriteFile("released", []byte(ask.ClientIPAddr.String()+" "+ask.ServerIdentifier().String()), 0o600)
		return nil, false
	case ask.MessageType() == dhcpv4.MessageTypeDiscover:
		return [][]byte{s.reply(ask, dhcpv4.MessageTypeOffer)}, false
	case ask.MessageType() != dhcpv4.MessageTypeRequest:
		return nil, false
	case !extends:
		s.granted = time.Now()
		return [][]byte{s.reply(ask, dhcpv4.MessageTypeAck)}, false
	}
	return s.extension(ask)
}

// extension is what becomes of a request for more time.
func (s *scene) extension(ask *dhcpv4.DHCPv4) (packets [][]byte, refused bool) {
	s.extended++
	switch s.role {
	case "refuses", "narrow, then refuses":
		if !s.lost {
			s.lost = true
			return [][]byte{s.reply(ask, dhcpv4.MessageTypeNak)}, true
		}
	case "falls silent":
		s.lost = true
		return nil, false
	case "answers the second server": // who renews is not heard any longer, who rebinds is
		if time.Since(s.granted) < sceneRebind-100*time.Millisecond {
			return nil, false
		}
	case "moves":
		s.lost = true
	case "lies": // first rubbish, another's transaction, another server, hostile addresses; then what is right
		good := s.reply(ask, dhcpv4.MessageTypeAck)
		other := s.reply(ask, dhcpv4.MessageTypeNak)
		other[4]++
		stranger := s.reply(ask, dhcpv4.MessageTypeNak, option{dhcpv4.OptionServerIdentifier, b4(10, 66, 66, 66)})
		long := append(s.reply(ask, dhcpv4.MessageTypeAck)[:240], make([]byte, 1100)...)
		return [][]byte{{}, good[:100], other, stranger, long, good}, false
	}
	s.granted = time.Now()
	return [][]byte{s.reply(ask, dhcpv4.MessageTypeAck)}, false
}

// option is one raw option.
type option struct {
	code  dhcpv4.OptionCode
	value []byte
}

func (s *scene) reply(ask *dhcpv4.DHCPv4, kind dhcpv4.MessageType, extra ...option) []byte {
	host := byte(15)
	if s.lost {
		host = 16
	}
	seconds := func(d time.Duration) []byte { return binary.BigEndian.AppendUint32(nil, uint32(d/time.Second)) }
	change := options{
		dhcpv4.OptionServerIdentifier: b4(10, s.net, 0, 1), dhcpv4.OptionRouter: b4(10, s.net, 0, 1),
		dhcpv4.OptionDomainNameServer: b4(10, s.net, s.extended, 1), dhcpv4.OptionIPAddressLeaseTime: seconds(sceneLease),
		dhcpv4.OptionRenewTimeValue: seconds(sceneRenew), dhcpv4.OptionRebindingTimeValue: seconds(sceneRebind),
	}
	p := answer("10.0.0.0", change)
	p.YourIPAddr[1], p.YourIPAddr[3] = s.net, host
	if kind == dhcpv4.MessageTypeNak {
		p.YourIPAddr = []byte{0, 0, 0, 0}
	}
	p.TransactionID, p.ClientHWAddr = ask.TransactionID, ask.ClientHWAddr
	p.UpdateOption(dhcpv4.OptMessageType(kind))
	if strings.HasPrefix(s.role, "narrow") && s.extended == 0 { // only what is granted first has an MTU
		p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{1400 >> 8, 1400 & 0xff}))
	}
	for _, o := range extra {
		p.Options[o.code.Code()] = o.value
	}
	return p.ToBytes()
}

// respond6 is a hand-made DHCPv6 server. To each request it sends rubbish and answers that must not be used; the hostile
// one a good answer after that.
func respond6(role string) error {
	ifc, err := net.InterfaceByName(serverLink)
	if err != nil {
		return err
	}
	all := &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: dhcpv6.DefaultServerPort}
	conn, err := net.ListenMulticastUDP("udp6", ifc, all)
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDP(buf)
		if err != nil {
			return err
		}
		ask, err := dhcpv6.MessageFromBytes(buf[:n])
		if err != nil {
			return err
		}
		for _, reply := range answersOf6(role, ask, ifc.HardwareAddr) {
			if _, err := conn.WriteToUDP(reply, from); err != nil {
				return err
			}
		}
	}
}

func answersOf6(role string, ask *dhcpv6.Message, own net.HardwareAddr) [][]byte {
	reply := func(address string, change func(*dhcpv6.Message)) []byte {
		kind := dhcpv6.MessageTypeReply
		if ask.MessageType == dhcpv6.MessageTypeSolicit {
			kind = dhcpv6.MessageTypeAdvertise
		}
		m := &dhcpv6.Message{MessageType: kind, TransactionID: ask.TransactionID}
		m.AddOption(dhcpv6.OptClientID(ask.Options.ClientID()))
		m.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: own}))
		if asked := ask.Options.OneIANA(); asked != nil {
			ia := &dhcpv6.OptIANA{IaId: asked.IaId}
			ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(address), PreferredLifetime: time.Hour,
				ValidLifetime: time.Hour})
			m.AddOption(ia)
		}
		change(m)
		return m.ToBytes()
	}
	same := func(*dhcpv6.Message) {}
	good := reply("2001:db8:77::5", same)
	packets := [][]byte{
		{}, {7}, good[:len(good)-10], make([]byte, 1400),
		reply("2001:db8:77::66", func(m *dhcpv6.Message) { m.TransactionID[0]++ }),
		reply("2001:db8:77::66", func(m *dhcpv6.Message) { m.Options.Del(dhcpv6.OptionServerID) }),
		reply("2001:db8:77::66", func(m *dhcpv6.Message) {
			m.UpdateOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: own}))
		}),
		reply("ff02::1", same),
	}
	if role == "hostile 6" {
		packets = append(packets, good)
	}
	return packets
}
