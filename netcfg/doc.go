// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package netcfg brings up the guest's network: every Ethernet link at once, DHCPv4, addresses and routes over
// netlink, and /etc/resolv.conf with the preferred nameserver first, whatever DHCP says.
//
// Decisions are pure and separate from effects: SettingsFrom turns a DHCP answer into Settings, Merge and
// ResolvConf.Bytes make the text of resolv.conf. Configure is the one entry point that acts; it reaches the kernel
// through the Links interface (Netlink is the real one) and the servers through the DHCP interface (Client is the real
// one). Every answer of a server is treated as hostile: what cannot be used is refused or dropped, and said.
//
// The package never starts another program, never reads its own environment, never waits for entropy, and never
// touches the loopback interface. It imports nothing of ours and does not use net/http. The guest's agent calls it.
package netcfg
