// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import "time"

// task is what is to be done about a lease at some age.
type task int

const (
	taskWait   task = iota // nothing yet
	taskRenew              // ask the server that granted it for more time
	taskRebind             // ask any server
	taskExpire             // it must not be used any longer
)

// due says what is to be done about a lease that is age old, and for how long that stays so (RFC 2131, section 4.4.5;
// RFC 8415, section 18.2). An expired one stays that.
func due(s Settings, age time.Duration) (t task, left time.Duration) {
	switch {
	case age < s.Renew:
		return taskWait, s.Renew - age
	case age < s.Rebind:
		return taskRenew, s.Rebind - age
	case age < s.Lease:
		return taskRebind, s.Lease - age
	}
	return taskExpire, 0
}

// pauseBetween is the time between two attempts to extend a lease, when the present task ends in left: half of that, as
// RFC 2131 has it, but not less than a minute, or than a sixteenth of a lease that is shorter than a quarter of an hour.
func pauseBetween(left, lease time.Duration) time.Duration {
	least := min(time.Minute, lease/16)
	return min(max(left/2, least), max(left, time.Millisecond))
}

// The pauses between two rounds of asking for what was refused or not answered: each twice as long as the one before.
const (
	firstPause = time.Second
	maxPause   = 64 * time.Second
)

// pauseAfter is the pause after failures rounds in a row that have failed.
func pauseAfter(failures int) time.Duration {
	pause := firstPause
	for range failures - 1 {
		if pause *= 2; pause >= maxPause {
			return maxPause
		}
	}
	return pause
}
