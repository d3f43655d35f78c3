// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package usernet is the guest's network: one Ethernet link to QEMU, with a TCP/IP stack (gVisor's netstack) inside
// this process at the other end. It replaces QEMU's own user network, which lets the guest reach every service on the
// host's loopback.
//
// The guest finds the addresses it knows from QEMU: 10.0.2.15 for itself by DHCP, 10.0.2.2 for the host, 10.0.2.3 for
// the nameserver. On 10.0.2.2 it reaches what this process serves there (Listen) and host addresses that the user named
// (Options.Forward). With Options.Outside it also reaches other machines, by TCP, and the names that the host resolves.
//
// It never connects the guest to the host itself: not to loopback, link-local or multicast addresses, not to an address
// of one of the host's interfaces, and to nothing that the kernel does not route to another machine. It opens no port on
// the host, needs no privileges, forwards neither UDP nor ICMP, and speaks no IPv6. Whatever the guest sends is hostile
// input: frames, connections, buffers and log lines are bounded.
//
// It is called by cmd/host, which gives QEMU one end of a socketpair and Serve the other.
package usernet
