// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The tests of the real client run in three processes, each of them this test binary:
//
//	go test            TestPeers starts itself anew in a network namespace of its own
//	  client           (roleEnv=client) runs the subtests; for each it makes a veth pair and starts
//	    server         (roleEnv=a serverRole) in a further namespace, gets the other end, and answers there
//
// A process of its own, because a namespace belongs to a thread, and Configure works with several.
const (
	roleEnv = "KINDLING_NETCFG_ROLE"
	argsEnv = "KINDLING_NETCFG_ARGS" // for dnsmasq, separated by spaces
	netEnv  = "KINDLING_NETCFG_NET"  // number of the server's network, when it is not 77

	clientRole = "client"
	plugRole   = "plug" // not a server: it changes something in a server's namespace
	serverLink = "server0"
	serverAddr = "10.77.0.1/24"
	server6    = "2001:db8:77::1/64"
)

// TestMain turns the process into a server when it was started as one.
func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" || role == clientRole {
		// The tests in namespaces mostly wait, so they need not have a processor each.
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	run := serve
	if role == plugRole {
		run = func(string) error { return change(strings.Fields(os.Getenv(argsEnv))) }
	}
	if err := run(role); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

// inNamespace tells whether the test runs in the client's namespace already. If not, it runs the test there, and
// passes its result on.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(roleEnv) == clientRole {
		return true
	}
	t.Parallel() // each has a namespace of its own
	cannot := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("CI") != "" {
			t.Fatalf(format+" (must not happen in CI)", args...)
		}
		t.Skipf("SKIPPED, DHCP was NOT tested: "+format, args...)
	}
	if _, err := findDnsmasq(); err != nil {
		cannot("no dnsmasq: %v (Debian package dnsmasq-base)", err)
		return false
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), roleEnv+"="+clientRole)
	cmd.SysProcAttr = newNamespace()
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		cannot("no network namespace: %v (run the tests as root, or allow user namespaces)", err)
		return false
	}
	t.Logf("in a namespace of its own:\n%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Errorf("in the namespace: %v", err)
	}
	return false
}

func findDnsmasq() (string, error) {
	if path, err := exec.LookPath("dnsmasq"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/dnsmasq") // where a user's PATH does not reach
}

// newNamespace starts a process in a network namespace, for which anyone but root needs a user namespace as well.
func newNamespace() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// connect makes a veth pair whose one end is the link name here, and the other one that of a server process of the
// given role. Both go away with the test.
func connect(t *testing.T, name, role string, dnsmasqArgs ...string) peer {
	t.Helper()
	return connectTo(t, 77, name, role, dnsmasqArgs...)
}

// peer is a server process.
type peer struct {
	pid int
	dir string // its working directory: dnsmasq's leases are there
}

// plug gives the link to a server carrier ("up"), or takes it away ("down"), at the server's end.
func (p peer) plug(t *testing.T, state string) {
	t.Helper()
	p.change(t, state)
}

// own gives the server's machine a further address.
func (p peer) own(t *testing.T, a netip.Addr) {
	t.Helper()
	p.change(t, "own", a.String()+"/32")
}

func (p peer) change(t *testing.T, what ...string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+plugRole, fmt.Sprintf("%s=%d %s", argsEnv, p.pid, strings.Join(what, " ")))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", what, err, out)
	}
}

// change does what plug and own are for, in the namespace of another process.
func change(args []string) error {
	runtime.LockOSThread() // the namespace is the thread's
	ns, err := os.Open("/proc/" + args[0] + "/ns/net")
	if err != nil {
		return err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	name := serverLink
	if args[1] == "own" {
		name = "lo"
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if args[1] == "down" {
		return netlink.LinkSetDown(link)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if args[1] == "own" {
		return addAddr(link, args[2])
	}
	return addAddr(link, server6) // the kernel has removed it
}

func addAddr(link netlink.Link, text string) error {
	addr, err := netlink.ParseAddr(text)
	if err != nil {
		return err
	}
	if text == server6 {
		addr.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrReplace(link, addr)
}

// connectTo is connect with a server that has 10.N.0.1.
func connectTo(t *testing.T, number int, name, role string, dnsmasqArgs ...string) peer {
	t.Helper()
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: name})
	veth.PeerName = "peer-" + name
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("add veth pair: %v", err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(veth) }) // gone already if the server's namespace went first
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, argsEnv+"="+strings.Join(dnsmasqArgs, " "),
		fmt.Sprintf("%s=%d", netEnv, number))
	cmd.Stderr = os.Stderr
	cmd.Dir = t.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start server: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // ended by the signal
	})
	end, err := netlink.LinkByName(veth.PeerName)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsPid(end, cmd.Process.Pid); err != nil {
		t.Fatalf("move %s to the server: %v", veth.PeerName, err)
	}
	return peer{cmd.Process.Pid, cmd.Dir}
}

// hurry6 spares the links of this namespace the seconds that IPv6 waits for others with the same address.
func hurry6() error {
	for _, name := range []string{"accept_dad", "dad_transmits", "router_solicitation_delay"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

// serve is the server process: it waits for its link, and answers in the way of its role.
func serve(role string) error {
	if err := hurry6(); err != nil {
		return err
	}
	link, err := waitPeer()
	if err != nil {
		return err
	}
	if role == "unplugged" { // a link that stays down: no carrier at the other end
		return wait()
	}
	if err := netlink.LinkSetName(link, serverLink); err != nil {
		return err
	}
	for _, text := range []string{strings.Replace(serverAddr, "77", os.Getenv(netEnv), 1), server6} {
		if err := addAddr(link, text); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	switch role {
	case "silent":
		return wait()
	case "late":
		time.Sleep(2 * time.Second)
		return execDnsmasq()
	case "dnsmasq":
		return execDnsmasq()
	case "router":
		return route()
	case "hostile 6", "useless 6":
		return respond6(role)
	}
	return respond(role)
}

func wait() error {
	time.Sleep(time.Minute) // the test ends this process long before
	return nil
}

func waitPeer() (netlink.Link, error) {
	for range 500 {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if l.Type() == "veth" {
				return l, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("no link came")
}

// execDnsmasq makes this process dnsmasq, without any of the machine's own configuration.
func execDnsmasq() error {
	path, err := findDnsmasq()
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	args := append([]string{path,
		"--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-resolv", "--no-hosts", "--no-ping", "--pid-file=",
		"--interface=" + serverLink, "--bind-interfaces", "--dhcp-authoritative",
		"--dhcp-leasefile=" + dir + "/leases", "--quiet-dhcp", "--log-facility=" + dir + "/log",
	}, strings.Fields(os.Getenv(argsEnv))...)
	return syscall.Exec(path, args, os.Environ())
}

// respond is a hand-made server for answers that dnsmasq does not give.
func respond(role string) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), serverLink) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", ":67")
	if err != nil {
		return err
	}
	scene := sceneOf(role, os.Getenv(netEnv))
	buf := make([]byte, 4096)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		ask, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			return err
		}
		replies := answersOf(role, ask)
		to := &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
		if scene != nil {
			var refused bool
			if replies, refused = scene.answers(ask); !ask.ClientIPAddr.IsUnspecified() && !refused {
				to.IP = ask.ClientIPAddr
			}
		}
		for _, reply := range replies {
			if _, err := conn.WriteTo(reply, to); err != nil {
				return err
			}
		}
	}
}

// answersOf are the packets that a server of the given role sends for ask.
func answersOf(role string, ask *dhcpv4.DHCPv4) [][]byte {
	discover := ask.MessageType() == dhcpv4.MessageTypeDiscover
	reply := func(kind dhcpv4.MessageType, address string, change options) []byte {
		p := answer(address, change)
		p.TransactionID, p.ClientHWAddr = ask.TransactionID, ask.ClientHWAddr
		p.UpdateOption(dhcpv4.OptMessageType(kind))
		return p.ToBytes()
	}
	good := reply(dhcpv4.MessageTypeOffer, "10.0.2.15", nil)
	switch {
	case role == "loopback":
		return [][]byte{reply(dhcpv4.MessageTypeOffer, "127.0.0.1", nil)}
	case role == "nameless": // an offer that does not say whose it is
		return [][]byte{reply(dhcpv4.MessageTypeOffer, "10.0.2.15", options{dhcpv4.OptionServerIdentifier: nil})}
	case role == "garbage":
		return [][]byte{good[:100], good[:len(good)-60], make([]byte, 1400), {}}
	case role == "hostile first" && discover: // rubbish, then a loopback address, then someone else's, then a good offer
		other := reply(dhcpv4.MessageTypeOffer, "10.0.2.99", nil)
		other[4]++ // another transaction
		return [][]byte{good[:50], reply(dhcpv4.MessageTypeOffer, "127.0.0.1", nil), other, good}
	case role == "hostile first":
		return [][]byte{
			reply(dhcpv4.MessageTypeAck, "10.0.2.99", options{dhcpv4.OptionServerIdentifier: b4(10, 0, 2, 66)}),
			reply(dhcpv4.MessageTypeAck, "224.0.0.1", nil),
			reply(dhcpv4.MessageTypeAck, "10.0.2.15", nil),
		}
	case role == "fickle" && discover, role == "forgetful" && discover:
		return [][]byte{good}
	case role == "fickle": // takes every offer back
		return [][]byte{reply(dhcpv4.MessageTypeNak, "0.0.0.0", options{dhcpv4.OptionMessage: []byte("no\x1b[2J\n")})}
	}
	return nil
}

// silence is how long the tests listen to someone who says nothing.
const silence = 400 * time.Millisecond

func quickly() Limits {
	return Limits{Appear: silence, Carrier: silence, Lease: silence, Settle: silence}
}

func mustNetlink(t *testing.T) *Netlink {
	t.Helper()
	links, err := NewNetlink()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(links.Close)
	return links
}

// kernelState is what the kernel says about a link's addresses and the routes of DHCP, by other calls than Netlink's.
func kernelState(t *testing.T, name string) []string {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	state := []string{fmt.Sprint("mtu ", link.Attrs().MTU)}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		state = append(state, "addr "+a.IPNet.String())
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_DHCP {
			state = append(state, fmt.Sprintf("route %s via %s src %s metric %d onlink %t", r.Dst, r.Gw, r.Src, r.Priority,
				r.Flags&int(netlink.FLAG_ONLINK) != 0))
		}
	}
	return state
}

var preferred = []netip.Addr{netip.MustParseAddr("1.1.1.1")}
