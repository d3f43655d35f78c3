// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package netcfg brings up the guest's network and keeps it up: every Ethernet link at once, DHCPv4 with renewal and
// release or static addresses, DHCPv6 and the nameservers of router advertisements beside it, routes over netlink, and
// /etc/resolv.conf with the preferred nameserver first, whatever DHCP says.
//
// Decisions are pure and separate from effects: SettingsFrom and LeaseFrom6 turn a server's answer into Settings,
// advertsOf reads what routers say, due says what is to be done about a lease and when, Merge and ResolvConf.Bytes make
// the text of resolv.conf. A Network is what acts; it reaches the kernel through the Links interface (Netlink is the real
// one) and the servers through DHCP and DHCP6 (Client and Client6 are the real ones). Every answer of a server is treated
// as hostile: what cannot be used is refused or dropped, and said.
//
// The package never starts another program, never reads its own environment, never waits for entropy, and never
// touches the loopback interface. It imports nothing of ours and does not use net/http. The guest's agent calls it.
package netcfg
