// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package console

// escape begins a command to kindling in what a person types: Ctrl-A, as QEMU itself has it.
const escape = 0x01

// command is what a person wants of kindling rather than of the guest.
type command int

const (
	commandNone command = iota
	commandEnd          // Ctrl-A x
	commandHelp         // Ctrl-A h, or ?
)

// keys finds commands in what is typed.
type keys struct{ escaped bool }

// feed takes what was typed up to the first command in it: what of that is for the guest, the command, and the rest.
func (k *keys) feed(typed []byte) (forGuest []byte, c command, rest []byte) {
	for i, b := range typed {
		switch {
		case !k.escaped && b == escape:
			k.escaped = true
			continue
		case !k.escaped:
			forGuest = append(forGuest, b)
			continue
		}
		k.escaped = false
		switch b {
		case escape:
			forGuest = append(forGuest, b)
		case 'x', 'X':
			return forGuest, commandEnd, typed[i+1:]
		case 'h', 'H', '?':
			return forGuest, commandHelp, typed[i+1:]
		}
	}
	return forGuest, commandNone, nil
}
